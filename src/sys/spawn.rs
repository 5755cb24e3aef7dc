//! Starting children: fork, prepare, exec.
//!
//! Why not `std::process::Command`: it hands the child our blocked mask, runs
//! `setuid` before any preparation that needs root, drops supplementary groups,
//! and falls back to `/bin/sh` for files it cannot run. Everything the child
//! needs is allocated before the fork; between fork and exec only
//! async-signal-safe calls are made.

use super::attributes::{self, Attribute};
use super::process::Pid;
use super::signals::{self, Inherited};
use crate::units::Attributes;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString, c_char};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

/// How long a child may take from fork to exec before we go on without knowing
/// (a file system that hangs): we are deaf meanwhile. Milliseconds; a healthy
/// machine needs less than one.
const EXEC_PATIENCE: u16 = 1_000;

/// Who the child is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub user: u32,
    pub group: u32,
    /// Supplementary groups, all of them; `None` keeps ours.
    pub groups: Option<Vec<u32>>,
}

/// Everything a child needs, ready before the fork.
#[derive(Clone, Debug)]
pub struct Image {
    /// The paths to try, in order (PATH already applied).
    pub candidates: Vec<CString>,
    pub arguments: Vec<CString>,
    pub environment: Vec<CString>,
    pub directory: Option<CString>,
    pub credentials: Option<Credentials>,
    pub attributes: Attributes,
    pub session: Session,
    pub streams: Streams,
}

/// Where a child's standard streams go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// Where ours go.
    Inherited,
    /// Output and error to that descriptor, and there is no input.
    Captured(RawFd),
    /// Output and error to those descriptors, where there are any.
    Carried { output: Option<RawFd>, error: Option<RawFd> },
}

/// Which process group and session the child belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Ours, both.
    Shared,
    /// A group of its own in our session.
    Group,
    /// A session of its own, with our terminal, if we have one.
    Own,
}

/// The paths to try for `command`: itself if it has a slash, else one in each
/// directory of `path` (`execvp(3)`; the default is the C library's).
pub fn candidates(command: &OsStr, path: Option<&OsStr>) -> Vec<CString> {
    let to_path = |path: Vec<u8>| CString::new(path).ok();
    if command.as_bytes().contains(&b'/') {
        return to_path(command.as_bytes().to_vec()).into_iter().collect();
    }
    let path = path.unwrap_or(OsStr::new("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
    path.as_bytes()
        .split(|byte| *byte == b':')
        .filter_map(|directory| {
            let directory = if directory.is_empty() { b"." } else { directory };
            to_path([directory, b"/", command.as_bytes()].concat())
        })
        .collect()
}

/// `NAME=value` strings for `execve`; what holds a NUL byte cannot be said there.
pub fn to_strings(variables: &BTreeMap<OsString, OsString>) -> Vec<CString> {
    let text = |(name, value): (&OsString, &OsString)| {
        CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
    };
    variables.iter().filter_map(text).collect()
}

/// Which preparation failed in the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Fork,
    Attribute(Attribute),
    Credentials,
    Directory,
    Execute,
}

impl Stage {
    fn from_number(number: i32) -> Self {
        match number {
            1 => Self::Credentials,
            2 => Self::Directory,
            3 => Self::Execute,
            number => Self::Attribute(Attribute::from_number(number - 4)),
        }
    }

    fn number(self) -> i32 {
        match self {
            Self::Fork => 0,
            Self::Credentials => 1,
            Self::Directory => 2,
            Self::Execute => 3,
            Self::Attribute(attribute) => 4 + attribute.number(),
        }
    }
}

/// Why a child did not come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    pub stage: Stage,
    pub error: Errno,
}

impl Failure {
    /// 127 if the command was not found, 126 if it was and cannot be run.
    pub fn code(self) -> u8 {
        match (self.stage, self.error) {
            (Stage::Execute, Errno::ENOENT | Errno::ENOTDIR) => crate::exit::NOT_FOUND,
            (Stage::Fork, _) => crate::exit::KERNEL,
            _ => crate::exit::NOT_EXECUTABLE,
        }
    }
}

