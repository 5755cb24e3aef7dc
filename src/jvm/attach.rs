//! The handshake: a trigger file, a SIGQUIT to a JVM that catches it, a socket.

use super::Target;
use super::options::disables_attach;
use crate::facts::processes::Process;
use crate::sys::process;
use crate::units::Signal;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout_at};

/// The first look for the socket; a JVM answers in 5 to 8 ms.
const FIRST_LOOK: Duration = Duration::from_millis(1);
/// The slowest pace of looking.
const SLOWEST_LOOK: Duration = Duration::from_millis(50);
/// A trigger that is gone is made anew after this time at the earliest, then after twice as long.
const LOST_LOOK: Duration = Duration::from_millis(100);

/// Why a JVM could not be talked to.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("the process {pid} is gone")]
    Gone { pid: process::Pid },
    #[error("attach is disabled by -XX:+DisableAttachMechanism")]
    Disabled,
    #[error(
        "the JVM does not catch SIGQUIT yet or was started with -Xrs, and has no attach socket: a SIGQUIT would kill it"
    )]
    WouldKill,
    #[error("cannot make the trigger file {}: {source}", path.display())]
    Trigger { path: PathBuf, source: io::Error },
    #[error("cannot signal the JVM (pid {pid}): {reason}; run as its user or as root")]
    Signal { pid: process::Pid, reason: &'static str },
    #[error("the JVM opened no attach socket in time: {hint}")]
    NoSocket { hint: String },
    #[error(
        "the JVM refused the connection: its user is {user}:{group}, ours is {own_user}:{own_group}; run as the same user and group, or as root"
    )]
    Refused { user: u32, group: u32, own_user: u32, own_group: u32 },
    #[error("cannot connect to {}: {source}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("{} belongs to somebody else than the JVM (user {owner})", path.display())]
    Impostor { path: PathBuf, owner: u32 },
    #[error("the JVM did not answer in time")]
    NoAnswer,
    #[error("the JVM broke off its reply: {source}")]
    Broken { source: io::Error },
    #[error("the JVM's reply is none: {start:?}")]
    Nonsense { start: String },
    #[error("cannot send the command: {reason}")]
    Command { reason: String },
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// A connection for one command.
pub(super) async fn connect(target: &Target, deadline: Instant) -> Result<UnixStream, Failure> {
    match try_connect(target, deadline).await? {
        Some(stream) => Ok(stream),
        None => {
            wake(target, deadline).await?;
            try_connect(target, deadline).await?.ok_or_else(|| no_socket(target))
        }
    }
}

/// Connects if there is a socket and somebody behind it.
async fn try_connect(target: &Target, deadline: Instant) -> Result<Option<UnixStream>, Failure> {
    let path = target.socket();
    let Ok(metadata) = std::fs::symlink_metadata(&path) else {
        return Ok(None);
    };
    // /tmp is everybody's: a socket that is not the JVM's would get our commands.
    if metadata.uid() != target.user && metadata.uid() != 0 {
        return Err(Failure::Impostor { path, owner: metadata.uid() });
    }
    loop {
        let connected =
            timeout_at(deadline, UnixStream::connect(&path)).await.map_err(|_| Failure::NoAnswer)?;
        match connected {
            Ok(stream) if is_its(&stream, target) => return Ok(Some(stream)),
            // Another container's JVM, whose /tmp is the same volume.
            Ok(_) => return Ok(None),
            // Left over from a JVM that had this pid.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(refused(target)),
            // Its backlog of five is full: others wait for the listener too.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                sleep(FIRST_LOOK).await;
            }
            Err(source) => return Err(Failure::Connect { path, source }),
        }
    }
}

/// The process that listens is the one that we mean: where two PID namespaces
/// share a /tmp, both have a JVM with the same small pid, and the same socket
/// path. The kernel tells the listener's pid as we see it (`unix(7)`, SO_PEERCRED).
fn is_its(stream: &UnixStream, target: &Target) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.pid() == Some(target.pid.number()))
}

pub(super) fn refused(target: &Target) -> Failure {
    Failure::Refused {
        user: target.user,
        group: target.group,
        own_user: nix::unistd::geteuid().as_raw(),
        own_group: nix::unistd::getegid().as_raw(),
    }
}

