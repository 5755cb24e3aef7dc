//! `threads`: by the attach protocol, of virtual threads too, or by SIGQUIT.

use super::heap::{let_jvm_write, quotable};
use super::write_text;
use crate::evidence::{ArtifactRecord, Bundle, Hasher, KnownMasked, mask, mask_known};
use crate::facts::processes::Process;
use crate::jvm::{Failure, Session};
use crate::output::Ring;
use crate::sys::process::{self, Pid};
use crate::units::Signal;
use std::io::Write;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

const ARTIFACT: &str = "threads";
/// A thread dump's last section begins so (`threads.cpp`, `print_jni_refs`).
const LAST_OF_THREAD_DUMP: &[u8] = b"JNI global ref";
/// A thread dump to standard output begins so (`thread.cpp`, `print_threads`).
const FIRST_OF_THREAD_DUMP: &[u8] = b"Full thread dump";
/// How often the end of the output is looked at while one is printed.
const LOOK: Duration = Duration::from_millis(10);

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
    let failed = |reason: String| ArtifactRecord::failed(ARTIFACT, reason, begun.elapsed());
    let (path, mut file) = match bundle.open(name) {
        Ok(opened) => opened,
        Err(error) => return failed(format!("cannot write {name}: {error}")),
    };
    let mut hasher = Hasher::default();
    let mut marker = Marker::new(LAST_OF_THREAD_DUMP);
    let mut masked = KnownMasked::default();
    let copied = async {
        let mut reply = session.command("Thread.print -l", deadline).await?;
        let mut size = 0_usize;
        loop {
            let chunk = reply.chunk().await?;
            let is_over = chunk.is_empty();
            size = size.saturating_add(chunk.len());
            marker.look(&chunk);
            let text = if is_over { std::mem::take(&mut masked).finish() } else { masked.take(chunk) };
            hasher.update(&text);
            let written = file.write_all(&text);
            written.map_err(|source| Failure::Write { path: path.clone(), source })?;
            if is_over {
                return Ok::<_, Failure>(size);
            }
        }
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
            Ok(_) => ArtifactRecord::complete(ARTIFACT, name, begun.elapsed()).with_digest(digest),
            Err(error) => failed(format!("cannot rename {name}: {error}")),
        },
        Some(reason) if digest.bytes == 0 => {
            bundle.discard(name);
            failed(reason)
        }
        Some(reason) => {
            let partial = format!("{name}.partial");
            match bundle.finish(name, &partial) {
                Ok(_) => {
                    ArtifactRecord::partial(ARTIFACT, &partial, reason, begun.elapsed()).with_digest(digest)
                }
                Err(_) => failed(reason),
            }
        }
    }
}

/// Virtual threads that are parked are in no thread dump: since 21 a second command
/// names them all (`ThreadDumper.java`). It runs Java code in the JVM.
pub(in crate::agent) async fn capture_virtual_threads(
    session: &Session,
    bundle: &Bundle,
    deadline: Instant,
) -> ArtifactRecord {
    const NAME: &str = "threads.json";
    let begun = Instant::now();
    let path = bundle.unfinished(NAME);
    let outcome = async {
        let path = quotable(&path)?;
        let line = format!("Thread.dump_to_file -format=json \"{path}\"");
        let answer = let_jvm_write(session, bundle, &line, deadline).await?;
        let (_, text) = answer.map_err(|error| error.to_string())?;
        // It answers "Created /path", with status 0 in any case.
        if !std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0) {
            return Err(first_line(&text));
        }
        // Judged first: a plain file of its own. Then ours, without secrets that are known.
        let path = bundle.finish(NAME, NAME).map_err(|error| format!("cannot rename {NAME}: {error}"))?;
        let masked = std::fs::read(&path).and_then(|text| std::fs::write(&path, mask_known(text)));
        masked.map_err(|error| format!("cannot mask {NAME}: {error}"))
    };
    match outcome.await {
        Ok(()) => ArtifactRecord::complete(ARTIFACT, NAME, begun.elapsed()),
        Err(reason) => {
            bundle.discard(NAME);
            ArtifactRecord::failed(ARTIFACT, reason, begun.elapsed())
        }
    }
}

