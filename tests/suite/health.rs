//! Health: probes, states, and the evidence that is taken at the first sign.

use crate::bundle;
use crate::jvm::{on_each_jvm, request, store};
use crate::scenario::{Running, Scenario, poll};
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let mut trials = on_each_jvm(
        setup,
        "health",
        &[
            ("unhealthy_takes_evidence_while_there_is_time", unhealthy),
            ("bounds_set_off_rules", bounds),
            ("a_flight_recording_is_dumped", recording),
        ],
    );
    let java = &[Need::Root, Need::Java(21)][..];
    trials.extend([
        setup.trial("health::default_rules_leave_a_healthy_stop_alone", java, default_rules),
        setup.trial("health::a_stop_shortens_a_running_event", java, stop_in_event),
        setup.trial("health::planted_secrets_are_in_no_artifact", java, secrets),
        setup.trial("health::the_agent_is_killed_at_any_moment", java, agent_killed),
        setup.trial("health::exec_probe", &[Need::Root], exec),
        setup.trial("health::tcp_probe", &[Need::Root], tcp),
        setup.trial("health::odd_answers", &[Need::Root], odd_answers),
        setup.trial("health::limits", &[Need::Root], limits),
    ]);
    trials
}

type Outcome = Result<(), String>;

/// A port that nobody has.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

/// The sick service, and a probe that asks it four times a second.
fn start(setup: &Setup, version: u32, port: u16, more: &str, options: &[&str]) -> Running {
    let scenario = Scenario::new(setup);
    let config = format!(
        "[service]\nname = \"sick\"\n[main]\nuser = \"1000:1000\"\n[stop]\ngrace = \"90s\"\n\
         [health]\nhttp = \"http://127.0.0.1:{port}/health\"\ninterval = \"250ms\"\n\
         [store]\nurl = \"file://{}\"\n{more}\n",
        store(scenario.folder()).display()
    );
    let java = setup.java(version).expect("the need was checked").display().to_string();
    let classes = setup.classes.as_ref().expect("the need was checked").display().to_string();
    let mut command = vec![java];
    command.extend(options.iter().map(|option| (*option).to_owned()));
    command.extend(["-cp".to_owned(), classes, "SickService".to_owned(), "--bind=127.0.0.1".to_owned()]);
    command.extend([format!("--port={port}"), "--heap=16m".to_owned()]);
    let running = scenario.config(&config).argument("--log-level=debug").command(command).start();
    running.wait_for("health: healthy");
    running.wait_for("attached to the JVM");
    running
}

fn unhealthy(setup: &Setup, version: u32) -> Outcome {
    let rule = "[[rule]]\nname = \"ill\"\non = \"unhealthy\"\nif = \"healthy_once\"\n\
        capture = [\"heap\", \"os\", \"vm\", \"histogram\", { threads = { times = 3, interval = \"200ms\" } }]\n";
    let port = free_port();
    let running = start(setup, version, port, rule, &["-Xmx256m"]);
    request(port, "/break");
    running.wait_for("health: failing: HTTP 503");
    running.wait_for("health: unhealthy: HTTP 503");
    running.wait_for("evidence stored");
    request(port, "/heal");
    poll("it is healthy again", || (running.output().matches("health: healthy").count() == 2).then_some(()));
    let ended = running.stop();
    // No rule applies to the stop of a service that is well again.
    // Virtual threads have a file of their own since 21.
    let whole = if version < 21 { "artifacts=7/7" } else { "artifacts=8/8" };
    ended.exits(143).says(whole).never_says("evidence begins");
    let bundle = bundle::only(&store(&ended.folder));
    assert_eq!(bundle.manifest["event"]["trigger"], "unhealthy");
    for name in ["os", "vm", "threads", "histogram", "heap"] {
        assert_eq!(bundle.status(name), "complete", "{name}: {}", bundle.reason(name));
    }
    let order: Vec<&str> = bundle.manifest["artifacts"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|artifact| artifact["artifact"].as_str())
        .collect();
    let mut wanted = vec!["os", "vm", "threads", "threads", "threads", "histogram", "heap"];
    wanted.extend(["heap-summary"; 2]);
    if version >= 21 {
        wanted.insert(5, "threads");
        assert!(bundle.read("threads.json").contains("\"threadDump\""));
    }
    assert_eq!(order, wanted);
    assert!(bundle.read("os.txt").contains("=== threads: "));
    assert!(bundle.read("vm.txt").contains("=== GC.heap_info"));
    assert!(bundle.read("threads-3.txt").contains("JNI global ref"));
    assert!(bundle.read("histogram.txt").contains("java.lang.String"));
    Ok(())
}

