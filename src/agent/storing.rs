//! From a captured event to the store: digests, files, the manifest last; what does not get
//! there waits in the spool.

use super::event::Captured;
use super::notifying::Notice;
use crate::evidence::{
    ArtifactRecord, Bundle, Digest, Lost, Manifest, Status, clear_unfinished, digest_file, forget, trim,
    waiting_bytes,
};
use crate::plan::{Evidence, StorePlan};
use crate::store::{self, Bucket, Directory, Labels, Store};
use crate::units::ByteSize;
use nix::sys::statvfs::statvfs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout_at};
use tracing::{error, info, warn};

/// What moving files and writing the manifest may take.
const MANIFEST_TIME: Duration = Duration::from_millis(300);
/// The same, to a bucket; at most a quarter of the time that is left.
const MANIFEST_SENT: Duration = Duration::from_secs(2);
/// Files that are sent at once: most of the time is waiting for answers.
const AT_ONCE: usize = 4;

/// What became of an event.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) number: u64,
    pub(super) trigger: &'static str,
    /// The bundle, if its manifest could be written; else why not.
    pub(super) result: Result<String, String>,
    /// Whole artifacts of those that were asked for: `3/4`.
    pub(super) artifacts: String,
    /// What people are told of it.
    pub(super) notice: Notice,
}

/// A file that is on its way to a bucket since before it was whole.
#[derive(Debug)]
pub(super) struct Tail {
    /// As its record calls it.
    pub(super) file: String,
    pub(super) task: JoinHandle<Result<(), String>>,
    /// It was begun under this name.
    pub(super) begun_as: String,
}

/// What every object of an event says of itself.
pub(super) fn labels(manifest: &Manifest) -> Labels {
    vec![
        ("service", manifest.service.name.clone()),
        ("task", manifest.service.task.clone()),
        ("trigger", manifest.event.trigger.to_owned()),
        ("event", manifest.event.id.clone()),
    ]
}

/// Digests what has none, moves everything to the store, the manifest last. Takes
/// as long as reading all of it: not for the event loop.
pub(super) fn store_in_directory(store: &Directory, spool: &Spool, captured: Captured) -> Stored {
    let Captured { number, store_until, bundle, mut manifest, .. } = captured;
    // The manifest matters more than a digest: it is written in any case.
    let is_late = || Instant::now() + MANIFEST_TIME > *store_until.borrow();
    let folder = manifest.folder();
    for record in &mut manifest.artifacts {
        let Some(file) = record.file.clone() else { continue };
        let path = bundle.folder().join(&file);
        // What was digested while it was written is not read again.
        let digest = if record.sha256.is_some() { Ok(None) } else { digest_file(&path, is_late) };
        match store.put(&path, &format!("{folder}/{file}")) {
            Ok(()) => record.is_stored = true,
            Err(reason) => {
                error!("{} is captured and not stored: {reason}", record.artifact);
                let took = Duration::from_millis(record.duration_ms);
                *record = ArtifactRecord::failed(record.artifact, reason, took);
                continue;
            }
        }
        *record = match digest {
            Ok(Some(digest)) => record.clone().with_digest(digest),
            Ok(None) if record.sha256.is_some() => continue,
            Ok(None) => record.clone().with_note("stored without a digest: no time was left"),
            Err(error) => record.clone().with_note(&format!("stored without a digest: {error}")),
        };
    }
    manifest.event.stored = rfc3339(SystemTime::now());
    let key = format!("{folder}/manifest.json");
    let written = manifest.to_bytes().and_then(|bytes| store.put_bytes(&bytes, &key));
    if written.is_ok() {
        forget_lost(&manifest, spool);
    }
    bundle.remove();
    let path = store.path(&folder).display().to_string();
    told(number, &manifest, path, None, written)
}