pub(super) fn first_line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason given");
    line.chars().take(300).collect()
}

/// The JVM says so at the end of each thread dump ("Found one Java-level deadlock:",
/// "Found 2 deadlocks.", `deadlockCycle`). Nothing of the dump is kept.
pub(in crate::agent) async fn has_deadlock(session: &Session, deadline: Instant) -> bool {
    let mut marker = Marker::new(b"Java-level deadlock");
    let looked = async {
        let mut reply = session.command("Thread.print", deadline).await?;
        loop {
            let chunk = reply.chunk().await?;
            if chunk.is_empty() {
                return Ok::<_, Failure>(());
            }
            marker.look(&chunk);
        }
    };
    looked.await.is_ok() && marker.found
}

/// The next rung where the JVM cannot be attached to: a SIGQUIT, whose thread dump
/// the JVM prints to its own output, where the ring has it. Only to a JVM that
/// catches the signal: it kills the others.
pub(in crate::agent) async fn ask_by_quit(
    pid: Pid,
    ring: Option<&Ring>,
    bundle: &Bundle,
    deadline: Instant,
) -> ArtifactRecord {
    const NAME: &str = "threads-by-sigquit.txt";
    let begun = Instant::now();
    let failed = |reason: &str| ArtifactRecord::failed(ARTIFACT, reason, begun.elapsed());
    if !Process::read(pid).is_some_and(|process| process.catches(Signal::QUIT)) {
        return failed("it does not catch SIGQUIT either");
    }
    let mut position = ring.map_or(0, Ring::end);
    if let Err(error) = process::signal(pid, Signal::QUIT) {
        return failed(&format!("cannot send it SIGQUIT: {}", error.desc()));
    }
    let Some(ring) = ring else {
        return failed(
            "asked by SIGQUIT for a thread dump, which it prints to its own standard output; \
             main.output = { keep = \"1MiB\" } would have kept it",
        );
    };
    let mut text = Vec::new();
    let mut marker = Marker::new(LAST_OF_THREAD_DUMP);
    let mut is_whole_from_the_start = true;
    // The dump may be longer than what is kept: taken away as it comes.
    let read = timeout_at(deadline, async {
        loop {
            if let Ok((first, bytes)) = ring.read_from(position) {
                is_whole_from_the_start &= first == position;
                position = first.saturating_add(bytes.len() as u64);
                marker.look(&bytes);
                text.extend_from_slice(&bytes);
            }
            if marker.found {
                return;
            }
            sleep(LOOK).await;
        }
    });
    let is_whole = read.await.is_ok();
    let Some(begin) = find(&text, FIRST_OF_THREAD_DUMP) else {
        return failed("it did not print a thread dump on SIGQUIT either");
    };
    let dump = text.get(begin..).unwrap_or_default();
    let masked = mask(&String::from_utf8_lossy(dump));
    let record = write_text(bundle, ARTIFACT, NAME, masked.as_bytes(), begun)
        .with_note("by SIGQUIT, from its own output");
    match (is_whole, is_whole_from_the_start) {
        (true, true) => record,
        (false, _) => record.with_note("cut off at the deadline"),
        (true, false) => record.with_note("parts of it were printed faster than they could be kept"),
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
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
        self.found |= find(&self.tail, self.wanted).is_some() || find(chunk, self.wanted).is_some();
        let keep = self.wanted.len().saturating_sub(1);
        if chunk.len() >= keep {
            self.tail.clear();
            self.tail.extend_from_slice(chunk.get(chunk.len() - keep..).unwrap_or_default());
        }
    }
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
}