fn bounds(setup: &Setup, version: u32) -> Outcome {
    let rules = "[[rule]]\nname = \"crowd\"\non = { threads = \"> 150\" }\ncapture = [\"threads\"]\n\
        [[rule]]\nname = \"open\"\non = { fds = \"> 20%\" }\ncapture = [\"os\"]\n";
    let port = free_port();
    let running = start(setup, version, port, rules, &["-Xmx256m"]);
    let text = running.output();
    assert!(!text.contains("capturing evidence"), "{text}");
    request(port, "/threads?count=200");
    running.wait_for("capturing evidence trigger=threads");
    running.wait_for("evidence stored");
    running.stop().exits(143);
    Ok(())
}

fn recording(setup: &Setup, version: u32) -> Outcome {
    let rule = "[[rule]]\nname = \"ill\"\non = \"failing\"\ncapture = [{ jfr = { last = \"1m\" } }]\n";
    for (option, status) in [("-XX:StartFlightRecording=maxage=5m", "complete"), ("-Xshare:auto", "absent")] {
        let port = free_port();
        let running = start(setup, version, port, rule, &["-Xmx128m", option]);
        request(port, "/break");
        running.wait_for("evidence stored");
        let ended = running.stop();
        let bundle = bundle::only(&store(&ended.folder));
        assert_eq!(bundle.status("jfr"), status, "{}", bundle.reason("jfr"));
        if status == "complete" {
            let bytes =
                std::fs::read(bundle.folder.join("recording.jfr")).map_err(|error| error.to_string())?;
            assert!(bytes.starts_with(b"FLR\0"), "a recording begins so");
        }
    }
    Ok(())
}

/// Neither the service nor its code pays for it, and the store has no half file.
fn agent_killed(setup: &Setup) -> Outcome {
    for round in 0..10_u64 {
        let port = free_port();
        let rule = "[[rule]]\nname = \"ill\"\non = \"failing\"\n\
            capture = [\"os\", \"vm\", { threads = { times = 3, interval = \"100ms\" } }, \"histogram\", \"heap\"]\n";
        let running = start(setup, 21, port, rule, &["-Xmx128m"]);
        request(port, "/break");
        running.wait_for("capturing evidence");
        std::thread::park_timeout(Duration::from_millis(round * 90));
        crate::scenario::send(running.descendant("bookend agent"), 9);
        running.wait_for("the agent ended; the service is untouched");
        assert!(request(port, "/").contains("200"), "the service answers");
        // The next agent tells what the dead one left.
        poll("it is there again", || {
            (running.output().matches("attached to the JVM").count() >= 2).then_some(())
        });
        let ended = running.stop();
        ended.exits(143);
        let text = &ended.output;
        let kept = text.contains("an earlier life was cut short") || text.contains("evidence stored");
        let nothing_yet = !text.contains("captured took");
        assert!(kept || nothing_yet, "round {round}: what was captured is lost without a word:\n{text}");
    }
    Ok(())
}

/// Without a rule in the configuration: a healthy stop is not evidence.
fn default_rules(setup: &Setup) -> Outcome {
    let port = free_port();
    let running = start(setup, 21, port, "", &["-Xmx256m"]);
    let ended = running.stop();
    ended.exits(143).never_says("evidence begins").never_says("capturing evidence");
    // And the stop of an unhealthy one is.
    let port = free_port();
    let running = start(setup, 21, port, "", &["-Xmx256m"]);
    request(port, "/break");
    running.wait_for("health: unhealthy");
    running.wait_for("evidence stored");
    let ended = running.stop();
    ended.exits(143).says("capturing evidence trigger=unhealthy").says("capturing evidence trigger=stop");
    Ok(())
}

