//! Every trigger fires on the real thing. (`failing`, `unhealthy`, `threads` and `fds`
//! are in `health`, `stop` in `jvm`, `exit` and `oom` in `jvm_crash`.)

use crate::bundle;
use crate::http::serve;
use crate::jvm::{on_each_jvm, port, request, sick, store};
use crate::scenario::{Running, Scenario};
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let mut trials = on_each_jvm(
        setup,
        "triggers",
        &[
            ("deadlock", deadlock),
            ("heap_and_gc", heap_and_gc),
            ("heap_without_counters", without_counters),
            ("heap_dump_is_switched_on", heap_dump_flag),
        ],
    );
    let java = &[Need::Root, Need::Java(21)][..];
    let groups = &[Need::Root, Need::Java(21), Need::CgroupV1][..];
    trials.extend([
        setup.trial("triggers::log", java, log),
        setup.trial("triggers::schedule", java, schedule),
        setup.trial("triggers::manual", java, manual),
        setup.trial("triggers::memory_of_the_container", groups, memory),
        setup.trial("triggers::killed_by_the_kernel_for_memory", groups, kernel),
        setup.trial("triggers::unhealthy_by_ecs", &[Need::Root], ecs),
        setup.trial("triggers::what_a_killed_life_captured_is_told", &[Need::Root], told),
    ]);
    trials
}

type Outcome = Result<(), String>;

fn config(scenario: &Scenario<'_>, rules: &str) -> String {
    format!(
        "[service]\nname = \"sick\"\n[main]\nuser = \"1000:1000\"\noutput = {{ keep = \"64KiB\" }}\n\
         limits = {{ core = 0 }}\n[stop]\ngrace = \"60s\"\n{rules}\n[store]\nurl = \"file://{}/store\"\n",
        scenario.folder().display()
    )
}

fn start(setup: &Setup, version: u32, rules: &str, options: &[&str], arguments: &[&str]) -> Running {
    let scenario = Scenario::new(setup);
    let text = config(&scenario, rules);
    let running = scenario.config(&text).command(sick(setup, version, options, arguments)).start();
    running.wait_for("attached to the JVM");
    running
}

fn deadlock(setup: &Setup, version: u32) -> Outcome {
    let rule =
        "[[rule]]\nname = \"stuck\"\non = { deadlock = true, every = \"1s\" }\ncapture = [\"threads\"]\n";
    let running = start(setup, version, rule, &["-Xmx128m"], &["--heap=1m", "--shutdown=0s"]);
    let port = port(&running);
    request(port, "/deadlock");
    running.wait_for("Java threads are deadlocked");
    running.wait_for("evidence stored");
    let ended = running.stop();
    ended.exits(143);
    let bundle = bundle::only(&store(&ended.folder));
    assert_eq!(bundle.manifest["event"]["trigger"], "deadlock");
    assert!(bundle.read("threads-1.txt").contains("transfer-a"), "once, and named");
    Ok(())
}

fn heap_and_gc(setup: &Setup, version: u32) -> Outcome {
    let rules = "[[rule]]\nname = \"leak\"\non = { heap = \"> 60%\", after_gc = true }\ncapture = [\"histogram\"]\n\
        [[rule]]\nname = \"storm\"\non = { gc = \"> 5%\" }\ncapture = [\"os\"]\n";
    let options = ["-Xmx400m", "-XX:+UseSerialGC"];
    let running = start(setup, version, rules, &options, &["--heap=180m", "--shutdown=0s"]);
    let port = port(&running);
    assert!(!running.output().contains("capturing evidence"), "{}", running.output());
    request(port, "/leak?rate=30m");
    let both = ["capturing evidence trigger=heap", "capturing evidence trigger=gc"];
    crate::scenario::poll("both rules act", || {
        let text = running.output();
        let rules = bundles(&running, &["leak", "storm"]);
        (both.iter().any(|line| text.contains(line)) && rules).then_some(())
    });
    running.stop();
    Ok(())
}

