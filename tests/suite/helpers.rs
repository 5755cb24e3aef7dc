//! Helper processes: order, readiness, restarts, stop; a real nginx in front of a JVM.

use crate::bundle;
use crate::jvm::{port, request, sick, store};
use crate::scenario::{Scenario, poll, send};
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

const JVM: u32 = 21;

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let root = &[Need::Root];
    let java = &[Need::Root, Need::Java(JVM)];
    let nginx = &[Need::Root, Need::Java(JVM), Need::Program("/usr/sbin/nginx", "nginx-light")];
    vec![
        setup.trial("helpers::start_and_stop_in_order_with_labels", root, order),
        setup.trial("helpers::g1_restarts_with_growing_waits_and_a_limit", root, restarts),
        setup.trial("helpers::g2_a_stop_in_a_wait_ends_at_once", root, stop_in_wait),
        setup.trial("helpers::g3_the_main_process_ends_first", root, main_first),
        setup.trial("helpers::main_waits_for_ready_on_the_notify_socket", root, notified),
        setup.trial("helpers::one_that_is_never_ready_ends_the_container", root, never_ready),
        setup.trial("helpers::one_that_is_not_there_ends_the_container", root, not_there),
        setup.trial("helpers::h11_lingers_and_a_second_stop_does_not", root, lingers),
        setup.trial("helpers::main_is_started_again_after_a_failure", root, main_again),
        setup.trial("helpers::an_unhealthy_service_is_restarted_after_its_evidence", java, unhealthy),
        setup.trial("helpers::an_operator_restarts_stops_and_starts_one", root, verbs),
        setup.trial("helpers::one_that_waits_for_health", java, once_healthy),
        setup.trial("helpers::nginx_in_front_of_the_service", nginx, nginx_in_front),
    ]
}

type Outcome = Result<(), String>;

fn process(name: &str, script: &str, more: &str) -> String {
    format!("[[process]]\nname = \"{name}\"\ncommand = [\"sh\", \"-c\", '''{script}''']\n{more}\n")
}

/// Says what it is told, and ends after a moment.
fn polite(word: &str) -> String {
    format!("trap \"echo {word} stops; exit 0\" TERM; echo {word} runs; while :; do sleep .05; done")
}

fn order(setup: &Setup) -> Outcome {
    let config = process("database", &polite("database"), "")
        + &process("cache", &polite("cache"), "")
        + &process("proxy", &polite("proxy"), "start = \"after\"");
    let main = "trap 'echo main stops; exit 7' TERM; echo main runs; while :; do sleep .05; done";
    let running = Scenario::new(setup).config(&config).shell(main).start();
    for name in ["database", "cache", "proxy"] {
        running.wait_for(&format!("{name} | {name} runs"));
    }
    running.wait_for("main runs");
    let ended = running.stop();
    ended.exits(7);
    let begun = [
        "process `database` begins",
        "process `cache` begins",
        "main process started",
        "process `proxy` begins",
    ];
    for pair in begun.windows(2) {
        ended.says_in_order(pair[0], pair[1]);
    }
    let stops = [
        "process `proxy` ended",
        "stop signal passed on",
        "main process ended",
        "process `cache` ended",
        "process `database` ended",
    ];
    for pair in stops.windows(2) {
        ended.says_in_order(pair[0], pair[1]);
    }
    // What they said last is not lost.
    ended.says("proxy | proxy stops").says("cache | cache stops").says("database | database stops");
    Ok(())
}

fn restarts(setup: &Setup) -> Outcome {
    let config = process(
        "flaky",
        "echo again; exit 1",
        "start = \"after\"\nbackoff = \"20ms\"\nlimit = { times = 4, per = \"10m\" }",
    );
    let ended = Scenario::new(setup).config(&config).shell("exec sleep 600").finish();
    ended.exits(245).says("process `flaky` did not become ready, or ended more often than its limit");
    assert_eq!(ended.output.matches("flaky | again").count(), 5, "{}", ended.output);
    let waits: Vec<&str> = ended.output.lines().filter(|line| line.contains("starting it again")).collect();
    assert_eq!(waits.len(), 4, "{}", ended.output);
    ended.says("main process ended status=SIGTERM");
    Ok(())
}

