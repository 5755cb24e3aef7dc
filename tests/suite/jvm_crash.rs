//! JVMs that die: what they have written themselves is collected.

use crate::bundle;
use crate::jvm::{on_each_jvm, port, request, sick, store};
use crate::scenario::{Ended, Running, Scenario};
use crate::setup::{EARLY, Need, Setup};
use libtest_mimic::Trial;

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let mut trials = on_each_jvm(
        setup,
        "jvm_crash",
        &[
            ("a_crash_leaves_its_report", crash),
            ("diagnostic_options_are_added", options),
            ("an_out_of_memory_error_leaves_its_heap", out_of_memory),
            ("a_jvm_that_lives_on_is_followed_while_it_dumps", lives_on),
        ],
    );
    let early = &[Need::Root, Need::Java(EARLY)];
    trials.push(setup.trial("jvm_crash::early::an_out_of_memory_error_leaves_its_heap", early, |setup| {
        out_of_memory(setup, EARLY)
    }));
    let java = &[Need::Root, Need::Java(21)];
    trials.push(setup.trial("jvm_crash::a_core_file_is_taken", java, core));
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

/// Where this kernel writes it to a file.
fn core(setup: &Setup) -> Outcome {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    assert!(!pattern.starts_with('|'), "this kernel gives cores to a program: {pattern}");
    let scenario = Scenario::new(setup);
    let folder = scenario.folder().display().to_string();
    let config = format!(
        "[main]\nuser = \"1000:1000\"\nworkdir = \"{folder}\"\nlimits = {{ core = \"unlimited\" }}\n\
         [store]\nurl = \"file://{folder}/store\"\n"
    );
    let command = sick(setup, 21, &["-Xmx32m", "-XX:+CreateCoredumpOnCrash"], &["--heap=1m"]);
    let running = scenario.config(&config).command(command).start();
    running.wait_for("attached to the JVM");
    request(port(&running), "/crash");
    let ended = running.wait();
    ended.exits(134).says("evidence stored");
    let bundle = bundle::only(&store(&ended.folder));
    let mut head = [0; 4];
    let mut file = std::fs::File::open(bundle.folder.join("core")).map_err(|error| error.to_string())?;
    std::io::Read::read_exact(&mut file, &mut head).map_err(|error| error.to_string())?;
    assert_eq!(&head, b"\x7fELF");
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
    dumped(&ended).map(drop)
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
    ended.exits(3).says("evidence stored").says("capturing evidence trigger=oom");
    dumped(&ended).map(drop)
}

/// The heap dump of the JVM's own, in the one event that took it.
fn dumped(ended: &Ended) -> Result<bundle::Bundle, String> {
    let is_its = |bundle: &bundle::Bundle| bundle.file("crash").starts_with("heap-oom.hprof");
    let mut bundles = bundle::all(&store(&ended.folder));
    bundles.retain(is_its);
    let [bundle] = <[bundle::Bundle; 1]>::try_from(bundles)
        .map_err(|all| format!("{} bundles have it: {}", all.len(), ended.output))?;
    assert_eq!(bundle.status("crash"), "complete", "{}", bundle.manifest);
    assert!(crate::hprof::walk(&bundle.folder.join(bundle.file("crash")))?.ended);
    assert!(bundle.read("heap-oom-summary.txt").contains("bytes"), "{}", bundle.manifest);
    Ok(bundle)
}

/// Redacted too, and gone from where the JVM wrote it.
fn lives_on(setup: &Setup, version: u32) -> Outcome {
    let scenario = Scenario::new(setup);
    let folder = scenario.folder().display().to_string();
    let dump = scenario.folder().join("oom.hprof");
    let config = format!(
        "[service]\nname = \"sick\"\n[store]\nurl = \"file://{folder}/store\"\n[heap]\nredact = \"primitives\"\n"
    );
    let option = format!("-XX:HeapDumpPath={}", dump.display());
    let options = ["-Xmx200m", "-XX:+HeapDumpOnOutOfMemoryError", &option];
    let running = scenario.config(&config).command(sick(setup, version, &options, &["--heap=8m"])).start();
    running.wait_for("attached to the JVM");
    request(port(&running), "/leak?rate=400m");
    running.wait_for("capturing evidence trigger=oom");
    running.wait_for("evidence stored");
    assert!(!dump.exists(), "it is still where the JVM wrote it");
    let ended = running.stop();
    let bundle = dumped(&ended)?;
    assert_eq!(bundle.artifact("crash")["content"]["redacted"], "primitives", "{}", bundle.manifest);
    Ok(())
}
