//! A heap dump through pipes: what the JVM writes never touches a disk.
//!
//! Facts (measured on 11.0.13, 17, 21, 25; facts: 3.1 to 3.3). From 11.0.13 to 21 the JVM
//! writes into a FIFO from its first byte to its last. From 22 it writes records into
//! `<path>` and heap segments into `<path>.p0` first, and appends the second to the first
//! at its end (`heapDumper.cpp`, `DumpMerger`): both are FIFOs made beforehand, what comes
//! is put together here at the borders of records, and the second is held open once it has
//! ended, so that the merger finds it empty. `-parallel=1`: one segment file, in order. The
//! last megabyte of the first (classes, stacks) stays in the JVM's buffer to the end, so
//! that it comes behind all objects (measured on 25).
//!
//! A FIFO without a reader would freeze the JVM at its next collection: readers are open
//! before the command is sent. Closing them is safe at any time: the JVM is told that the
//! pipe is broken, and lives on.

use crate::jvm::Version;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, chown, mkfifo};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// As large as anybody may make one (`/proc/sys/fs/pipe-max-size`). Bytes.
const PIPE_SIZE: i32 = 1 << 20;
/// How often whoever waits for the JVM looks whether it should go on.
const LOOK: u16 = 100;
/// No record at the top level but a heap segment is longer. Bytes.
const RECORD_LIMIT: usize = 1 << 20;
/// Tag, microseconds, length.
const HEAD: usize = 9;
/// `JAVA PROFILE 1.0.2\0`, the size of identifiers, the time.
const FILE_HEAD: u64 = 31;

/// Ends a dump that runs: shared with whoever minds the deadline.
#[derive(Clone, Debug, Default)]
pub struct Cut(Arc<AtomicBool>);

impl Cut {
    pub fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_due(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The FIFOs of one dump. Removed when dropped.
#[derive(Debug)]
pub struct DumpPipe {
    path: PathBuf,
    main: Source,
    segment: Option<Source>,
    cut: Cut,
}

/// Whether this JVM writes its dump into FIFOs (JDK-8234510 and JDK-8267666, in 11.0.13).
pub fn takes_pipes(version: &Version) -> bool {
    let mut numbers = version.full.split(['.', '+', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    let (feature, interim, update) = (numbers.next(), numbers.next(), numbers.next());
    match feature {
        Some(11) => interim > Some(0) || update >= Some(13),
        // No update of 12 to 16 has it whole.
        feature => feature >= Some(17),
    }
}

impl DumpPipe {
    /// Makes FIFOs at `path` for that user's JVM, and opens them for reading.
    ///
    /// # Errors
    /// As making and opening them does.
    pub fn make(path: &Path, version: &Version, owner: Option<(u32, u32)>) -> io::Result<Self> {
        let mut main = Source::make(path.to_owned(), owner)?;
        main.borders.left = FILE_HEAD;
        let segment = if version.feature >= 22 {
            let mut name = path.as_os_str().to_owned();
            name.push(".p0");
            Some(Source::make(PathBuf::from(name), owner)?)
        } else {
            None
        };
        Ok(Self { path: path.to_owned(), main, segment, cut: Cut::default() })
    }

    /// The diagnostic command's options in front of the path.
    pub fn options(&self, live: bool) -> String {
        // Without -all a full collection comes first.
        let which = if live { "" } else { "-all " };
        let parallel = if self.segment.is_some() { "-parallel=1 " } else { "" };
        format!("GC.heap_dump {which}-overwrite {parallel}")
    }

    /// Its names come in between objects: what the JVM has buffered of them comes last, and
    /// belongs first.
    pub fn mixes_names(&self) -> bool {
        self.segment.is_some()
    }

    pub fn cut(&self) -> Cut {
        self.cut.clone()
    }

    /// Only one FIFO, as it comes.
    fn read_one(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.main.has_ended {
                return Ok(0);
            }
            wait(&[&self.main], &self.cut)?;
            if let Some(count) = self.main.read(buffer)? {
                return Ok(count);
            }
        }
    }
}

impl Read for DumpPipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(segment) = &mut self.segment else { return self.read_one(buffer) };
        loop {
            if segment.borders.is_at_one() {
                let count = self.main.take(buffer);
                if count > 0 {
                    return Ok(count);
                }
            }
            match (self.main.has_ended, segment.has_ended) {
                // Whatever is left is no whole record: whoever reads sees that it is cut.
                (true, true) => return Ok(self.main.take_rest(buffer)),
                // A JVM that failed before its first segment never opens the second.
                (true, false) if !segment.has_begun => return Ok(self.main.take_rest(buffer)),
                _ => {}
            }
            wait(&[&self.main, segment], &self.cut)?;
            self.main.fill()?;
            if self.main.has_whole() && segment.borders.is_at_one() {
                continue;
            }
            // What waits there comes in between at the next border.
            let room = if self.main.has_whole() { segment.borders.until_next() } else { buffer.len() };
            let room = room.min(buffer.len());
            if let Some(count) = segment.read(buffer.get_mut(..room).unwrap_or_default())? {
                if count > 0 {
                    segment.borders.pass(buffer.get(..count).unwrap_or_default());
                    return Ok(count);
                }
                segment.hold()?;
            }
        }
    }
}

impl Drop for DumpPipe {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
        // The JVM removes its segment itself, once it has merged it.
        if let Some(segment) = &mut self.segment {
            drop(segment.kept_open.take());
            drop(std::fs::remove_file(&segment.path));
        }
    }
}