/// Makes the JVM start its listener.
async fn wake(target: &Target, deadline: Instant) -> Result<(), Failure> {
    if disables_attach(target) {
        return Err(Failure::Disabled);
    }
    check_catches(target)?;
    let mut trigger = Trigger::create(target)?;
    quit(target)?;
    let begun = Instant::now();
    let mut asked = begun;
    let mut lost_look = LOST_LOOK;
    let mut asked_at_half = false;
    let mut pause = FIRST_LOOK;
    loop {
        if try_connect(target, deadline).await?.is_some() {
            return Ok(());
        }
        let now = Instant::now();
        if now >= deadline {
            return Err(no_socket(target));
        }
        if !target.is_there() {
            return Err(Failure::Gone { pid: target.pid });
        }
        // A busy JVM may have lost the first one (VirtualMachineImpl.java does the same).
        let is_due = !asked_at_half && now - begun > (deadline - begun) / 2;
        if is_due || (trigger.is_lost() && now - asked > lost_look) {
            asked_at_half |= is_due;
            (asked, lost_look) = (now, lost_look * 2);
            check_catches(target)?;
            trigger.renew(target)?;
            quit(target)?;
        }
        sleep(pause.min(deadline - now)).await;
        pause = (pause * 3 / 2).min(SLOWEST_LOOK);
    }
}

/// Looked at anew each time: by default SIGQUIT kills (facts: 1.5).
fn check_catches(target: &Target) -> Result<(), Failure> {
    let process = Process::read(target.pid).filter(|_| target.is_there());
    let process = process.ok_or(Failure::Gone { pid: target.pid })?;
    if process.catches(Signal::QUIT) { Ok(()) } else { Err(Failure::WouldKill) }
}

fn quit(target: &Target) -> Result<(), Failure> {
    process::signal(target.pid, Signal::QUIT)
        .map_err(|error| Failure::Signal { pid: target.pid, reason: error.desc() })
}

fn no_socket(target: &Target) -> Failure {
    let folder = target.temporary();
    let probe = nix::unistd::access(folder.as_path(), nix::unistd::AccessFlags::W_OK);
    let hint = match Process::read(target.pid) {
        None => "it is gone".to_owned(),
        Some(process) if process.is_stopped() => "it is stopped (SIGSTOP or a debugger)".to_owned(),
        Some(_) => match probe {
            Err(error) => {
                format!("{} cannot be written ({}): mount a tmpfs there", folder.display(), error.desc())
            }
            Ok(()) => "its heap may be full, or it cannot reach its signal thread".to_owned(),
        },
    };
    Failure::NoSocket { hint }
}

/// The trigger file; gone when dropped.
#[derive(Debug)]
struct Trigger(PathBuf);

impl Trigger {
    /// In the JVM's working directory, else in its /tmp. Its owner must be the
    /// JVM's user or root; a file system that changes owners will not do
    /// (`AttachListener::is_init_trigger`).
    fn create(target: &Target) -> Result<Self, Failure> {
        Self::make(target).map(Self)
    }

    /// Where it could be made.
    fn make(target: &Target) -> Result<PathBuf, Failure> {
        let mut last = None;
        for path in target.triggers() {
            match Self::make_at(&path) {
                Ok(()) => return Ok(path),
                Err(source) => last = Some(Failure::Trigger { path, source }),
            }
        }
        // The kernel says `EACCES` for the links of a process that has just been reaped
        // (`proc_pid_get_link`, fs/proc/base.c).
        Err(last.filter(|_| target.is_there()).unwrap_or(Failure::Gone { pid: target.pid }))
    }

    /// Somebody else may have removed it: whoever attaches to another container's JVM of the same
    /// pid, where both work in one directory. The JVM does not (`AttachListener::is_init_trigger`).
    fn is_lost(&self) -> bool {
        std::fs::symlink_metadata(&self.0).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    fn renew(&mut self, target: &Target) -> Result<(), Failure> {
        self.0 = Self::make(target)?;
        Ok(())
    }

    fn make_at(path: &Path) -> io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)?;
        if file.metadata()?.uid() == nix::unistd::geteuid().as_raw() {
            return Ok(());
        }
        // Nothing can be done about it where that fails.
        drop(std::fs::remove_file(path));
        Err(io::Error::other("the file system gives it another owner"))
    }
}

impl Drop for Trigger {
    fn drop(&mut self) {
        // Nothing can be done about it where that fails.
        drop(std::fs::remove_file(&self.0));
    }
}
