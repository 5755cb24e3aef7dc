//! Finding the JVM: the main process itself, or what a start script became.

use super::Target;
use crate::facts::processes::{self, Process};
use crate::sys::process::Pid;

/// The JVM that `root` is, or that runs below it: the one nearest to it.
pub fn find(root: Pid) -> Option<Target> {
    if processes::is_jvm(root) {
        return Target::of(root);
    }
    let all = processes::list();
    processes::descendants(root, &all).into_iter().find(|pid| processes::is_jvm(*pid)).and_then(Target::of)
}

/// Every JVM that we can see.
pub fn find_all() -> Vec<Target> {
    let all: Vec<Process> = processes::list();
    all.iter()
        .filter(|process| processes::is_jvm(process.pid))
        .filter_map(|process| Target::of(process.pid))
        .collect()
}
