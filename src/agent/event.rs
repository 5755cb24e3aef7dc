//! One event, from its trigger to its manifest.

use super::capture::{capture_heap, capture_threads};
use crate::config::{Artifact, StoreUrl, Trigger};
use crate::evidence::{self, ArtifactRecord, Bundle, Jvm, Manifest, Status, clear_unfinished, digest_file};
use crate::facts::processes::Process;
use crate::jvm::{self, Session};
use crate::plan::{Evidence, Plan};
use crate::store::Directory;
use crate::sys::process::{self, Pid};
use crate::units::{Signal, format_duration};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use tracing::{error, info, warn};

/// A first attach, or a thread dump, gets at most this share of the time.
const FIRST_STEP_SHARE: u32 = 2;
/// What moving files and writing the manifest may take.
const MANIFEST_TIME: Duration = Duration::from_millis(300);

/// What set an event off, and how long it may take.
#[derive(Clone, Debug)]
pub(super) struct Occasion {
    pub(super) trigger: Trigger,
    /// The JVM is needed no longer than until then.
    pub(super) capture_until: Instant,
    /// Everything is stored by then.
    pub(super) store_until: Instant,
    pub(super) stop: Option<evidence::Stop>,
    pub(super) main_ended: Option<String>,
}

/// An event whose evidence is captured and not yet stored.
#[derive(Debug)]
pub(super) struct Captured {
    store_until: Instant,
    bundle: Bundle,
    manifest: Manifest,
}

/// Captures what the rules on `occasion` ask for: two rules, one event.
pub(super) async fn capture(
    plan: &Plan,
    evidence: &Evidence,
    main: Option<Pid>,
    session: Option<Session>,
    occasion: Occasion,
) -> Option<Captured> {
    let began = SystemTime::now();
    let rules: Vec<_> = evidence.rules_on(occasion.trigger).collect();
    let mut wanted: Vec<Artifact> = rules.iter().flat_map(|rule| rule.capture.iter().copied()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let trigger = word(occasion.trigger);
    let store = store(evidence);
    let bundle = match Bundle::create(&store.spool(), &format!("{}-{trigger}", compact(began))) {
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
        trigger,
        rules: rules.iter().map(|rule| rule.name.clone()).collect(),
        began: rfc3339(began),
        captured: String::new(),
        stored: String::new(),
        main_ended: occasion.main_ended.clone(),
    };
    let mut manifest = Manifest::new(service, event);
    manifest.stop.clone_from(&occasion.stop);
    match reach(main, session, &occasion).await {
        Ok(session) => {
            manifest.jvm = Some(Jvm {
                pid: session.target.pid.number(),
                version: session.version.full.clone(),
                name: session.version.name.clone(),
            });
            climb(&session, &bundle, &wanted, &occasion, &mut manifest).await;
        }
        Err(reason) => {
            for artifact in &wanted {
                manifest.artifacts.push(missing(*artifact, Status::Failed, reason.clone()));
            }
            manifest.jvm_missing = Some(reason);
        }
    }
    manifest.event.captured = rfc3339(SystemTime::now());
    Some(Captured { store_until: occasion.store_until, bundle, manifest })
}

/// The cheap and certain first: a thread dump before the heap dump, since
/// nothing else is answered while that runs.
async fn climb(
    session: &Session,
    bundle: &Bundle,
    wanted: &[Artifact],
    occasion: &Occasion,
    manifest: &mut Manifest,
) {
    let mut silent = false;
    for artifact in wanted {
        let left = occasion.capture_until.saturating_duration_since(Instant::now());
        let record = if silent {
            missing(*artifact, Status::Skipped, "the JVM did not answer before".to_owned())
        } else if left.is_zero() {
            missing(*artifact, Status::Skipped, "no time was left".to_owned())
        } else {
            match artifact {
                Artifact::Threads => {
                    let until = Instant::now() + left / FIRST_STEP_SHARE;
                    capture_threads(session, bundle, "threads-1.txt", until).await
                }
                Artifact::Heap => capture_heap(session, bundle, "heap.hprof", occasion.capture_until).await,
            }
        };
        silent |= record.status != Status::Complete && *artifact == Artifact::Threads;
        log(&record);
        manifest.artifacts.push(record);
    }
}

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
    let left = occasion.capture_until.saturating_duration_since(Instant::now());
    let until = Instant::now() + left / FIRST_STEP_SHARE;
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

/// Digests what has none, moves everything to the store, the manifest last.
pub(super) fn store_all(evidence: &Evidence, plan: &Plan, captured: Captured) -> bool {
    let Captured { store_until, bundle, mut manifest } = captured;
    // The manifest matters more than a digest: it is written in any case.
    let is_late = || Instant::now() + MANIFEST_TIME > store_until;
    let store = store(evidence);
    let date = manifest.event.began.get(..10).unwrap_or("undated").to_owned();
    let folder = [&plan.service, &date, &plan.task, &manifest.event.id].map(String::as_str).join("/");
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
    match written {
        Ok(()) => {
            let asked = manifest.artifacts.len();
            info!(artifacts = format!("{complete}/{asked}"), path = %path.display(), "evidence stored");
            true
        }
        Err(reason) => {
            error!("evidence without a manifest in {}: {reason}", path.display());
            false
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

fn missing(artifact: Artifact, status: Status, reason: String) -> ArtifactRecord {
    let artifact = match artifact {
        Artifact::Threads => "threads",
        Artifact::Heap => "heap",
    };
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

fn word(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Stop => "stop",
        Trigger::Exit => "exit",
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
