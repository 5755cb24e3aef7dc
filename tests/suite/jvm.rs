//! The main job on real JVMs: a stop leaves evidence and the JVM's own code.

use crate::bundle;
use crate::hprof;
use crate::scenario::{Running, Scenario, poll};
use crate::setup::{EARLY, Need, Setup};
use libtest_mimic::Trial;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The JVMs of the matrix.
pub(crate) const VERSIONS: [u32; 4] = [11, 17, 21, 25];

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let needs = &[Need::Root, Need::Java(EARLY)];
    let early =
        setup.trial("jvm::early::a_dump_is_followed_while_it_is_written", needs, |setup| stop(setup, EARLY));
    let mut trials = vec![early];
    trials.extend(on_each_jvm(
        setup,
        "jvm",
        &[
            ("stop_leaves_threads_and_heap", stop),
            ("stop_while_starting", stop_while_starting),
            ("exit_by_itself_is_an_event", exit),
            ("through_a_start_script", start_script),
            ("healthy_exit_is_no_event", healthy_exit),
            ("a_signal_that_would_kill_it_is_held_back", held_back),
            ("a_short_jvm_comes_first", short_jvm),
            ("root_main_whose_jvm_is_somebody_else", other_user),
        ],
    ));
    trials
}

/// A test, given the version of its JVM.
type OnJvm = fn(&Setup, u32) -> Result<(), String>;

/// The same tests on every JVM: `module::21::name`.
pub(crate) fn on_each_jvm(setup: &'static Setup, module: &str, tests: &[(&str, OnJvm)]) -> Vec<Trial> {
    let of_version = |version: u32| {
        tests.iter().map(move |(name, test)| {
            let test = *test;
            let needs = &[Need::Root, Need::Java(version)];
            setup.trial(format!("{module}::{version}::{name}"), needs, move |setup| test(setup, version))
        })
    };
    VERSIONS.into_iter().flat_map(of_version).collect()
}

/// A configuration with a store in the scenario's folder, as another user than root.
pub(crate) fn config(folder: &Path, grace: &str, on: &str) -> String {
    format!(
        "[service]\nname = \"sick\"\n[main]\nuser = \"1000:1000\"\n[stop]\ngrace = \"{grace}\"\n\
         [[rule]]\nname = \"last-words\"\non = \"{on}\"\ncapture = [\"heap\", \"threads\"]\n\
         [store]\nurl = \"file://{}/store\"\n",
        folder.display()
    )
}

/// The same with three artifacts, to whatever store these lines are.
pub(crate) fn config_with(store: &str) -> String {
    format!(
        "[service]\nname = \"sick\"\n[main]\nuser = \"1000:1000\"\n[stop]\ngrace = \"60s\"\n\
         [[rule]]\nname = \"last-words\"\non = \"stop\"\ncapture = [\"heap\", \"threads\", \"os\"]\n{store}"
    )
}

/// The sick service on that JVM: its command line, options of the JVM in front.
pub(crate) fn sick(setup: &Setup, version: u32, options: &[&str], arguments: &[&str]) -> Vec<String> {
    let java = setup.java(version).expect("the need was checked");
    let classes = setup.classes.as_ref().expect("the need was checked");
    let mut command = vec![java.display().to_string()];
    command.extend(options.iter().map(|option| (*option).to_owned()));
    command.extend(["-cp".to_owned(), classes.display().to_string(), "SickService".to_owned()]);
    command.extend(["--port=0".to_owned(), "--bind=127.0.0.1".to_owned()]);
    command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    command
}

/// The port that the service says it listens on.
pub(crate) fn port(running: &Running) -> u16 {
    let text = running.wait_for("live heap");
    let digits =
        text.split("ready on port ").nth(1).expect("it says so").split(',').next().expect("a number");
    digits.trim().parse().expect("a port")
}

/// One request; what comes back, or nothing if the service cannot answer.
pub(crate) fn request(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the service accepts");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a valid timeout");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("the request is sent");
    let mut answer = Vec::new();
    // A service that dies of the request resets the connection.
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

