//! The control socket: how the verbs reach the agent of their container.
//!
//! A unix socket in a folder of its own, for the agent's user and root alone:
//! `/run/bookend`, or, where that cannot be, `/tmp/.bookend-UID`. One request, one
//! line; the answer is text until the end. Owns paths and transport; what is
//! answered is the service loop's.

use crate::facts::processes;
use crate::link::Order;
use crate::plan::Plan;
use crate::sys::process::Pid;
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{broadcast, mpsc};
use tokio::time::timeout;
use tracing::{debug, warn};

/// Made with bookend's own rights, if they suffice.
const RUN: &str = "/run/bookend";
/// Made by whoever the agent is; the user's id follows.
const TEMPORARY: &str = "/tmp/.bookend-";
/// What each socket's name ends with.
const EXTENSION: &str = ".sock";
/// No request is longer. Bytes.
const REQUEST_LIMIT: usize = 256;
/// A client that says nothing is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a verb asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Status,
    Hold(Duration),
    Release,
    /// An event, now.
    Dump,
    /// A stop's event, now.
    Prestop,
    /// Of a helper process, by its name.
    Helper {
        name: String,
        order: Order,
    },
    /// What happened so far; and what happens from now on.
    Events {
        follow: bool,
    },
}

/// An answer that begins so is none: its rest says why.
pub const ERROR: &str = "error: ";
/// The answer to [`Request::Prestop`] where no rule acts.
pub const NOTHING: &str = "nothing\n";

impl Request {
    /// The wire form: one line.
    pub fn encode(&self) -> String {
        match self {
            Self::Status => "status\n".to_owned(),
            Self::Hold(span) => format!("hold {}\n", span.as_millis()),
            Self::Release => "release\n".to_owned(),
            Self::Dump => "dump\n".to_owned(),
            Self::Prestop => "prestop\n".to_owned(),
            Self::Helper { name, order } => format!("{} {name}\n", order.word()),
            Self::Events { follow: false } => "events\n".to_owned(),
            Self::Events { follow: true } => "follow\n".to_owned(),
        }
    }

    fn decode(line: &str) -> Option<Self> {
        // A name may have spaces in it.
        if let Some((word, name)) = line.trim_end().split_once(' ')
            && let Some(order) = Order::parse(word)
        {
            return Some(Self::Helper { name: name.to_owned(), order });
        }
        let mut words = line.split_whitespace();
        let request = match (words.next()?, words.next()) {
            ("status", None) => Self::Status,
            ("release", None) => Self::Release,
            ("dump", None) => Self::Dump,
            ("prestop", None) => Self::Prestop,
            ("events", None) => Self::Events { follow: false },
            ("follow", None) => Self::Events { follow: true },
            ("hold", Some(span)) => Self::Hold(Duration::from_millis(span.parse().ok()?)),
            _ => return None,
        };
        words.next().is_none().then_some(request)
    }
}

/// Makes the folder in `/run` for the agent's user. Called with bookend's own rights.
pub(super) fn prepare(plan: &Plan) {
    let (user, group) = match &plan.main.identity {
        Some(identity) => (identity.user, identity.group),
        None => (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()),
    };
    let made = DirBuilder::new().mode(0o700).create(RUN).is_ok();
    // `/run` is root's: whoever made the folder was allowed to.
    if made && let Err(error) = chown(RUN, Some(user), Some(group)) {
        debug!("cannot give {RUN} to user {user}: {error}");
    }
}

/// Listens; `None`, with a word in the log, where no folder can be had.
fn listen() -> Option<UnixListener> {
    let user = nix::unistd::geteuid().as_raw();
    let temporary = PathBuf::from(format!("{TEMPORARY}{user}"));
    drop(DirBuilder::new().mode(0o700).create(&temporary));
    let folder = [PathBuf::from(RUN), temporary].into_iter().find(|folder| is_private(folder, user));
    let Some(folder) = folder else {
        warn!(
            "no control socket: neither {RUN} nor a folder in /tmp can be had; `bookend status` will not work"
        );
        return None;
    };
    // Of our supervisor: in a container it is 1, elsewhere there may be several.
    // Containers that share a /tmp have namespaces of their own.
    let path = folder.join(format!("{}{}{EXTENSION}", prefix(), nix::unistd::getppid()));
    drop(fs::remove_file(&path));
    let bound = UnixListener::bind(&path)
        .and_then(|listener| fs::set_permissions(&path, Permissions::from_mode(0o600)).map(|()| listener));
    bound.inspect_err(|error| warn!("no control socket at {}: {error}", path.display())).ok()
}

/// What a socket's name begins with in our PID namespace, by its number (`namespaces(7)`; 0 where
/// it cannot be seen); the supervisor's process id follows.
fn prefix() -> String {
    let namespace = fs::metadata("/proc/self/ns/pid").map_or(0, |metadata| metadata.ino());
    format!("control-{namespace}-")
}