fn stop_in_wait(setup: &Setup) -> Outcome {
    let config = process("flaky", "exit 1", "start = \"after\"\nbackoff = \"10m\"");
    let running = Scenario::new(setup).config(&config).shell("exec sleep 600").start();
    running.wait_for("process `flaky` ended; starting it again");
    running.stop().exits(143);
    Ok(())
}

fn main_first(setup: &Setup) -> Outcome {
    let config = process("one", &polite("one"), "") + &process("two", &polite("two"), "start = \"after\"");
    let scenario = Scenario::new(setup);
    let go = scenario.folder().join("go");
    let running = scenario.config(&config).shell("until [ -e go ]; do sleep .05; done; exit 5").start();
    running.wait_for("two | two runs");
    std::fs::write(go, "").map_err(|error| error.to_string())?;
    let ended = running.wait();
    ended.exits(5).says_in_order("process `two` is stopped", "process `one` is stopped");
    ended.says("one | one stops");
    Ok(())
}

fn notified(setup: &Setup) -> Outcome {
    let script = "import os, socket, sys, time\n\
        path = os.environ['NOTIFY_SOCKET']\n\
        print('says so', flush=True)\n\
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
        s.sendto(b'STATUS=up\\nREADY=1\\n', '\\0' + path[1:])\n\
        time.sleep(600)\n";
    let scenario = Scenario::new(setup);
    let file = scenario.folder().join("notify.py");
    std::fs::write(&file, script).map_err(|error| error.to_string())?;
    let config = format!(
        "[[process]]\nname = \"db\"\ncommand = [\"python3\", \"{}\"]\nready = \"notify\"\n",
        file.display()
    );
    let running = scenario.config(&config).shell("echo MAIN RUNS; exec sleep 600").start();
    running.wait_for("MAIN RUNS");
    let ended = running.stop();
    ended.exits(143).says_in_order("says so", "process `db` is ready");
    ended.says_in_order("process `db` is ready", "main process started");
    Ok(())
}

fn never_ready(setup: &Setup) -> Outcome {
    let config =
        process("silent", "exec sleep 600", "ready = \"tcp://127.0.0.1:1\"\nready_timeout = \"600ms\"");
    let ended = Scenario::new(setup).config(&config).shell("echo MAIN RUNS").finish();
    ended.exits(245).never_says("MAIN RUNS").says("process `silent` was not ready within 600ms");
    ended.says("process `silent` is stopped");
    Ok(())
}

fn not_there(setup: &Setup) -> Outcome {
    let config = "[[process]]\nname = \"ghost\"\ncommand = [\"/nowhere/ghost\"]\n";
    let ended = Scenario::new(setup).config(config).shell("echo MAIN RUNS").finish();
    ended.exits(245).never_says("MAIN RUNS").says("cannot start the process `ghost`");
    Ok(())
}

fn lingers(setup: &Setup) -> Outcome {
    for second in [false, true] {
        let config = format!("[stop]\nlinger = \"{}\"\n", if second { "10m" } else { "300ms" });
        let main = "trap 'echo main stops; exit 0' TERM; echo main runs; while :; do sleep .05; done";
        let running = Scenario::new(setup).config(&config).shell(main).start();
        running.wait_for("main runs");
        if second {
            running.terminate();
            running.wait_for("goes on for requests");
        }
        let ended = running.stop();
        ended.exits(0).says_in_order("goes on for requests", "stop signal passed on");
    }
    // One that ends meanwhile is not waited for.
    let running = Scenario::new(setup)
        .config("[stop]\nlinger = \"10m\"\n")
        .shell("trap 'exit 4' USR1; echo main runs; while :; do sleep .05; done")
        .start();
    running.wait_for("main runs");
    running.terminate();
    running.wait_for("goes on for requests");
    running.signal(10);
    running.wait().exits(4);
    Ok(())
}

