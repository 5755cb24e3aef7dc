//! One event, from its trigger to its manifest.

use super::capture::{capture_answers, capture_heap, capture_threads, write_text};
use super::recording::capture_recording;
use super::{crash, os};
use crate::config::{Artifact, Capture, StoreUrl};
use crate::evidence::{
    self, ArtifactRecord, Bundle, Jvm, Manifest, Status, clear_unfinished, digest_file, mask,
};
use crate::facts::processes::Process;
use crate::jvm::{self, CrashFiles, Session};
use crate::plan::{Evidence, Plan};
use crate::store::Directory;
use crate::sys::process::{self, Pid};
use crate::units::{Signal, format_duration};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, info, warn};

/// A first attach, or a thread dump, gets at most this share of the time.
const FIRST_STEP_SHARE: u32 = 2;
/// A gap between two thread dumps takes at most this share of the time.
const GAP_SHARE: u32 = 20;
/// What moving files and writing the manifest may take.
const MANIFEST_TIME: Duration = Duration::from_millis(300);

/// What set an event off, and how long it may take.
#[derive(Clone, Debug)]
pub(super) struct Occasion {
    pub(super) trigger: &'static str,
    /// Indices of the rules that act: two rules, one event.
    pub(super) rules: Vec<usize>,
    /// The JVM is needed no longer than until then: a stop may come and shorten it.
    pub(super) capture_until: watch::Receiver<Instant>,
    /// Everything is stored by then: a stop shortens this too.
    pub(super) store_until: watch::Receiver<Instant>,
    pub(super) stop: Option<evidence::Stop>,
    pub(super) main_ended: Option<String>,
    /// Where the JVM writes when it dies.
    pub(super) crash_files: Option<CrashFiles>,
}

impl Occasion {
    fn until(&self) -> Instant {
        *self.capture_until.borrow()
    }

    fn left(&self) -> Duration {
        self.until().saturating_duration_since(Instant::now())
    }

    /// Returns when the time is up, also if it was shortened meanwhile.
    async fn is_over(&self) {
        let mut limit = self.capture_until.clone();
        loop {
            let until = *limit.borrow_and_update();
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                changed = limit.changed() => {
                    if changed.is_err() {
                        return tokio::time::sleep_until(until).await;
                    }
                }
            }
        }
    }
}

/// An event whose evidence is captured and not yet stored.
#[derive(Debug)]
pub(super) struct Captured {
    store_until: watch::Receiver<Instant>,
    bundle: Bundle,
    manifest: Manifest,
}

/// Captures what the rules ask for.
pub(super) async fn capture(
    plan: &Plan,
    evidence: &Evidence,
    main: Option<Pid>,
    session: Option<Session>,
    occasion: Occasion,
) -> Option<Captured> {
    let began = SystemTime::now();
    let rules: Vec<_> = occasion.rules.iter().filter_map(|index| evidence.rules.get(*index)).collect();
    let wanted = union(rules.iter().flat_map(|rule| &rule.capture));
    let store = store(evidence);
    let bundle = match Bundle::create(&store.spool(), &format!("{}-{}", compact(began), occasion.trigger)) {
        Ok(bundle) => bundle,
        Err(reason) => {
            error!("no evidence: {reason}");
            return None;
        }
    };
    let service = evidence::Service {
        name: plan.service.clone(),
        task: plan.task.clone(),
        platform: plan.platform.name(),
    };
    let event = evidence::Event {
        id: bundle.id(),
        trigger: occasion.trigger,
        rules: rules.iter().map(|rule| rule.name.clone()).collect(),
        began: rfc3339(began),
        captured: String::new(),
        stored: String::new(),
        main_ended: occasion.main_ended.clone(),
    };
    let mut manifest = Manifest::new(service, event);
    manifest.stop.clone_from(&occasion.stop);
    let (certain, asked): (Vec<Capture>, Vec<Capture>) =
        wanted.into_iter().partition(|capture| matches!(capture.artifact, Artifact::Os | Artifact::Crash));
    // What needs nobody's cooperation comes before the first word to the JVM.
    for capture in certain {
        if capture.artifact == Artifact::Os {
            push(&mut manifest, describe_system(main, session.as_ref(), &bundle, &occasion));
        } else {
            for record in crash::collect(occasion.crash_files.as_ref(), &bundle).await {
                push(&mut manifest, record);
            }
        }
    }
    if asked.is_empty() {
        return finish(manifest, bundle, &occasion);
    }
    match reach(main, session, &occasion).await {
        Ok(session) => {
            manifest.jvm = Some(Jvm {
                pid: session.target.pid.number(),
                version: session.version.full.clone(),
                name: session.version.name.clone(),
            });
            climb(&session, &bundle, &asked, &occasion, &mut manifest).await;
        }
        Err(reason) => {
            for capture in &asked {
                manifest.artifacts.push(missing(capture.artifact.name(), Status::Failed, reason.clone()));
            }
            warn!("no evidence from the JVM: {reason}");
            manifest.jvm_missing = Some(reason);
        }
    }
    finish(manifest, bundle, &occasion)
}

