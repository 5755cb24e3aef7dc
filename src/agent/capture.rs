//! The artifacts: each asked for with a deadline, written under a temporary
//! name, judged by the JVM's own words.

use crate::evidence::{ArtifactRecord, Bundle, Digest, Hasher, Status, mask};
use crate::facts::cgroup;
use crate::facts::processes::Process;
use crate::jvm::{self, DumpOutcome, Session, judge_dump, used_bytes};
use crate::units::{ByteSize, format_duration};
use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
use nix::sys::statvfs::statvfs;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// A thread dump's last section begins so (`threads.cpp`, `print_jni_refs`).
const LAST_OF_THREAD_DUMP: &[u8] = b"JNI global ref";
/// Bytes of dump for a byte of used heap, generously (facts 3.4: 1.25–1.3).
const DUMP_FACTOR_PERCENT: u64 = 140;
/// Headers, symbols and stacks of an empty heap. Bytes.
const DUMP_BASE: u64 = 16 << 20;
/// A JVM writes 300 to 450 MB/s to a disk on two cores (facts 3.4); half of
/// that, since the machine is in trouble. Bytes a second.
const DUMP_RATE: u64 = 200_000_000;
/// The share of the disk that a dump never takes, in percent.
const DISK_KEPT_PERCENT: u64 = 5;
/// How long `GC.heap_info` may take; it needs no safepoint.
const INFO_PATIENCE: Duration = Duration::from_secs(1);