/// Sends everything to a bucket, the small ones first, the manifest last; what is not there
/// by the deadline waits in the spool.
pub(super) async fn store_in_bucket(bucket: Bucket, spool: Spool, captured: Captured) -> Stored {
    let Captured { number, store_until, bundle, mut manifest, tails, .. } = captured;
    let folder = manifest.folder();
    let labels = labels(&manifest);
    let until = || {
        let until = *store_until.borrow();
        let left = until.saturating_duration_since(Instant::now());
        (until - MANIFEST_SENT.min(left / 4), until)
    };
    let mut sending = send_files(&bucket, &bundle, &manifest, &folder, &labels);
    let mut sent: Vec<(String, Result<Option<Digest>, String>)> = Vec::new();
    loop {
        // A stop may come and shorten it.
        match timeout_at(until().0, sending.join_next()).await {
            Ok(Some(Ok((file, result)))) => sent.push((file, result.map(Some))),
            Ok(Some(Err(error))) => warn!("{error}"),
            Ok(None) => break,
            Err(_) => {
                sending.shutdown().await;
                break;
            }
        }
    }
    for mut tail in tails {
        let arrived = match timeout_at(until().0, &mut tail.task).await {
            Ok(Ok(arrived)) => arrived,
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => {
                tail.task.abort();
                Err("it was not with the store in time".to_owned())
            }
        };
        if arrived.is_ok() && tail.file != tail.begun_as {
            let (from, to) = (format!("{folder}/{}", tail.begun_as), format!("{folder}/{}", tail.file));
            let renamed = timeout_at(until().0, bucket.rename(&from, &to)).await;
            match renamed.unwrap_or_else(|_| Err("the time was up".to_owned())) {
                Ok(None) => {}
                Ok(Some(note)) => rename_record(&mut manifest, &tail.file, &tail.file, &note),
                Err(reason) => {
                    let note = format!("it keeps the name of a whole one: {reason}");
                    rename_record(&mut manifest, &tail.file, &tail.begun_as, &note);
                    tail.file.clone_from(&tail.begun_as);
                }
            }
        }
        sent.push((tail.file, arrived.map(|()| None)));
    }
    for record in &mut manifest.artifacts {
        let Some(file) = record.file.clone() else { continue };
        let found = sent.iter().find(|(name, _)| *name == file).map(|(_, result)| result);
        match found {
            Some(Ok(digest)) => {
                record.is_stored = true;
                if let Some(digest) = digest.clone() {
                    *record = record.clone().with_digest(digest);
                }
            }
            other => {
                let reason = match other {
                    Some(Err(reason)) => reason.clone(),
                    _ => "the time was up before it was sent".to_owned(),
                };
                if bundle.folder().join(&file).exists() {
                    warn!("{} is captured, not sent, and waits in the spool: {reason}", record.artifact);
                    *record = record.clone().with_note(&format!("it waits in the spool: {reason}"));
                    record.spooled = true;
                } else {
                    error!("{} is captured and not stored: {reason}", record.artifact);
                    let took = Duration::from_millis(record.duration_ms);
                    *record = ArtifactRecord::failed(record.artifact, reason, took);
                }
            }
        }
    }
    manifest.event.stored = rfc3339(SystemTime::now());
    let key = format!("{folder}/manifest.json");
    let written = match manifest.to_bytes() {
        Ok(bytes) => match timeout_at(until().1, bucket.put_bytes(&key, bytes, &labels)).await {
            Ok(written) => written,
            Err(_) => Err("the store did not take it in time".to_owned()),
        },
        Err(reason) => Err(reason),
    };
    // Its task was cut off, or found nobody to tell.
    for upload in bundle.uploads() {
        if let Ok(Ok(())) = timeout_at(until().1, bucket.abort(&upload.key, &upload.id)).await {
            drop(std::fs::remove_file(upload.note));
        }
    }
    if written.is_ok()
        && bundle.uploads().is_empty()
        && manifest.artifacts.iter().all(|record| !record.spooled)
    {
        bundle.remove_sent(&manifest);
        forget_lost(&manifest, &spool);
        bundle.remove();
    } else {
        keep(bundle, &manifest, &spool);
    }
    told(number, &manifest, bucket.url(&folder), bucket.console(&folder).as_deref(), written)
}

/// A part of a dump that is not where it should be: the manifest tells.
fn rename_record(manifest: &mut Manifest, file: &str, name: &str, note: &str) {
    for record in &mut manifest.artifacts {
        if record.file.as_deref() == Some(file) {
            warn!("{} is stored in part: {note}", record.artifact);
            *record = ArtifactRecord { file: Some(name.to_owned()), ..record.clone() }.with_note(note);
        }
    }
}

/// Begins to send what is in the bundle.
fn send_files(
    bucket: &Bucket,
    bundle: &Bundle,
    manifest: &Manifest,
    folder: &str,
    labels: &Labels,
) -> JoinSet<(String, Result<Digest, String>)> {
    let mut sending = JoinSet::new();
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut files: Vec<(u64, String)> = Vec::new();
    for file in manifest.artifacts.iter().filter_map(|record| record.file.clone()) {
        if let Ok(metadata) = std::fs::metadata(bundle.folder().join(&file)) {
            files.push((metadata.len(), file));
        }
    }
    files.sort();
    for (_, file) in files {
        let (bucket, labels, room) = (bucket.clone(), labels.clone(), Arc::clone(&room));
        let (path, key) = (bundle.folder().join(&file), format!("{folder}/{file}"));
        let note = bundle.upload_note(&file);
        sending.spawn(async move {
            // Never closed.
            let _turn = room.acquire().await;
            (file, bucket.put_file(&key, &path, &labels, &note).await)
        });
    }
    sending
}