fn main_again(setup: &Setup) -> Outcome {
    let config = "[main]\nrestart = \"on-failure\"\nrestart_limit = { times = 2, per = \"1h\" }\n";
    let ended = Scenario::new(setup).config(config).shell("echo life; exit 6").finish();
    ended.exits(6).says("started again more often than restart_limit");
    assert_eq!(lives(&ended.output), 3, "{}", ended.output);
    // An end that is wanted is one.
    let ended = Scenario::new(setup).config(config).shell("echo life; exit 0").finish();
    ended.exits(0);
    assert_eq!(lives(&ended.output), 1, "{}", ended.output);
    Ok(())
}

/// How often it said so. Its line may come before any of ours: both write at once.
fn lives(output: &str) -> usize {
    output.lines().filter(|line| *line == "life").count()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("bound").port()
}

fn verbs(setup: &Setup) -> Outcome {
    let running = Scenario::new(setup)
        .config(&process("cache", &polite("cache"), "start = \"after\""))
        .shell("trap 'exit 0' TERM; while :; do sleep .05; done")
        .start();
    let times = |text: &str, count: usize| {
        poll(&format!("`{text}` {count} times"), || {
            (running.output().matches(text).count() == count).then_some(())
        });
    };
    times("cache | cache runs", 1);
    let ask = |words: &[&str]| running.verb(setup, "root", words);
    let (code, said) = ask(&["restart", "cache"]);
    assert_eq!(code, Some(0), "{said}");
    times("cache | cache stops", 1);
    times("cache | cache runs", 2);
    let (_, said) = ask(&["status"]);
    assert!(said.contains("process  cache: runs for "), "{said}");
    assert_eq!(ask(&["stop", "cache"]).0, Some(0));
    times("process `cache` ended", 2);
    poll("the status tells that it ended", || {
        let (_, said) = ask(&["status"]);
        said.contains("process  cache: does not run: ").then_some(())
    });
    assert_eq!(ask(&["start", "cache"]).0, Some(0));
    times("cache | cache runs", 3);
    let (code, said) = ask(&["restart", "ghost"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("there is no helper process `ghost`; there are: cache"), "{said}");
    let (_, said) = ask(&["events"]);
    assert!(said.contains("helper   restart: cache") && said.contains("helper   stop: cache"), "{said}");
    running.stop().exits(0);
    Ok(())
}

fn once_healthy(setup: &Setup) -> Outcome {
    let own = free_port();
    let config = format!("[health]\nhttp = \"http://127.0.0.1:{own}/health\"\ninterval = \"200ms\"\n")
        + &process("proxy", &polite("proxy"), "start = \"healthy\"");
    let mut command = sick(setup, JVM, &[], &["--heap=1m", "--shutdown=0s"]);
    for word in &mut command {
        if word == "--port=0" {
            *word = format!("--port={own}");
        }
    }
    let running = Scenario::new(setup).config(&config).command(command).start();
    running.wait_for("proxy | proxy runs");
    let ended = running.stop();
    ended.exits(143).says_in_order("health: healthy", "process `proxy` begins");
    ended.says("proxy | proxy stops").says_in_order("process `proxy` ended", "stop signal passed on");
    let ended =
        Scenario::new(setup).config(&process("proxy", "true", "start = \"healthy\"")).shell("true").finish();
    ended.exits(240).says("waits for a health that nobody looks at");
    Ok(())
}

fn unhealthy(setup: &Setup) -> Outcome {
    let scenario = Scenario::new(setup);
    let own = free_port();
    let config = format!(
        "[service]\nname = \"sick\"\n[main]\nrestart = \"on-unhealthy\"\noutput = {{ keep = \"64KiB\" }}\n\
         [health]\nhttp = \"http://127.0.0.1:{own}/health\"\ninterval = \"200ms\"\ntimeout = \"1s\"\n\
         [[rule]]\nname = \"sick\"\non = \"unhealthy\"\ncapture = [\"threads\"]\n\
         [store]\nurl = \"file://{}/store\"\n",
        scenario.folder().display()
    );
    let mut command = sick(setup, JVM, &[], &["--heap=1m", "--shutdown=0s"]);
    for word in &mut command {
        if word == "--port=0" {
            *word = format!("--port={own}");
        }
    }
    let running = scenario.config(&config).command(command).start();
    running.wait_for("health: healthy");
    let first = running.descendant("SickService");
    request(own, "/break");
    running.wait_for("the main process is unhealthy and its evidence captured: restarting it");
    let second = poll("another one runs", || {
        let now = running.descendant("SickService");
        (now != first).then_some(now)
    });
    assert_ne!(first, second);
    poll("it is well again", || (running.output().matches("health: healthy").count() == 2).then_some(()));
    let ended = running.stop();
    ended.exits(143);
    ended.says_in_order("threads captured", "restarting it");
    // The carrier has passed on what both of them said.
    assert_eq!(ended.output.matches("sick-service: ready on port").count(), 2, "{}", ended.output);
    let bundle = bundle::only(&store(&ended.folder));
    assert_eq!(bundle.manifest["event"]["trigger"], "unhealthy", "{}", bundle.manifest);
    Ok(())
}

/// The monolith with its web server: reload by SIGHUP, restart after a crash, drained before the
/// JVM stops.
fn nginx_in_front(setup: &Setup) -> Outcome {
    let scenario = Scenario::new(setup);
    let folder = scenario.folder().to_owned();
    let (front, back) = (free_port(), free_port());
    let file = folder.join("nginx.conf");
    let site = |word: &str| {
        format!(
            "daemon off;\nuser root;\npid {0}/nginx.pid;\nerror_log stderr notice;\nevents {{}}\nhttp {{\n\
             access_log off;\nclient_body_temp_path {0}/b;\nproxy_temp_path {0}/p;\nfastcgi_temp_path {0}/f;\n\
             uwsgi_temp_path {0}/u;\nscgi_temp_path {0}/s;\n\
             server {{ listen 127.0.0.1:{front};\nadd_header X-Site {word};\nlocation /static {{ return 200 {word}; }}\n\
             location / {{ proxy_pass http://127.0.0.1:{back}; }} }} }}\n",
            folder.display()
        )
    };
    std::fs::write(&file, site("first")).map_err(|error| error.to_string())?;
    let config = format!(
        "[stop]\ngrace = \"40s\"\n[[process]]\nname = \"nginx\"\nstart = \"after\"\n\
         command = [\"nginx\", \"-c\", \"{}\"]\nready = \"http://127.0.0.1:{front}/static\"\n\
         stop_signal = \"QUIT\"\nsignals = [\"HUP\"]\nbackoff = \"50ms\"\n",
        file.display()
    );
    let mut command = sick(setup, JVM, &[], &["--heap=1m", "--shutdown=0s"]);
    for word in &mut command {
        if word == "--port=0" {
            *word = format!("--port={back}");
        }
    }
    let running = scenario.config(&config).command(command).start();
    port(&running);
    running.wait_for("process `nginx` is ready");
    assert!(request(front, "/health").contains("UP"), "through nginx");
    assert!(request(front, "/static").ends_with("first"));
    // Reload: the JVM would have ended of it.
    std::fs::write(&file, site("second")).map_err(|error| error.to_string())?;
    running.signal(1);
    poll("the new configuration is in force", || request(front, "/static").ends_with("second").then_some(()));
    // A crash.
    send(running.descendant("nginx: master"), 9);
    running.wait_for("process `nginx` ended; starting it again");
    poll("it is there again", || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, front)).ok()?;
        write!(stream, "GET /health HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.contains("UP").then_some(())
    });
    // A request that is on its way when the stop comes is answered: by the JVM, through nginx.
    let mut slow = TcpStream::connect((Ipv4Addr::LOCALHOST, front)).map_err(|error| error.to_string())?;
    write!(slow, "GET /slow?time=2s HTTP/1.0\r\n\r\n").map_err(|error| error.to_string())?;
    poll("the request is with the service", || running.output().contains("slow request").then_some(()));
    let ended = running.stop();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    assert!(answer.contains("200 OK"), "{answer}\n{}", ended.output);
    // Its lines come by another way than ours: which of the two is first says nothing.
    ended.exits(143).says("process `nginx` is stopped").says("gracefully shutting down");
    ended.says_in_order("sick-service: that took its time", "stop signal passed on");
    ended.says_in_order("process `nginx` ended status=\"exit code 0\"", "stop signal passed on");
    Ok(())
}