pub(crate) fn store(folder: &Path) -> PathBuf {
    folder.join("store")
}

fn stop(setup: &Setup, version: u32) -> Result<(), String> {
    let scenario = Scenario::new(setup);
    let text = config(scenario.folder(), "60s", "stop");
    let running =
        scenario.config(&text).command(sick(setup, version, &["-Xmx256m"], &["--heap=48m"])).start();
    let port = port(&running);
    running.wait_for("attached to the JVM");
    request(port, "/threads?count=25");
    let ended = running.stop();
    ended.exits(143).says("shutdown hook ends");
    // Evidence first, then the JVM's own shutdown; the bundle is whole at the end.
    // Virtual threads have a file of their own since 21.
    let version = if version == EARLY { 11 } else { version };
    let whole = if version < 21 { "artifacts=2/2" } else { "artifacts=3/3" };
    ended.says_in_order("evidence captured", "shutdown hook begins").says(whole);
    let bundle = bundle::only(&store(&ended.folder));
    assert_eq!(bundle.status("threads"), "complete", "{}", bundle.manifest);
    assert_eq!(bundle.status("heap"), "complete", "{}", bundle.manifest);
    assert_eq!(bundle.manifest["event"]["trigger"], "stop");
    assert_eq!(bundle.manifest["service"]["name"], "sick");
    let jvm = bundle.manifest["jvm"]["version"].as_str().unwrap_or_default();
    assert!(jvm.starts_with(&format!("{version}.")), "{jvm}");
    let threads = bundle.read("threads-1.txt");
    assert!(threads.contains("Full thread dump"), "{threads}");
    let parked = threads.lines().filter(|line| line.starts_with("\"parked-")).count();
    assert_eq!(parked, 25, "every thread is there:\n{threads}");
    for name in ["\"http-1\"", "\"Signal Dispatcher\"", "\"Attach Listener\"", "Locked ownable synchronizers"]
    {
        assert!(threads.contains(name), "{name} is missing:\n{threads}");
    }
    let counts = hprof::walk(&bundle.folder.join("heap.hprof.zst"))?;
    assert!(counts.classes > 300 && counts.instances > 1000 && counts.primitive_arrays > 100, "{counts:?}");
    Ok(())
}

/// A stop at every moment of the JVM's start: nothing is killed by a SIGQUIT of ours.
fn stop_while_starting(setup: &Setup, version: u32) -> Result<(), String> {
    for _ in 0..3 {
        let scenario = Scenario::new(setup);
        let text = config(scenario.folder(), "60s", "stop");
        let running =
            scenario.config(&text).command(sick(setup, version, &["-Xmx128m"], &["--heap=1m"])).start();
        running.wait_for("main process started");
        let ended = running.stop();
        ended.says("exit: stopped");
        // A SIGTERM in the middle of its initialisation is an error to HotSpot, whoever
        // sends it ("Bad level": the shutdown has raised the level first).
        let is_in_initialisation = ended.output.contains("Error occurred during initialization of VM");
        ended.exits(if is_in_initialisation { 1 } else { 143 });
        bundle::only(&store(&ended.folder));
    }
    Ok(())
}

fn exit(setup: &Setup, version: u32) -> Result<(), String> {
    let scenario = Scenario::new(setup);
    let text = config(scenario.folder(), "60s", "exit");
    let running = scenario.config(&text).command(sick(setup, version, &[], &["--heap=1m"])).start();
    let port = port(&running);
    request(port, "/exit?code=7");
    let ended = running.wait();
    ended.exits(7).says("exit: the main process ended by itself code=7");
    let bundle = bundle::only(&store(&ended.folder));
    assert_eq!(bundle.manifest["event"]["main_ended"], "exit code 7");
    assert!(bundle.reason("heap").contains("the JVM is gone"), "{}", bundle.manifest);
    Ok(())
}