/// All of these rules have acted, in whichever events.
fn bundles(running: &Running, rules: &[&str]) -> bool {
    let bundles = bundle::all(&store(running.folder()));
    let acted = |rule: &str| {
        bundles.iter().any(|bundle| {
            bundle.manifest["event"]["rules"]
                .as_array()
                .is_some_and(|rules| rules.iter().any(|name| name == rule))
        })
    };
    rules.iter().all(|rule| acted(rule))
}

/// Without its counters the JVM is asked for its heap.
fn without_counters(setup: &Setup, version: u32) -> Outcome {
    let rules = "[[rule]]\nname = \"leak\"\non = { heap = \"> 60%\" }\ncapture = [\"histogram\"]\n";
    let options = ["-Xmx200m", "-XX:-UsePerfData"];
    let running = start(setup, version, rules, &options, &["--heap=1m", "--shutdown=0s"]);
    let port = port(&running);
    running.wait_for("the JVM has no performance counters");
    request(port, "/leak?rate=20m");
    running.wait_for("capturing evidence trigger=heap");
    running.wait_for("evidence stored");
    running.stop();
    Ok(())
}

/// A launcher that does not read `JDK_JAVA_OPTIONS`, as a jlink image's own: the flags
/// are set while the JVM runs.
fn heap_dump_flag(setup: &Setup, version: u32) -> Outcome {
    let scenario = Scenario::new(setup);
    let rules = "[jvm]\ndiagnostics = [\"heap-dump\"]\n\
        [[rule]]\nname = \"oom\"\non = \"oom\"\ncapture = [\"crash\"]\n";
    let text = config(&scenario, rules);
    let mut command = vec!["env".to_owned(), "-u".to_owned(), "JDK_JAVA_OPTIONS".to_owned()];
    command.extend(sick(setup, version, &["-Xmx64m"], &["--heap=1m", "--shutdown=0s"]));
    let running = scenario.config(&text).command(command).start();
    running.wait_for("switched on while the JVM runs: a heap dump at an OutOfMemoryError");
    request(port(&running), "/leak?rate=400m");
    running.wait_for("capturing evidence trigger=oom");
    running.wait_for("evidence stored");
    let ended = running.stop();
    let mut found = Vec::new();
    bundle::walk(&store(&ended.folder), &mut found);
    let dump =
        found.iter().find(|path| path.ends_with("heap-oom.hprof.zst")).expect("the heap dump is there");
    assert!(crate::hprof::walk(dump)?.ended);
    Ok(())
}

fn log(setup: &Setup) -> Outcome {
    let rule = "[[rule]]\nname = \"words\"\non = { log = \"threads transfer-. and\" }\ncapture = [\"threads\", \"logs\"]\n";
    let running = start(setup, 21, rule, &["-Xmx128m"], &["--heap=1m", "--shutdown=0s"]);
    let port = port(&running);
    request(port, "/threads?count=1");
    request(port, "/deadlock");
    running.wait_for("capturing evidence trigger=log");
    running.wait_for("evidence stored");
    let ended = running.stop();
    let bundle = bundle::only(&store(&ended.folder));
    assert!(bundle.read("logs.txt").contains("threads transfer-a and transfer-b are deadlocked"));
    Ok(())
}

fn schedule(setup: &Setup) -> Outcome {
    let rule = "[[rule]]\nname = \"minutely\"\non = { schedule = \"* * * * *\" }\ncapture = [\"os\"]\n";
    let running = start(setup, 21, rule, &["-Xmx128m"], &["--heap=1m", "--shutdown=0s"]);
    running.wait_for("capturing evidence trigger=schedule");
    running.wait_for("evidence stored");
    running.stop().exits(143);
    Ok(())
}

