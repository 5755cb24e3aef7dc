//! JVMs that do not answer, die, or cannot be talked to: nothing hangs,
//! nothing is killed by us early, and the manifest says what and why.

use crate::bundle;
use crate::jvm::{config, on_each_jvm, port, request, sick, store};
use crate::scenario::{Scenario, poll, send};
use crate::setup::Setup;
use libtest_mimic::Trial;

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    on_each_jvm(
        setup,
        "jvm_trouble",
        &[
            ("stopped_by_sigstop", stopped),
            ("dies_during_the_dump", dies),
            ("read_only_tmp", read_only_tmp),
            ("full_tmp", full_tmp),
            ("store_without_space", full_store),
            ("store_whose_space_runs_out", filled_store),
            ("store_not_writable", unwritable_store),
            ("xrs_is_not_killed", xrs),
            ("attach_disabled", disabled),
            ("full_heap_answers_because_it_was_attached_to_before", full_heap),
            ("agent_killed_during_the_dump", agent_killed),
        ],
    )
}

type Outcome = Result<(), String>;

const SMALL: &[&str] = &["--heap=1m", "--shutdown=0s"];

fn stopped(setup: &Setup, version: u32) -> Outcome {
    let scenario = Scenario::new(setup);
    let text = config(scenario.folder(), "6s", "stop");
    let running = scenario.config(&text).command(sick(setup, version, &[], SMALL)).start();
    running.wait_for("attached to the JVM");
    port(&running);
    crate::scenario::freeze(running.descendant("SickService"));
    let ended = running.stop();
    // It is to end in any case: it is continued for its evidence, and so that it can obey.
    ended.exits(143).says("the JVM was stopped (SIGSTOP): continued").says("shutdown hook ends");
    let bundle = bundle::only(&store(&ended.folder));
    let notes = bundle.manifest["notes"].to_string();
    assert!(notes.contains("SIGSTOP"), "{}", bundle.manifest);
    assert_eq!(bundle.status("threads"), "complete", "{}", bundle.manifest);
    Ok(())
}

fn dies(setup: &Setup, version: u32) -> Outcome {
    let bundle = killed_while_dumped(setup, version, "");
    // What there was until then is kept, and does not look whole.
    assert_eq!(bundle.status("heap"), "partial", "{}", bundle.manifest);
    assert_eq!(bundle.file("heap"), "heap.hprof.zst.partial", "{}", bundle.manifest);
    assert!(bundle.read("heap-summary.txt").contains("bytes"), "{}", bundle.manifest);
    let bundle = killed_while_dumped(setup, version, "[heap]\npartial = \"discard\"\n");
    assert_eq!(bundle.status("heap"), "failed", "{}", bundle.manifest);
    assert!(bundle.reason("heap").contains("discarded"), "{}", bundle.manifest);
    Ok(())
}

fn killed_while_dumped(setup: &Setup, version: u32, more: &str) -> bundle::Bundle {
    let scenario = Scenario::new(setup);
    let text = config(scenario.folder(), "80s", "stop") + more;
    let spool = store(scenario.folder()).join(".spool");
    let command = sick(setup, version, &["-Xmx1g", "-Xms1g"], &["--heap=400m", "--shutdown=0s"]);
    let running = scenario.config(&text).command(command).start();
    running.wait_for("attached to the JVM");
    port(&running);
    let jvm = running.descendant("SickService");
    running.terminate();
    poll("the dump has begun", || {
        let event = std::fs::read_dir(&spool).ok()?.next()?.ok()?.path();
        let mut files = std::fs::read_dir(event).ok()?.flatten();
        files.any(|file| file.metadata().is_ok_and(|data| data.len() > 1 << 20)).then_some(())
    });
    send(jvm, 9);
    let ended = running.wait();
    ended.exits(137);
    let bundle = bundle::only(&store(&ended.folder));
    assert_eq!(bundle.status("threads"), "complete", "{}", bundle.manifest);
    bundle
}