fn healthy_exit(setup: &Setup, version: u32) -> Result<(), String> {
    let scenario = Scenario::new(setup);
    let text = config(scenario.folder(), "60s", "exit");
    let running = scenario.config(&text).command(sick(setup, version, &[], &["--heap=1m"])).start();
    let port = port(&running);
    request(port, "/exit?code=0");
    let ended = running.wait();
    ended.exits(0).never_says("evidence");
    let event =
        std::fs::read_dir(store(&ended.folder).join(".spool")).is_ok_and(|mut files| files.next().is_some());
    assert!(
        !event && !store(&ended.folder).join("sick").exists(),
        "nothing is written where nothing happened"
    );
    Ok(())
}

/// `sh -c "java …"`: the JVM is a child of the main process.
fn start_script(setup: &Setup, version: u32) -> Result<(), String> {
    let scenario = Scenario::new(setup);
    let text = config(scenario.folder(), "60s", "stop");
    let java = sick(setup, version, &["-Xmx128m"], &["--heap=8m"]).join(" ");
    let script =
        format!("trap 'kill -TERM $child; wait $child; exit $?' TERM; {java} & child=$!; wait $child");
    let running = scenario.config(&text).shell(&script).start();
    port(&running);
    running.wait_for("attached to the JVM");
    let ended = running.stop();
    ended.exits(143);
    let bundle = bundle::only(&store(&ended.folder));
    assert_eq!(
        (bundle.status("threads"), bundle.status("heap")),
        ("complete", "complete"),
        "{}",
        bundle.manifest
    );
    Ok(())
}

/// Start scripts ask `java -version` first: the JVM that counts is the one that is there.
fn short_jvm(setup: &Setup, version: u32) -> Result<(), String> {
    let scenario = Scenario::new(setup);
    let text = config(scenario.folder(), "60s", "stop");
    let short = sick(setup, version, &["-Xmx64m"], &["--heap=1m"]).join(" ");
    let java = sick(setup, version, &["-Xmx128m"], &["--heap=8m"]).join(" ");
    let script = format!("{short} & sleep 2; kill -KILL $!; wait $!; echo short one gone; exec {java}");
    let running = scenario.config(&text).shell(&script).start();
    running.wait_for("attached to the JVM");
    let said = running.wait_for("short one gone");
    assert!(!said.contains("cannot attach"), "{said}");
    poll("the second one is ready", || (running.wait_for("live heap 8 MiB").contains("ready")).then_some(()));
    let ended = running.stop();
    ended.exits(143);
    let bundle = bundle::only(&store(&ended.folder));
    assert_eq!(
        (bundle.status("threads"), bundle.status("heap")),
        ("complete", "complete"),
        "{}",
        bundle.manifest
    );
    Ok(())
}

/// An entry script that runs as root and gives up its rights for the JVM: the
/// agent is root, and the JVM writes its heap dump as somebody else.
fn other_user(setup: &Setup, version: u32) -> Result<(), String> {
    let scenario = Scenario::new(setup);
    let text = config(scenario.folder(), "60s", "stop").replace("user = \"1000:1000\"\n", "");
    let java = sick(setup, version, &["-Xmx128m"], &["--heap=8m"]).join(" ");
    let script = format!("exec setpriv --reuid 4711 --regid 4711 --clear-groups {java}");
    let running = scenario.config(&text).shell(&script).start();
    port(&running);
    let ended = running.stop();
    ended.exits(143);
    let bundle = bundle::only(&store(&ended.folder));
    assert_eq!(
        (bundle.status("threads"), bundle.status("heap")),
        ("complete", "complete"),
        "{}",
        bundle.manifest
    );
    Ok(())
}

fn held_back(setup: &Setup, version: u32) -> Result<(), String> {
    let running = Scenario::new(setup)
        .config("[service]\nname = \"sick\"\n")
        .command(sick(setup, version, &["-Xmx64m"], &["--heap=1m"]))
        .start();
    let port = port(&running);
    running.signal(10);
    running.wait_for("held back: the main process is a JVM that does not catch it");
    assert!(request(port, "/health").contains("UP"), "it lives");
    // SIGQUIT it catches: a thread dump on its standard output.
    running.signal(3);
    running.wait_for("Full thread dump");
    running.stop().exits(143);
    Ok(())
}
