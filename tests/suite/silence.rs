//! JVMs that answer nothing: step by step down the ladder, never waiting for ever.

use crate::bundle::{self, Bundle};
use crate::jvm::{on_each_jvm, port, request, sick, store};
use crate::scenario::{Running, Scenario, poll};
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;
use std::io::Write;
use std::path::PathBuf;

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let mut trials = on_each_jvm(
        setup,
        "silence",
        &[
            ("a_spin_before_a_safepoint_ends_in_a_crash_report", spin),
            ("a_rule_may_ask_for_the_last_resort", asked),
            ("attach_disabled_and_output_kept", by_quit),
            ("a_slow_shutdown_is_asked_why", slow),
        ],
    );
    let java = &[Need::Root, Need::Java(21)][..];
    trials.extend([
        setup.trial("silence::in_a_debuggers_stop", java, debugger),
        setup.trial("silence::in_disk_sleep", &[Need::Root, Need::Java(21), Need::CgroupV1], frozen),
        setup.trial("silence::stopped_while_unhealthy", java, stopped),
        setup.trial("silence::the_last_resort_may_be_forbidden", java, forbidden),
    ]);
    trials
}

type Outcome = Result<(), String>;

const CAPTURES: &str = "\"vm\", \"threads\", \"heap\"";

fn start(setup: &Setup, version: u32, grace: &str, rule: &str, options: &[&str]) -> Running {
    let scenario = Scenario::new(setup);
    let config = format!(
        "[service]\nname = \"sick\"\n[main]\nuser = \"1000:1000\"\noutput = {{ keep = \"1MiB\" }}\n\
         limits = {{ core = 0 }}\n[stop]\ngrace = \"{grace}\"\n\
         [[rule]]\nname = \"rule\"\n{rule}\ncapture = [{CAPTURES}]\n[store]\nurl = \"file://{}/store\"\n",
        scenario.folder().display()
    );
    let command = sick(setup, version, options, &["--heap=1m", "--shutdown=0s"]);
    let running = scenario.config(&config).command(command).start();
    running.wait_for("attached to the JVM");
    port(&running);
    running
}

fn of<'b>(bundles: &'b [Bundle], trigger: &str) -> &'b Bundle {
    let found = bundles.iter().find(|bundle| bundle.manifest["event"]["trigger"] == trigger);
    found.unwrap_or_else(|| panic!("no bundle of {trigger} in {bundles:#?}"))
}

/// Whoever needs compiled code waits for it: interpreted, a loop does reach safepoints, and
/// on a busy machine the compiler may take longer than we wait.
const SERIAL: &[&str] = &["-XX:+UseSerialGC", "-Xmx512m", "-XX:-BackgroundCompilation"];

/// Nothing reaches a safepoint: no thread dump, no shutdown; the kernel's view, and
/// the crash report just before the SIGKILL, which names the thread that spins.
fn spin(setup: &Setup, version: u32) -> Outcome {
    let running = start(setup, version, "15s", "on = \"stop\"", SERIAL);
    spins(&running);
    let ended = running.stop();
    ended.exits(134).says("its crash report is the last resort").says("a SIGSEGV to its busiest thread");
    let bundles = bundle::all(&store(&ended.folder));
    let stop = of(&bundles, "stop");
    assert_ne!(stop.status("heap"), "complete", "{}", stop.manifest);
    assert!(stop.read("os-without-answer.txt").contains("spinner"), "{}", stop.manifest);
    let killed = of(&bundles, "killed");
    let report = killed.read("hs_err.log");
    let current = report.lines().find(|line| line.starts_with("Current thread")).unwrap_or_default();
    assert!(current.contains("spinner"), "{current}");
    Ok(())
}

