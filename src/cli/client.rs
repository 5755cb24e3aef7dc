//! What the verbs that talk to a JVM share.

use super::output;
use crate::exit;
use crate::facts::processes::Process;
use crate::jvm::{self, Session, Target};
use crate::sys::process::Pid;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// How long a JVM that is well may take to let us in, generously.
const ATTACH_PATIENCE: Duration = Duration::from_secs(10);

/// Files that were begun: gone if we are interrupted.
pub(super) type Begun = Arc<Mutex<Vec<PathBuf>>>;

/// Runs `work` to its end, or until Ctrl-C or SIGTERM: then what was begun is
/// removed, and the process dies of that signal, as a shell script expects.
pub(super) fn block_on(begun: &Begun, work: impl Future<Output = Result<(), String>>) -> u8 {
    let runtime = match crate::agent::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::error(&format!("cannot start: {error}"));
            return exit::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        tokio::select! {
            result = work => result.map_err(Some),
            signal = interruption() => Err(signal.err().map(|error| error.to_string())),
        }
    });
    match result {
        Ok(()) => exit::SUCCESS,
        Err(Some(reason)) => {
            output::error(&reason);
            exit::FAILURE
        }
        Err(None) => {
            for path in begun.lock().map(|paths| paths.clone()).unwrap_or_default() {
                drop(std::fs::remove_dir_all(&path));
                drop(std::fs::remove_file(&path));
            }
            output::complain("interrupted: what was begun is removed; the JVM may still be writing\n");
            // 128 + SIGINT, as a shell reports it.
            exit::of_signal(crate::units::Signal::INT)
        }
    }
}

async fn interruption() -> io::Result<()> {
    let (receiver, sender) = std::os::unix::net::UnixStream::pair()?;
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
    }
    receiver.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(receiver)?.readable().await
}

/// The JVM with that pid, or the only one there is.
pub(super) fn target(pid: Option<i32>) -> Result<Target, String> {
    if let Some(number) = pid {
        let pid = Pid::from_number(number).ok_or_else(|| format!("{number} is no process id"))?;
        let leader = Process::read(pid).map_or(number, |process| process.leader);
        if leader != number {
            return Err(format!("{number} is a thread of process {leader}: name that one"));
        }
        return Target::of(pid).ok_or_else(|| format!("there is no process {number}"));
    }
    let mut found = jvm::find_all();
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => {
            Err("no JVM found among the processes that can be seen here; name it by its process id"
                .to_owned())
        }
        (Some(last), false) => {
            found.push(last);
            let pids: Vec<String> = found.iter().map(|target| target.pid.to_string()).collect();
            Err(format!("there are {} JVMs: choose one by its process id: {}", pids.len(), pids.join(", ")))
        }
    }
}

/// Attaches to it.
pub(super) async fn session(target: Target, deadline: Instant) -> Result<Session, String> {
    let pid = target.pid;
    let until = deadline.min(Instant::now() + ATTACH_PATIENCE);
    Session::open(target, until).await.map_err(|error| format!("cannot attach to process {pid}: {error}"))
}
