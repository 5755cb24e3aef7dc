//! `bookend status`, `hold`, `release`, `restart`, `stop`, `start`: the operator inside the container.

use super::arguments::{Helper, Hold, Status as StatusArguments};
use super::output;
use crate::agent::{ERROR, HeapStatus, Request, Status, sockets, sockets_above};
use crate::exit;
use crate::link::Order;
use crate::sys::process::Pid;
use crate::units::{ByteSize, format_duration};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An agent that does not answer within this is not there.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks the agent of this container, and reads its whole answer.
///
/// # Errors
/// Why nobody answers, and what to do.
pub(super) fn ask(request: &Request) -> Result<String, String> {
    ask_at(sockets(), request)
}

fn ask_at(paths: Vec<PathBuf>, request: &Request) -> Result<String, String> {
    let mut text = String::new();
    send(request, paths, &mut |stream| stream.read_to_string(&mut text).map(drop))?;
    Ok(text)
}

/// The status of the agent under whose supervisor that process runs; none where none listens
/// for such a one.
///
/// # Errors
/// As [`ask`]: it is there, or was, and does not answer.
pub(super) fn fetch_above(process: Pid) -> Result<Option<Status>, String> {
    let paths = sockets_above(process);
    if paths.is_empty() {
        return Ok(None);
    }
    parse(&ask_at(paths, &Request::Status)?).map(Some)
}

/// Sends the request to whoever listens at one of `paths`, and hands the stream on which the answer
/// comes to `read`, which must get at least a byte: an agent closes without a word on whom it does not trust.
///
/// # Errors
/// As [`ask`].
pub(super) fn send(
    request: &Request,
    paths: Vec<PathBuf>,
    read: &mut dyn FnMut(&mut dyn Read) -> std::io::Result<()>,
) -> Result<(), String> {
    let mut trouble = None;
    for path in paths {
        let mut counted = None;
        let answer = (|| {
            let mut stream = UnixStream::connect(&path)?;
            if !is_honest(&stream, &path) {
                return Err(std::io::Error::other("somebody else listens there"));
            }
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(request.encode().as_bytes())?;
            if *request == (Request::Events { follow: true }) {
                stream.set_read_timeout(None)?;
            }
            let counting = counted.insert(Counting { stream, bytes: 0 });
            read(counting)
        })();
        let bytes = counted.map_or(0, |counting| counting.bytes);
        match answer {
            Ok(()) if bytes > 0 || matches!(request, Request::Events { .. }) => return Ok(()),
            Ok(()) => trouble = Some(refused(&path)),
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                trouble = Some(refused(&path));
            }
            // Left from a life that is over.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => trouble = Some(format!("{}: {error}", path.display())),
        }
    }
    Err(trouble.unwrap_or_else(|| {
        "nobody listens here: bookend has an agent only with [health], [[rule]], [store] or [[process]], and \
         once the hooks are done"
            .to_owned()
    }))
}

/// Knows whether anything came.
struct Counting {
    stream: UnixStream,
    bytes: usize,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.bytes = self.bytes.saturating_add(count);
        Ok(count)
    }
}

/// Whoever listens is whom the folder belongs to.
fn is_honest(stream: &UnixStream, path: &Path) -> bool {
    let peer = getsockopt(stream, PeerCredentials);
    let owner = path.parent().and_then(|folder| std::fs::metadata(folder).ok());
    matches!((peer, owner), (Ok(peer), Some(owner)) if peer.uid() == owner.uid())
}

fn refused(path: &Path) -> String {
    format!("{} refused us: run as root or as the service's user", path.display())
}

/// The agent's status.
///
/// # Errors
/// As [`ask`].
pub(super) fn fetch() -> Result<Status, String> {
    parse(&ask(&Request::Status)?)
}

fn parse(text: &str) -> Result<Status, String> {
    serde_json::from_str(text).map_err(|error| format!("the agent's answer is none: {error}"))
}

pub(super) fn status(arguments: &StatusArguments) -> u8 {
    say(fetch().map(|status| {
        if arguments.json {
            format!("{}\n", serde_json::to_string_pretty(&status).unwrap_or_default())
        } else {
            describe(&status)
        }
    }))
}

pub(super) fn hold(arguments: &Hold) -> u8 {
    say(ask(&Request::Hold(arguments.duration)))
}

