//! A place that takes files by PUT: WebDAV, a gateway, an Azure container by its SAS URL.
//!
//! It knows no parts and has no upload that could stay behind: a file is there whole or not at
//! all, as far as the server keeps that.

use super::client::{client, limit};
use crate::evidence::{Digest, Hasher};
use crate::net::{self, Refusal};
use crate::units::WebFolder;
use std::path::Path;
use std::time::Duration;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::time::sleep;

/// A request is made so often before it is given up.
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(300);
/// What is read of a file at once. Bytes.
const PIECE: usize = 256 << 10;

#[derive(Clone, Debug)]
pub(super) struct Web {
    folder: WebFolder,
    client: reqwest::Client,
}

impl Web {
    /// # Errors
    /// What is wrong with the file of roots.
    pub(super) fn new(folder: WebFolder, ca_file: Option<&Path>) -> Result<Self, String> {
        Ok(Self { folder, client: client(ca_file)? })
    }

    pub(super) async fn put_bytes(&self, key: &str, kind: &str, bytes: Vec<u8>) -> Result<(), String> {
        let size = bytes.len() as u64;
        self.put(key, kind, size, &Content::Bytes(bytes)).await
    }

    /// Puts a file as it is read. Its digest.
    pub(super) async fn put_file(&self, key: &str, kind: &str, path: &Path) -> Result<Digest, String> {
        let unreadable = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
        let mut file = File::open(path).await.map_err(unreadable)?;
        let mut hasher = Hasher::default();
        let mut piece = vec![0; PIECE];
        loop {
            match file.read(&mut piece).await.map_err(unreadable)? {
                0 => break,
                count => hasher.update(piece.get(..count).unwrap_or_default()),
            }
        }
        let digest = hasher.finish();
        let content = Content::File(file);
        self.put(key, kind, digest.bytes, &content).await?;
        Ok(digest)
    }

    /// Until it is taken or refused for good, a few times.
    async fn put(&self, key: &str, kind: &str, size: u64, content: &Content) -> Result<(), String> {
        let mut pause = FIRST_PAUSE;
        let mut left = TRIES;
        loop {
            left -= 1;
            match self.put_once(key, kind, size, content.body().await?).await {
                Ok(()) => return Ok(()),
                Err(refusal) if refusal.is_for_good || left == 0 => return Err(refusal.reason),
                Err(_) => {}
            }
            sleep(pause).await;
            pause *= 2;
        }
    }

    async fn put_once(&self, key: &str, kind: &str, size: u64, body: reqwest::Body) -> Result<(), Refusal> {
        let request = self
            .client
            .put(self.folder.request(key))
            .header("content-type", kind)
            // Without it the length of what is read is not known to the server.
            .header("content-length", size)
            // "Put Blob", Azure Storage REST API; others do not know it.
            .header("x-ms-blob-type", "BlockBlob")
            .timeout(limit(size))
            .body(body);
        net::granted(request.send().await).await
    }
}

/// What is put; more than once, if need be.
enum Content {
    Bytes(Vec<u8>),
    File(File),
}

impl Content {
    async fn body(&self) -> Result<reqwest::Body, String> {
        match self {
            Self::Bytes(bytes) => Ok(reqwest::Body::from(bytes.clone())),
            Self::File(file) => {
                let unreadable = |error: std::io::Error| format!("cannot read it again: {error}");
                let mut file = file.try_clone().await.map_err(unreadable)?;
                file.rewind().await.map_err(unreadable)?;
                Ok(reqwest::Body::from(file))
            }
        }
    }
}
