//! Where a streamed heap dump goes: a file of the spool, or a bucket, in parts.

use super::disk::{Room, is_in_memory};
use crate::evidence::{Bundle, Sink, fill};
use crate::facts::cgroup;
use crate::store::{PART, Upload};
use crate::units::ByteSize;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// So often the room on the disk is looked at, which must hold as much more. Bytes.
const LOOK_EVERY: u64 = 1 << 20;
/// A container whose memory is so nearly full gets no more in its tmpfs. Bytes.
const MEMORY_KEPT: u64 = 64 << 20;

/// The one or the other.
pub(super) enum HeapSink {
    File(Careful),
    Bucket(Parts),
}

impl Write for HeapSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Bucket(parts) => parts.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for HeapSink {
    fn takes_first(&self) -> bool {
        match self {
            Self::File(file) => file.takes_first(),
            Self::Bucket(parts) => parts.takes_first(),
        }
    }

    fn put_first(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.put_first(bytes),
            Self::Bucket(parts) => parts.put_first(bytes),
        }
    }
}

/// A file that does not take the disk's last.
pub(super) struct Careful {
    file: File,
    folder: PathBuf,
    is_in_memory: bool,
    since_looked: u64,
}

impl Careful {
    pub(super) fn new(file: File, bundle: &Bundle) -> Self {
        let folder = bundle.folder().to_owned();
        let is_in_memory = is_in_memory(&folder);
        Self { file, folder, is_in_memory, since_looked: LOOK_EVERY }
    }

    /// Whether there is room for so many bytes.
    fn look(&self, size: u64) -> io::Result<()> {
        if let Some(room) = Room::at(&self.folder)
            && !room.holds(size)
        {
            let left = ByteSize(room.free);
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("the rest of the disk is the service's ({left} free)"),
            ));
        }
        if self.is_in_memory && cgroup::available_memory().is_some_and(|left| left < MEMORY_KEPT) {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "it is in memory, and that is nearly full",
            ));
        }
        Ok(())
    }
}

impl Write for Careful {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.since_looked >= LOOK_EVERY {
            self.since_looked = 0;
            self.look(LOOK_EVERY)?;
        }
        let count = self.file.write(bytes)?;
        self.since_looked += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Careful {
    fn takes_first(&self) -> bool {
        true
    }

    /// Moves what is there up, the end first.
    fn put_first(&mut self, bytes: &[u8]) -> io::Result<()> {
        let by = bytes.len() as u64;
        self.look(by)?;
        let mut buffer = vec![0; 1 << 20];
        let mut end = self.file.metadata()?.len();
        while end > 0 {
            let count = end.min(buffer.len() as u64);
            let piece = buffer.get_mut(..usize::try_from(count).unwrap_or_default()).unwrap_or_default();
            end -= count;
            self.file.read_exact_at(piece, end)?;
            self.file.write_all_at(piece, end + by)?;
        }
        self.file.write_all_at(bytes, 0)
    }
}

enum Message {
    Part(usize, Vec<u8>),
    Whole,
}

/// Cuts a stream into parts and hands them to the task that sends them.
pub(super) struct Parts {
    sender: mpsc::Sender<Message>,
    piece: Vec<u8>,
    /// The first part stays to the end: something may belong in front of it, and no part but
    /// the last may be small.
    first: Option<Vec<u8>>,
    next: usize,
    /// They must be of one size, but for the last.
    are_equal: bool,
}

/// A task that sends parts. Whoever drops [`Parts`] without [`Parts::finish`] gives the
/// upload up.
pub(super) fn send_parts(upload: Upload) -> (Parts, JoinHandle<Result<(), String>>) {
    // One waits, two are under way, one is filled: the agent stays small.
    let (sender, receiver) = mpsc::channel(1);
    let are_equal = upload.has_equal_parts();
    let task = tokio::spawn(async move { send_all(upload, receiver).await });
    (Parts { sender, piece: Vec::new(), first: None, next: 1, are_equal }, task)
}

async fn send_all(mut upload: Upload, mut receiver: mpsc::Receiver<Message>) -> Result<(), String> {
    loop {
        match receiver.recv().await {
            Some(Message::Part(index, bytes)) => {
                if let Err(reason) = upload.part(index, bytes).await {
                    receiver.close();
                    return Err(upload.abort(reason).await);
                }
            }
            Some(Message::Whole) => return upload.complete().await,
            None => return Err(upload.abort("it was given up".to_owned()).await),
        }
    }
}

impl Parts {
    fn send(&self, message: Message) -> io::Result<()> {
        // Its own words are the task's to tell.
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the store takes no more of it");
        self.sender.blocking_send(message).map_err(gone)
    }

    /// Everything was written; the task makes it an object.
    ///
    /// # Errors
    /// The task has given up.
    pub(super) async fn finish(self) -> Result<(), String> {
        let Self { sender, piece, first, next, .. } = self;
        let mut last = Vec::new();
        // The first one is a part of its own even if nothing came behind it.
        last.extend(first.map(|first| (0, first)));
        if !piece.is_empty() || last.is_empty() {
            last.push((if last.is_empty() { 0 } else { next }, piece));
        }
        let messages = last.into_iter().map(|(index, bytes)| Message::Part(index, bytes));
        for message in messages.chain([Message::Whole]) {
            sender.send(message).await.map_err(|_| "the store takes no more of it".to_owned())?;
        }
        Ok(())
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.capacity() == 0 {
            self.piece.reserve_exact(PART);
        }
        let taken = fill(&mut self.piece, PART, bytes);
        if self.piece.len() == PART {
            let piece = std::mem::take(&mut self.piece);
            if self.first.is_none() {
                self.first = Some(piece);
            } else {
                self.send(Message::Part(self.next, piece))?;
                self.next += 1;
            }
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Parts {
    /// The first part gets longer by it.
    fn takes_first(&self) -> bool {
        !self.are_equal
    }

    fn put_first(&mut self, bytes: &[u8]) -> io::Result<()> {
        let behind = match &mut self.first {
            Some(first) => first,
            None => &mut self.piece,
        };
        let mut all = Vec::with_capacity(bytes.len() + behind.len());
        all.extend_from_slice(bytes);
        all.extend_from_slice(behind);
        *behind = all;
        Ok(())
    }
}
