//! Race hunts and the soak: too long for every run, run in CI and by
//! `cargo xtask test --hunts`.

use crate::conformance::{Subject, storm_of};
use crate::scenario::{Init, Scenario, poll, takes_term};
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let root = &[Need::Root];
    let mut trials = Vec::new();
    let hook = "[[hook]]\nname = \"slow\"\ncommand = [\"sleep\", \"600\"]\n";
    for (name, init, options, config) in [
        ("bookend", Init::Bookend, &[][..], None),
        ("bookend_in_a_hook", Init::Bookend, &[][..], Some(hook)),
        ("as_tini", Init::AsTini, &[][..], None),
        ("as_tini_s", Init::AsTini, &["-s"][..], None),
        ("as_tini_g", Init::AsTini, &["-g"][..], None),
        ("as_dumb_init", Init::AsDumbInit, &[][..], None),
        ("as_dumb_init_c", Init::AsDumbInit, &["-c"][..], None),
    ] {
        let name = format!("hunt::b3_early_term_1000_times_{name}");
        trials.push(setup.trial(name, root, move |setup| early_term(setup, init, options, config)));
    }
    trials.push(setup.trial("hunt::c2_5000_orphans_under_a_storm_of_signals", root, orphans));
    trials.push(setup.trial("hunt::500_stops_exactly_at_a_hooks_end", root, stop_at_the_end));
    trials.push(setup.trial("hunt::e16_10000_hooks_leave_nothing_behind", root, soak));
    if setup.hunts { trials } else { trials.into_iter().map(|trial| trial.with_ignored_flag(true)).collect() }
}

type Outcome = Result<(), String>;

/// At the first moment that a signal cannot be lost, and up to a millisecond later.
fn early_term(setup: &Setup, init: Init, options: &[&str], config: Option<&str>) -> Outcome {
    let scenario = Scenario::new(setup);
    let mut words = init.program(setup, scenario.folder());
    words.extend(options.iter().map(|option| (*option).to_owned()));
    if let Some(config) = config {
        let path = scenario.folder().join("bookend.toml");
        std::fs::write(&path, config).map_err(|error| error.to_string())?;
        words.extend(["--config".to_owned(), path.display().to_string()]);
    }
    for round in 0..1000 {
        let mut namespace = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child"])
            .args(&words)
            .args(["--", "sleep", "600"])
            .env("BOOKEND_CONFIG", "")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let children = format!("/proc/{0}/task/{0}/children", namespace.id());
        let pid = poll("it takes signals", || {
            let pid: i32 =
                std::fs::read_to_string(&children).ok()?.split_whitespace().next()?.parse().ok()?;
            let executable = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
            (executable == setup.binary && takes_term(pid)).then_some(pid)
        });
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(round % 20 * 50) {
            std::hint::spin_loop();
        }
        crate::scenario::send(pid, 15);
        let code = poll(&format!("round {round} ends"), || namespace.try_wait().ok()?).code();
        assert_eq!(code, Some(143), "round {round}");
    }
    Ok(())
}

fn orphans(setup: &'static Setup) -> Outcome {
    storm_of(&Subject { setup, init: Init::Bookend }, 5000)
}

/// Whichever comes first, the main process does not start after the stop was
/// taken in, and the code says which it was.
fn stop_at_the_end(setup: &Setup) -> Outcome {
    let config = "[[hook]]\nname = \"short\"\ncommand = [\"sleep\", \"0.02\"]\n";
    for round in 0..500_u64 {
        let running = Scenario::new(setup)
            .config(config)
            .argument("--log-level=debug")
            .shell("trap 'exit 5' TERM; echo MAIN STARTED; while :; do sleep .01; done")
            .start();
        running.wait_for("hook `short` begins");
        std::thread::park_timeout(Duration::from_micros(17_000 + round % 50 * 120));
        let ended = running.stop();
        let stop = ended.output.find("stop requested").expect("it was requested");
        match ended.output.find("main process started") {
            Some(start) => assert!(start < stop, "round {round}: {}", ended.output),
            None => assert!(!ended.output.contains("MAIN STARTED"), "round {round}: {}", ended.output),
        }
        // 5 only where the shell was quick enough to have its trap.
        assert!([143, 5].contains(&ended.code), "round {round}: {} {}", ended.code, ended.output);
    }
    Ok(())
}

fn soak(setup: &Setup) -> Outcome {
    let scenario = Scenario::new(setup);
    let flag = |name: &str| scenario.folder().join(name);
    let (first, second) = (flag("first"), flag("second"));
    let hook = |name: &str, command: &str, more: &str| {
        format!("[[hook]]\nname = \"{name}\"\ncommand = [\"sh\", \"-c\", \"{command}\"]\n{more}\n")
    };
    let pause =
        |path: &Path| format!("echo paused {0}; until [ -e {0} ]; do sleep .05; done", path.display());
    let fails = |times: u32| {
        format!("on_failure = \"continue\"\nbackoff = \"0s\"\nretries = {times}\nexports = true")
    };
    let config = hook("warm-up", "exit 1", &fails(500))
        + &hook("pause-1", &pause(&first), "")
        + &hook("many", "exit 1", &fails(10_000))
        + &hook("pause-2", &pause(&second), "");
    let running = scenario.config(&config).argument("--log-level=error").shell("exit 3").start();
    let mut measured = Vec::new();
    for path in [&first, &second] {
        running.wait_for(&format!("paused {}", path.display()));
        let init = running.init();
        let rollup = std::fs::read_to_string(format!("/proc/{init}/smaps_rollup")).expect("it is there");
        let dirty = rollup.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).expect("a line");
        let dirty: u64 = dirty.trim_end_matches("kB").trim().parse().expect("a number");
        let descriptors = std::fs::read_dir(format!("/proc/{init}/fd")).expect("it is there").count();
        measured.push((dirty, descriptors));
        std::fs::write(path, "").map_err(|error| error.to_string())?;
    }
    running.wait().exits(3);
    let [(dirty, descriptors), (dirty_after, descriptors_after)] = measured[..] else { unreachable!() };
    assert_eq!(descriptors, descriptors_after);
    assert!(dirty_after <= dirty + 16, "{dirty} kB, then {dirty_after} kB");
    Ok(())
}
