//! What is true here: users, platform, limits, processes. Each file names the
//! source of what it reads.
//!
//! Owns reading the world once, at start; decides nothing. Everything it reads
//! is somebody else's, so every parser takes bytes and tolerates nonsense.

pub mod cgroup;
pub mod identity;
pub mod platform;
pub mod processes;
pub mod users;

pub use identity::{Identity, Named};
pub use platform::Platform;
pub use users::Users;

use std::ffi::OsString;

/// The facts a plan is made from.
#[derive(Clone, Debug)]
pub struct Facts {
    pub platform: Platform,
    pub users: Users,
    pub host_name: String,
    pub identity: Identity,
    /// Effective user and group of this process.
    pub user: u32,
    pub group: u32,
    pub is_pid_one: bool,
    pub memory_limit: Option<u64>,
    /// How often the kernel killed something in here before, for want of memory.
    pub oom_kills: u64,
    /// Seconds since 1970, now: tells this start from others.
    pub started: u64,
    pub environment: Vec<(OsString, OsString)>,
    /// These are not the facts of the container that the plan is for: who is not known here, and what
    /// nobody tells here, is no error.
    pub is_elsewhere: bool,
}

impl Facts {
    /// Reads everything. Nothing here can fail: what is not there is unknown.
    pub fn gather(environment: Vec<(OsString, OsString)>) -> Self {
        let platform = Platform::detect(&environment, std::path::Path::exists);
        let host_name = host_name();
        let file = |path: &std::path::Path| {
            let text = std::fs::read_to_string(path).ok()?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        Self {
            platform,
            users: Users::default(),
            identity: Identity::read(platform, &environment, &host_name, file),
            host_name,
            user: nix::unistd::geteuid().as_raw(),
            group: nix::unistd::getegid().as_raw(),
            is_pid_one: nix::unistd::getpid().as_raw() == 1,
            memory_limit: cgroup::memory_limit(),
            oom_kills: cgroup::oom_kills(),
            started: std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            environment,
            is_elsewhere: false,
        }
    }

    /// The value of an environment variable, if it is set and not empty.
    pub fn variable(&self, name: &str) -> Option<&OsString> {
        self.environment
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
            .filter(|value| !value.is_empty())
    }
}

fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "unknown".to_owned())
}