fn keep(bundle: Bundle, manifest: &Manifest, spool: &Spool) {
    if let Err(reason) = bundle.keep(manifest) {
        error!("{reason}: a later start will send this event without it");
    }
    let limit = spool.limit();
    for path in trim(&spool.folder, limit) {
        warn!("{} is removed: the spool holds more than {}", path.display(), ByteSize(limit));
    }
}

/// There is no store that could be used, for that `reason`.
pub(super) fn keep_all(captured: Captured, spool: &Spool, reason: &str) -> Stored {
    let Captured { number, bundle, mut manifest, .. } = captured;
    for record in manifest.artifacts.iter_mut().filter(|record| record.file.is_some()) {
        record.spooled = true;
    }
    let path = bundle.folder().display().to_string();
    keep(bundle, &manifest, spool);
    let reason = format!("it waits in {path}: {reason}");
    told(number, &manifest, path, None, Err(reason))
}

/// What the manifest says of earlier lives is told for good now.
fn forget_lost(manifest: &Manifest, spool: &Spool) {
    for lost in manifest.lost.iter().filter(|lost| lost.kept.is_empty()) {
        forget(&spool.folder.join(&lost.id));
    }
}

fn told(
    number: u64,
    manifest: &Manifest,
    path: String,
    link: Option<&str>,
    written: Result<(), String>,
) -> Stored {
    let is_counted = |record: &&ArtifactRecord| record.of.is_none() && record.status != Status::Absent;
    let asked_for = manifest.artifacts.iter().filter(is_counted);
    let is_whole = |record: &&ArtifactRecord| record.status == Status::Complete && record.is_stored;
    let artifacts = format!("{}/{}", asked_for.clone().filter(is_whole).count(), asked_for.count());
    let trigger = manifest.event.trigger;
    let trouble = written.as_ref().err().map(String::as_str);
    let notice = Notice::new(manifest, &path, link, &artifacts, trouble);
    let result = match written {
        Ok(()) => {
            info!(artifacts, path, "evidence stored");
            Ok(path)
        }
        Err(reason) => {
            error!("evidence of \"{trigger}\" is not in its store: {reason}");
            Err(reason)
        }
    };
    Stored { number, trigger, result, artifacts, notice }
}

/// Where events wait.
#[derive(Clone, Debug)]
pub(super) struct Spool {
    pub(super) folder: PathBuf,
    /// Bytes.
    limit: u64,
    /// Percent.
    share: u8,
}

impl Spool {
    pub(super) fn of(evidence: &Evidence) -> Self {
        Self { folder: evidence.spool.clone(), limit: evidence.spool_limit.0, share: evidence.spool_share }
    }

    /// What may wait, by the disk as it is now. Bytes.
    fn limit(&self) -> u64 {
        let Ok(space) = statvfs(&self.folder) else { return self.limit };
        let free = space.blocks_available().saturating_mul(space.fragment_size());
        let without_it = free.saturating_add(waiting_bytes(&self.folder));
        self.limit.min(without_it / 100 * u64::from(self.share))
    }
}

/// Says now what would be too late to learn at a stop: that nothing can be stored;
/// and what an earlier life left unfinished, which is returned for the next manifest.
pub(super) fn look_at_spool(evidence: &Evidence) -> Vec<Lost> {
    let spool = &evidence.spool;
    if let Err(reason) = store::look(spool) {
        error!("evidence cannot be stored: {reason}; make the directory, owned by the main process's user");
        return Vec::new();
    }
    let lost = clear_unfinished(spool);
    for event in &lost {
        let path = spool.join(&event.id);
        let trigger = &event.trigger;
        if event.kept.is_empty() {
            warn!(
                "an earlier life was cut short while it captured evidence of \"{trigger}\": nothing of it is left"
            );
        } else {
            let kept = event.kept.join(", ");
            warn!(
                path = %path.display(),
                "an earlier life was cut short while it captured evidence of \"{trigger}\": still there: {kept}"
            );
        }
    }
    lost
}

/// The store.
///
/// # Errors
/// It cannot be used at all.
pub(super) fn store(evidence: &Evidence) -> Result<Store, String> {
    match &evidence.store {
        StorePlan::Directory(root) => Ok(Store::Directory(Directory::new(root.clone()))),
        StorePlan::Bucket(options) => Bucket::new((**options).clone()).map(Store::Bucket),
        StorePlan::Web { folder, ca_file } => {
            Bucket::of_web(folder.clone(), ca_file.as_deref()).map(Store::Bucket)
        }
    }
}

pub(super) fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
