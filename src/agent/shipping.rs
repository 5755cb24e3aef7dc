//! What did not get to its store, in this life or an earlier one, goes there in the background.

use super::storing::Spool;
use crate::evidence::{Digest, Waiting, waiting};
use crate::store::{Labels, Store};
use crate::units::format_duration;
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};

/// What cannot be opened in that time is told.
const OPENING: Duration = Duration::from_secs(20);
/// The spool is looked at, and a store that refuses is asked again, after so long.
const AGAIN: Duration = Duration::from_mins(1);
/// No faster than that: the service's own traffic comes first. Bytes per second.
const RATE: u64 = 32 << 20;

/// Opens the store, so that no credentials are to be fetched when time is short; then sends
/// every event that waits, the oldest first, as long as it is not dropped. Whether the store
/// takes them is told by `trouble`.
pub(super) async fn ship(store: Store, spool: Spool, trouble: watch::Sender<Option<String>>) {
    while let Some(reason) = open(&store).await {
        if trouble.send_replace(Some(reason.clone())).as_ref() != Some(&reason) {
            warn!("the store cannot be opened: {reason}; it is tried again");
        }
        tokio::time::sleep(AGAIN).await;
    }
    trouble.send_replace(None);
    loop {
        let Some(event) = waiting(&spool.folder) else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        let id = event.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        match send(&store, &event).await {
            Ok((path, files)) => {
                event.remove();
                trouble.send_replace(None);
                info!(path, files, "evidence that waited is stored");
            }
            Err(reason) => {
                warn!("evidence ({id}) still waits in the spool: {reason}");
                // Whoever comes next may send it meanwhile.
                drop(event);
                trouble.send_replace(Some(reason));
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Why it cannot be opened.
async fn open(store: &Store) -> Option<String> {
    let Store::Bucket(bucket) = store else { return None };
    match timeout(OPENING, bucket.warm()).await {
        Ok(opened) => opened.err(),
        Err(_) => Some(format!("no credentials came within {}", format_duration(OPENING))),
    }
}

/// Sends its files, the smallest first, and its manifest.
async fn send(store: &Store, event: &Waiting) -> Result<(String, usize), String> {
    let mut manifest = event.manifest.clone();
    let text = |pointer: &str| {
        let text = manifest.pointer(pointer).and_then(Value::as_str).unwrap_or("unknown");
        // It comes from a file that others may have written: it stays one folder's name.
        let safe: String =
            text.chars().take(200).map(|c| if c == '/' || c.is_control() { '_' } else { c }).collect();
        if safe.is_empty() || safe.starts_with('.') { "unknown".to_owned() } else { safe }
    };
    let (service, task, id) = (text("/service/name"), text("/service/task"), text("/event/id"));
    let date: String = text("/event/began").chars().take(10).collect();
    let folder = format!("{service}/{date}/{task}/{id}");
    let labels: Labels =
        vec![("service", service), ("task", task), ("trigger", text("/event/trigger")), ("event", id)];
    if let Store::Bucket(bucket) = store {
        for upload in event.uploads() {
            // It goes on where it was.
            if upload.file().is_some_and(|file| file.exists()) {
                continue;
            }
            // Else its parts would stay, unseen and paid for.
            bucket.abort(&upload.key, &upload.id).await?;
            drop(std::fs::remove_file(upload.note));
            info!(key = upload.key, "an upload that was cut short is given up");
        }
    }
    let files = event.files();
    for file in &files {
        let path = event.folder.join(file);
        let size = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let key = format!("{folder}/{file}");
        match store {
            Store::Directory(directory) => directory.put(&path, &key)?,
            Store::Bucket(bucket) => {
                let digest = bucket.put_file(&key, &path, &labels, &event.upload_note(file)).await?;
                note_sent(&mut manifest, file, &digest);
                // Sent, it need not be sent again if this life ends now.
                event.note(&manifest)?;
                drop(std::fs::remove_file(&path));
                tokio::time::sleep(Duration::from_secs(size / RATE)).await;
            }
        }
    }
    for artifact in artifacts(&mut manifest) {
        artifact.remove("spooled");
    }
    if let Some(notes) = manifest.as_object_mut() {
        let mut all = notes.get("notes").and_then(Value::as_array).cloned().unwrap_or_default();
        all.push(json!(if event.is_whole {
            "sent later, from the spool"
        } else {
            "its life was cut short; sent later: what was in the spool"
        }));
        notes.insert("notes".to_owned(), Value::Array(all));
    }
    let bytes = serde_json::to_vec_pretty(&manifest).map_err(|error| error.to_string())?;
    let key = format!("{folder}/manifest.json");
    match store {
        Store::Directory(directory) => directory.put_bytes(&bytes, &key)?,
        Store::Bucket(bucket) => bucket.put_bytes(&key, bytes, &labels).await?,
    }
    Ok((store.url(&folder), files.len()))
}

fn artifacts(manifest: &mut Value) -> impl Iterator<Item = &mut Map<String, Value>> {
    let artifacts = manifest.pointer_mut("/artifacts").and_then(Value::as_array_mut);
    artifacts.into_iter().flatten().filter_map(Value::as_object_mut)
}

fn note_sent(manifest: &mut Value, file: &str, digest: &Digest) {
    for artifact in artifacts(manifest) {
        if artifact.get("file").and_then(Value::as_str) == Some(file) {
            artifact.remove("spooled");
            artifact.insert("bytes".to_owned(), json!(digest.bytes));
            artifact.insert("sha256".to_owned(), json!(digest.sha256));
        }
    }
}
