//! From a captured event to the store: digests, files, the manifest last.

use super::event::Captured;
use crate::config::StoreUrl;
use crate::evidence::{ArtifactRecord, Lost, Status, clear_unfinished, digest_file, forget};
use crate::plan::Evidence;
use crate::store::Directory;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use tracing::{error, info, warn};

/// What moving files and writing the manifest may take.
const MANIFEST_TIME: Duration = Duration::from_millis(300);

/// What became of an event.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) number: u64,
    pub(super) trigger: &'static str,
    /// The bundle, if its manifest could be written.
    pub(super) path: Option<PathBuf>,
    /// Whole artifacts of those that were asked for: `3/4`.
    pub(super) artifacts: String,
}

/// Digests what has none, moves everything to the store, the manifest last. Takes
/// as long as reading all of it: not for the event loop.
pub(super) fn store_all(store: &Directory, captured: Captured) -> Stored {
    let Captured { number, store_until, bundle, mut manifest, .. } = captured;
    // The manifest matters more than a digest: it is written in any case.
    let is_late = || Instant::now() + MANIFEST_TIME > *store_until.borrow();
    let date = manifest.event.began.get(..10).unwrap_or("undated").to_owned();
    let service = &manifest.service;
    let folder = [&service.name, &date, &service.task, &manifest.event.id].map(String::as_str).join("/");
    let mut complete = 0_usize;
    for record in &mut manifest.artifacts {
        let Some(file) = record.file.clone() else { continue };
        let path = bundle.folder().join(&file);
        // What was digested while it was written is not read again.
        let digest = if record.sha256.is_some() { Ok(None) } else { digest_file(&path, is_late) };
        match store.put(&path, &format!("{folder}/{file}")) {
            Ok(()) => complete += usize::from(record.status == Status::Complete && record.of.is_none()),
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
    let written =
        manifest.to_bytes().and_then(|bytes| store.put_bytes(&bytes, &format!("{folder}/manifest.json")));
    if written.is_ok() {
        // What it says of earlier lives is told for good now.
        for lost in manifest.lost.iter().filter(|lost| lost.kept.is_empty()) {
            forget(&store.spool().join(&lost.id));
        }
    }
    bundle.remove();
    let path = store.path(&folder);
    let asked_for = manifest.artifacts.iter().filter(|record| record.of.is_none()).count();
    let artifacts = format!("{complete}/{asked_for}");
    let trigger = manifest.event.trigger;
    match written {
        Ok(()) => {
            info!(artifacts, path = %path.display(), "evidence stored");
            Stored { number, trigger, path: Some(path), artifacts }
        }
        Err(reason) => {
            error!("evidence without a manifest in {}: {reason}", path.display());
            Stored { number, trigger, path: None, artifacts }
        }
    }
}

/// Says now what would be too late to learn at a stop: that nothing can be stored;
/// and what an earlier life left unfinished, which is returned for the next manifest.
pub(super) fn look_at_store(evidence: &Evidence) -> Vec<Lost> {
    let store = store(evidence);
    if let Err(reason) = store.look() {
        error!("evidence cannot be stored: {reason}; make the directory, owned by the main process's user");
        return Vec::new();
    }
    let lost = clear_unfinished(&store.spool());
    for event in &lost {
        let path = store.spool().join(&event.id);
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

pub(super) fn store(evidence: &Evidence) -> Directory {
    match &evidence.store {
        StoreUrl::Directory(root) => Directory::new(root.clone()),
    }
}

pub(super) fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
