//! Called by the names of other inits: their options, codes and texts.

use crate::scenario::Scenario;
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let root = &[Need::Root];
    vec![
        setup.trial("compat::exit_codes", root, exit_codes),
        setup.trial("compat::not_runnable", root, not_runnable),
        setup.trial("compat::tini_group_and_remapping", root, tini),
        setup.trial("compat::tini_leaves_leftovers_to_the_kernel", root, leftovers),
        setup.trial("compat::dumb_init_rewrites_and_reaches_the_group", root, dumb_init),
        setup.trial("compat::nothing_of_ours_is_read", root, nothing_of_ours),
        setup.trial("compat::versions", root, versions),
        setup.trial("compat::early_term_is_never_lost", root, early_term),
    ]
}

type Outcome = Result<(), String>;

fn exit_codes(setup: &Setup) -> Outcome {
    for name in ["tini", "docker-init", "dumb-init"] {
        for code in [0, 1, 2, 42, 127, 128, 143, 255] {
            Scenario::new(setup).named(name).shell(&format!("exit {code}")).finish().exits(code);
        }
        for signal in [9, 15] {
            Scenario::new(setup)
                .named(name)
                .shell(&format!("kill -{signal} $$"))
                .finish()
                .exits(128 + signal);
        }
    }
    Ok(())
}

fn not_runnable(setup: &Setup) -> Outcome {
    for (command, code) in [("/nonexistent", 127), ("nonexistent-in-path", 127), ("/etc", 126)] {
        let ended = Scenario::new(setup).named("tini").command([command]).finish();
        ended.exits(code).says(&format!("exec {command} failed: "));
        let ended = Scenario::new(setup).named("dumb-init").command([command]).finish();
        ended.exits(2).says(&format!("[dumb-init] {command}: "));
    }
    Ok(())
}

/// A background process in the child's own group.
/// Both are ready once the second one says so.
const GROUP: &str = "trap 'wait; echo main got it; exit 143' TERM; \
    sh -c 'trap \"echo background got it; exit\" TERM; echo ready; while :; do sleep .1; done' & wait";

fn tini(setup: &Setup) -> Outcome {
    let running = Scenario::new(setup).named("tini").argument("-g").shell(GROUP).start();
    running.wait_for("ready");
    running.stop().exits(143).says("background got it").says("main got it");
    let running = Scenario::new(setup).named("tini").env("TINI_KILL_PROCESS_GROUP", "1").shell(GROUP).start();
    running.wait_for("ready");
    running.stop().exits(143).says("background got it");
    let running =
        Scenario::new(setup).named("tini").argument("-e").argument("143").command(["sleep", "600"]).start();
    running.descendant("sleep");
    running.stop().exits(0);
    Ok(())
}

fn leftovers(setup: &Setup) -> Outcome {
    let script = "setsid sh -c 'trap \"\" TERM; while :; do sleep .1; done' & exit 5";
    Scenario::new(setup).named("tini").shell(script).finish().exits(5);
    Ok(())
}

fn dumb_init(setup: &Setup) -> Outcome {
    let running = Scenario::new(setup).named("dumb-init").shell(GROUP).start();
    running.wait_for("ready");
    running.stop().exits(143).says("background got it");
    let script = "trap 'echo got QUIT; exit 3' QUIT; trap 'echo got TERM' TERM; echo ready; while :; do sleep .1; done";
    let running =
        Scenario::new(setup).named("dumb-init").argument("-r").argument("15:3").shell(script).start();
    running.wait_for("ready");
    running.stop().exits(3).says("got QUIT").never_says("got TERM");
    // A session of its own, unless told otherwise.
    let session =
        "ps -o pid=,sid= -p $$ | { read pid sid; [ $pid = $sid ] && echo own session || echo shared; }";
    Scenario::new(setup).named("dumb-init").shell(session).finish().exits(0).says("own session");
    let single = Scenario::new(setup).named("dumb-init").argument("--single-child").shell(session).finish();
    single.exits(0).says("shared");
    Ok(())
}

/// A configuration that would be refused does not matter here.
fn nothing_of_ours(setup: &Setup) -> Outcome {
    for name in ["tini", "dumb-init"] {
        let ended = Scenario::new(setup)
            .named(name)
            .env("BOOKEND_STOP__GRACE", "nonsense")
            .shell("echo $BOOKEND_STOP__GRACE")
            .finish();
        assert_eq!(ended.exits(0).output, "nonsense\n", "it says nothing of its own");
    }
    Ok(())
}

fn versions(setup: &Setup) -> Outcome {
    for (name, start) in [("docker-init", "tini version 0.19.0 - git."), ("dumb-init", "dumb-init v1.2.5")] {
        let scenario = Scenario::new(setup);
        let link = scenario.folder().join(name);
        std::os::unix::fs::symlink(&setup.binary, &link).map_err(|error| error.to_string())?;
        let output =
            std::process::Command::new(link).arg("--version").output().map_err(|error| error.to_string())?;
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.starts_with(start), "{said}");
    }
    Ok(())
}

/// The TERM comes the moment that the init handles signals, wherever its child is.
fn early_term(setup: &Setup) -> Outcome {
    for (name, option) in [("tini", "-g"), ("tini", "-s"), ("dumb-init", "-v"), ("dumb-init", "-c")] {
        for _ in 0..25 {
            let running = Scenario::new(setup).named(name).argument(option).command(["sleep", "600"]).start();
            running.wait_until_signals_are_blocked();
            running.stop().exits(143);
        }
    }
    Ok(())
}