fn read_only_tmp(setup: &Setup, version: u32) -> Outcome {
    let scenario = Scenario::new(setup);
    // The trigger file has a place, the socket has none.
    let workdir = format!("[main]\nworkdir = \"{}\"\n", scenario.folder().display());
    let text = config(scenario.folder(), "8s", "stop").replace("[main]\n", &workdir);
    let running = scenario
        .config(&text)
        .mount("mount -o remount,ro,bind /tmp")
        .command(sick(setup, version, &[], SMALL))
        .start();
    port(&running);
    let ended = running.stop();
    ended.exits(143).says("shutdown hook ends");
    let bundle = bundle::only(&store(&ended.folder));
    let reason = bundle.reason("threads");
    assert!(reason.contains("/tmp cannot be written (Read-only file system)"), "{}", bundle.manifest);
    Ok(())
}

fn full_tmp(setup: &Setup, version: u32) -> Outcome {
    let scenario = Scenario::new(setup);
    let text = config(scenario.folder(), "60s", "stop");
    let running = scenario
        .config(&text)
        .temporary("size=64k")
        .mount("{ cat /dev/zero > /tmp/full 2>/dev/null || true; }")
        .command(sick(setup, version, &[], SMALL))
        .start();
    port(&running);
    let ended = running.stop();
    ended.exits(143);
    // Sockets need no blocks: attach works, and the dump goes elsewhere.
    let bundle = bundle::only(&store(&ended.folder));
    assert_eq!(
        (bundle.status("threads"), bundle.status("heap")),
        ("complete", "complete"),
        "{}",
        bundle.manifest
    );
    Ok(())
}

fn full_store(setup: &Setup, version: u32) -> Outcome {
    let bundle = small_store(setup, version, "512k", SMALL)?;
    let statuses = (bundle.status("threads"), bundle.status("heap"));
    assert_eq!(statuses, ("complete", "skipped"), "{}", bundle.manifest);
    assert!(bundle.reason("heap").contains("of disk, and"), "{}", bundle.manifest);
    Ok(())
}

/// At best it would fit, and it does not.
fn filled_store(setup: &Setup, version: u32) -> Outcome {
    let bundle = small_store(setup, version, "18m", &["--heap=100m", "--shutdown=0s"])?;
    assert_eq!(bundle.status("heap"), "partial", "{}", bundle.manifest);
    assert!(bundle.reason("heap").contains("the rest of the disk is the service's"), "{}", bundle.manifest);
    assert_eq!(bundle.file("heap"), "heap.hprof.gz.partial", "{}", bundle.manifest);
    Ok(())
}

/// What is stored on a disk of that size.
fn small_store(setup: &Setup, version: u32, size: &str, heap: &[&str]) -> Result<bundle::Bundle, String> {
    let scenario = Scenario::new(setup);
    let folder = store(scenario.folder());
    std::fs::create_dir(&folder).map_err(|error| error.to_string())?;
    // Larger than what is expected of a good compression.
    let text = config(scenario.folder(), "60s", "stop") + "[heap]\ncompression = \"gzip\"\n";
    let copy = scenario.folder().join("copy");
    // What is on the mount is gone with its namespace: a post-stop hook brings it out.
    let hook = format!(
        "[[hook]]\nname = \"bring-out\"\nstage = \"post-stop\"\nuser = \"root\"\ncommand = [\"cp\", \"-a\", \"{}\", \"{}\"]\n",
        folder.display(),
        copy.display()
    );
    let running = scenario
        .config(&(text + &hook))
        .mount(&format!("mount -t tmpfs -o size={size},mode=777 none {}", folder.display()))
        .command(sick(setup, version, &["-Xmx256m"], heap))
        .start();
    running.wait_for("attached to the JVM");
    port(&running);
    let ended = running.stop();
    ended.exits(143);
    Ok(bundle::only(&copy))
}

fn unwritable_store(setup: &Setup, version: u32) -> Outcome {
    let scenario = Scenario::new(setup);
    let text = config(scenario.folder(), "60s", "stop").replace("file://", "file:///proc");
    let running = scenario.config(&text).command(sick(setup, version, &[], SMALL)).start();
    port(&running);
    let ended = running.stop();
    // It is said at start, when something can still be done about it.
    ended.says_in_order("evidence cannot be stored: cannot make the folder /proc", "stop requested");
    ended.exits(143).says("no evidence: cannot make the folder /proc").says("shutdown hook ends");
    Ok(())
}