/// Starts a child in a process group of its own, with the mask and
/// dispositions that we inherited. Returns once it has exec'd (or is known not
/// to), so a signal sent afterwards cannot be lost.
///
/// # Errors
/// The step that failed and the kernel's reason. The dead child is then still
/// to be reaped, by its pid, as any other.
pub fn spawn(image: &Image, inherited: &Inherited) -> Result<Pid, Failure> {
    let refused = |error| Failure { stage: Stage::Fork, error };
    let arguments = pointers(&image.arguments);
    let mut environment = pointers(&image.environment);
    let listen_pid = image.environment.iter().position(|entry| says_our_pid(entry.as_bytes()));
    let candidates = pointers(&image.candidates);
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(refused)?;
    match fork().map_err(refused)? {
        Forked::Child => {
            let mut text = [0; LISTEN_PID.len() + 12];
            if let Some(place) = listen_pid.and_then(|index| environment.get_mut(index)) {
                *place = listen_pid_text(&mut text);
            }
            let prepared = Prepared {
                image,
                inherited,
                arguments: &arguments,
                environment: &environment,
                candidates: &candidates,
            };
            prepared.become_it(writer.as_raw_fd())
        }
        Forked::Parent(pid) => {
            drop(writer);
            if image.session == Session::Group {
                // Both sides set the group: whoever comes first, it exists when we go on.
                let leader = nix::unistd::Pid::from_raw(pid.number());
                let _lost_race = nix::unistd::setpgid(leader, leader);
            }
            match wait_for_exec(&reader) {
                Some(failure) => Err(failure),
                None => Ok(pid),
            }
        }
    }
}

/// Which side of a fork this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forked {
    Child,
    Parent(Pid),
}

/// Forks this process. Only for the single-threaded supervisor: the child is a
/// whole copy and may go on as it likes.
///
/// # Errors
/// `EAGAIN` (pids limit) or `ENOMEM`.
pub fn fork() -> Result<Forked, Errno> {
    // SAFETY: the supervisor has one thread, so the child holds no lock that
    // another thread of the parent had.
    let pid = unsafe { libc::fork() };
    let pid = Errno::result(pid)?;
    Ok(Pid::from_number(pid).map_or(Forked::Child, Forked::Parent))
}

