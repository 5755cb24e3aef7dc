//! Processes as `/proc` shows them (`proc(5)`).

use crate::sys::process::Pid;
use crate::units::Signal;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::PathBuf;

/// What `/proc/PID/status` and `/proc/PID/stat` say, as far as it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: Pid,
    pub parent: i32,
    /// The process: another number than `pid` if that is one of its threads.
    pub leader: i32,
    /// Effective user and group.
    pub user: u32,
    pub group: u32,
    /// Its pid in its own namespace: the last number of `NStgid`.
    pub inner_pid: i32,
    /// `R`, `S`, `D`, `T` (stopped), `t` (traced), `Z`, ...
    pub state: char,
    /// Resident memory in bytes; none for a zombie.
    pub resident: Option<u64>,
    caught: u64,
    ignored: u64,
}

impl Process {
    /// Reads one process; `None` if it is gone or `/proc` is not there.
    pub fn read(pid: Pid) -> Option<Self> {
        // The kernel makes the text anew for each read: one read, one state.
        let mut buffer = [0; 4096];
        let size = File::open(format!("/proc/{pid}/status")).ok()?.read(&mut buffer).ok()?;
        Self::parse(pid, &String::from_utf8_lossy(buffer.get(..size)?))
    }

    fn parse(pid: Pid, text: &str) -> Option<Self> {
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        let second = |name: &str| field(name)?.split_whitespace().nth(1)?.parse().ok();
        let mask = |name: &str| u64::from_str_radix(field(name)?, 16).ok();
        let inner = field("NStgid").and_then(|numbers| numbers.split_whitespace().last()?.parse().ok());
        Some(Self {
            pid,
            parent: field("PPid")?.parse().ok()?,
            leader: field("Tgid")?.parse().ok()?,
            user: second("Uid")?,
            group: second("Gid")?,
            // Kernels before 4.1 lack it, and know of no other namespace here.
            inner_pid: inner.unwrap_or(pid.number()),
            resident: field("VmRSS")
                .and_then(|size| size.strip_suffix(" kB")?.trim().parse::<u64>().ok())
                .map(|kilobytes| kilobytes << 10),
            state: field("State")?.chars().next()?,
            // gVisor has neither: then nothing is taken to be caught.
            caught: mask("SigCgt").unwrap_or(0),
            ignored: mask("SigIgn").unwrap_or(0),
        })
    }

    /// It has a handler for `signal`.
    pub fn catches(&self, signal: Signal) -> bool {
        self.caught & signal.bit() != 0 && self.ignored & signal.bit() == 0
    }

    /// It ignores `signal`.
    pub fn ignores(&self, signal: Signal) -> bool {
        self.ignored & signal.bit() != 0
    }

    /// Stopped by a signal, or by a debugger.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }
}

/// Every process that `/proc` shows; empty where there is no `/proc`.
pub fn list() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|number| Process::read(Pid::from_number(number)?))
        .collect()
}

/// `root` and everything below it, parents before their children.
pub fn descendants(root: Pid, processes: &[Process]) -> Vec<Pid> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        let children = processes.iter().filter(|process| process.parent == parent.number());
        for child in children {
            if !found.contains(&child.pid) {
                found.push(child.pid);
            }
        }
    }
    found
}

/// When it was started, in clock ticks since boot: with the pid, its identity
/// (`proc(5)`, `/proc/PID/stat` field 22, counted behind the name in brackets).
pub fn start_time(pid: Pid) -> Option<u64> {
    let text = std::fs::read_to_string(path(pid, "stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// It has mapped HotSpot's library. A name proves little: the launcher is
/// called `java` before it has loaded a JVM, and may be called anything.
///
/// But root in a container without CAP_SYS_PTRACE, as in `docker exec` and ECS
/// Exec, may not see another user's maps (`proc(5)`): then the name has to do.
pub fn is_jvm(pid: Pid) -> bool {
    match std::fs::read(path(pid, "maps")) {
        Ok(maps) => maps.windows(LIBRARY.len()).any(|window| window == LIBRARY),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            std::fs::read(path(pid, "comm")).is_ok_and(|name| name == b"java\n")
        }
        Err(_) => false,
    }
}

const LIBRARY: &[u8] = b"/libjvm.so";

/// Its command line, one string an argument.
pub fn command_line(pid: Pid) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes
        .split(|byte| *byte == 0)
        .filter(|part| !part.is_empty())
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect()
}

/// One of its environment variables; needs its user or root.
pub fn variable(pid: Pid, name: &str) -> Option<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    bytes
        .split(|byte| *byte == 0)
        .filter_map(|entry| std::str::from_utf8(entry).ok()?.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned())
}

