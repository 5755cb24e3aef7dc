//! What is left in the container when the main process is gone.

use crate::facts::processes::{self, Process};
use crate::sys::process::{self, Pid};
use crate::units::Signal;

/// Sends `signal` to everything that is left, what we `keep` and ourselves excepted.
///
/// PID 1 asks the kernel, which reaches processes that fork meanwhile too. With
/// processes to keep, or where we are not PID 1 and have siblings that are not
/// ours, the descendants are walked instead. Returns false if neither is possible.
pub(super) fn signal(is_pid_one: bool, keep: &[Pid], signal: Signal) -> bool {
    if is_pid_one && keep.is_empty() {
        // Nobody left is what we want to hear.
        let _none_left = process::signal_all(signal);
        return true;
    }
    // Whatever is below us is a child of ours, or below one.
    if !process::has_children() {
        return true;
    }
    let all = processes::list();
    if all.is_empty() {
        return false;
    }
    let Some(own) = Pid::from_number(nix::unistd::getpid().as_raw()) else {
        return false;
    };
    let kept = kept(keep, &all);
    let mut targets = if is_pid_one {
        all.iter().map(|process| process.pid).collect()
    } else {
        processes::descendants(own, &all)
    };
    // Children before parents: a parent that sees its child end may start another.
    targets.reverse();
    for pid in targets {
        if pid != own && !kept.contains(&pid) {
            // Gone meanwhile, or a user that we may not signal: both are final.
            let _gone = process::signal(pid, signal);
        }
    }
    true
}

/// Is anything left below us but what we `keep` and what is below it? True where there
/// is no `/proc` to look at.
pub(super) fn any(keep: &[Pid]) -> bool {
    let all = processes::list();
    let Some(own) = Pid::from_number(nix::unistd::getpid().as_raw()).filter(|_| !all.is_empty()) else {
        return true;
    };
    let kept = kept(keep, &all);
    processes::descendants(own, &all).into_iter().any(|pid| pid != own && !kept.contains(&pid))
}

/// Sends `signal` to whoever is left below us in the group of a leader that is gone: one by one, as
/// each of them is a child of ours or below one, and the group's number may be another's soon.
pub(super) fn signal_group_of(leader: Pid, signal: Signal) {
    let Some(own) = Pid::from_number(nix::unistd::getpid().as_raw()) else { return };
    let group = nix::unistd::Pid::from_raw(leader.number());
    for pid in processes::descendants(own, &processes::list()) {
        let its = nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid.number())));
        if pid != own && its == Ok(group) {
            let _gone = process::signal(pid, signal);
        }
    }
}

fn kept(roots: &[Pid], all: &[Process]) -> Vec<Pid> {
    roots.iter().flat_map(|root| processes::descendants(*root, all)).collect()
}
