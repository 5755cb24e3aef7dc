//! The operator inside the container: status, healthcheck, hold and release.

use crate::scenario::{Running, Scenario, poll};
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let root = &[Need::Root];
    vec![
        setup.trial("operator::status_and_healthcheck", root, status),
        setup.trial("operator::healthcheck_without_an_agent", &[], without_agent),
        setup.trial("operator::a_crash_is_held_until_release", root, hold_after_crash),
        setup.trial("operator::a_stop_is_held_until_release", root, hold_at_stop),
        setup.trial("operator::a_stranger_is_refused", root, stranger),
        setup.trial("operator::a_store_that_takes_nothing_is_told", root, no_store),
        setup.trial("operator::nobody_listens", root, nobody),
        setup.trial("operator::read_only_run", root, read_only_run),
    ]
}

type Outcome = Result<(), String>;

/// With a probe that is ill while a file is there.
fn start(setup: &Setup, more: &str, script: &str) -> (Running, std::path::PathBuf) {
    let scenario = Scenario::new(setup);
    let flag = scenario.folder().join("ill");
    let config = format!(
        "[service]\nname = \"orders\"\n[main]\nuser = \"4711:4711\"\n[stop]\ngrace = \"60s\"\n\
         [health]\nexec = [\"sh\", \"-c\", \"! [ -e {0} ] || {{ echo the disk is full; false; }}\"]\n\
         interval = \"50ms\"\n[store]\nurl = \"file://{1}/store\"\n{more}\n",
        flag.display(),
        scenario.folder().display()
    );
    let running = scenario.config(&config).shell(script).start();
    running.wait_for("health: healthy");
    (running, flag)
}

fn status(setup: &Setup) -> Outcome {
    let (running, flag) = start(setup, "", "exec sleep 600");
    let (code, text) = running.verb(setup, "0", &["status"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("service  orders on ") && text.contains("health   healthy for"), "{text}");
    assert!(text.contains("rule     unhealthy on unhealthy"), "{text}");
    let store = format!("store    {}/store\n", running.folder().display());
    assert!(text.contains(&store), "{text}");
    let (code, text) = running.verb(setup, "4711", &["status", "--json"]);
    assert_eq!(code, Some(0), "{text}");
    let json: serde_json::Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
    assert_eq!(json["phase"], "running");
    assert_eq!(json["health"]["state"], "healthy");
    let (code, text) = running.verb(setup, "0", &["healthcheck"]);
    assert!(code == Some(0) && text.starts_with("healthy for "), "{text}");
    std::fs::write(flag, "").map_err(|error| error.to_string())?;
    running.wait_for("health: unhealthy: exit code 1: the disk is full");
    running.wait_for("evidence stored");
    let (code, text) = running.verb(setup, "0", &["healthcheck"]);
    assert!(code == Some(1) && text.contains("last failure: exit code 1: the disk is full"), "{text}");
    let text = poll("the event is in the status", || {
        let (_, text) = running.verb(setup, "0", &["status"]);
        text.contains("event    unhealthy: ").then_some(text)
    });
    assert!(text.contains("/store/orders/"), "{text}");
    running.stop().exits(143);
    Ok(())
}

fn without_agent(setup: &Setup) -> Outcome {
    let scenario = Scenario::new(setup);
    let path = scenario.folder().join("bookend.toml");
    for (probe, code, words) in [
        ("exec = [\"true\"]", 0, "healthy: answered in"),
        ("exec = [\"sh\", \"-c\", \"echo not well; exit 2\"]", 1, "unhealthy: exit code 2: not well"),
    ] {
        std::fs::write(&path, format!("[health]\n{probe}\n")).map_err(|error| error.to_string())?;
        let output = std::process::Command::new(&setup.binary)
            .args(["healthcheck", "--config"])
            .arg(&path)
            .output()
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.starts_with(words) && output.stderr.is_empty(), "{text}");
    }
    Ok(())
}

