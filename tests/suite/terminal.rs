//! bookend on a terminal, as in `docker run -it`: keys are stop signals, and
//! everybody shares one process group.

use crate::scenario::{Scenario, on_terminal};
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let root = &[Need::Root];
    vec![
        setup.trial("terminal::ctrl_c_is_a_stop", root, stop),
        setup.trial("terminal::ctrl_c_comes_once", root, once),
        setup.trial("terminal::ctrl_c_reaches_who_left_the_group", root, left_the_group),
        setup.trial("terminal::the_third_ctrl_c_kills", root, third),
        setup.trial("terminal::a_script_that_signals_its_group", root, own_group),
        setup.trial("terminal::a_hook_that_times_out_ends_with_its_children", root, hook_times_out),
        setup.trial("terminal::a_job_of_a_shell_is_its_own", root, job),
    ]
}

type Outcome = Result<(), String>;

/// Runs with that configuration.
fn run(setup: &Setup, config: &str, deed: &str, command: &[&str]) -> Result<(Option<i32>, String), String> {
    let scenario = Scenario::new(setup);
    let path = scenario.folder().join("bookend.toml");
    std::fs::write(&path, config).map_err(|error| error.to_string())?;
    let path = path.display().to_string();
    let arguments: Vec<&str> =
        ["run", "--config", &path, "--"].into_iter().chain(command.iter().copied()).collect();
    Ok(on_terminal(setup, deed, &arguments))
}

const CTRL_C: &str = "os.write(master, b'\\x03')";

/// Not the main process's own end: what holds after a stop holds here.
fn stop(setup: &Setup) -> Outcome {
    let config = "[exit]\nmap = { 130 = 0 }\n[log]\nlevel = \"info\"\n";
    let (code, text) = run(setup, config, CTRL_C, &["sh", "-c", "echo READY; exec sleep 600"])?;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("stop requested signal=SIGINT") && text.contains("exit: stopped"), "{text}");
    Ok(())
}

/// Many programs take a second one for "now".
fn once(setup: &Setup) -> Outcome {
    let script =
        "n=0; trap 'n=$((n+1))' INT; echo READY; while [ $n = 0 ]; do sleep .1; done; sleep .5; exit $n";
    let (code, text) = run(setup, "[stop]\ngrace = \"30s\"\n", CTRL_C, &["bash", "-c", script])?;
    assert_eq!(code, Some(1), "{text}");
    Ok(())
}

fn left_the_group(setup: &Setup) -> Outcome {
    let script = "import os,signal,sys,time\n\
        os.setpgid(0, 0)\n\
        signal.signal(signal.SIGINT, lambda number, frame: sys.exit(7))\n\
        os.write(1, b'READY')\n\
        time.sleep(600)\n";
    let (code, text) = run(setup, "[stop]\ngrace = \"30s\"\n", CTRL_C, &["python3", "-c", script])?;
    assert_eq!(code, Some(7), "{text}");
    Ok(())
}

fn third(setup: &Setup) -> Outcome {
    let deed = "import time\n\
        \x20       for _ in range(3): os.write(master, b'\\x03'); time.sleep(.2)";
    let (code, text) =
        run(setup, "[log]\nlevel = \"info\"\n", deed, &["sh", "-c", "trap '' INT; echo READY; sleep 600"])?;
    assert_eq!(code, Some(137), "{text}");
    assert!(text.contains("main process did not end in time: SIGKILL"), "{text}");
    Ok(())
}

/// `kill 0` means the script's group, not the container.
fn own_group(setup: &Setup) -> Outcome {
    let config = "[[hook]]\nname = \"wait\"\ncommand = [\"sh\", \"-c\", \"trap : TERM; sleep 600 & kill 0; echo hook done\"]\n";
    let (code, text) = run(setup, config, "pass", &["sh", "-c", "echo READY main runs; exit 5"])?;
    assert_eq!(code, Some(5), "{text}");
    assert!(text.contains("hook done") && text.contains("READY main runs"), "{text}");
    Ok(())
}

fn hook_times_out(setup: &Setup) -> Outcome {
    let config = "[[hook]]\nname = \"slow\"\ntimeout = \"300ms\"\non_failure = \"continue\"\n\
        command = [\"sh\", \"-c\", \"sh -c 'trap \\\"echo child has TERM; exit\\\" TERM; while :; do sleep .1; done'; true\"]\n";
    let (code, text) = run(setup, config, "pass", &["sh", "-c", "echo READY; exit 5"])?;
    assert_eq!(code, Some(5), "{text}");
    assert!(text.contains("child has TERM"), "{text}");
    Ok(())
}

/// An interactive shell stops and continues its own jobs; Ctrl-Z is not ours then.
fn job(setup: &Setup) -> Outcome {
    let deed = "import glob, os\n\
        \x20       os.write(master, b'sleep 7654\\n')\n\
        \x20       while not any(b'sleep\\0' + b'7654' in open(path, 'rb').read() for path in glob.glob('/proc/[0-9]*/cmdline') if os.path.exists(path)): pass\n\
        \x20       os.write(master, b'\\x1a')\n\
        \x20       os.write(master, b'kill -9 %1; exit 6; exit 6\\n')";
    let (code, text) = run(setup, "", deed, &["bash", "--norc", "-ic", "echo READY; exec bash --norc -i"])?;
    assert_eq!(code, Some(6), "{text}");
    assert!(text.contains("Stopped"), "{text}");
    Ok(())
}
