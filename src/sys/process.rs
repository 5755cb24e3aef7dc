//! Processes: signalling them, and collecting them when they end.

use crate::units::Signal;
use nix::errno::Errno;
use std::mem::MaybeUninit;

/// A process id in our own PID namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pid(i32);

impl Pid {
    /// A pid as the kernel gave it; `None` for what `kill(2)` would take as a
    /// group or as everybody.
    pub fn from_number(number: i32) -> Option<Self> {
        (number > 0).then_some(Self(number))
    }

    pub fn number(self) -> i32 {
        self.0
    }
}

impl std::fmt::Display for Pid {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Exited(u8),
    Signaled { signal: Signal, core_dumped: bool },
}

impl Status {
    /// The code a shell would report: the exit code, or 128 + the signal.
    pub fn code(self) -> u8 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled { signal, .. } => crate::exit::of_signal(signal),
        }
    }

    pub fn is_success(self) -> bool {
        self == Self::Exited(0)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(formatter, "exit code {code}"),
            Self::Signaled { signal, core_dumped: true } => write!(formatter, "{signal}, core dumped"),
            Self::Signaled { signal, core_dumped: false } => write!(formatter, "{signal}"),
        }
    }
}

/// What one look at our children found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaped {
    /// This child ended and is gone from the process table.
    Ended(Pid, Status),
    /// This child was stopped by that signal, and is still there.
    Stopped(Pid, Signal),
    /// There are children; none has ended.
    NoneEnded,
    /// There is no child at all.
    NoChildren,
}

/// Collects one ended child, whoever it was (`waitpid(2)`).
///
/// The supervisor's loop is the only caller: one reaper owns every child, and
/// a pid that was not reaped cannot be reused, so signalling it is safe.
pub fn reap() -> Reaped {
    loop {
        let mut status = 0;
        // SAFETY: `status` is our own memory; -1 is any child.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::WUNTRACED) };
        let Some(pid) = Pid::from_number(pid) else {
            match pid {
                0 => return Reaped::NoneEnded,
                _ if Errno::last() == Errno::EINTR => continue,
                _ => return Reaped::NoChildren,
            }
        };
        if libc::WIFSTOPPED(status) {
            let signal = Signal::from_number(libc::WSTOPSIG(status)).unwrap_or(Signal::STOP);
            return Reaped::Stopped(pid, signal);
        }
        return Reaped::Ended(pid, read_status(status));
    }
}

/// What one look at one child of our own found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    Ended(Status),
    Runs,
    /// It is no child of ours, or somebody else has collected it.
    Unknown,
}

/// Collects one child of our own, if it has ended. Not for the supervisor.
pub fn wait_now(pid: Pid) -> Waited {
    let mut status = 0;
    // SAFETY: `status` is our own memory.
    let result = unsafe { libc::waitpid(pid.0, &raw mut status, libc::WNOHANG) };
    match result {
        0 => Waited::Runs,
        _ if result == pid.0 => Waited::Ended(read_status(status)),
        _ if Errno::last() == Errno::EINTR => Waited::Runs,
        _ => Waited::Unknown,
    }
}

/// Collects children that failed to start. Not for the supervisor.
pub fn reap_ended() {
    while let Reaped::Ended(..) = reap() {}
}

fn read_status(status: i32) -> Status {
    match Signal::from_number(libc::WTERMSIG(status)).filter(|_| libc::WIFSIGNALED(status)) {
        Some(signal) => Status::Signaled { signal, core_dumped: libc::WCOREDUMP(status) },
        None => Status::Exited(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX)),
    }
}

/// Is there any child at all, running or ended? Collects nothing.
pub fn has_children() -> bool {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is our own memory; the flags are valid for waitid(2).
    let result = unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), flags) };
    result == 0 || Errno::last() != Errno::ECHILD
}

/// Sends `signal` to one process.
///
/// # Errors
/// `ESRCH` if it is gone, `EPERM` if it is not ours to signal.
pub fn signal(pid: Pid, signal: Signal) -> Result<(), Errno> {
    kill(pid.0, signal)
}

/// Whether `pid` could be signalled now (`kill(2)`, signal 0).
pub fn is_there(pid: Pid) -> bool {
    kill(pid.0, None).is_ok()
}

/// Sends `signal` to every process of the group that `leader` leads or led.
///
/// # Errors
/// As [`signal`].
pub fn signal_group(leader: Pid, signal: Signal) -> Result<(), Errno> {
    kill(-leader.0, signal)
}

/// Sends `signal` to every process of our own group, ourselves included.
///
/// # Errors
/// As [`signal`].
pub fn signal_own_group(signal: Signal) -> Result<(), Errno> {
    kill(0, signal)
}

/// Sends `signal` to every process but ourselves that we may signal. Only for
/// PID 1, whose namespace holds nobody else's processes.
///
/// # Errors
/// `ESRCH` if there is nobody.
pub fn signal_all(signal: Signal) -> Result<(), Errno> {
    kill(-1, signal)
}

/// Sends `signal` to one thread of a process (`tgkill(2)`).
///
/// # Errors
/// As [`signal`].
pub fn signal_thread(pid: Pid, thread: Pid, signal: Signal) -> Result<(), Errno> {
    // SAFETY: takes numbers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, pid.0, thread.0, signal.number()) };
    Errno::result(result).map(drop)
}

fn kill(target: i32, signal: impl Into<Option<Signal>>) -> Result<(), Errno> {
    // 0 is no signal: only the checks are made.
    let number = signal.into().map_or(0, Signal::number);
    // SAFETY: kill(2) takes two numbers and touches no memory of ours.
    let result = unsafe { libc::kill(target, number) };
    Errno::result(result).map(drop)
}
