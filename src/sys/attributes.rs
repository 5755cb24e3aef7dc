//! Setting a child's attributes, between fork and exec: nothing here allocates.

use crate::units::{Attributes, Capability, Limit, Resource};
use nix::errno::Errno;

/// Which of them could not be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    OomScoreAdjustment,
    Limit(Resource),
    Nice,
    Capabilities,
    NoNewPrivileges,
}

impl Attribute {
    pub(super) fn number(self) -> i32 {
        match self {
            Self::OomScoreAdjustment => 0,
            Self::Nice => 1,
            Self::Capabilities => 2,
            Self::NoNewPrivileges => 3,
            Self::Limit(resource) => {
                let at = Resource::NAMES.iter().position(|(_, known)| *known == resource);
                4 + i32::try_from(at.unwrap_or(0)).unwrap_or(0)
            }
        }
    }

    pub(super) fn from_number(number: i32) -> Self {
        match number {
            0 => Self::OomScoreAdjustment,
            1 => Self::Nice,
            2 => Self::Capabilities,
            3 => Self::NoNewPrivileges,
            number => {
                let at = usize::try_from(number - 4).unwrap_or(0);
                Resource::NAMES.get(at).map_or(Self::Nice, |(_, resource)| Self::Limit(*resource))
            }
        }
    }

    /// As the configuration calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::OomScoreAdjustment => "oom_score_adj",
            Self::Limit(resource) => resource.name(),
            Self::Nice => "nice",
            Self::Capabilities => "caps",
            Self::NoNewPrivileges => "no_new_privs",
        }
    }

    /// What bookend itself must have for it, in brackets.
    pub fn need(self) -> &'static str {
        match self {
            Self::OomScoreAdjustment => " (a lower value than bookend's own needs CAP_SYS_RESOURCE)",
            Self::Limit(_) => " (a hard limit above bookend's own needs CAP_SYS_RESOURCE)",
            Self::Nice => " (a lower value than bookend's own needs CAP_SYS_NICE)",
            Self::Capabilities => {
                " (bookend must have those that are kept, and CAP_SETPCAP to give up others: start it as root)"
            }
            Self::NoNewPrivileges => "",
        }
    }
}

/// Asks the kernel to take this process first when memory runs out.
///
/// # Errors
/// No `/proc`, or it cannot be written.
pub fn be_taken_first() -> Result<(), Errno> {
    write_oom_score(1000)
}

type Outcome = Result<(), (Attribute, Errno)>;

/// What needs the rights that bookend was given.
pub(super) fn set_before_user(attributes: &Attributes) -> Outcome {
    if let Some(score) = attributes.oom_score_adj {
        write_oom_score(score).map_err(|error| (Attribute::OomScoreAdjustment, error))?;
    }
    for (resource, limit) in &attributes.limits {
        set_limit(*resource, *limit).map_err(|error| (Attribute::Limit(*resource), error))?;
    }
    if let Some(nice) = attributes.nice {
        // SAFETY: takes numbers; 0 is this process.
        let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, i32::from(nice)) };
        Errno::result(result).map_err(|error| (Attribute::Nice, error))?;
    }
    if let Some(umask) = attributes.umask {
        // SAFETY: takes a number and always succeeds.
        unsafe { libc::umask(libc::mode_t::from(umask)) };
    }
    if let Some(kept) = &attributes.capabilities {
        give_up_all_but(kept).map_err(|error| (Attribute::Capabilities, error))?;
    }
    Ok(())
}

/// What changing the user would undo.
pub(super) fn set_after_user(attributes: &Attributes) -> Outcome {
    if let Some(kept) = &attributes.capabilities {
        hold_exactly(kept).map_err(|error| (Attribute::Capabilities, error))?;
    }
    if attributes.no_new_privs {
        // SAFETY: takes numbers.
        let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1_u64, 0_u64, 0_u64, 0_u64) };
        Errno::result(result).map_err(|error| (Attribute::NoNewPrivileges, error))?;
    }
    Ok(())
}

