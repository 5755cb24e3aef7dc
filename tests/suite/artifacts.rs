//! Artifacts beyond threads and heap: what each holds, and what is there where an
//! older JVM has less.

use crate::bundle::{self, Bundle};
use crate::jvm::{on_each_jvm, port, request, sick, store};
use crate::scenario::Scenario;
use crate::setup::Setup;
use libtest_mimic::Trial;

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    on_each_jvm(
        setup,
        "artifacts",
        &[
            ("everything_that_can_be_asked_for", everything),
            ("a_gc_log_and_a_recording_begin_with_the_event", begun_now),
            ("what_does_not_fit_is_named_with_its_estimate", cut),
        ],
    )
}

type Outcome = Result<(), String>;

/// One stop, captured as `captures` say.
fn at_a_stop(
    setup: &Setup,
    version: u32,
    grace: &str,
    captures: &str,
    options: &[&str],
    arguments: &[&str],
) -> Bundle {
    let scenario = Scenario::new(setup);
    let folder = scenario.folder().display().to_string();
    let captures = captures.replace("FOLDER", &folder);
    let config = format!(
        "[service]\nname = \"sick\"\n[main]\nuser = \"1000:1000\"\noutput = {{ keep = \"64KiB\" }}\n\
         env = {{ EXAMPLE_PASSWORD = \"SESAME\" }}\n[stop]\ngrace = \"{grace}\"\n\
         [[rule]]\nname = \"last-words\"\non = \"stop\"\ncapture = [{captures}]\n\
         [store]\nurl = \"file://{folder}/store\"\n"
    );
    std::fs::write(scenario.folder().join("app.log"), "one\ntoken=SESAME\n").expect("written");
    let options: Vec<String> = options.iter().map(|option| option.replace("FOLDER", &folder)).collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let running = scenario.config(&config).command(sick(setup, version, &options, arguments)).start();
    running.wait_for("attached to the JVM");
    request(port(&running), "/threads?count=5");
    let ended = running.stop();
    ended.exits(143).says("evidence stored");
    bundle::only(&store(&ended.folder))
}

const EVERYTHING: &str = r#""os", "logs", "vm", "threads", "histogram", "gc-log", "jfr",
    { jcmd = "VM.classloader_stats" }, { jcmd = "No.such_command" }, { file = "FOLDER/*.log" },
    { file = "/no/such/*" }, { exec = ["sh", "-c", "echo jvm=$BOOKEND_JVM_PID; echo $EXAMPLE_PASSWORD >&2; exit 3"] }"#;

fn everything(setup: &Setup, version: u32) -> Outcome {
    let options = [
        "-Xmx128m",
        "-Xlog:gc*:file=FOLDER/gc.txt:time,uptime,tags",
        "-XX:StartFlightRecording=maxage=5m",
        "-Dapp.secret.key=SESAME",
    ];
    let bundle = at_a_stop(setup, version, "60s", EVERYTHING, &options, &["--heap=16m", "--shutdown=0s"]);
    for name in ["os", "logs", "vm", "threads", "histogram", "gc-log", "jfr", "exec"] {
        assert_eq!(bundle.status(name), "complete", "{name}: {}", bundle.manifest);
    }
    assert!(bundle.read("os.txt").contains("java.threads.live="), "the counters stand in it");
    assert!(bundle.read("logs.txt").contains("sick-service: ready on port"));
    assert!(bundle.read("vm.txt").contains("=== VM.system_properties"));
    assert!(bundle.read("gc.log").contains("[gc"), "the file that the flags name");
    assert!(bundle.read("jcmd-1.txt").to_lowercase().contains("classloader"), "{}", bundle.manifest);
    assert_eq!(bundle.read("file-1-1-app.log"), "one\ntoken=****\n");
    assert!(bundle.read("exec-1.txt").starts_with("jvm="), "{}", bundle.read("exec-1.txt"));
    assert!(bundle.reason("exec").contains("exit code 3"), "{}", bundle.manifest);
    let all = bundle.manifest["artifacts"].as_array().expect("a list");
    let reasons: Vec<&str> = all
        .iter()
        .filter(|artifact| artifact["status"] == "failed")
        .filter_map(|artifact| artifact["reason"].as_str())
        .collect();
    assert_eq!(reasons.len(), 2, "{}", bundle.manifest);
    assert!(reasons[0].contains("Unknown diagnostic command"), "{reasons:?}");
    assert!(reasons[1].contains("no file matches /no/such/*"), "{reasons:?}");
    for artifact in all {
        let Some(file) = artifact["file"].as_str() else { continue };
        let bytes = std::fs::read(bundle.folder.join(file)).map_err(|error| error.to_string())?;
        assert!(!bytes.windows(6).any(|word| word == b"SESAME"), "a secret in {file}");
    }
    assert!(!bundle.read("manifest.json").contains("SESAME"));
    Ok(())
}

fn begun_now(setup: &Setup, version: u32) -> Outcome {
    let captures =
        r#""gc-log", { histogram = { live = true } }, { jfr = { start = "profile", for = "1s" } }"#;
    let bundle = at_a_stop(setup, version, "60s", captures, &["-Xmx128m"], &["--heap=16m", "--shutdown=0s"]);
    for name in ["gc-log", "histogram", "jfr"] {
        assert_eq!(bundle.status(name), "complete", "{name}: {}", bundle.manifest);
    }
    // The histogram of what lives begins with a full collection.
    let log = bundle.read("gc.log");
    assert!(log.contains("[gc") && log.contains("safepoint"), "{log}");
    let recording = std::fs::read(bundle.folder.join("recording.jfr")).map_err(|error| error.to_string())?;
    assert!(recording.starts_with(b"FLR\0"), "a recording begins so");
    Ok(())
}

/// 700 MB live, and three seconds: everything but the heap.
fn cut(setup: &Setup, version: u32) -> Outcome {
    let captures = r#""vm", { threads = { times = 3, interval = "10s" } }, "histogram", "heap""#;
    let options = ["-Xms1g", "-Xmx1g"];
    let bundle = at_a_stop(setup, version, "6s", captures, &options, &["--heap=700m", "--shutdown=0s"]);
    assert_eq!(bundle.status("threads"), "complete", "{}", bundle.manifest);
    let heap = bundle.artifact("heap");
    assert_eq!(heap["status"], "skipped", "{}", bundle.manifest);
    let (estimate, left) = (heap["estimate_ms"].as_u64(), heap["left_ms"].as_u64());
    assert!(estimate > left && left.is_some(), "{heap}");
    assert!(bundle.reason("heap").contains("it would take about"), "{heap}");
    Ok(())
}
