//! What a process may do and how the kernel treats it, beyond its user: the
//! values of `setrlimit(2)`, `capabilities(7)`, `umask(2)` and their like.

use std::fmt;

/// Everything of that kind for one process. `None` and empty keep what bookend has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits that new files do not get.
    pub umask: Option<u16>,
    /// -20 (first served) to 19.
    pub nice: Option<i8>,
    /// -1000 (never killed) to 1000; see `proc(5)`.
    pub oom_score_adj: Option<i16>,
    /// Programs with set-user-ID bits or file capabilities gain nothing.
    pub no_new_privs: bool,
    /// The capabilities that are kept; all others are given up for good.
    pub capabilities: Option<Vec<Capability>>,
    pub limits: Vec<(Resource, Limit)>,
}

/// One of the kernel's capabilities (`include/uapi/linux/capability.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capability(u8);

impl Capability {
    /// By its number there.
    const NAMES: [&'static str; 41] = [
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_LOCK",
        "IPC_OWNER",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_PACCT",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_NICE",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "MKNOD",
        "LEASE",
        "AUDIT_WRITE",
        "AUDIT_CONTROL",
        "SETFCAP",
        "MAC_OVERRIDE",
        "MAC_ADMIN",
        "SYSLOG",
        "WAKE_ALARM",
        "BLOCK_SUSPEND",
        "AUDIT_READ",
        "PERFMON",
        "BPF",
        "CHECKPOINT_RESTORE",
    ];

    /// With or without `CAP_`, in either case, as Docker and Kubernetes take it.
    pub fn parse(text: &str) -> Option<Self> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let number = Self::NAMES.iter().position(|known| *known == name)?;
        u8::try_from(number).ok().map(Self)
    }

    /// Its bit in the kernel's sets.
    pub fn bit(self) -> u64 {
        1 << self.0
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "CAP_{}", Self::NAMES.get(usize::from(self.0)).unwrap_or(&"?"))
    }
}

/// A resource that `setrlimit(2)` limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    AddressSpace,
    Core,
    Cpu,
    Data,
    FileSize,
    LockedMemory,
    MessageQueues,
    Nice,
    OpenFiles,
    Processes,
    RealTimePriority,
    RealTimeTime,
    PendingSignals,
    Stack,
}

impl Resource {
    /// The names of Docker's `--ulimit`.
    pub const NAMES: [(&'static str, Self); 14] = [
        ("as", Self::AddressSpace),
        ("core", Self::Core),
        ("cpu", Self::Cpu),
        ("data", Self::Data),
        ("fsize", Self::FileSize),
        ("memlock", Self::LockedMemory),
        ("msgqueue", Self::MessageQueues),
        ("nice", Self::Nice),
        ("nofile", Self::OpenFiles),
        ("nproc", Self::Processes),
        ("rtprio", Self::RealTimePriority),
        ("rttime", Self::RealTimeTime),
        ("sigpending", Self::PendingSignals),
        ("stack", Self::Stack),
    ];

    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, resource)| *resource == self).map_or("?", |(name, _)| name)
    }
}

/// A soft and a hard limit, in the resource's own unit; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

impl Limit {
    /// `1024`, `unlimited`, or `soft:hard`, as Docker's `--ulimit`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let number = |part: &str| match part {
            "unlimited" | "-1" => Ok(None),
            part => part.parse().map(Some).map_err(|_| format!("`{part}` is no limit")),
        };
        let (soft, hard) = text.split_once(':').unwrap_or((text, text));
        let limit = Self { soft: number(soft)?, hard: number(hard)? };
        if limit.soft.unwrap_or(u64::MAX) > limit.hard.unwrap_or(u64::MAX) {
            return Err("the soft limit is above the hard one".to_owned());
        }
        Ok(limit)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text =
            |value: Option<u64>| value.map_or_else(|| "unlimited".to_owned(), |value| value.to_string());
        if self.soft == self.hard {
            formatter.write_str(&text(self.soft))
        } else {
            write!(formatter, "{}:{}", text(self.soft), text(self.hard))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        let cap = |text| Capability::parse(text).map(|capability| capability.to_string());
        assert_eq!(cap("net_bind_service").as_deref(), Some("CAP_NET_BIND_SERVICE"));
        assert_eq!(cap("CAP_CHOWN").as_deref(), Some("CAP_CHOWN"));
        assert_eq!(cap("CAP_FLY"), None);
        assert_eq!(Capability::parse("CHECKPOINT_RESTORE").map(Capability::bit), Some(1 << 40));
        for (text, shown) in
            [("1024", "1024"), ("10:20", "10:20"), ("unlimited", "unlimited"), ("0:-1", "0:unlimited")]
        {
            assert_eq!(Limit::parse(text).map(|limit| limit.to_string()).as_deref(), Ok(shown));
        }
        assert!(Limit::parse("20:10").is_err());
        assert!(Limit::parse("unlimited:10").is_err());
        assert!(Limit::parse("many").is_err());
    }
}