#[expect(clippy::unnecessary_wraps, reason = "the end of a function that may have nothing")]
fn finish(mut manifest: Manifest, bundle: Bundle, occasion: &Occasion) -> Option<Captured> {
    manifest.event.captured = rfc3339(SystemTime::now());
    Some(Captured { store_until: occasion.store_until.clone(), bundle, manifest })
}

/// Each artifact once, as the most demanding rule wants it, in the ladder's order.
fn union<'c>(captures: impl Iterator<Item = &'c Capture>) -> Vec<Capture> {
    let mut wanted: Vec<Capture> = Vec::new();
    for capture in captures {
        match wanted.iter_mut().find(|known| known.artifact == capture.artifact) {
            None => wanted.push(*capture),
            Some(known) if known.times < capture.times => *known = *capture,
            // All objects are more than those that live.
            Some(known) => {
                known.live &= capture.live;
                known.last = known.last.zip(capture.last).map(|(one, other)| one.max(other));
            }
        }
    }
    wanted.sort_by_key(|capture| capture.artifact);
    wanted
}

fn describe_system(
    main: Option<Pid>,
    session: Option<&Session>,
    bundle: &Bundle,
    occasion: &Occasion,
) -> ArtifactRecord {
    let begun = Instant::now();
    let found = || main.and_then(jvm::find).map(|target| target.pid);
    let pid = session.map(|session| session.target.pid).or_else(found).or(main);
    let pid = pid.filter(|_| occasion.main_ended.is_none());
    write_text(bundle, "os", "os.txt", &mask(&os::describe(pid)), begun)
}

/// The cheap and certain first: a thread dump before the heap dump, since
/// nothing else is answered while that runs.
async fn climb(
    session: &Session,
    bundle: &Bundle,
    wanted: &[Capture],
    occasion: &Occasion,
    manifest: &mut Manifest,
) {
    let mut is_silent = false;
    for capture in wanted {
        let mut last = None;
        for number in 1..=capture.times {
            let name = capture.artifact.name();
            if is_silent {
                push(manifest, missing(name, Status::Skipped, "the JVM did not answer before".to_owned()));
                break;
            }
            if let Some(begun) = last.replace(Instant::now()) {
                // Gaps must not eat what a heap dump needs when time is short.
                let gap = capture.interval.min(occasion.left() / GAP_SHARE);
                let pause = tokio::time::sleep_until(begun + gap);
                tokio::select! {
                    () = pause => { last = Some(Instant::now()); }
                    () = occasion.is_over() => {}
                }
            }
            if occasion.left().is_zero() {
                push(manifest, missing(name, Status::Skipped, "no time was left".to_owned()));
                break;
            }
            let (file, work) = step(session, bundle, *capture, number, occasion);
            let record = tokio::select! {
                record = work => record,
                () = occasion.is_over() => {
                    // It may be lent to the JVM's user.
                    drop(bundle.take_back());
                    bundle.discard(&file);
                    missing(name, Status::Failed, "cut off: the time was up".to_owned())
                }
            };
            is_silent = record.status == Status::Failed && capture.artifact != Artifact::Heap;
            push(manifest, record);
        }
    }
}

