//! A dump that a JVM writes into a file, followed while it grows; its blocks are given back to
//! the disk behind the reader.
//!
//! `fallocate(2)`, `FALLOC_FL_PUNCH_HOLE`: the file keeps its size, and reads as zeros there. No
//! JVM since 11.0.13 goes back to what it has written; older ones patch the length of a segment
//! once they know it (`heapDumper.cpp`, `DumpWriter::seek_to_offset`; JDK-8234510), for which
//! the disk gives a block again.

use super::borders::Borders;
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A JVM that writes a heap dump writes all the time: one that has written nothing for so long
/// has given it up, whatever it does instead.
const QUIET: Duration = Duration::from_secs(10);
/// Blocks are given back in pieces of that size: each is a call. Bytes.
const PUNCH: u64 = 1 << 20;

/// Opens a dump for reading and punching, once it is sure whose it is.
pub type Opener = Arc<dyn Fn(&Path) -> io::Result<File> + Send + Sync>;
/// Nobody writes it any more.
pub type IsOver = Arc<dyn Fn() -> bool + Send + Sync>;

/// One file that grows.
pub(super) struct Growing {
    path: PathBuf,
    open: Opener,
    /// None as long as it is not there.
    file: Option<File>,
    at: u64,
    is_over: IsOver,
    /// What is there is all.
    pub(super) is_final: bool,
    /// Of records; none where lengths are patched later.
    borders: Option<Borders>,
    /// It ends in front of the heap.
    names_only: bool,
    /// The heap begins there.
    heap_at: Option<u64>,
    /// From there on it goes on; what is between is known.
    skip_to: Option<u64>,
    punched: u64,
    punches: bool,
    last_growth: Instant,
}

impl Growing {
    pub(super) fn new(path: PathBuf, open: Opener, is_over: IsOver, borders: Option<Borders>) -> Self {
        Self {
            path,
            open,
            file: None,
            at: 0,
            is_over,
            is_final: false,
            borders,
            names_only: false,
            heap_at: None,
            skip_to: None,
            punched: 0,
            punches: true,
            last_growth: Instant::now(),
        }
    }

    pub(super) fn names_only(mut self) -> Self {
        self.names_only = true;
        self
    }

    /// Up to its heap, whose bytes come from elsewhere, if there is an elsewhere.
    pub(super) fn is_at_heap(&self) -> bool {
        self.heap_at.is_some() && self.skip_to.is_none()
    }

    /// That much of it has been read from elsewhere.
    pub(super) fn skip_heap(&mut self, size: u64) {
        self.skip_to = self.heap_at.map(|at| at.saturating_add(size));
    }

    pub(super) fn position(&self) -> u64 {
        self.at
    }

    /// Whether it is there, or was when it was first looked at.
    pub(super) fn is_there(&mut self) -> io::Result<bool> {
        if self.file.is_none() {
            match (self.open)(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.file.is_some())
    }

    /// Some bytes; 0 once at its end; none while there is nothing.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        // Asked first: what was written before is seen then.
        let is_over = (self.is_over)() || self.is_final;
        let nothing = Ok(is_over.then_some(0));
        if self.is_at_heap() {
            return Ok(None);
        }
        if !self.is_there()? {
            return nothing;
        }
        let Some(file) = &self.file else { return nothing };
        if let Some(to) = self.skip_to {
            let size = file.metadata()?.len();
            if size > self.at {
                self.last_growth = Instant::now();
            }
            self.at = to.min(size);
            self.punch();
            if size < to {
                return Ok(self.end(is_over));
            }
            (self.skip_to, self.heap_at, self.names_only) = (None, None, false);
            return Ok(None);
        }
        let mut count = file.read_at(buffer, self.at)?;
        if count == 0 {
            return Ok(self.end(is_over));
        }
        self.last_growth = Instant::now();
        let piece = buffer.get(..count).unwrap_or_default();
        match &mut self.borders {
            Some(borders) if self.names_only => {
                let names = borders.pass_names(piece);
                if names < count {
                    self.heap_at = Some(self.at + names as u64);
                    count = names;
                }
            }
            Some(borders) => drop(borders.pass(piece)),
            None => {}
        }
        self.at += count as u64;
        self.punch();
        Ok((count > 0).then_some(count))
    }

    fn end(&self, is_over: bool) -> Option<usize> {
        let has_end = self.borders.as_ref().is_some_and(Borders::has_end);
        let is_given_up = self.last_growth.elapsed() > QUIET;
        (is_over || has_end || is_given_up).then_some(0)
    }

    fn punch(&mut self) {
        if !self.punches || self.at < self.punched + PUNCH {
            return;
        }
        let Some(file) = &self.file else { return };
        let how = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        // A file system that cannot do it keeps the blocks.
        self.punches = fallocate(file, how, number(self.punched), number(self.at - self.punched)).is_ok();
        self.punched = self.at;
    }
}

impl std::fmt::Debug for Growing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Growing")
            .field("path", &self.path)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}