/// `proc(5)`: decimal text.
fn write_oom_score(score: i16) -> Result<(), Errno> {
    let mut text = [b'0'; 6];
    let mut rest = score.unsigned_abs();
    let mut at = text.len();
    loop {
        at -= 1;
        if let Some(place) = text.get_mut(at) {
            *place = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        }
        rest /= 10;
        if rest == 0 || at == 1 {
            break;
        }
    }
    if score < 0 {
        at -= 1;
        if let Some(place) = text.get_mut(at) {
            *place = b'-';
        }
    }
    let text = text.get(at..).unwrap_or_default();
    // SAFETY: a NUL-terminated path; the flags need no mode.
    let file = unsafe { libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    let file = Errno::result(file)?;
    // SAFETY: `text` is our own memory of that length; exec closes the descriptor.
    let written = unsafe { libc::write(file, text.as_ptr().cast(), text.len()) };
    Errno::result(written).map(drop)
}

fn set_limit(resource: Resource, limit: Limit) -> Result<(), Errno> {
    let number = match resource {
        Resource::AddressSpace => libc::RLIMIT_AS,
        Resource::Core => libc::RLIMIT_CORE,
        Resource::Cpu => libc::RLIMIT_CPU,
        Resource::Data => libc::RLIMIT_DATA,
        Resource::FileSize => libc::RLIMIT_FSIZE,
        Resource::LockedMemory => libc::RLIMIT_MEMLOCK,
        Resource::MessageQueues => libc::RLIMIT_MSGQUEUE,
        Resource::Nice => libc::RLIMIT_NICE,
        Resource::OpenFiles => libc::RLIMIT_NOFILE,
        Resource::Processes => libc::RLIMIT_NPROC,
        Resource::RealTimePriority => libc::RLIMIT_RTPRIO,
        Resource::RealTimeTime => libc::RLIMIT_RTTIME,
        Resource::PendingSignals => libc::RLIMIT_SIGPENDING,
        Resource::Stack => libc::RLIMIT_STACK,
    };
    let value = |limit: Option<u64>| limit.unwrap_or(libc::RLIM_INFINITY);
    let limit = libc::rlimit { rlim_cur: value(limit.soft), rlim_max: value(limit.hard) };
    // SAFETY: the pointer is to a live rlimit.
    let result = unsafe { libc::setrlimit(number, &raw const limit) };
    Errno::result(result).map(drop)
}

fn set_of(capabilities: &[Capability]) -> u64 {
    capabilities.iter().fold(0, |set, capability| set | capability.bit())
}

/// Takes the others out of the bounding set, so that no program regains them,
/// and lets a change of user keep what is permitted until [`hold_exactly`].
fn give_up_all_but(kept: &[Capability]) -> Result<(), Errno> {
    let kept = set_of(kept);
    for number in 0..64_u64 {
        // SAFETY: takes numbers; fails for a capability that this kernel does not know.
        let is_there = unsafe { libc::prctl(libc::PR_CAPBSET_READ, number, 0_u64, 0_u64, 0_u64) };
        if is_there < 0 {
            break;
        }
        if is_there == 1 && kept & (1 << number) == 0 {
            // SAFETY: takes numbers.
            let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0_u64, 0_u64, 0_u64) };
            Errno::result(result)?;
        }
    }
    // SAFETY: takes numbers.
    let result = unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1_u64, 0_u64, 0_u64, 0_u64) };
    Errno::result(result).map(drop)
}

/// `capset(2)` version 3: 64 bits in two halves.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Permitted, effective, inheritable and ambient: these and no others. The
/// ambient set is what a program keeps that is run by anybody but root
/// (`capabilities(7)`).
fn hold_exactly(kept: &[Capability]) -> Result<(), Errno> {
    let set = set_of(kept);
    let half = |bits: u64| {
        let bits = u32::try_from(bits & 0xffff_ffff).unwrap_or(0);
        Half { effective: bits, permitted: bits, inheritable: bits }
    };
    let header = Header { version: 0x2008_0522, pid: 0 };
    let sets = [half(set), half(set >> 32)];
    // SAFETY: both pointers are to live structures of the kernel's layout.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    Errno::result(result)?;
    for capability in kept {
        let number = u64::from(capability.bit().trailing_zeros());
        // SAFETY: takes numbers.
        let result = unsafe {
            libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, number, 0_u64, 0_u64)
        };
        Errno::result(result)?;
    }
    Ok(())
}

/// `linux/ioprio.h`: class "best effort" and level, 0 to 7, 4 without a nice value.
const IO_BACKGROUND: i32 = 2 << 13 | 7;
const IO_NORMAL: i32 = 2 << 13 | 4;

/// The kernel prefers others: every thread of this process runs as a batch job
/// (`sched(7)`), and its files wait for those of others (`ioprio_set(2)`).
///
/// No nice value: who is not root could not take it back, and a stop needs it back.
pub fn be_background() {
    set_preference(libc::SCHED_BATCH, IO_BACKGROUND);
}

/// As everybody.
pub fn be_foreground() {
    set_preference(libc::SCHED_OTHER, IO_NORMAL);
}

fn set_preference(policy: i32, io: i32) {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let numbers = threads.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    // Both belong to a thread; without /proc this one is better than none.
    for thread in numbers.chain([0]) {
        let parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: the structure lives as long as the call, which only reads it.
        unsafe { libc::sched_setscheduler(thread, policy, &raw const parameters) };
        // SAFETY: takes numbers; 1 is "a thread".
        unsafe { libc::syscall(libc::SYS_ioprio_set, 1, thread, io) };
    }
}