/// One FIFO, read without blocking.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    file: File,
    /// Bytes have come.
    has_begun: bool,
    has_ended: bool,
    borders: Borders,
    /// Read and not yet handed on; so many of it are whole records.
    held: Vec<u8>,
    whole: usize,
    /// Both ends, once the writer is gone: nobody who opens it waits.
    kept_open: Option<File>,
}

impl Source {
    fn make(path: PathBuf, owner: Option<(u32, u32)>) -> io::Result<Self> {
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        if let Some((user, group)) = owner {
            chown(&path, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
        }
        let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&path)?;
        // A smaller one is slower, and no more.
        let _size = fcntl(&file, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE));
        let borders = Borders::default();
        let held = Vec::new();
        Ok(Self { path, file, has_begun: false, has_ended: false, borders, held, whole: 0, kept_open: None })
    }

    /// Some bytes; 0 once at its end; none while there is nothing.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if self.has_ended {
            return Ok(None);
        }
        match self.file.read(buffer) {
            // Nobody has opened it for writing yet.
            Ok(0) if !self.has_begun && !self.has_writer_gone()? => Ok(None),
            Ok(0) => {
                self.has_ended = true;
                Ok(Some(0))
            }
            Ok(count) => {
                self.has_begun = true;
                Ok(Some(count))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A FIFO hangs up only after somebody who wrote has closed it (`pipe_poll`).
    fn has_writer_gone(&self) -> io::Result<bool> {
        let mut polled = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::ZERO)?;
        Ok(polled
            .iter()
            .any(|polled| polled.revents().is_some_and(|found| found.contains(PollFlags::POLLHUP))))
    }

    /// Reads what is there, up to a record's length.
    fn fill(&mut self) -> io::Result<()> {
        while self.held.len() < RECORD_LIMIT {
            let before = self.held.len();
            let mut held = std::mem::take(&mut self.held);
            held.resize(RECORD_LIMIT, 0);
            let read = self.read(held.get_mut(before..).unwrap_or_default());
            let count = *read.as_ref().ok().and_then(Option::as_ref).unwrap_or(&0);
            held.truncate(before + count);
            if let Some(border) = self.borders.pass(held.get(before..).unwrap_or_default()) {
                self.whole = before + border;
            }
            self.held = held;
            if read? == Some(0) || count == 0 {
                return Ok(());
            }
        }
        if self.whole == 0 {
            return Err(io::Error::other("the JVM writes a name that is longer than any"));
        }
        Ok(())
    }

    fn has_whole(&self) -> bool {
        self.whole > 0
    }

    /// Whole records that are held.
    fn take(&mut self, buffer: &mut [u8]) -> usize {
        let count = self.whole.min(buffer.len());
        self.take_bytes(buffer, count)
    }

    fn take_rest(&mut self, buffer: &mut [u8]) -> usize {
        let count = self.held.len().min(buffer.len());
        self.take_bytes(buffer, count)
    }

    fn take_bytes(&mut self, buffer: &mut [u8], count: usize) -> usize {
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), self.held.get(..count)) {
            to.copy_from_slice(from);
        }
        self.held.drain(..count);
        self.whole = self.whole.saturating_sub(count);
        count
    }

    /// At its end, at once: the JVM is about to open it for reading, and would wait for a writer.
    fn hold(&mut self) -> io::Result<()> {
        let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
        match OpenOptions::new().read(true).write(true).custom_flags(flags).open(&self.path) {
            Ok(file) => self.kept_open = Some(file),
            // The merger was faster: it is done with it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Until one of them has something, or it is time to end.
fn wait(sources: &[&Source], cut: &Cut) -> io::Result<()> {
    loop {
        if cut.is_due() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut polled: Vec<PollFd<'_>> = sources
            .iter()
            .filter(|source| !source.has_ended && source.held.len() < RECORD_LIMIT)
            .map(|source| PollFd::new(source.file.as_fd(), PollFlags::POLLIN))
            .collect();
        match poll(&mut polled, PollTimeout::from(LOOK)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Where records end, in bytes that come in pieces.
#[derive(Debug, Default)]
struct Borders {
    /// The bytes of a head that is not whole.
    head: [u8; HEAD],
    head_bytes: usize,
    /// Of the record that passes.
    left: u64,
}

impl Borders {
    fn is_at_one(&self) -> bool {
        self.head_bytes == 0 && self.left == 0
    }

    /// So many bytes bring no more than the next border.
    fn until_next(&self) -> usize {
        match usize::try_from(self.left) {
            Ok(0) => HEAD - self.head_bytes,
            left => left.unwrap_or(usize::MAX),
        }
    }

    /// The last border in `piece`: as many bytes before it.
    fn pass(&mut self, piece: &[u8]) -> Option<usize> {
        let mut at = 0;
        let mut last = None;
        while at < piece.len() {
            let rest = piece.get(at..).unwrap_or_default();
            if self.left > 0 {
                let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
                self.left -= here as u64;
                at += here;
            } else {
                let missing = HEAD - self.head_bytes;
                let here = missing.min(rest.len());
                for (to, from) in self.head.iter_mut().skip(self.head_bytes).zip(rest) {
                    *to = *from;
                }
                self.head_bytes += here;
                at += here;
                if self.head_bytes < HEAD {
                    break;
                }
                let [.., a, b, c, d] = self.head;
                self.left = u64::from(u32::from_be_bytes([a, b, c, d]));
                self.head_bytes = 0;
            }
            if self.left == 0 {
                last = Some(at);
            }
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(full: &str) -> Version {
        let feature = full.split('.').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        Version { feature, full: full.to_owned(), name: String::new() }
    }

    #[test]
    fn versions_that_write_into_pipes() {
        for (full, takes) in [
            ("11.0.12", false),
            ("11.0.13", true),
            ("11.0.29+7", true),
            ("16.0.2", false),
            ("17", true),
            ("21.0.8", true),
            ("25", true),
            ("", false),
        ] {
            assert_eq!(takes_pipes(&version(full)), takes, "{full}");
        }
    }

    #[test]
    fn borders_do_not_depend_on_pieces() {
        let mut records = Vec::new();
        for size in [0_u32, 5, 1, 300] {
            records.extend_from_slice(&[1, 0, 0, 0, 0]);
            records.extend_from_slice(&size.to_be_bytes());
            records.extend(std::iter::repeat_n(7, size as usize));
        }
        for size in 1..records.len() {
            let mut borders = Borders::default();
            let mut found = Vec::new();
            for (number, piece) in records.chunks(size).enumerate() {
                found.extend(borders.pass(piece).map(|border| number * size + border));
            }
            assert!(borders.is_at_one(), "{size}");
            assert!(found.iter().all(|border| [9, 23, 33, 342].contains(border)), "{size}: {found:?}");
            assert_eq!(found.last(), Some(&342));
        }
    }
}
