//! Finding the JVM: the main process itself, or what a start script became.

use super::Target;
use crate::facts::processes::{self, Process};
use crate::sys::process::Pid;
use std::io::ErrorKind;

/// The JVM that `root` is, or that runs below it: the one nearest to it.
pub fn find(root: Pid) -> Option<Target> {
    if is_jvm(root) {
        return Target::of(root);
    }
    let all = processes::list();
    processes::descendants(root, &all).into_iter().find(|pid| is_jvm(*pid)).and_then(Target::of)
}

/// Every JVM that we can see.
pub fn find_all() -> Vec<Target> {
    let all: Vec<Process> = processes::list();
    all.iter().filter(|process| is_jvm(process.pid)).filter_map(|process| Target::of(process.pid)).collect()
}

/// It has mapped HotSpot's library. A name proves little: the launcher is
/// called `java` before it has loaded a JVM, and may be called anything.
///
/// But root in a container without CAP_SYS_PTRACE, as in `docker exec` and ECS
/// Exec, may not see another user's maps (`proc(5)`): then the name has to do.
fn is_jvm(pid: Pid) -> bool {
    match std::fs::read(processes::path(pid, "maps")) {
        Ok(maps) => maps.windows(LIBRARY.len()).any(|window| window == LIBRARY),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            std::fs::read(processes::path(pid, "comm")).is_ok_and(|name| name == b"java\n")
        }
        Err(_) => false,
    }
}

const LIBRARY: &[u8] = b"/libjvm.so";
