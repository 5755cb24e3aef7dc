//! B: signals.

use super::{BOTH_NAMES, Case, EVERY_PEER, Outcome, Subject};
use crate::scenario::Init;
use std::process::Command;

pub(super) const CASES: &[Case] = &[
    Case::new("b1_every_signal_is_forwarded", forward_all).fails(&[Init::Tini, Init::Catatonit]),
    Case::new("b2_term_default", term_default),
    // At times: the race hunts count how often.
    Case::new("b3_early_term", early_term).fails(EVERY_PEER),
    Case::new("b4_early_term_spread", early_term_spread),
    Case::new("b6_term_slow_keeps_its_code", term_slow),
    Case::new("b7_second_term", double_term),
    Case::new("b10_a_fault_signal_from_outside", fault_signal).fails(&[Init::Tini, Init::Catatonit]),
    Case::new("b12_the_child_gets_a_clean_mask", child_mask).fails(&[Init::Catatonit]),
    Case::new("b15_a_background_job_gets_term", background)
        .fails(&[Init::Tini, Init::Catatonit])
        .promises_otherwise(&[Init::AsTini]),
    Case::new("b16_a_grandchild_in_another_session_gets_term", grandchild)
        .fails(EVERY_PEER)
        .promises_otherwise(BOTH_NAMES),
    Case::new("b17_an_adopted_daemon_ends_in_its_own_time", adopted_daemon)
        .fails(EVERY_PEER)
        .promises_otherwise(BOTH_NAMES),
    Case::new("b18_main_exits_first", main_exits_first).fails(EVERY_PEER).promises_otherwise(BOTH_NAMES),
];

