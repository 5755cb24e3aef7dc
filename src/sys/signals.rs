//! Signals: blocked from the first instruction, read from a descriptor,
//! handed back to children as we found them.
//!
//! No handler is ever installed, so nothing can be swallowed between a handler
//! and an exec, and no code runs in signal context.

use super::process::Pid;
use super::terminal;
use crate::units::Signal;
use nix::errno::Errno;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

/// The signal state that our parent gave us, and that our children get.
#[derive(Clone, Copy)]
pub struct Inherited {
    mask: libc::sigset_t,
    /// SIGCHLD was ignored: the one disposition that we have to change, since
    /// the kernel would reap our children unseen (`wait(2)`, notes).
    child_ignored: bool,
    /// Bits of what this process ignores and its parent did not: not for children.
    ignored_here: u64,
}

impl std::fmt::Debug for Inherited {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Inherited")
            .field("child_ignored", &self.child_ignored)
            .finish_non_exhaustive()
    }
}

/// Every signal. Not by `sigfillset`: musl's leaves out 34. The C libraries take
/// out their own, 32 and 33, themselves.
fn full_set() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: one sigset_t of our own memory is filled with ones.
    unsafe { ptr::write_bytes(set.as_mut_ptr(), 0xff, 1) };
    // SAFETY: plain bits, all written by the line above.
    unsafe { set.assume_init() }
}

/// Blocks every signal and returns what was in force before.
///
/// Faults of our own still kill us: the kernel forces a blocked SIGSEGV through
/// (`kernel/signal.c`, `force_sig_info_to_task`).
pub fn block_all() -> Inherited {
    let all = full_set();
    let mut mask = all;
    // SAFETY: both pointers are to live sets; the call cannot fail for SIG_SETMASK.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const all, &raw mut mask) };
    let child_ignored = disposition(Signal::CHLD) == libc::SIG_IGN;
    if child_ignored {
        set_disposition(Signal::CHLD, libc::SIG_DFL);
    }
    Inherited { mask, child_ignored, ignored_here: 0 }
}

impl Inherited {
    /// Gives this process the mask and dispositions back. Async-signal-safe:
    /// a forked child calls it just before its exec.
    pub fn restore(&self) {
        if self.child_ignored {
            set_disposition(Signal::CHLD, libc::SIG_IGN);
        }
        for number in 1..=64 {
            if self.ignored_here & (1 << (number - 1)) != 0
                && let Some(signal) = Signal::from_number(number)
            {
                set_disposition(signal, libc::SIG_DFL);
            }
        }
        // SAFETY: the mask was filled in by sigprocmask in `block_all`.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const self.mask, ptr::null_mut()) };
    }
}

/// Ignores what must not end the agent (it ends when the supervisor says so)
/// and lets everything else through. What the agent's own children are to get.
pub fn ignore_in_agent(inherited: &Inherited) -> Inherited {
    let mut for_children = *inherited;
    for signal in [
        Signal::TTIN,
        Signal::TTOU,
        Signal::TERM,
        Signal::INT,
        Signal::HUP,
        Signal::QUIT,
        Signal::PIPE,
        Signal::USR1,
        Signal::USR2,
    ] {
        if disposition(signal) != libc::SIG_IGN {
            for_children.ignored_here |= signal.bit();
        }
        set_disposition(signal, libc::SIG_IGN);
    }
    let mut none = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set it is given.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: initialised by the line above.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut()) };
    for_children
}

fn disposition(signal: Signal) -> libc::sighandler_t {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null new action only asks; the old one is written to our memory.
    unsafe { libc::sigaction(signal.number(), ptr::null(), action.as_mut_ptr()) };
    // SAFETY: zeroed is a valid sigaction, whether or not the call filled it in.
    unsafe { action.assume_init() }.sa_sigaction
}