/// Its open descriptors, and how many it may have (`proc(5)`, `limits`).
pub fn descriptors(pid: Pid) -> Option<(u64, u64)> {
    let open = std::fs::read_dir(path(pid, "fd")).ok()?.count();
    let limits = std::fs::read_to_string(path(pid, "limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let limit = line.split_whitespace().next()?.parse().ok()?;
    Some((u64::try_from(open).ok()?, limit))
}

/// How many threads it has, of whatever kind.
pub fn thread_count(pid: Pid) -> Option<u64> {
    u64::try_from(std::fs::read_dir(path(pid, "task")).ok()?.count()).ok()
}

/// One thread as `/proc/PID/task/ID/stat` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    pub id: Pid,
    /// Of a Java thread, its first 15 characters.
    pub name: String,
    pub state: char,
    /// The processor time that it had, in clock ticks.
    pub ticks: u64,
}

/// Its threads (`proc(5)`, `stat` fields 2, 3, 14 and 15).
pub fn threads(pid: Pid) -> Vec<Thread> {
    let entries = std::fs::read_dir(path(pid, "task")).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let id = Pid::from_number(entry.file_name().to_str()?.parse().ok()?)?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // A name may hold brackets and spaces itself.
            let (head, tail) = stat.rsplit_once(')')?;
            let name = head.split_once('(').map_or("", |(_, name)| name).to_owned();
            let mut fields = tail.split_whitespace();
            let state = fields.next()?.chars().next()?;
            let mut fields = fields.skip(10);
            let mut ticks = || fields.next()?.parse::<u64>().ok();
            Some(Thread { id, name, state, ticks: ticks()?.saturating_add(ticks()?) })
        })
        .collect()
}

/// The directory in which it works; the root where that cannot be seen.
pub fn working_directory(pid: Pid) -> PathBuf {
    std::fs::read_link(path(pid, "cwd")).unwrap_or_else(|_| "/".into())
}

/// A file or folder of it: `/proc/PID/NAME`.
pub fn path(pid: Pid, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tjava\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t77\nPid:\t77\nPPid:\t1\n\
        Uid:\t1000\t1001\t1000\t1000\nGid:\t1000\t1002\t1000\t1000\nNStgid:\t77\t7\n\
        SigBlk:\t0000000000000000\nSigIgn:\t0000000000001000\nSigCgt:\t2000000181005ccf\n";

    #[test]
    fn reads_what_the_kernel_prints() {
        let pid = Pid::from_number(77).expect("positive");
        let process = Process::parse(pid, STATUS).expect("whole");
        assert_eq!((process.parent, process.user, process.group, process.inner_pid), (1, 1001, 1002, 7));
        assert!(process.catches(Signal::QUIT));
        assert!(!process.catches(Signal::PIPE), "ignored");
        assert!(!process.catches(Signal::USR1));
        assert!(Process::parse(pid, "nonsense").is_none());
    }

    #[test]
    fn finds_itself() {
        let own = Pid::from_number(i32::try_from(std::process::id()).expect("fits")).expect("positive");
        let all = list();
        assert!(all.iter().any(|process| process.pid == own));
        assert!(start_time(own).is_some_and(|ticks| ticks > 0));
        assert_eq!(descendants(own, &all).first(), Some(&own));
    }
}