/// The event that runs when the stop comes gets no more than the stop's time.
fn stop_in_event(setup: &Setup) -> Outcome {
    let rule = "[[rule]]\nname = \"ill\"\non = \"failing\"\ndeadline = \"10m\"\n\
        capture = [{ threads = { times = 100, interval = \"5s\" } }]\n";
    let port = free_port();
    let running = start(setup, 21, port, rule, &["-Xmx256m"]);
    request(port, "/break");
    running.wait_for("threads captured");
    let begun = std::time::Instant::now();
    let ended = running.stop();
    ended.exits(143).says("evidence begins").says("evidence stored");
    assert!(begun.elapsed() < Duration::from_secs(85), "HANG: it went on for the whole deadline");
    let bundle = bundle::only(&store(&ended.folder));
    assert_eq!(bundle.status("threads"), "complete");
    Ok(())
}

fn secrets(setup: &Setup) -> Outcome {
    let rule = "[[rule]]\nname = \"ill\"\non = \"failing\"\ncapture = [\"os\", \"vm\"]\n";
    let port = free_port();
    let options = ["-Ddb.password=SESAME-1", "-Dapi.token=SESAME-2", "-Durl=jdbc:x://app:SESAME-3@db/x"];
    let running = start(setup, 21, port, rule, &options);
    request(port, "/break");
    running.wait_for("evidence stored");
    let ended = running.stop();
    ended.exits(143).never_says("SESAME");
    let bundle = bundle::only(&store(&ended.folder));
    for file in ["os.txt", "vm.txt", "manifest.json"] {
        let text = bundle.read(file);
        assert!(!text.contains("SESAME"), "{file}: {}", around(&text, "SESAME"));
    }
    Ok(())
}

fn around(text: &str, word: &str) -> String {
    text.lines().filter(|line| line.contains(word)).collect::<Vec<_>>().join("\n")
}

/// A probe that is a program: its code, its last line, its mask (B14), its time.
fn exec(setup: &Setup) -> Outcome {
    let scenario = Scenario::new(setup);
    let flag = scenario.folder().join("ill").display().to_string();
    let script = format!(
        "#!/bin/sh\ngrep -E 'Sig(Blk|Ign)' /proc/self/status > {flag}.mask\n\
         [ -e {flag}.hang ] && sleep 600\n[ -e {flag} ] && {{ echo first; echo the database is gone; exit 3; }}\nexit 0\n"
    );
    let path = scenario.folder().join("probe");
    std::fs::write(&path, script).map_err(|error| error.to_string())?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
        .map_err(|error| error.to_string())?;
    let config =
        format!("[health]\nexec = [\"{}\"]\ninterval = \"100ms\"\ntimeout = \"1s\"\n", path.display());
    let running = scenario.config(&config).command(["sleep", "600"]).start();
    running.wait_for("health: healthy");
    std::fs::write(&flag, "").map_err(|error| error.to_string())?;
    running.wait_for("health: failing: exit code 3: the database is gone");
    running.wait_for("health: unhealthy: exit code 3: the database is gone");
    std::fs::remove_file(&flag).map_err(|error| error.to_string())?;
    poll("it is healthy again", || (running.output().matches("health: healthy").count() == 2).then_some(()));
    std::fs::write(format!("{flag}.hang"), "").map_err(|error| error.to_string())?;
    running.wait_for("did not end within 1s");
    let mask = std::fs::read_to_string(format!("{flag}.mask")).map_err(|error| error.to_string())?;
    let bare = std::process::Command::new("grep")
        .args(["-E", "Sig(Blk|Ign)", "/proc/self/status"])
        .output()
        .map_err(|error| error.to_string())?;
    assert_eq!(masks(&mask), masks(&String::from_utf8_lossy(&bare.stdout)));
    running.stop().exits(143);
    Ok(())
}

/// Without the C library's own two signals, which its threads change.
fn masks(text: &str) -> Vec<u64> {
    let numbers =
        text.lines().filter_map(|line| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok());
    numbers.map(|mask| mask & !(0b11 << 31)).collect()
}

