//! A: the exit status.

use super::{Case, Outcome, Subject};
use crate::scenario::{Init, poll};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

pub(super) const CASES: &[Case] = &[
    Case::new("a1_exit_passthrough", passthrough),
    Case::new("a2_signal_death", signal_death),
    Case::new("a3_not_found", not_found)
        .fails(&[Init::DumbInit, Init::Catatonit])
        .promises_otherwise(&[Init::AsDumbInit]),
    Case::new("a4_not_runnable", not_runnable)
        .fails(&[Init::DumbInit, Init::Catatonit])
        .promises_otherwise(&[Init::AsDumbInit]),
    Case::new("a6_child_127", child_127),
    Case::new("a7_main_code_wins", main_code_wins),
    Case::new("a8_stop_is_not_exit", stop_is_not_exit),
    Case::new("a10_no_arguments", no_arguments),
];

fn passthrough(subject: &Subject) -> Outcome {
    for code in 0..=255 {
        subject.scenario().shell(&format!("exit {code}")).finish().exits(code);
    }
    Ok(())
}

fn signal_death(subject: &Subject) -> Outcome {
    for signal in [1, 2, 3, 6, 9, 11, 13, 15, 34] {
        let script = format!(
            "import os,resource,signal,time\n\
            signal.signal(2,signal.SIG_DFL);signal.signal(13,signal.SIG_DFL)\n\
            resource.setrlimit(resource.RLIMIT_CORE,(0,0));os.kill(os.getpid(),{signal});time.sleep(60)"
        );
        subject.scenario().command(["python3", "-c", &script]).finish().exits(128 + signal);
    }
    Ok(())
}

/// A line names the command and the reason.
fn not_found(subject: &Subject) -> Outcome {
    for command in ["/nonexistent", "nonexistent-in-path"] {
        let ended = subject.scenario().command([command]).finish();
        ended.exits(127).says(command);
        assert_eq!(ended.output.trim().lines().count(), 1, "{}", ended.output);
    }
    Ok(())
}

fn not_runnable(subject: &Subject) -> Outcome {
    let scenario = subject.scenario();
    let (plain, orphaned) = (scenario.folder().join("plain"), scenario.folder().join("orphaned"));
    std::fs::write(&plain, "x").map_err(|error| error.to_string())?;
    std::fs::write(&orphaned, "#!/nonexistent/interpreter\n").map_err(|error| error.to_string())?;
    std::fs::set_permissions(&orphaned, std::fs::Permissions::from_mode(0o755))
        .map_err(|error| error.to_string())?;
    let text = |path: &Path| path.display().to_string();
    for (command, code) in [("/etc".to_owned(), 126), (text(&plain), 126), (text(&orphaned), 127)] {
        subject.scenario().command([command.as_str()]).finish().exits(code).says(&command);
    }
    Ok(())
}

/// The child's own 127 is not a failure to start it (catatonit #5).
fn child_127(subject: &Subject) -> Outcome {
    let ended = subject.scenario().shell("exit 127").finish();
    assert_eq!(ended.exits(127).output, "");
    Ok(())
}

fn main_code_wins(subject: &Subject) -> Outcome {
    for _ in 0..50 {
        subject.scenario().shell("(sh -c 'sleep .01; exit 3' &); sleep .01; exit 7").finish().exits(7);
    }
    Ok(())
}

fn stop_is_not_exit(subject: &Subject) -> Outcome {
    let script = "import signal,sys,time\n\
        signal.signal(signal.SIGUSR1, lambda number, frame: sys.exit(5))\n\
        print('ready', flush=True)\n\
        while True: time.sleep(60)\n";
    let running = subject.scenario().command(["python3", "-c", script]).start();
    running.wait_for("ready");
    let child = running.descendant("python3");
    crate::scenario::send(child, 19);
    poll("it is stopped", || state(child).filter(|state| *state == 'T'));
    // The init has heard of it, and has nothing to do.
    poll("the init sleeps", || state(running.init()).filter(|state| *state == 'S'));
    crate::scenario::send(child, 18);
    crate::scenario::send(child, 10);
    running.wait().exits(5);
    Ok(())
}

/// The state as `/proc/PID/stat` has it.
fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn no_arguments(subject: &Subject) -> Outcome {
    let scenario = subject.scenario();
    let program = subject.init.program(subject.setup, scenario.folder());
    let output = std::process::Command::new(&program[0])
        .args(&program[1..])
        .env("BOOKEND_CONFIG", "")
        .output()
        .map_err(|error| error.to_string())?;
    assert!(output.status.code().is_some_and(|code| code != 0), "{output:?}");
    assert!(!output.stderr.is_empty(), "says how it is used");
    Ok(())
}