fn set_disposition(signal: Signal, handler: libc::sighandler_t) {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: zeroed memory is a valid sigaction (default handler, empty mask, no flags).
    let action = unsafe { action.assume_init_mut() };
    action.sa_sigaction = handler;
    // SAFETY: only SIG_IGN and SIG_DFL are ever given: no code runs in signal context.
    unsafe { libc::sigaction(signal.number(), action, ptr::null_mut()) };
}

/// One signal as read from the descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    pub signal: Signal,
    /// The kernel itself sent it (`SI_KERNEL`), as for a terminal.
    pub by_kernel: bool,
    /// Who sent it; 0 for the kernel and for senders outside our PID namespace.
    pub sender: i32,
}

impl Received {
    /// Not our own doing (a write to a closed pipe, a signal to our own group), and
    /// not what somebody sends to the whole group that we share with it on a
    /// terminal (`kill 0` in a script).
    pub fn is_meant_for_us(self, shares_terminal: bool) -> bool {
        let Some(sender) = Pid::from_number(self.sender) else {
            return true;
        };
        let is_own = u32::try_from(self.sender) == Ok(std::process::id());
        !(is_own || shares_terminal && terminal::shares_our_group(sender))
    }

    /// A key on our terminal, or its new size: the kernel has given it to every
    /// process of the foreground group. A hang-up goes to the session's leader
    /// alone (`drivers/tty/tty_jobctrl.c`).
    pub fn is_key(self) -> bool {
        self.by_kernel && [Signal::INT, Signal::QUIT, Signal::TSTP, Signal::WINCH].contains(&self.signal)
    }
}

/// A descriptor from which every blocked signal is read (`signalfd(2)`).
#[derive(Debug)]
pub struct SignalDescriptor(OwnedFd);

impl SignalDescriptor {
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`, or what a seccomp profile answers.
    pub fn open() -> Result<Self, Errno> {
        let all = full_set();
        // SAFETY: the set is initialised; the flags are valid for signalfd(2).
        let descriptor =
            unsafe { libc::signalfd(-1, &raw const all, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        let descriptor = Errno::result(descriptor)?;
        // SAFETY: the kernel just gave us this descriptor and nobody else has it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    /// Sleeps until a signal comes, or for that long, where there is nothing else to
    /// wait for: one system call less than to poll and to read.
    pub fn wait(&self, timeout: Option<Duration>) -> Option<Received> {
        let all = full_set();
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        let limit = timeout.map(|timeout| libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the set is initialised, `info` is ours, `limit` is null or a live timespec.
        let signal = unsafe { libc::sigtimedwait(&raw const all, info.as_mut_ptr(), limit) };
        let signal = Signal::from_number(signal)?;
        // SAFETY: plain integers, zeroed and then filled by the kernel.
        let info = unsafe { info.assume_init() };
        // SAFETY: whoever sends a signal is in this member; for one of the kernel's
        // own it is the zero that was there, or the child's pid of a SIGCHLD.
        let sender = unsafe { info.si_pid() };
        Some(Received { signal, by_kernel: info.si_code == libc::SI_KERNEL, sender })
    }

    /// The next pending signal; `None` when there is none.
    pub fn read(&self) -> Option<Received> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
        let size = size_of::<libc::signalfd_siginfo>();
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&self.0);
        // SAFETY: the buffer is `size` bytes of our own memory.
        let count = unsafe { libc::read(descriptor, info.as_mut_ptr().cast(), size) };
        if usize::try_from(count) != Ok(size) {
            return None;
        }
        // SAFETY: plain integers, zeroed and then filled by the kernel.
        let info = unsafe { info.assume_init() };
        let signal = i32::try_from(info.ssi_signo).ok().and_then(Signal::from_number)?;
        Some(Received {
            signal,
            by_kernel: info.ssi_code == libc::SI_KERNEL,
            sender: i32::try_from(info.ssi_pid).unwrap_or(0),
        })
    }
}

impl AsFd for SignalDescriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
