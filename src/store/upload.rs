//! One object that comes in parts, several of them on their way at once.

use super::bucket::{Bucket, Remote};
use crate::evidence::{NotedUpload, note_part, note_upload};
use object_store::PutPayload;
use object_store::multipart::PartId;
use object_store::path::Path;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Of a part: S3 takes none below 5 MiB but the last, and ten thousand. Bytes.
pub const PART: usize = 6 << 20;
/// Parts on their way: one is sent while the answer to another is waited for.
const PARALLEL: usize = 2;
/// S3's own limit.
const PARTS_LIMIT: usize = 10_000;

/// An upload under way. One that is neither completed nor given up stays at the store, under
/// its id.
#[derive(Debug)]
pub struct Upload {
    bucket: Bucket,
    path: Path,
    id: String,
    parts: BTreeMap<usize, PartId>,
    /// Where it is noted as long as somebody else may have to end it.
    note: Option<PathBuf>,
    /// That somebody can go on with it, part by part.
    goes_on: bool,
    running: JoinSet<Result<(usize, PartId), String>>,
}

impl Upload {
    pub(super) fn new(bucket: Bucket, path: Path, id: String) -> Self {
        Self { bucket, path, id, parts: BTreeMap::new(), note: None, goes_on: false, running: JoinSet::new() }
    }

    /// One that a life which ended has begun.
    pub(super) fn noted(bucket: Bucket, path: Path, noted: NotedUpload) -> Self {
        let part = |(index, content_id)| (index, PartId { content_id });
        let parts = noted.parts.into_iter().map(part).collect();
        Self {
            bucket,
            path,
            id: noted.id,
            parts,
            note: Some(noted.note),
            goes_on: true,
            running: JoinSet::new(),
        }
    }

    /// Notes it, for a life that may come after this one: of a file of that size with every part
    /// that arrives.
    pub fn note_to(&mut self, note: PathBuf, key: &str, size: Option<u64>) {
        note_upload(&note, key, &self.id, size.map(|size| (size, PART)));
        self.goes_on = size.is_some();
        self.note = Some(note);
    }

    /// Whether its parts must be of one size, but for the last.
    pub fn has_equal_parts(&self) -> bool {
        self.bucket.has_equal_parts()
    }

    /// Whether that part has arrived before.
    pub(super) fn has(&self, index: usize) -> bool {
        self.parts.contains_key(&index)
    }

    /// Sends a part; returns once there is room for another. The order of calls is free.
    ///
    /// # Errors
    /// What the store said of this one or of one before.
    pub async fn part(&mut self, index: usize, bytes: Vec<u8>) -> Result<(), String> {
        if index >= PARTS_LIMIT {
            return Err(format!("it has more than {PARTS_LIMIT} parts"));
        }
        while self.running.len() >= PARALLEL {
            self.arrived().await?;
        }
        let (bucket, path, id) = (self.bucket.clone(), self.path.clone(), self.id.clone());
        self.running.spawn(async move {
            let payload = PutPayload::from(bytes);
            let (path, id) = (&path, &id);
            let put = |remote: Arc<dyn Remote>| {
                let payload = payload.clone();
                async move { remote.put_part(path, id, index, payload).await }
            };
            bucket.with(put).await.map(|part| (index, part))
        });
        Ok(())
    }

    async fn arrived(&mut self) -> Result<(), String> {
        match self.running.join_next().await {
            Some(Ok(Ok((index, part)))) => {
                if let Some(note) = self.note.as_ref().filter(|_| self.goes_on) {
                    note_part(note, index, &part.content_id);
                }
                self.parts.insert(index, part);
                Ok(())
            }
            Some(Ok(Err(reason))) => Err(reason),
            Some(Err(error)) => Err(error.to_string()),
            None => Ok(()),
        }
    }

    /// Waits for all parts and makes them the object.
    ///
    /// # Errors
    /// What the store said; the upload is given up.
    pub async fn complete(mut self) -> Result<(), String> {
        let completed = self.try_complete().await;
        match completed {
            Ok(()) => {
                self.forget();
                Ok(())
            }
            Err(reason) => Err(self.abort(reason).await),
        }
    }

    /// Nobody need end it any more.
    fn forget(&self) {
        if let Some(note) = &self.note {
            drop(std::fs::remove_file(note));
        }
    }

    async fn try_complete(&mut self) -> Result<(), String> {
        while !self.running.is_empty() {
            self.arrived().await?;
        }
        let parts: Vec<PartId> = self.parts.values().cloned().collect();
        let (path, id) = (&self.path, &self.id);
        let complete = |remote: Arc<dyn Remote>| {
            let parts = parts.clone();
            async move { remote.complete_multipart(path, id, parts).await.map(drop) }
        };
        self.bucket.with(complete).await
    }

    /// Gives it up for that reason, so that nothing of it stays at the store. The reason, with what
    /// does stay.
    pub async fn abort(mut self, reason: String) -> String {
        self.running.shutdown().await;
        match self.bucket.abort_path(&self.path, &self.id).await {
            Ok(()) => {
                self.forget();
                reason
            }
            Err(error) => format!("{reason}; its parts could not be removed ({error}): upload {}", self.id),
        }
    }
}
