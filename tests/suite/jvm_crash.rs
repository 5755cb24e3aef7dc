//! JVMs that die: what they have written themselves is collected.

use crate::bundle;
use crate::jvm::{VERSIONS, port, request, sick, store};
use crate::scenario::{Running, Scenario};
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let mut trials = Vec::new();
    for version in VERSIONS {
        let needs = &[Need::Root, Need::Java(version)][..];
        let mut add = |name: &str, test: fn(&Setup, u32) -> Result<(), String>| {
            trials
                .push(setup.trial(format!("jvm_crash::{version}::{name}"), needs, move |setup| {
                    test(setup, version)
                }));
        };
        add("a_crash_leaves_its_report", crash);
        add("diagnostic_options_are_added", options);
        add("an_out_of_memory_error_leaves_its_heap", out_of_memory);
    }
    trials
}

type Outcome = Result<(), String>;

/// Only a store: the default rules.
fn start(setup: &Setup, version: u32, options: &[&str]) -> Running {
    let scenario = Scenario::new(setup);
    let config = format!(
        "[service]\nname = \"sick\"\n[main]\nuser = \"1000:1000\"\nlimits = {{ core = 0 }}\n[store]\nurl = \"file://{}\"\n",
        store(scenario.folder()).display()
    );
    let running = scenario.config(&config).command(sick(setup, version, options, &["--heap=8m"])).start();
    running.wait_for("attached to the JVM");
    running
}

fn crash(setup: &Setup, version: u32) -> Outcome {
    let running = start(setup, version, &["-Xmx128m", "-Ddb.password=SESAME"]);
    request(port(&running), "/crash");
    let ended = running.wait();
    ended.exits(134).says("crash captured").says("evidence stored");
    let bundle = bundle::only(&store(&ended.folder));
    assert_eq!(bundle.manifest["event"]["trigger"], "exit");
    let report = bundle.read("hs_err.log");
    assert!(report.contains("A fatal error has been detected by the Java Runtime Environment"), "{report}");
    assert!(!report.contains("SESAME"), "a secret in the report");
    assert!(bundle.read("os.txt").contains("=== mounts"));
    Ok(())
}

/// All of them, but what the user has said; and the JVM takes them.
fn options(setup: &Setup, version: u32) -> Outcome {
    let scenario = Scenario::new(setup);
    let config = format!(
        "[main]\nuser = \"1000:1000\"\nlimits = {{ core = 0 }}\n[jvm]\ndiagnostics = true\n[store]\nurl = \"file://{}\"\n",
        store(scenario.folder()).display()
    );
    let own = ["-Xmx48m", "-XX:NativeMemoryTracking=detail"];
    let running = scenario.config(&config).command(sick(setup, version, &own, &["--heap=8m"])).start();
    running.wait_for("attached to the JVM");
    let text = running.output();
    assert!(text.contains("added to JDK_JAVA_OPTIONS options=\"-XX:+HeapDumpOnOutOfMemoryError"), "{text}");
    assert!(!text.contains("NativeMemoryTracking=summary"), "{text}");
    request(port(&running), "/leak?rate=400m");
    let ended = running.wait();
    ended.exits(3).says("capturing evidence trigger=oom").says("evidence stored");
    let mut found = Vec::new();
    bundle::walk(&store(&ended.folder), &mut found);
    assert!(found.iter().any(|path| path.ends_with("heap-oom.hprof")), "{found:?}\n{}", ended.output);
    Ok(())
}

fn out_of_memory(setup: &Setup, version: u32) -> Outcome {
    let options = [
        "-Xmx48m",
        "-XX:+HeapDumpOnOutOfMemoryError",
        "-XX:HeapDumpPath=/tmp",
        "-XX:+ExitOnOutOfMemoryError",
    ];
    let running = start(setup, version, &options);
    request(port(&running), "/leak?rate=400m");
    let ended = running.wait();
    ended.exits(3).says("evidence stored");
    let mut dumps = Vec::new();
    bundle::walk(&store(&ended.folder), &mut dumps);
    let dump = dumps.iter().find(|path| path.ends_with("heap-oom.hprof")).expect("the heap dump is there");
    assert!(crate::hprof::walk(dump)?.ended);
    assert!(ended.output.contains("capturing evidence trigger=oom"), "{}", ended.output);
    Ok(())
}