/// Takes one thread dump, with locks, into `name`.
///
/// One that is broken off is kept under a name that says so.
pub async fn capture_threads(
    session: &Session,
    bundle: &Bundle,
    name: &str,
    deadline: Instant,
) -> ArtifactRecord {
    let begun = Instant::now();
    let record = |status, file: Option<String>, digest: Option<Digest>, reason| ArtifactRecord {
        artifact: "threads",
        status,
        file,
        bytes: digest.as_ref().map(|digest| digest.bytes),
        sha256: digest.map(|digest| digest.sha256),
        duration_ms: milliseconds(begun.elapsed()),
        reason,
    };
    let (path, mut file) = match bundle.open(name) {
        Ok(opened) => opened,
        Err(error) => {
            return record(Status::Failed, None, None, Some(format!("cannot write {name}: {error}")));
        }
    };
    let mut hasher = Hasher::default();
    let mut marker = Marker::new(LAST_OF_THREAD_DUMP);
    let copied = async {
        let reply = session.command("Thread.print -l", deadline).await?;
        reply
            .copy(&mut file, &path, |chunk| {
                hasher.update(chunk);
                marker.look(chunk);
            })
            .await
    };
    let trouble = match copied.await {
        Ok(_) if marker.found => None,
        Ok(0) => Some("the JVM answered nothing".to_owned()),
        Ok(_) => Some("the JVM broke off its thread dump".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    let digest = hasher.finish();
    match trouble {
        None => match bundle.finish(name, name) {
            Ok(_) => record(Status::Complete, Some(name.to_owned()), Some(digest), None),
            Err(error) => record(Status::Failed, None, None, Some(format!("cannot rename {name}: {error}"))),
        },
        Some(reason) if digest.bytes == 0 => {
            bundle.discard(name);
            record(Status::Failed, None, None, Some(reason))
        }
        Some(reason) => {
            let partial = format!("{name}.partial");
            match bundle.finish(name, &partial) {
                Ok(_) => record(Status::Partial, Some(partial), Some(digest), Some(reason)),
                Err(_) => record(Status::Failed, None, None, Some(reason)),
            }
        }
    }
}

/// The longest text that is kept of one command. Bytes.
const TEXT_LIMIT: usize = 16 << 20;
/// For one command that needs no safepoint.
const COMMAND_PATIENCE: Duration = Duration::from_secs(5);

/// Writes a text into `name`.
pub(super) fn write_text(
    bundle: &Bundle,
    artifact: &'static str,
    name: &str,
    text: &str,
    begun: Instant,
) -> ArtifactRecord {
    let mut hasher = Hasher::default();
    hasher.update(text.as_bytes());
    let digest = hasher.finish();
    let written = bundle.open(name).and_then(|(_, mut file)| {
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        bundle.finish(name, name)
    });
    let record = |status, file: Option<String>, digest: Option<Digest>, reason| ArtifactRecord {
        artifact,
        status,
        file,
        bytes: digest.as_ref().map(|digest| digest.bytes),
        sha256: digest.map(|digest| digest.sha256),
        duration_ms: milliseconds(begun.elapsed()),
        reason,
    };
    match written {
        Ok(_) => record(Status::Complete, Some(name.to_owned()), Some(digest), None),
        Err(error) => {
            bundle.discard(name);
            record(Status::Failed, None, None, Some(format!("cannot write {name}: {error}")))
        }
    }
}

/// Asks the JVM several things and writes the answers into one text, without
/// secrets. Complete if one was answered; what was not is told in the text.
pub(super) async fn capture_answers(
    session: &Session,
    bundle: &Bundle,
    artifact: &'static str,
    name: &str,
    commands: &[&str],
    deadline: Instant,
) -> ArtifactRecord {
    let begun = Instant::now();
    let mut text = String::new();
    let mut trouble = None;
    let mut answered = false;
    for command in commands {
        let until = deadline.min(Instant::now() + COMMAND_PATIENCE);
        let answer = async {
            let reply = session.command(command, until).await?;
            reply.text(TEXT_LIMIT).await
        };
        let answer = answer.await;
        text.push_str("=== ");
        text.push_str(command);
        text.push('\n');
        match answer {
            Ok(answer) => {
                answered = true;
                text.push_str(&mask(&answer));
            }
            Err(error) => {
                text.push_str(&format!("not answered: {error}\n"));
                let is_silent = matches!(error, jvm::Failure::NoAnswer | jvm::Failure::NoSocket { .. });
                trouble = Some(error.to_string());
                if is_silent {
                    break;
                }
            }
        }
        text.push('\n');
    }
    if answered {
        return write_text(bundle, artifact, name, &text, begun);
    }
    ArtifactRecord {
        artifact,
        status: Status::Failed,
        file: None,
        bytes: None,
        sha256: None,
        duration_ms: milliseconds(begun.elapsed()),
        reason: trouble,
    }
}

/// Takes a heap dump into `name`: of all objects, without a collection first, or of
/// those that live, after one.
///
/// Its digest is missing: reading it again takes time that the JVM may need.
/// Skipped if it would not fit on the disk or into the time; a dump cannot be
/// broken off once begun, and the JVM stands still while it runs.
pub async fn capture_heap(
    session: &Session,
    bundle: &Bundle,
    name: &str,
    live: bool,
    deadline: Instant,
) -> ArtifactRecord {
    let begun = Instant::now();
    let record = |status, file: Option<String>, reason| ArtifactRecord {
        artifact: "heap",
        status,
        file,
        bytes: None,
        sha256: None,
        duration_ms: milliseconds(begun.elapsed()),
        reason,
    };
    if let Some(reason) = too_large(session, bundle.folder(), deadline).await {
        return record(Status::Skipped, None, Some(reason));
    }
    let path = bundle.unfinished(name);
    let line = match dump_command(&path, live) {
        Ok(line) => line,
        Err(reason) => return record(Status::Failed, None, Some(reason)),
    };
    let answer = match let_jvm_write(session, bundle, &line, deadline).await {
        Ok(answer) => answer.map(|(status, text)| judge_dump(status, &text)),
        Err(reason) => return record(Status::Failed, None, Some(reason)),
    };
    let reason = match answer {
        Ok(DumpOutcome::Created) => match bundle.finish(name, name) {
            Ok(_) => return record(Status::Complete, Some(name.to_owned()), None),
            Err(error) => format!("cannot rename {name}: {error}"),
        },
        Ok(DumpOutcome::Failed(reason)) => reason,
        Err(jvm::Failure::NoAnswer) => match std::fs::metadata(&path) {
            Ok(metadata) => format!("cut off at the deadline after {}", ByteSize(metadata.len())),
            Err(_) => "the JVM did not begin it in time".to_owned(),
        },
        Err(error) => error.to_string(),
    };
    bundle.discard(name);
    record(Status::Failed, None, Some(reason))
}

/// Sends a command on which the JVM writes into the bundle's folder, as its own user.
///
/// # Errors
/// The outer one: the folder cannot be lent, or not be taken back.
pub(super) async fn let_jvm_write(
    session: &Session,
    bundle: &Bundle,
    line: &str,
    deadline: Instant,
) -> Result<Result<(i32, String), jvm::Failure>, String> {
    let is_lent = nix::unistd::geteuid().is_root() && session.target.user != 0;
    let folder = bundle.folder().display();
    if is_lent {
        bundle
            .lend(session.target.user, session.target.group)
            .map_err(|error| format!("cannot give {folder} to the JVM's user: {error}"))?;
    }
    let answer = async {
        let reply = session.command(line, deadline).await?;
        let status = reply.status;
        Ok((status, reply.text(64 * 1024).await?))
    };
    let answer = answer.await;
    if is_lent {
        bundle.take_back().map_err(|error| format!("cannot take {folder} back: {error}"))?;
    }
    Ok(answer)
}

fn dump_command(path: &Path, live: bool) -> Result<String, String> {
    let text = quotable(path)?;
    // Without -all a full collection comes first.
    let which = if live { "" } else { "-all " };
    Ok(format!("GC.heap_dump {which}\"{text}\""))
}

/// A path that can be said in a diagnostic command.
pub(super) fn quotable(path: &Path) -> Result<&str, String> {
    let text = path.to_str().ok_or("the spool's path is not UTF-8")?;
    // The command's parser splits at spaces outside quotes and knows no escapes
    // (`diagnosticFramework.cpp`, `DCmdArgIter`).
    if text.contains(['"', '\n', '\r']) {
        return Err(format!("the JVM cannot be told the path {text}: it holds a quote or a line break"));
    }
    Ok(text)
}

/// Why a dump of this heap should not be begun.
async fn too_large(session: &Session, folder: &Path, deadline: Instant) -> Option<String> {
    let until = deadline.min(Instant::now() + INFO_PATIENCE);
    let text = match session.text("GC.heap_info", until).await {
        Ok(text) => text,
        Err(jvm::Failure::NoAnswer) => return Some("the JVM does not answer".to_owned()),
        Err(error) => return Some(error.to_string()),
    };
    // Where it was not understood, the whole process is an upper bound.
    let resident = || Process::read(session.target.pid).and_then(|process| process.resident);
    let used = used_bytes(&text).or_else(resident)?;
    let dump = used.saturating_mul(DUMP_FACTOR_PERCENT) / 100 + DUMP_BASE;
    // Since 22 the heap goes to segment files first and is copied then (JDK-8306441).
    let disk = if session.version.feature >= 22 { dump.saturating_mul(2) } else { dump };
    // It cannot be broken off, so it must fit twice: the service's own time comes next.
    let time = Duration::from_secs(dump / DUMP_RATE);
    let left = deadline.saturating_duration_since(Instant::now());
    if time.saturating_mul(2) > left {
        return Some(format!(
            "it would take about {} ({} of heap in use), and there are {}",
            format_duration(time),
            ByteSize(used),
            format_duration(left)
        ));
    }
    if is_in_memory(folder)
        && let Some(available) = cgroup::available_memory()
        && disk > available
    {
        return Some(format!(
            "it would need about {} in {}, which is memory, and the container has {} left",
            ByteSize(disk),
            folder.display(),
            ByteSize(available)
        ));
    }
    let space = statvfs(folder).ok()?;
    let block = space.fragment_size();
    let free = space.blocks_available().saturating_mul(block);
    let kept = space.blocks().saturating_mul(block) / 100 * DISK_KEPT_PERCENT;
    (disk > free.saturating_sub(kept)).then(|| {
        format!(
            "it would need about {} of disk, and {} has {} free",
            ByteSize(disk),
            folder.display(),
            ByteSize(free)
        )
    })
}

/// Files there count as the container's own memory (`tmpfs(5)`).
fn is_in_memory(folder: &Path) -> bool {
    statfs(folder).is_ok_and(|system| {
        let kind = system.filesystem_type();
        kind == TMPFS_MAGIC || kind == RAMFS_MAGIC
    })
}

/// `include/uapi/linux/magic.h`; nix has no name for it.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6_u32 as _);

pub(super) fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Looks for a few bytes in a stream of pieces.
struct Marker {
    wanted: &'static [u8],
    tail: Vec<u8>,
    found: bool,
}

impl Marker {
    fn new(wanted: &'static [u8]) -> Self {
        Self { wanted, tail: Vec::new(), found: false }
    }

    fn look(&mut self, chunk: &[u8]) {
        let head = chunk.get(..self.wanted.len().min(chunk.len())).unwrap_or_default();
        self.tail.extend_from_slice(head);
        self.found |= contains(&self.tail, self.wanted) || contains(chunk, self.wanted);
        let keep = self.wanted.len().saturating_sub(1);
        if chunk.len() >= keep {
            self.tail.clear();
            self.tail.extend_from_slice(chunk.get(chunk.len() - keep..).unwrap_or_default());
        }
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_is_found_across_pieces() {
        let text = b"...\nJNI global refs: 12, weak refs: 0\n";
        for size in 1..text.len() {
            let mut marker = Marker::new(LAST_OF_THREAD_DUMP);
            for chunk in text.chunks(size) {
                marker.look(chunk);
            }
            assert!(marker.found, "pieces of {size}");
        }
        let mut marker = Marker::new(LAST_OF_THREAD_DUMP);
        marker.look(b"JNI global");
        marker.look(b"-ref");
        assert!(!marker.found);
    }

    #[test]
    fn paths_that_the_jvm_can_be_told() {
        assert_eq!(
            dump_command(Path::new("/a b/.heap.hprof.unfinished"), false).as_deref(),
            Ok("GC.heap_dump -all \"/a b/.heap.hprof.unfinished\"")
        );
        assert!(dump_command(Path::new("/a\"b"), false).is_err());
    }
}