/// `bookend dump all`, and what `bookend events` tells of it.
fn manual(setup: &Setup) -> Outcome {
    let rule = "[[rule]]\nname = \"by-hand\"\non = \"manual\"\ncapture = [\"os\", \"threads\"]\n";
    let running = start(setup, 21, rule, &["-Xmx128m"], &["--heap=1m", "--shutdown=0s"]);
    port(&running);
    let (code, text) = running.verb(setup, "0", &["dump", "all"]);
    assert!(code == Some(0) && text.contains("-manual  (") && text.contains("artifacts"), "{text}");
    let (code, text) = running.verb(setup, "0", &["events"]);
    assert!(code == Some(0) && text.contains("capture  capturing evidence: manual"), "{text}");
    let (code, text) = running.verb(setup, "1000", &["events", "--json"]);
    let line = text.lines().find(|line| line.contains("store")).ok_or(text.clone())?;
    let json: serde_json::Value = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
    assert!(code == Some(0) && json["what"] == "store", "{text}");
    let folder = running.folder().join("dumps");
    std::fs::create_dir(&folder).map_err(|error| error.to_string())?;
    let to = folder.display().to_string();
    let (code, text) = running.verb(setup, "0", &["dump", "all", "--redact"]);
    assert!(code == Some(1) && text.contains("name a folder too"), "{text}");
    let (code, text) = running.verb(setup, "0", &["dump", "all", "--to", &to]);
    assert_eq!(code, Some(0), "{text}");
    for name in ["threads-1.txt", "histogram.txt", "heap.hprof"] {
        assert!(text.contains(name) && folder.join(name).exists(), "{text}");
    }
    assert!(text.contains("jfr: left out: no flight recording runs"), "{text}");
    let (code, text) = running.verb(setup, "0", &["dump", "histogram", "--to", "-"]);
    assert!(code == Some(0) && text.contains("java.lang.String"), "{text}");
    let (code, text) = running.verb(setup, "0", &["dump", "jfr", "--to", &to]);
    assert!(code == Some(1) && text.contains("no flight recording runs"), "{text}");
    // Whoever follows hears of the stop; PID 1's end is its own.
    let follower = running.verb_in_background(setup, "0", &["events", "--follow"]);
    let ended = running.stop();
    ended.exits(143);
    let text = follower.join().map_err(|_| "the follower panicked")?;
    assert!(text.contains("stop requested: SIGTERM"), "{text}");
    Ok(())
}

/// A group of its own with that much memory; gone at the test's end.
struct Group(PathBuf);

impl Group {
    fn new(limit: u64) -> Self {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("bookend-test-{}-{number}", std::process::id());
        let folder = PathBuf::from("/sys/fs/cgroup/memory").join(name);
        std::fs::create_dir(&folder).expect("a group");
        std::fs::write(folder.join("memory.limit_in_bytes"), limit.to_string()).expect("a limit");
        Self(folder)
    }

    /// As in a container: the group is the root of what is seen, and everybody is in it.
    fn enter(&self) -> String {
        format!("echo $$ > {0}/cgroup.procs && mount --bind {0} /sys/fs/cgroup/memory", self.0.display())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _still_used = std::fs::remove_dir(&self.0);
    }
}

fn memory(setup: &Setup) -> Outcome {
    let group = Group::new(400 << 20);
    let scenario = Scenario::new(setup);
    let rule = "[[rule]]\nname = \"full\"\non = { memory = \"> 70%\" }\ncapture = [\"os\", \"histogram\"]\n";
    let text = config(&scenario, rule);
    let options = ["-Xms300m", "-Xmx300m", "-XX:+AlwaysPreTouch"];
    let running = scenario
        .config(&text)
        .mount(&group.enter())
        .command(sick(setup, 21, &options, &["--heap=1m", "--shutdown=0s"]))
        .start();
    running.wait_for("memory=\"400 MiB\"");
    running.wait_for("capturing evidence trigger=memory");
    running.wait_for("evidence stored");
    running.stop().exits(143);
    Ok(())
}