fn hold_after_crash(setup: &Setup) -> Outcome {
    let rule = "[[rule]]\nname = \"crash\"\non = \"exit\"\ncapture = [\"os\"]\nhold = \"10m\"\n";
    let script = "trap 'echo crashing; exit 3' USR1; echo ready; while :; do sleep .1; done";
    let (running, _) = start(setup, rule, script);
    running.wait_for("ready");
    running.signal(10);
    running.wait_for("held: the container stays as it is");
    let (code, text) = running.verb(setup, "0", &["status"]);
    assert!(code == Some(0) && text.contains("ended") && text.contains("held     for at most"), "{text}");
    let (code, text) = running.verb(setup, "0", &["release"]);
    assert_eq!((code, text.as_str()), (Some(0), "released\n"));
    running.wait().exits(3).says_in_order("crashing", "released");
    Ok(())
}

fn hold_at_stop(setup: &Setup) -> Outcome {
    let rule = "[[rule]]\nname = \"last\"\non = \"stop\"\ncapture = [\"os\"]\n";
    let (running, _) = start(setup, rule, "trap 'echo main got it; exit 7' TERM; while :; do sleep .1; done");
    let (code, text) = running.verb(setup, "0", &["hold", "5m"]);
    assert!(code == Some(0) && text.contains("held for at most 5m"), "{text}");
    running.terminate();
    running.wait_for("os captured");
    running.wait_for("evidence stored");
    assert!(!running.output().contains("main got it"), "{}", running.output());
    let (code, _) = running.verb(setup, "0", &["release"]);
    assert_eq!(code, Some(0));
    running.wait().exits(7).says("main got it");
    Ok(())
}

/// The folder keeps strangers out; whoever gets past it is refused and named.
fn stranger(setup: &Setup) -> Outcome {
    let (running, _) = start(setup, "", "exec sleep 600");
    let (code, text) = running.verb(setup, "4712", &["release"]);
    assert_eq!(code, Some(1), "{text}");
    let opened = std::process::Command::new("nsenter")
        .args(["--mount", "--target", &running.init().to_string(), "sh", "-c"])
        .arg("chmod 777 /run/bookend /run/bookend/*")
        .status()
        .map_err(|error| error.to_string())?;
    assert!(opened.success());
    let (code, text) = running.verb(setup, "4712", &["hold", "1h"]);
    assert!(code == Some(1) && text.contains("refused us"), "{text}");
    running.wait_for("refused somebody on the control socket user=4712");
    running.stop().exits(143);
    Ok(())
}

/// Whoever looks at the status must not think that there will be evidence.
fn no_store(setup: &Setup) -> Outcome {
    let config = "[store]\nurl = \"file:///proc/evidence\"\n";
    let running = Scenario::new(setup).config(config).command(["sleep", "600"]).start();
    running.wait_for("evidence cannot be stored");
    let (code, text) = running.verb(setup, "0", &["status"]);
    let reason = "it takes nothing: cannot make the folder /proc/evidence/.spool";
    assert!(code == Some(0) && text.contains(reason), "{text}");
    let (code, text) = running.verb(setup, "0", &["dump", "all"]);
    assert!(code == Some(1) && text.contains("0/0 artifacts, not stored: cannot make the folder"), "{text}");
    let (_, text) = running.verb(setup, "0", &["status"]);
    assert!(text.contains("event    manual: 0/0 artifacts, not stored: cannot make"), "{text}");
    running.stop().exits(143);
    Ok(())
}

fn nobody(setup: &Setup) -> Outcome {
    let running = Scenario::new(setup).command(["sleep", "600"]).start();
    running.descendant("sleep");
    for verb in ["status", "release"] {
        let (code, text) = running.verb(setup, "0", &[verb]);
        assert!(code == Some(1) && text.contains("nobody listens here"), "{text}");
    }
    running.stop().exits(143);
    Ok(())
}

/// A read-only root: the socket is in /tmp.
fn read_only_run(setup: &Setup) -> Outcome {
    let scenario = Scenario::new(setup);
    let config = "[health]\nexec = [\"true\"]\ninterval = \"50ms\"\n";
    let running = scenario.config(config).mount("mount -o remount,ro /run").command(["sleep", "600"]).start();
    running.wait_for("health: healthy");
    let (code, text) = running.verb(setup, "0", &["healthcheck"]);
    assert!(code == Some(0) && text.starts_with("healthy"), "{text}");
    running.stop().exits(143);
    Ok(())
}