/// A loop without a safepoint, once it holds up a thread dump.
fn spins(running: &Running) {
    let port = port(running);
    request(port, "/spin");
    running.wait_for("thread spinner spins");
    let jvm = running.descendant("SickService");
    poll("the spinner spins", || {
        let threads = std::fs::read_dir(format!("/proc/{jvm}/task")).ok()?;
        let spinner = threads.flatten().map(|thread| thread.path()).find(|thread| {
            std::fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim() == "spinner")
        })?;
        // A second of CPU time: its loop is compiled by then.
        let stat = std::fs::read_to_string(spinner.join("stat")).ok()?;
        let ticks: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(11)?.parse().ok()?;
        (ticks >= 100).then_some(())
    });
}

/// To that process's standard output.
fn print_as(pid: i32, text: &str) -> Outcome {
    let output = std::fs::OpenOptions::new().append(true).open(format!("/proc/{pid}/fd/1"));
    output.and_then(|mut output| output.write_all(text.as_bytes())).map_err(|error| error.to_string())
}

fn asked(setup: &Setup, version: u32) -> Outcome {
    let rule = "on = { log = \"please look\" }\nlast_resort = \"crash-report\"\ndeadline = \"10s\"";
    let running = start(setup, version, "60s", rule, SERIAL);
    spins(&running);
    // The service says nothing any more; somebody else has the same standard output.
    let jvm = running.descendant("SickService");
    print_as(jvm, "please look\n")?;
    let ended = running.wait();
    ended.exits(134).says("a line of the log matches").says("its crash report is the last resort");
    let bundles = bundle::all(&store(&ended.folder));
    let event = of(&bundles, "log");
    assert!(event.read("hs_err.log").contains("spinner"));
    Ok(())
}

fn by_quit(setup: &Setup, version: u32) -> Outcome {
    let options = &["-XX:+DisableAttachMechanism"][..];
    let scenario = Scenario::new(setup);
    let config = format!(
        "[main]\nuser = \"1000:1000\"\noutput = {{ keep = \"1MiB\" }}\n[stop]\ngrace = \"60s\"\n\
         [[rule]]\nname = \"rule\"\non = \"stop\"\ncapture = [{CAPTURES}]\n[store]\nurl = \"file://{}/store\"\n",
        scenario.folder().display()
    );
    let command = sick(setup, version, options, &["--heap=1m", "--shutdown=0s"]);
    let running = scenario.config(&config).command(command).start();
    request(port(&running), "/threads?count=300");
    running.wait_for("attach is disabled");
    let ended = running.stop();
    ended.exits(143).says("Full thread dump");
    let bundle = bundle::only(&store(&ended.folder));
    let dump = bundle.read("threads-by-sigquit.txt");
    assert!(dump.starts_with("Full thread dump") && dump.contains("JNI global ref"), "{dump}");
    assert!(dump.contains("\"parked-300\""), "{dump}");
    assert_eq!(bundle.status("heap"), "skipped", "{}", bundle.manifest);
    Ok(())
}

/// A shutdown hook that hangs: the JVM answers, so that it is asked and not shot.
fn slow(setup: &Setup, version: u32) -> Outcome {
    let scenario = Scenario::new(setup);
    let config = format!(
        "[main]\nuser = \"1000:1000\"\n[stop]\ngrace = \"9s\"\n\
         [[rule]]\nname = \"rule\"\non = \"stop\"\ncapture = [\"threads\"]\n[store]\nurl = \"file://{}/store\"\n",
        scenario.folder().display()
    );
    let command = sick(setup, version, &["-Xmx128m"], &["--heap=1m", "--shutdown=10m"]);
    let running = scenario.config(&config).command(command).start();
    running.wait_for("attached to the JVM");
    port(&running);
    let ended = running.stop();
    ended.exits(137).never_says("last resort");
    let bundles = bundle::all(&store(&ended.folder));
    let dump = of(&bundles, "killed").read("threads-1.txt");
    assert!(dump.contains("\"shutdown-hook\"") && dump.contains("shutDownSlowly"), "{dump}");
    Ok(())
}