/// The same for each of the three verbs.
pub(super) fn order(helper: Helper, order: Order) -> u8 {
    let answer = ask(&Request::Helper { name: helper.name, order });
    say(answer.and_then(|text| match text.strip_prefix(ERROR) {
        Some(reason) => Err(reason.trim_end().to_owned()),
        None => Ok(text),
    }))
}

pub(super) fn release() -> u8 {
    say(ask(&Request::Release))
}

/// Prints the answer, or why there is none; the exit code.
pub(super) fn say(answer: Result<String, String>) -> u8 {
    match answer {
        Ok(text) => {
            output::say(&text);
            exit::SUCCESS
        }
        Err(reason) => {
            output::error(&reason);
            exit::FAILURE
        }
    }
}

fn describe(status: &Status) -> String {
    let seconds = |seconds| format_duration(Duration::from_secs(seconds));
    let mut text = format!("service  {} on {}, {}\n", status.service, status.platform, status.phase);
    if let Some(left) = status.stop_deadline_seconds {
        let _always = writeln!(text, "stop     everything is over in {}", seconds(left));
    }
    if let Some(health) = &status.health {
        let _always = write!(text, "health   {} for {}", health.state, seconds(health.for_seconds));
        let _always = match &health.last_failure {
            Some(reason) => writeln!(text, "; last failure: {reason}"),
            None => writeln!(text),
        };
        for change in &health.changes {
            let _always = writeln!(text, "         {} {} {}", change.time, change.state, change.reason);
        }
    }
    if let Some(jvm) = &status.jvm {
        let _always = write!(text, "jvm      {} (pid {})", jvm.version, jvm.pid);
        if let (Some(used), Some(maximum)) = (jvm.heap_used, jvm.heap_maximum) {
            let _always = write!(text, ", heap {} of {}", ByteSize(used), ByteSize(maximum));
        }
        if let (Some(threads), Some(collections)) = (jvm.threads, jvm.collections) {
            let _always = write!(text, ", {threads} threads, {collections} collections");
        }
        if let Some(percent) = jvm.gc_percent {
            let _always = write!(text, ", {percent}% of its time in them");
        }
        text.push('\n');
    }
    for process in &status.processes {
        let _always = match (process.pid, process.for_seconds, &process.ended) {
            (Some(pid), Some(since), _) => {
                writeln!(text, "process  {}: runs for {} (pid {pid})", process.name, seconds(since))
            }
            (.., Some(ended)) => writeln!(text, "process  {}: does not run: {ended}", process.name),
            _ => writeln!(text, "process  {}: does not run", process.name),
        };
    }
    text.push_str(&describe_heap(&status.heap));
    for rule in &status.rules {
        let limit = rule
            .limit
            .as_ref()
            .map_or_else(String::new, |limit| format!(": acted {} of {limit}", rule.acted));
        let _always = writeln!(text, "rule     {} on {}{limit}", rule.name, rule.on);
    }
    if let Some(store) = &status.store {
        let url = if store.url.is_empty() { "none" } else { &store.url };
        let _always = write!(text, "store    {url}");
        if store.spooled > 0 {
            let _always = write!(text, ", {} in the spool", ByteSize(store.spooled));
        }
        if let Some(trouble) = &store.trouble {
            let _always = write!(text, "; it takes nothing: {trouble}");
        }
        text.push('\n');
    }
    for event in &status.events {
        let place = match (&event.path, &event.trouble) {
            (Some(path), _) => path.clone(),
            (None, Some(trouble)) => format!("not stored: {trouble}"),
            (None, None) => "not stored".to_owned(),
        };
        let _always = writeln!(text, "event    {}: {} artifacts, {place}", event.trigger, event.artifacts);
    }
    if let Some(capturing) = &status.capturing {
        let _always =
            writeln!(text, "capture  {} since {}", capturing.trigger, seconds(capturing.for_seconds));
    }
    if let Some(held) = status.held_for_seconds {
        let _always = writeln!(text, "held     for at most {}; `bookend release` ends it", seconds(held));
    }
    text
}

/// Nothing where dumps are as the JVM gives them.
fn describe_heap(heap: &HeapStatus) -> String {
    let redacted = (heap.redact != "none").then(|| format!("redacted ({})", heap.redact));
    let count = heap.encrypt_to.len();
    let plural = if count == 1 { "" } else { "s" };
    let encrypted = (count > 0).then(|| format!("encrypted to {count} recipient{plural}"));
    let done: Vec<String> = redacted.into_iter().chain(encrypted).collect();
    if done.is_empty() { String::new() } else { format!("heap     dumps are {}\n", done.join(" and ")) }
}
