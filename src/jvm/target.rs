//! One JVM as seen from outside.

use crate::facts::processes::{self, Process};
use crate::sys::process::Pid;
use std::path::PathBuf;

/// Where one JVM's attach files are.
///
/// The folder is `/tmp`, always: HotSpot's `os::get_temp_directory` is fixed on
/// Linux, whatever `java.io.tmpdir` says. The names carry the JVM's pid in its
/// own namespace (`attachListener_linux.cpp`, `VirtualMachineImpl.java`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub pid: Pid,
    inner_pid: i32,
    pub user: u32,
    pub group: u32,
    temporary: PathBuf,
    started: Option<u64>,
}

impl Target {
    /// The target that `pid` would be, JVM or not; `None` if it is gone.
    pub fn of(pid: Pid) -> Option<Self> {
        let process = Process::read(pid)?;
        let own = std::fs::read_link("/proc/self/ns/mnt").ok();
        let its = std::fs::read_link(processes::path(pid, "ns/mnt")).ok();
        // In another mount namespace its /tmp is reached through its root.
        let temporary = match (own, its) {
            (Some(own), Some(its)) if own != its => processes::path(pid, "root/tmp"),
            _ => PathBuf::from("/tmp"),
        };
        Some(Self {
            pid,
            inner_pid: process.inner_pid,
            user: process.user,
            group: process.group,
            temporary,
            started: processes::start_time(pid),
        })
    }

    /// It is still that process, not another one with its pid.
    pub fn is_there(&self) -> bool {
        Process::read(self.pid).is_some_and(|process| process.state != 'Z')
            && processes::start_time(self.pid) == self.started
    }

    /// The socket on which the JVM listens once it was attached to.
    pub fn socket(&self) -> PathBuf {
        self.temporary.join(format!(".java_pid{}", self.inner_pid))
    }

    /// The files whose presence, at a SIGQUIT, means "attach" and not "print a
    /// thread dump": the JVM looks in its working directory, then in `/tmp`.
    pub fn triggers(&self) -> [PathBuf; 2] {
        let name = format!(".attach_pid{}", self.inner_pid);
        [processes::path(self.pid, "cwd").join(&name), self.temporary.join(name)]
    }

    /// Its pid in its own namespace.
    pub fn inner_pid(&self) -> i32 {
        self.inner_pid
    }

    /// The folder of both.
    pub fn temporary(&self) -> &PathBuf {
        &self.temporary
    }
}