fn tcp(setup: &Setup) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    let config = format!("[health]\ntcp = \"127.0.0.1:{port}\"\ninterval = \"100ms\"\n");
    let running = Scenario::new(setup).config(&config).command(["sleep", "600"]).start();
    running.wait_for("health: healthy");
    drop(listener);
    running.wait_for("health: unhealthy");
    assert!(running.output().contains("Connection refused"));
    running.stop().exits(143);
    Ok(())
}

/// What a server can do to whoever asks it.
fn odd_answers(setup: &Setup) -> Outcome {
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"status\":\"UP\"}", "health: healthy"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{\"status\"\r\n6\r\n:\"UP\"}\r\n0\r\n\r\n",
            "health: healthy",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{\"status\":\"DOWN\"}", "is not in the body"),
        ("HTTP/1.1 302 Found\r\nLocation: http://example.com/\r\nContent-Length: 0\r\n\r\n", "HTTP 302"),
        (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nhalt",
            "HTTP 503 Service Unavailable: halt",
        ),
        ("SSH-2.0-OpenSSH_9.2\r\n", "health: unhealthy"),
        ("SLOW", "no answer within 500ms"),
        ("HUGE", "is not in the body"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        let port = listener.local_addr().map_err(|error| error.to_string())?.port();
        std::thread::spawn(move || serve(&listener, answer));
        let config = format!(
            "[health]\nhttp = \"http://127.0.0.1:{port}/\"\nexpect = {{ body = '\"status\":\"UP\"' }}\n\
             interval = \"100ms\"\ntimeout = \"500ms\"\nstart_period = \"0s\"\n"
        );
        let running = Scenario::new(setup).config(&config).command(["sleep", "600"]).start();
        running.wait_for(expected);
        running.stop().exits(143);
    }
    Ok(())
}

/// Answers each connection like that, until the test is over.
fn serve(listener: &TcpListener, answer: &str) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        let mut request = [0; 1024];
        let _some = stream.read(&mut request);
        match answer {
            "SLOW" => {
                for byte in b"HTTP/1.1 200 OK\r\n" {
                    if stream.write_all(&[*byte]).is_err() {
                        break;
                    }
                    std::thread::park_timeout(Duration::from_millis(100));
                }
            }
            "HUGE" => {
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"));
                while stream.write_all(&[b'x'; 4096]).is_ok() {}
            }
            answer => drop(stream.write_all(answer.as_bytes())),
        }
    }
}

fn limits(setup: &Setup) -> Outcome {
    let scenario = Scenario::new(setup);
    let flag = scenario.folder().join("ill");
    let store = store(scenario.folder());
    let config = format!(
        "[health]\nexec = [\"sh\", \"-c\", \"! [ -e {} ]\"]\ninterval = \"50ms\"\nhealthy_after = 1\n\
         [[rule]]\nname = \"ill\"\non = \"failing\"\ncapture = [\"os\"]\nlimit = {{ times = 2, per = \"1h\" }}\n\
         [store]\nurl = \"file://{}\"\n",
        flag.display(),
        store.display()
    );
    let running = scenario.config(&config).command(["sleep", "600"]).start();
    running.wait_for("health: healthy");
    for round in 1..=3 {
        fall_ill(&running, &flag, round)?;
    }
    let ended = running.stop();
    ended.exits(143).says("rule `ill` does not act on \"failing\": its limit is reached");
    assert_eq!(ended.output.matches("evidence stored").count(), 2, "{}", ended.output);
    Ok(())
}

fn fall_ill(running: &Running, flag: &Path, round: usize) -> Outcome {
    let count = |text: &str| running.output().matches(text).count();
    std::fs::write(flag, "").map_err(|error| error.to_string())?;
    poll("it is failing", || (count("health: failing") == round).then_some(()));
    poll("the rule was judged", || {
        (count("evidence stored") + count("its limit is reached") == round).then_some(())
    });
    std::fs::remove_file(flag).map_err(|error| error.to_string())?;
    poll("it is healthy", || (count("health: healthy") == round + 1).then_some(()));
    Ok(())
}
