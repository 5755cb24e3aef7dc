//! One reply: a status line, then text until the end. Read as hostile input.

use super::Failure;
use std::io;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

/// The longest status line: a sign, ten digits, a newline. Bytes.
const STATUS_LIMIT: usize = 12;
const CHUNK: usize = 64 * 1024;

/// A reply that has begun.
#[derive(Debug)]
pub struct Reply {
    /// 0 means only that the command was known; its text may tell of a failure.
    pub status: i32,
    /// What came with the status line.
    head: Vec<u8>,
    stream: UnixStream,
    deadline: Instant,
}

impl Reply {
    /// Waits for the status line.
    pub(super) async fn begin(mut stream: UnixStream, deadline: Instant) -> Result<Self, Failure> {
        let mut head = Vec::with_capacity(CHUNK);
        loop {
            if let Some(end) = head.iter().position(|byte| *byte == b'\n') {
                let status = std::str::from_utf8(head.get(..end).unwrap_or_default())
                    .ok()
                    .and_then(|text| text.trim().parse().ok())
                    .ok_or_else(|| nonsense(&head))?;
                head.drain(..=end);
                return Ok(Self { status, head, stream, deadline });
            }
            if head.len() > STATUS_LIMIT {
                return Err(nonsense(&head));
            }
            if read(&mut stream, &mut head, deadline).await? == 0 {
                return Err(if head.is_empty() {
                    Failure::Broken { source: io::ErrorKind::UnexpectedEof.into() }
                } else {
                    nonsense(&head)
                });
            }
        }
    }

    /// The next piece of text, empty at the end.
    ///
    /// # Errors
    /// [`Failure::NoAnswer`] past the deadline, [`Failure::Broken`] if the JVM dies.
    pub async fn chunk(&mut self) -> Result<Vec<u8>, Failure> {
        if self.head.is_empty() {
            self.head.reserve(CHUNK);
            read(&mut self.stream, &mut self.head, self.deadline).await?;
        }
        Ok(std::mem::take(&mut self.head))
    }

    /// The whole text, cut at `limit` bytes.
    ///
    /// # Errors
    /// As [`Reply::chunk`].
    pub async fn text(mut self, limit: usize) -> Result<String, Failure> {
        let mut bytes = Vec::new();
        loop {
            let chunk = self.chunk().await?;
            if chunk.is_empty() || bytes.len() >= limit {
                bytes.truncate(limit);
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
            bytes.extend_from_slice(&chunk);
        }
    }
}

async fn read(stream: &mut UnixStream, buffer: &mut Vec<u8>, deadline: Instant) -> Result<usize, Failure> {
    timeout_at(deadline, stream.read_buf(buffer))
        .await
        .map_err(|_| Failure::NoAnswer)?
        .map_err(|source| Failure::Broken { source })
}

fn nonsense(bytes: &[u8]) -> Failure {
    let start = bytes.get(..bytes.len().min(40)).unwrap_or_default();
    Failure::Nonsense { start: String::from_utf8_lossy(start).into_owned() }
}