/// Ends a forked child at once, without the parent's exit handlers.
pub fn exit_now(code: u8) -> ! {
    // SAFETY: _exit(2) does not return and touches no memory of ours.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Takes on `credentials` for good: groups first, the user last, since only
/// root may change the others. Async-signal-safe.
///
/// # Errors
/// `EPERM` if we may not.
pub fn take_credentials(credentials: &Credentials) -> Result<(), Errno> {
    if let Some(groups) = &credentials.groups {
        // SAFETY: the slice gives both the length and the address.
        let result = unsafe { libc::setgroups(groups.len(), groups.as_ptr()) };
        Errno::result(result)?;
    }
    // SAFETY: takes a number.
    let result = unsafe { libc::setgid(credentials.group) };
    Errno::result(result)?;
    // SAFETY: takes a number.
    let result = unsafe { libc::setuid(credentials.user) };
    Errno::result(result).map(drop)
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// Socket activation (`sd_listen_fds(3)`): the descriptors are for the process with
/// that pid, which was ours when it was set and has to be the child's.
const LISTEN_PID: &[u8] = b"LISTEN_PID=";

fn says_our_pid(entry: &[u8]) -> bool {
    let Some(number) = entry.strip_prefix(LISTEN_PID) else {
        return false;
    };
    std::str::from_utf8(number).is_ok_and(|number| number.parse() == Ok(std::process::id()))
}

/// In the child: the variable with its own pid, in memory made before the fork.
fn listen_pid_text(text: &mut [u8]) -> *const c_char {
    let mut number = std::process::id();
    let mut digits = 1;
    while number >= 10 {
        number /= 10;
        digits += 1;
    }
    let (name, value) = text.split_at_mut(LISTEN_PID.len());
    name.copy_from_slice(LISTEN_PID);
    number = std::process::id();
    for place in value.iter_mut().take(digits).rev() {
        *place = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
    text.as_ptr().cast()
}

fn wait_for_exec(reader: &OwnedFd) -> Option<Failure> {
    let mut polled = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
    while poll(&mut polled, PollTimeout::from(EXEC_PATIENCE)) == Err(Errno::EINTR) {}
    if !polled[0].any().unwrap_or(false) {
        return None;
    }
    let mut report = [0_u8; 8];
    let count = nix::unistd::read(reader, &mut report).unwrap_or(0);
    let [a, b, c, d, e, f, g, h] = report;
    (count == 8).then(|| Failure {
        stage: Stage::from_number(i32::from_ne_bytes([a, b, c, d])),
        error: Errno::from_raw(i32::from_ne_bytes([e, f, g, h])),
    })
}

struct Prepared<'a> {
    image: &'a Image,
    inherited: &'a Inherited,
    arguments: &'a [*const c_char],
    environment: &'a [*const c_char],
    candidates: &'a [*const c_char],
}

impl Prepared<'_> {
    /// In the child. Nothing below allocates.
    fn become_it(&self, report: RawFd) -> ! {
        let failure = match self.prepare() {
            Ok(()) => self.execute(),
            Err(failure) => failure,
        };
        // Nobody may be listening any more: the exit code shall tell, not SIGPIPE.
        let _inherited = signals::block_all();
        let [a, b, c, d] = failure.stage.number().to_ne_bytes();
        let [e, f, g, h] = (failure.error as i32).to_ne_bytes();
        let message = [a, b, c, d, e, f, g, h];
        // SAFETY: eight bytes of our stack; a short or failed write is told by the exit code.
        unsafe { libc::write(report, message.as_ptr().cast(), message.len()) };
        exit_now(failure.code())
    }

    fn prepare(&self) -> Result<(), Failure> {
        match self.image.session {
            Session::Shared => {}
            // SAFETY: setpgid(0, 0) makes this child the leader of its own group.
            Session::Group => drop(unsafe { libc::setpgid(0, 0) }),
            Session::Own => {
                // SAFETY: takes nothing; a forked child leads no group, so it cannot fail.
                unsafe { libc::setsid() };
                // Take the terminal over from the old session, as root may; without
                // one it fails, which is fine.
                // SAFETY: takes numbers.
                unsafe { libc::ioctl(0, libc::TIOCSCTTY, 1) };
            }
        }
        let streams = match self.image.streams {
            Streams::Inherited => [None; 3],
            Streams::Captured(output) => {
                // SAFETY: a NUL-terminated path; without one the input stays as it is.
                let nothing = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY) };
                [Some(nothing), Some(output), Some(output)]
            }
            Streams::Carried { output, error } => [None, output, error],
        };
        for (from, to) in streams.into_iter().zip(0..) {
            if let Some(from) = from {
                // SAFETY: takes numbers.
                unsafe { libc::dup2(from, to) };
            }
        }
        let refused = |(attribute, error)| Failure { stage: Stage::Attribute(attribute), error };
        attributes::set_before_user(&self.image.attributes).map_err(refused)?;
        if let Some(credentials) = &self.image.credentials {
            take_credentials(credentials).map_err(|error| Failure { stage: Stage::Credentials, error })?;
        }
        attributes::set_after_user(&self.image.attributes).map_err(refused)?;
        if let Some(directory) = &self.image.directory {
            // SAFETY: a NUL-terminated string.
            let result = unsafe { libc::chdir(directory.as_ptr()) };
            Errno::result(result).map_err(|error| Failure { stage: Stage::Directory, error })?;
        }
        self.inherited.restore();
        Ok(())
    }

    /// Tries the candidates as `execvp(3)` does, without its `/bin/sh` fallback:
    /// the first that is there and may be run; permission denied is remembered.
    fn execute(&self) -> Failure {
        let mut remembered = Errno::ENOENT;
        for candidate in self.candidates {
            if candidate.is_null() {
                break;
            }
            // SAFETY: the path and both null-terminated arrays outlive the call.
            unsafe { libc::execve(*candidate, self.arguments.as_ptr(), self.environment.as_ptr()) };
            match Errno::last() {
                Errno::ENOENT | Errno::ENOTDIR => {}
                Errno::EACCES => remembered = Errno::EACCES,
                error => {
                    return Failure { stage: Stage::Execute, error };
                }
            }
        }
        Failure { stage: Stage::Execute, error: remembered }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_where_a_shell_would() {
        let text = |command: &str| -> Vec<String> {
            candidates(OsStr::new(command), Some(OsStr::new("/a::/b")))
                .into_iter()
                .filter_map(|path| path.into_string().ok())
                .collect()
        };
        assert_eq!(text("x"), ["/a/x", "./x", "/b/x"]);
        assert_eq!(text("./x"), ["./x"]);
    }
}