/// Ours alone, and no link.
fn is_private(folder: &Path, user: u32) -> bool {
    fs::symlink_metadata(folder).is_ok_and(|metadata| {
        metadata.is_dir() && metadata.uid() == user && metadata.mode().trailing_zeros() >= 6
    }) && nix::unistd::access(folder, nix::unistd::AccessFlags::W_OK).is_ok()
}

/// Every socket that there is; some may be left from lives that are over.
pub fn sockets() -> Vec<PathBuf> {
    let temporary = fs::read_dir("/tmp").into_iter().flatten().flatten().map(|entry| entry.path());
    let is_honest = |folder: &PathBuf| {
        let user = folder.to_str().and_then(|path| path.strip_prefix(TEMPORARY)?.parse().ok());
        // Its name says whose it is, and nobody else may have made it.
        user.is_some_and(|user: u32| {
            fs::symlink_metadata(folder).is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == user)
        })
    };
    let folders = [PathBuf::from(RUN)].into_iter().chain(temporary.filter(is_honest));
    let mut found: Vec<PathBuf> = folders
        .flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()))
        .filter(|path| path.to_str().is_some_and(|path| path.ends_with(EXTENSION)))
        .collect();
    found.sort();
    found
}

/// Those of the supervisors that `process` runs under: elsewhere than in a container there may be
/// others.
pub fn sockets_above(process: Pid) -> Vec<PathBuf> {
    let prefix = prefix();
    let all = processes::list();
    let mut found = sockets();
    found.retain(|path| {
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let number = name.strip_prefix(&prefix).and_then(|name| name.strip_suffix(EXTENSION));
        let supervisor = number.and_then(|number| Pid::from_number(number.parse().ok()?));
        supervisor.is_some_and(|supervisor| processes::descendants(supervisor, &all).contains(&process))
    });
    found
}

/// The requests of those who may ask, as they come. A task of its own: whoever is
/// half way through a request must not be dropped because something else happened.
pub(super) fn requests() -> mpsc::Receiver<(UnixStream, Request)> {
    let (sender, receiver) = mpsc::channel(1);
    if let Some(listener) = listen() {
        tokio::spawn(serve(listener, sender));
    }
    receiver
}

async fn serve(listener: UnixListener, requests: mpsc::Sender<(UnixStream, Request)>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, say: not at once again.
            tokio::time::sleep(PATIENCE).await;
            continue;
        };
        // Somebody who connects and says nothing keeps nobody else waiting.
        let requests = requests.clone();
        tokio::spawn(async move {
            if let Some(request) = read(stream).await {
                // Nobody takes it: the agent ends.
                drop(requests.send(request).await);
            }
        });
    }
}

/// One request; nothing of whoever may not ask, or does not know how.
async fn read(mut stream: UnixStream) -> Option<(UnixStream, Request)> {
    let own = nix::unistd::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == own || peer.uid() == 0 => {}
        Ok(peer) => {
            warn!(user = peer.uid(), "refused somebody on the control socket");
            return None;
        }
        Err(_) => return None,
    }
    let mut line = [0; REQUEST_LIMIT];
    let read = timeout(PATIENCE, stream.read(&mut line)).await;
    let Ok(Ok(size)) = read else { return None };
    let text = String::from_utf8_lossy(line.get(..size).unwrap_or_default()).into_owned();
    match Request::decode(&text) {
        Some(request) => Some((stream, request)),
        None => {
            let text = format!("{ERROR}not understood; is this verb of another version?\n");
            answer(stream, text).await;
            None
        }
    }
}

/// Writes the answer; whoever does not read it is not waited for.
pub(super) async fn answer(mut stream: UnixStream, text: String) {
    let _unread = timeout(PATIENCE, stream.write_all(text.as_bytes())).await;
}

/// Writes the lines, and those that come, until whoever reads them leaves.
pub(super) async fn follow(mut stream: UnixStream, lines: String, next: Option<broadcast::Receiver<String>>) {
    if !matches!(timeout(PATIENCE, stream.write_all(lines.as_bytes())).await, Ok(Ok(()))) {
        return;
    }
    let Some(mut next) = next else { return };
    let mut nothing = [0; 1];
    loop {
        let line = tokio::select! {
            line = next.recv() => line,
            // It says nothing more: it left.
            _ = stream.read(&mut nothing) => return,
        };
        match line {
            Ok(line) => {
                if !matches!(timeout(PATIENCE, stream.write_all(line.as_bytes())).await, Ok(Ok(()))) {
                    return;
                }
            }
            // It was too slow: it goes on with what there is.
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_read_back() {
        for request in [
            Request::Status,
            Request::Hold(Duration::from_mins(30)),
            Request::Release,
            Request::Dump,
            Request::Events { follow: false },
            Request::Events { follow: true },
            Request::Helper { name: "web server".to_owned(), order: Order::Restart },
        ] {
            assert_eq!(Request::decode(&request.encode()), Some(request));
        }
        for line in ["", "hold", "hold x", "status now", "hold 1 2", "restart", "stop "] {
            assert_eq!(Request::decode(line), None, "{line}");
        }
    }
}