fn xrs(setup: &Setup, version: u32) -> Outcome {
    let scenario = Scenario::new(setup);
    let text = config(scenario.folder(), "60s", "stop");
    let running = scenario.config(&text).command(sick(setup, version, &["-Xrs"], SMALL)).start();
    let port = port(&running);
    running.wait_for("attached to the JVM");
    assert!(request(port, "/health").contains("UP"), "attaching has not hurt it");
    let ended = running.stop();
    // With -Xrs SIGTERM is death by signal, without hooks: the same code.
    ended.exits(143).never_says("shutdown hook").says("main process ended status=SIGTERM");
    let bundle = bundle::only(&store(&ended.folder));
    assert_eq!(
        (bundle.status("threads"), bundle.status("heap")),
        ("complete", "complete"),
        "{}",
        bundle.manifest
    );
    Ok(())
}

fn disabled(setup: &Setup, version: u32) -> Outcome {
    let scenario = Scenario::new(setup);
    let text = config(scenario.folder(), "60s", "stop");
    let command = sick(setup, version, &["-XX:+DisableAttachMechanism"], SMALL);
    let running = scenario.config(&text).command(command).start();
    port(&running);
    let said = running.wait_for("cannot attach to the JVM: attach is disabled");
    assert!(!said.contains("Full thread dump"), "nobody asked for one at start:\n{said}");
    let ended = running.stop();
    ended.exits(143).says("Full thread dump").says("shutdown hook ends");
    let bundle = bundle::only(&store(&ended.folder));
    for artifact in ["threads", "heap"] {
        assert_eq!(bundle.status(artifact), "skipped");
        assert!(bundle.reason(artifact).contains("-XX:+DisableAttachMechanism"), "{}", bundle.manifest);
    }
    Ok(())
}

/// The reason for attaching at start: a first attach fails when the heap is full.
fn full_heap(setup: &Setup, version: u32) -> Outcome {
    let scenario = Scenario::new(setup);
    let text = config(scenario.folder(), "60s", "stop");
    let running = scenario
        .config(&text)
        .command(sick(setup, version, &["-Xmx64m", "-XX:+UseSerialGC"], &["--heap=1m", "--shutdown=0s"]))
        .start();
    let port = port(&running);
    running.wait_for("attached to the JVM");
    request(port, "/leak?rate=1g");
    running.wait_for("OutOfMemoryError");
    let ended = running.stop();
    let bundle = bundle::only(&store(&ended.folder));
    assert_eq!(
        (bundle.status("threads"), bundle.status("heap")),
        ("complete", "complete"),
        "{}",
        bundle.manifest
    );
    crate::hprof::walk(&bundle.folder.join("heap.hprof.zst"))?;
    Ok(())
}

/// The service and its exit code do not depend on the agent.
fn agent_killed(setup: &Setup, version: u32) -> Outcome {
    let scenario = Scenario::new(setup);
    let text = config(scenario.folder(), "80s", "stop");
    let spool = store(scenario.folder()).join(".spool");
    let command = sick(setup, version, &["-Xmx1g", "-Xms1g"], &["--heap=400m", "--shutdown=0s"]);
    let running = scenario.config(&text).command(command).start();
    running.wait_for("attached to the JVM");
    port(&running);
    let init = running.init();
    let children = std::fs::read_to_string(format!("/proc/{init}/task/{init}/children")).unwrap_or_default();
    let agent: i32 = children
        .split_whitespace()
        .find(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name.trim() == "bookend-agent")
        })
        .and_then(|pid| pid.parse().ok())
        .ok_or("there is no agent")?;
    running.terminate();
    poll("the event has begun", || std::fs::read_dir(&spool).ok()?.next().map(drop));
    send(agent, 9);
    running.wait().exits(143).says("no evidence: the agent is not there").says("shutdown hook ends");
    Ok(())
}