/// Every catchable signal but SIGCHLD, which is the init's, and the C library's
/// own two. Those that stop an init's child on a terminal are not for it to judge.
fn forward_all(subject: &Subject) -> Outcome {
    const LEFT_OUT: [i32; 8] = [9, 17, 19, 20, 21, 22, 32, 33];
    let script = "import signal,time\n\
        def got(number, frame): print(f'got {number}.', flush=True)\n\
        for number in range(1, 65):\n\
        \x20   if number not in (9, 17, 19, 32, 33): signal.signal(number, got)\n\
        print('ready', flush=True)\n\
        while True: time.sleep(60)\n";
    let mut scenario = subject.scenario();
    if subject.init == Init::Bookend {
        // Stop signals go their own way, once: here SIGRTMAX is the only one.
        scenario = scenario.config("[stop]\nsignals = [\"SIGRTMAX\"]\ngrace = \"1s\"\n");
    }
    let running = scenario.command(["python3", "-c", script]).start();
    running.wait_for("ready");
    let init = running.init();
    for number in (1..=63).filter(|number| !LEFT_OUT.contains(number)) {
        // By the kernel's own number: nix has no names for real-time signals.
        let sent = Command::new("kill").args([format!("-{number}"), init.to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "signal {number}");
        running.wait_for(&format!("got {number}."));
    }
    drop(Command::new("kill").args(["-64".to_owned(), init.to_string()]).status());
    running.wait_for("got 64.");
    if subject.init == Init::Bookend {
        running.wait().exits(137);
    }
    Ok(())
}

fn term_default(subject: &Subject) -> Outcome {
    let running = subject.scenario().command(["sleep", "600"]).start();
    running.descendant("sleep");
    running.stop().exits(143);
    Ok(())
}

/// The TERM comes the moment that the init handles signals, wherever its child is.
fn early_term(subject: &Subject) -> Outcome {
    for _ in 0..60 {
        let running = subject.scenario().command(["sleep", "600"]).start();
        running.wait_until_signals_are_blocked();
        running.stop().exits(143);
    }
    Ok(())
}

/// A TERM at any moment from the fork on: it ends, or it came before anybody
/// could have seen it and a second one ends it.
fn early_term_spread(subject: &Subject) -> Outcome {
    for tenths in 0..200 {
        let running = subject.scenario().command(["sleep", "600"]).start();
        let init = running.init();
        std::thread::park_timeout(std::time::Duration::from_micros(tenths * 100));
        running.stop_again(init).exits(143);
    }
    Ok(())
}

fn term_slow(subject: &Subject) -> Outcome {
    let running = subject
        .scenario()
        .shell("trap 'sleep 1; echo rolled back; exit 9' TERM; echo ready; while :; do sleep .1; done")
        .start();
    running.wait_for("ready");
    running.stop().exits(9).says("rolled back");
    Ok(())
}

fn double_term(subject: &Subject) -> Outcome {
    let script = "n=0; trap 'n=1; echo got it' TERM; echo ready; until [ $n = 1 ]; do sleep .1; done; \
        sleep 1; exit 6";
    let running = subject.scenario().shell(script).start();
    running.wait_for("ready");
    running.terminate();
    running.wait_for("got it");
    running.terminate();
    running.wait().exits(6);
    Ok(())
}

fn fault_signal(subject: &Subject) -> Outcome {
    let script = "import signal,time\n\
        for number in (6, 11): signal.signal(number, lambda number, frame: print(f'got {number}.', flush=True))\n\
        print('ready', flush=True)\n\
        while True: time.sleep(60)\n";
    let running = subject.scenario().command(["python3", "-c", script]).start();
    running.wait_for("ready");
    for signal in [6, 11] {
        running.signal(signal);
        running.wait_for(&format!("got {signal}."));
    }
    running.stop().exits(143);
    Ok(())
}

/// What anybody gets who is started here without an init: the C library's own
/// 32 and 33 may be ignored by the test's parent.
fn child_mask(subject: &Subject) -> Outcome {
    let command = ["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"];
    let bare = Command::new(command[0]).args(&command[1..]).output().map_err(|error| error.to_string())?;
    let bare = String::from_utf8_lossy(&bare.stdout).into_owned();
    assert!(bare.contains("SigBlk:\t0000000000000000"), "{bare}");
    let ended = subject.scenario().command(command).finish();
    ended.exits(0);
    assert_eq!(masks(&ended.output), masks(&bare), "{}", ended.output);
    Ok(())
}

/// Blocked and ignored signals as `/proc` shows them, without 32 and 33: those are the C library's
/// own, and whoever stands between may have set or reset them.
pub(crate) fn masks(text: &str) -> Vec<(&str, u64)> {
    const OF_THE_LIBRARY: u64 = 1 << 31 | 1 << 32;
    let lines = text.lines().filter_map(|line| line.split_once(":\t"));
    lines
        .filter(|(name, _)| ["SigBlk", "SigIgn"].contains(name))
        .map(|(name, mask)| (name, u64::from_str_radix(mask, 16).expect("hexadecimal") & !OF_THE_LIBRARY))
        .collect()
}

const TRAP: &str = "trap \"echo background got it; sleep .5; echo background done; exit\" TERM; echo background ready; while :; do sleep .1; done";

/// In main's own process group.
fn background(subject: &Subject) -> Outcome {
    let script = format!("sh -c '{TRAP}' & trap 'sleep .5; exit 143' TERM; wait; wait");
    let running = subject.scenario().shell(&script).start();
    running.wait_for("background ready");
    running.stop().exits(143).says("background got it");
    Ok(())
}

fn grandchild(subject: &Subject) -> Outcome {
    let running = subject.scenario().shell(&format!("setsid sh -c '{TRAP}' & sleep 600")).start();
    running.wait_for("background ready");
    running.stop().exits(143).says("background done");
    Ok(())
}

fn adopted_daemon(subject: &Subject) -> Outcome {
    let running = subject.scenario().shell(&format!("(setsid sh -c '{TRAP}' &) ; sleep 600")).start();
    running.wait_for("background ready");
    running.stop().exits(143).says("background done");
    Ok(())
}

fn main_exits_first(subject: &Subject) -> Outcome {
    let scenario = subject.scenario();
    let go = scenario.folder().join("go");
    let script =
        format!("(setsid sh -c '{TRAP}' &) ; until [ -e {} ]; do sleep .1; done; exit 3", go.display());
    let running = scenario.shell(&script).start();
    running.wait_for("background ready");
    std::fs::write(go, "").map_err(|error| error.to_string())?;
    running.wait().exits(3).says("background done");
    Ok(())
}