/// One step of the ladder: the file it makes, and the work.
fn step<'s>(
    session: &'s Session,
    bundle: &'s Bundle,
    capture: Capture,
    number: u32,
    occasion: &Occasion,
) -> (String, Pin<Box<dyn Future<Output = ArtifactRecord> + 's>>) {
    let now = Instant::now();
    let until = occasion.until();
    let half = now + occasion.left() / FIRST_STEP_SHARE;
    match capture.artifact {
        Artifact::Threads => {
            let name = format!("threads-{number}.txt");
            let file = name.clone();
            (file, Box::pin(async move { capture_threads(session, bundle, &name, half).await }))
        }
        Artifact::Histogram => {
            let command: &[&str] =
                if capture.live { &["GC.class_histogram"] } else { &["GC.class_histogram -all"] };
            let work = capture_answers(session, bundle, "histogram", "histogram.txt", command, half);
            ("histogram.txt".to_owned(), Box::pin(work))
        }
        Artifact::Vm | Artifact::Os | Artifact::Crash => {
            let work = capture_answers(session, bundle, "vm", "vm.txt", VM_COMMANDS, half);
            ("vm.txt".to_owned(), Box::pin(work))
        }
        Artifact::Jfr => {
            let work = capture_recording(session, bundle, capture.last, half);
            ("recording.jfr".to_owned(), Box::pin(work))
        }
        Artifact::Heap => {
            let work = capture_heap(session, bundle, "heap.hprof", capture.live, until);
            ("heap.hprof".to_owned(), Box::pin(work))
        }
    }
}

fn push(manifest: &mut Manifest, record: ArtifactRecord) {
    log(&record);
    manifest.artifacts.push(record);
}

/// What a JVM tells about itself without a safepoint (facts: section 2); an older
/// one answers that it does not know a command.
const VM_COMMANDS: &[&str] = &[
    "VM.version",
    "VM.uptime",
    "GC.heap_info",
    "VM.flags",
    "VM.command_line",
    "VM.native_memory summary",
    "VM.metaspace basic",
    "VM.events",
    "VM.info",
];

