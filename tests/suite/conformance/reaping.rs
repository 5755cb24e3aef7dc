//! C: reaping.

use super::{BOTH_NAMES, Case, Outcome, Subject};
use crate::scenario::{Init, poll};
use std::process::Command;

pub(super) const CASES: &[Case] = &[
    Case::new("c1_orphans_are_reaped", orphans),
    Case::new("c2_orphans_under_a_storm_of_signals", storm),
    Case::new("c3_coalesced", coalesced),
    Case::new("c5_a_zombie_with_a_living_parent", foreign_zombie),
    Case::new("c6_subreaper", subreaper).fails(&[Init::Tini, Init::DumbInit]).promises_otherwise(BOTH_NAMES),
];

/// Python: how many processes are dead and wait for PID 1 to reap them.
const ZOMBIES: &str = "import os,signal,time\n\
        def zombies():\n\
        \x20   found = 0\n\
        \x20   for name in os.listdir('/proc'):\n\
        \x20       if name.isdigit():\n\
        \x20           try: found += open(f'/proc/{name}/stat').read().split(') ')[1].startswith('Z 1 ')\n\
        \x20           except OSError: pass\n\
        \x20   return found\n\
        def orphan():\n\
        \x20   pid = os.fork()\n\
        \x20   if pid == 0:\n\
        \x20       if os.fork() == 0: os._exit(0)\n\
        \x20       os._exit(0)\n\
        \x20   os.waitpid(pid, 0)\n\
        def none_left():\n\
        \x20   for _ in range(1000):\n\
        \x20       if zombies() == 0: return True\n\
        \x20       time.sleep(.01)\n";

fn orphans(subject: &Subject) -> Outcome {
    let script =
        [ZOMBIES, "for _ in range(300): orphan()\nprint('none left', none_left(), flush=True)\n"].concat();
    subject.scenario().command(["python3", "-c", &script]).finish().exits(0).says("none left True");
    Ok(())
}

fn storm(subject: &Subject) -> Outcome {
    storm_of(subject, 2000)
}

/// Orphans while SIGUSR1 rains on the init.
pub(crate) fn storm_of(subject: &Subject, orphans: u32) -> Outcome {
    let script = format!(
        "{ZOMBIES}seen = 0\n\
        def got(number, frame):\n\
        \x20   global seen; seen += 1\n\
        signal.signal(signal.SIGUSR1, got)\n\
        print('ready', flush=True)\n\
        for _ in range({orphans}): orphan()\n\
        print('none left', none_left(), 'signals', 'seen' if seen else 'lost', flush=True)\n\
        time.sleep(600)\n"
    );
    let running = subject.scenario().command(["python3", "-c", &script]).start();
    running.wait_for("ready");
    let init = running.init();
    let text = poll("the storm is over", || {
        crate::scenario::send(init, 10);
        let text = running.output();
        // All of the line: its parts may come one by one.
        let is_over = text.contains("signals seen") || text.contains("signals lost");
        is_over.then_some(text)
    });
    assert!(text.contains("none left True signals seen"), "{text}");
    running.stop().exits(143);
    Ok(())
}

/// Main and many others die at once: one SIGCHLD may stand for all of them.
fn coalesced(subject: &Subject) -> Outcome {
    for _ in 0..50 {
        let script = "i=0; while [ $i -lt 20 ]; do true & i=$((i+1)); done; exit 7";
        subject.scenario().shell(script).finish().exits(7);
    }
    Ok(())
}

fn foreign_zombie(subject: &Subject) -> Outcome {
    let script = "import os,time\n\
        if os.fork() == 0: os._exit(0)\n\
        print('ready', flush=True)\n\
        time.sleep(600)\n";
    let running = subject.scenario().command(["python3", "-c", script]).start();
    running.wait_for("ready");
    let init = running.init();
    let before = super::process::switches(init);
    // Neither touched nor looked at again and again; tini wakes once a second anyway.
    std::thread::park_timeout(std::time::Duration::from_secs(1));
    assert!(super::process::switches(init) <= before + 3, "it loops");
    let stat = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let parent = running.descendant("python3");
    let children =
        std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    let zombie = children.trim().parse().map_err(|_| format!("no child of python3: {children}"))?;
    assert!(stat(zombie).contains(") Z "), "it is its parent's to reap");
    running.stop().exits(143);
    Ok(())
}

/// Not PID 1: orphans come to the init all the same.
fn subreaper(subject: &Subject) -> Outcome {
    let scenario = subject.scenario();
    let words = subject.words(&scenario);
    let script = "(sh -c 'sleep .3; echo orphan of $(ps -o ppid= -p $$)' &) ; sleep .1; echo init $PPID; sleep 1; exit 3";
    let output = Command::new(&words[0])
        .args(&words[1..])
        .args(["sh", "-c", script])
        .env("BOOKEND_CONFIG", "")
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = |word: &str| -> Option<i32> {
        text.lines().find_map(|line| line.strip_prefix(word)?.trim().parse().ok())
    };
    assert_eq!(output.status.code(), Some(3));
    assert!(number("init").is_some() && number("init") == number("orphan of"), "{text}");
    Ok(())
}