fn forbidden(setup: &Setup) -> Outcome {
    let running = start(setup, 21, "12s", "on = \"stop\"\nlast_resort = \"none\"", SERIAL);
    spins(&running);
    let ended = running.stop();
    ended.exits(137).never_says("last resort");
    assert_eq!(bundle::all(&store(&ended.folder)).len(), 1);
    Ok(())
}

/// All threads in a tracer's stop, as under gdb.
fn debugger(setup: &Setup) -> Outcome {
    let running = start(setup, 21, "12s", "on = \"stop\"", &["-Xmx128m"]);
    let jvm = running.descendant("SickService");
    let script = format!(
        "import ctypes, os, sys\n\
         libc = ctypes.CDLL(None, use_errno=True)\n\
         for thread in os.listdir('/proc/{jvm}/task'):\n\
         \x20   assert libc.ptrace(0x4206, int(thread), None, None) == 0, ctypes.get_errno()\n\
         \x20   assert libc.ptrace(0x4207, int(thread), None, None) == 0, ctypes.get_errno()\n\
         print('stopped', flush=True)\n\
         sys.stdin.read()\n"
    );
    let mut tracer = std::process::Command::new("python3")
        .args(["-c", &script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut line = [0; 8];
    let said = tracer.stdout.take().map(|mut stdout| std::io::Read::read(&mut stdout, &mut line));
    assert!(matches!(said, Some(Ok(1..))), "the tracer stops it");
    running.terminate();
    running.wait_for("its threads as the kernel sees them");
    // Left alone, it goes on and ends.
    drop(tracer.stdin.take());
    tracer.wait().map_err(|error| error.to_string())?;
    let ended = running.wait();
    ended.exits(143);
    let bundles = bundle::all(&store(&ended.folder));
    let stop = of(&bundles, "stop");
    assert_eq!(stop.reason("threads"), "a debugger has stopped the JVM", "{}", stop.manifest);
    assert!(stop.read("os-without-answer.txt").contains("=== threads: "));
    Ok(())
}

/// A frozen control group is in uninterruptible sleep, as a process is whose file
/// system hangs.
fn frozen(setup: &Setup) -> Outcome {
    let group = PathBuf::from(format!("/sys/fs/cgroup/freezer/bookend-test-{}", std::process::id()));
    std::fs::create_dir(&group).map_err(|error| error.to_string())?;
    let running = start(setup, 21, "12s", "on = \"stop\"", &["-Xmx128m"]);
    let jvm = running.descendant("SickService");
    let set = |name: &str, value: &str| std::fs::write(group.join(name), value).map_err(|e| e.to_string());
    set("cgroup.procs", &jvm.to_string())?;
    set("freezer.state", "FROZEN")?;
    let is_frozen =
        || std::fs::read_to_string(group.join("freezer.state")).is_ok_and(|state| state.trim() == "FROZEN");
    poll("it is frozen", || is_frozen().then_some(()));
    running.terminate();
    running.wait_for("its threads as the kernel sees them");
    set("freezer.state", "THAWED")?;
    let ended = running.wait();
    drop(std::fs::remove_dir(&group));
    ended.exits(143);
    let bundles = bundle::all(&store(&ended.folder));
    let stop = of(&bundles, "stop");
    assert_ne!(stop.status("heap"), "complete", "{}", stop.manifest);
    assert!(stop.read("os-without-answer.txt").contains(" D "), "{}", stop.read("os-without-answer.txt"));
    Ok(())
}

/// Outside a stop a SIGSTOP is somebody's who knows why: it is left alone, and told.
fn stopped(setup: &Setup) -> Outcome {
    let running = start(setup, 21, "30s", "on = { log = \"please look\" }", &["-Xmx128m"]);
    let jvm = running.descendant("SickService");
    crate::scenario::freeze(jvm);
    print_as(jvm, "please look\n")?;
    running.wait_for("evidence stored");
    let state = std::fs::read_to_string(format!("/proc/{jvm}/status")).unwrap_or_default();
    assert!(state.contains("State:\tT"), "{state}");
    running.stop().exits(143);
    Ok(())
}