/// The session that is there, or a new one; else why there is none.
async fn reach(main: Option<Pid>, session: Option<Session>, occasion: &Occasion) -> Result<Session, String> {
    if let Some(ended) = &occasion.main_ended {
        return Err(format!("the JVM is gone: the main process ended ({ended})"));
    }
    if let Some(session) = session.filter(|session| session.target.is_there()) {
        return Ok(session);
    }
    let main = main.ok_or("there is no main process")?;
    let target = jvm::find(main).ok_or("there is no JVM under the main process")?;
    let pid = target.pid;
    let until = Instant::now() + occasion.left() / FIRST_STEP_SHARE;
    match Session::open(target, until).await {
        Ok(session) => Ok(session),
        Err(error @ jvm::Failure::Disabled) => {
            Err(format!("{error}; {}", thread_dump_to_standard_output(pid)))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// The next rung: a SIGQUIT, whose thread dump the JVM prints where the
/// service's log goes. Only to a JVM that catches it; it kills the others.
fn thread_dump_to_standard_output(pid: Pid) -> String {
    if !Process::read(pid).is_some_and(|process| process.catches(Signal::QUIT)) {
        return "it does not catch SIGQUIT either".to_owned();
    }
    match process::signal(pid, Signal::QUIT) {
        Ok(()) => "asked by SIGQUIT for a thread dump, which it prints to its own standard output".to_owned(),
        Err(error) => format!("cannot send it SIGQUIT: {}", error.desc()),
    }
}

/// What became of an event.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) trigger: &'static str,
    /// The bundle, if its manifest could be written.
    pub(super) path: Option<PathBuf>,
    /// Whole artifacts of those that were asked for: `3/4`.
    pub(super) artifacts: String,
}

/// Digests what has none, moves everything to the store, the manifest last. Takes
/// as long as reading all of it: not for the event loop.
pub(super) fn store_all(store: &Directory, captured: Captured) -> Stored {
    let Captured { store_until, bundle, mut manifest } = captured;
    // The manifest matters more than a digest: it is written in any case.
    let is_late = || Instant::now() + MANIFEST_TIME > *store_until.borrow();
    let date = manifest.event.began.get(..10).unwrap_or("undated").to_owned();
    let service = &manifest.service;
    let folder = [&service.name, &date, &service.task, &manifest.event.id].map(String::as_str).join("/");
    let mut complete = 0_usize;
    for record in &mut manifest.artifacts {
        let Some(file) = record.file.clone() else { continue };
        let path = bundle.folder().join(&file);
        let digest = digest_file(&path, is_late);
        match store.put(&path, &format!("{folder}/{file}")) {
            Ok(()) => complete += usize::from(record.status == Status::Complete),
            Err(reason) => {
                error!("{} is captured and not stored: {reason}", record.artifact);
                *record = ArtifactRecord {
                    status: Status::Failed,
                    file: None,
                    bytes: None,
                    sha256: None,
                    reason: Some(reason),
                    ..record.clone()
                };
                continue;
            }
        }
        match digest {
            Ok(Some(digest)) => {
                record.bytes = Some(digest.bytes);
                record.sha256 = Some(digest.sha256);
            }
            Ok(None) if record.sha256.is_some() => {}
            Ok(None) => note(record, "stored without a digest: no time was left"),
            Err(error) => note(record, &format!("stored without a digest: {error}")),
        }
    }
    manifest.event.stored = rfc3339(SystemTime::now());
    let written =
        manifest.to_bytes().and_then(|bytes| store.put_bytes(&bytes, &format!("{folder}/manifest.json")));
    bundle.remove();
    let path = store.path(&folder);
    let artifacts = format!("{complete}/{}", manifest.artifacts.len());
    let trigger = manifest.event.trigger;
    match written {
        Ok(()) => {
            info!(artifacts, path = %path.display(), "evidence stored");
            Stored { trigger, path: Some(path), artifacts }
        }
        Err(reason) => {
            error!("evidence without a manifest in {}: {reason}", path.display());
            Stored { trigger, path: None, artifacts }
        }
    }
}

/// Says now what would be too late to learn at a stop: that nothing can be
/// stored; and what an earlier life left unfinished.
pub(super) fn look_at_store(evidence: &Evidence) {
    let store = store(evidence);
    if let Err(reason) = store.look() {
        error!("evidence cannot be stored: {reason}; make the directory, owned by the main process's user");
        return;
    }
    for folder in clear_unfinished(&store.spool()) {
        warn!(path = %folder.display(), "an earlier life was cut short: what it had finished is still there");
    }
}

pub(super) fn store(evidence: &Evidence) -> Directory {
    match &evidence.store {
        StoreUrl::Directory(root) => Directory::new(root.clone()),
    }
}

/// Adds to what the manifest says of an artifact.
fn note(record: &mut ArtifactRecord, text: &str) {
    record.reason = Some(match record.reason.take() {
        Some(reason) => format!("{reason}; {text}"),
        None => text.to_owned(),
    });
}

pub(super) fn missing(artifact: &'static str, status: Status, reason: String) -> ArtifactRecord {
    ArtifactRecord {
        artifact,
        status,
        file: None,
        bytes: None,
        sha256: None,
        duration_ms: 0,
        reason: Some(reason),
    }
}

fn log(record: &ArtifactRecord) {
    let took = format_duration(Duration::from_millis(record.duration_ms));
    match (&record.reason, record.status) {
        (None, _) => info!(took, "{} captured", record.artifact),
        (Some(reason), Status::Skipped) => warn!("{} skipped: {reason}", record.artifact),
        (Some(reason), _) => warn!(took, "{} not captured: {reason}", record.artifact),
    }
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// `20261123T120311Z`: sorts by time, fits any file system.
fn compact(time: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.chars().filter(|c| !matches!(c, '-' | ':')).collect()
}