/// The kernel takes the agent first, and the JVM next: a new agent tells of it.
fn kernel(setup: &Setup) -> Outcome {
    let group = Group::new(150 << 20);
    let scenario = Scenario::new(setup);
    let rule = "[[rule]]\nname = \"killed\"\non = \"oom\"\ncapture = [\"os\", \"logs\"]\n";
    let text = config(&scenario, rule);
    let running = scenario
        .config(&text)
        .mount(&group.enter())
        .command(sick(setup, 21, &["-Xms100m", "-Xmx600m"], &["--heap=1m", "--shutdown=0s"]))
        .start();
    running.wait_for("attached to the JVM");
    request(port(&running), "/leak?rate=100m");
    let ended = running.wait();
    ended.exits(137).says("the main process ended for want of memory: the kernel killed it");
    let bundle = bundle::only(&store(&ended.folder));
    assert_eq!(bundle.manifest["event"]["trigger"], "oom");
    assert!(bundle.read("logs.txt").contains("thread leaker leaks"), "what it said last");
    Ok(())
}

/// A fake, as only ECS has the real thing: its task metadata endpoint, version 4, whose
/// answer is built after the example in the ECS developer guide.
fn ecs(setup: &Setup) -> Outcome {
    let is_sick = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_sick);
    let port = serve(move |_| {
        let health = if flag.load(Ordering::Relaxed) {
            r#"{"status":"UNHEALTHY","statusSince":"2026-11-23T10:00:00Z","exitCode":1,"output":"no answer"}"#
        } else {
            r#"{"status":"HEALTHY","statusSince":"2026-11-23T09:00:00Z"}"#
        };
        let body = format!(
            r#"{{"DockerId":"ea32192c8553fbff06c9340478a2ff089b2bb5646fb718b4ee206641c9086d66","Name":"orders","DockerName":"ecs-orders-1","Image":"orders:7","Labels":{{"com.amazonaws.ecs.cluster":"default"}},"DesiredStatus":"RUNNING","KnownStatus":"RUNNING","Limits":{{"CPU":2}},"Type":"NORMAL","Health":{health}}}"#
        );
        ("200 OK", "application/json", body)
    });
    let scenario = Scenario::new(setup);
    let text = config(&scenario, "[[rule]]\nname = \"ill\"\non = \"unhealthy\"\ncapture = [\"os\"]\n");
    let running = scenario
        .config(&text)
        .env("ECS_CONTAINER_METADATA_URI_V4", &format!("http://127.0.0.1:{port}/v4/x"))
        .command(["sleep", "600"])
        .start();
    running.wait_for("platform=ECS");
    is_sick.store(true, Ordering::Relaxed);
    running.wait_for("health: unhealthy: ECS takes the container for unhealthy: no answer");
    running.wait_for("capturing evidence trigger=unhealthy");
    running.wait_for("evidence stored");
    running.stop().exits(143);
    Ok(())
}

/// PID 1 and all are killed in the middle of an event; the next life on the same volume
/// says so, in its log and in its next manifest.
fn told(setup: &Setup) -> Outcome {
    let scenario = Scenario::new(setup);
    let rules =
        "[[rule]]\nname = \"last\"\non = \"stop\"\ncapture = [\"os\", { exec = [\"sleep\", \"600\"] }]\n";
    let text = config(&scenario, rules);
    let folder = scenario.folder().to_owned();
    let running = scenario.config(&text).command(["sleep", "600"]).start();
    running.wait_for("main process started");
    running.terminate();
    running.wait_for("os captured");
    running.signal(9);
    running.wait();
    let rules = "[[rule]]\nname = \"last\"\non = \"stop\"\ncapture = [\"os\"]\n";
    let scenario = Scenario::new(setup);
    let text = config(&scenario, rules)
        .replace(&scenario.folder().display().to_string(), &folder.display().to_string());
    let running = scenario.config(&text).command(["sleep", "600"]).start();
    running.wait_for(
        "an earlier life was cut short while it captured evidence of \"stop\": still there: os.txt",
    );
    running.wait_for("main process started");
    running.stop().exits(143);
    let bundles = bundle::all(&store(&folder));
    let bundle = bundles.first().expect("one bundle is whole");
    assert_eq!(bundle.manifest["lost"][0]["trigger"], "stop", "{}", bundle.manifest);
    assert_eq!(bundle.manifest["lost"][0]["kept"][0], "os.txt", "{}", bundle.manifest);
    Ok(())
}
