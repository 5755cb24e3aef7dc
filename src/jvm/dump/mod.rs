//! A heap dump as a stream, while the JVM writes it: through pipes, so that it never touches a
//! disk; from a file that grows where a JVM cannot write into a pipe, or writes on its own
//! account (OutOfMemoryError).
//!
//! Facts (measured on 11.0.10, 11.0.13, 17, 21, 25; facts: 3.1 to 3.5). From 11.0.13 to 21 the JVM
//! writes into a FIFO from its first byte to its last. From 22 it writes records into
//! `<path>` and heap segments into `<path>.p0` first, and appends the second to the first
//! at its end (`heapDumper.cpp`, `DumpMerger`): both are followed, what comes
//! is put together here at the borders of records, and the merger's copy is passed over: a
//! second FIFO is held open once it has ended, so that the merger finds it empty.
//! `-parallel=1`: one segment file, in order. The
//! last megabyte of the first (classes, stacks) stays in the JVM's buffer to the end, so
//! that it comes behind all objects (measured on 25).
//!
//! Closing FIFOs is safe at any time: the JVM is told that the
//! pipe is broken, and lives on.

mod borders;
mod file;
mod pipe;

use crate::jvm::Version;
use borders::Borders;
use file::Growing;
pub use file::{IsOver, Opener};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pipe::Pipe;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often whoever waits for the JVM looks whether it should go on.
const LOOK: u16 = 100;
/// How often a file that does not grow is looked at: the kernel has no better way to tell.
const NAP: Duration = Duration::from_millis(10);
/// No record at the top level but a heap segment is longer. Bytes.
const RECORD_LIMIT: usize = 1 << 20;

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

/// One dump on its way.
#[derive(Debug)]
pub struct DumpStream {
    main: Source,
    segment: Option<Source>,
    cut: Cut,
    /// The segment was merged and removed before anybody looked: the first file has all of it, in
    /// order.
    is_merged: bool,
    /// Nothing came at the last look.
    is_idle: bool,
}

/// Whether this JVM writes its dump into FIFOs, and never goes back to what it has written
/// (JDK-8234510 and JDK-8267666, in 11.0.13).
pub fn takes_pipes(version: &Version) -> bool {
    let mut numbers = version.full.split(['.', '+', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    let (feature, interim, update) = (numbers.next(), numbers.next(), numbers.next());
    match feature {
        Some(11) => interim > Some(0) || update >= Some(13),
        // No update of 12 to 16 has it whole.
        feature => feature >= Some(17),
    }
}

/// Since 22 the heap goes to a file of its own first (JDK-8306441).
fn has_segment(version: &Version) -> bool {
    version.feature >= 22
}

fn segment_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".p0");
    PathBuf::from(name)
}

impl DumpStream {
    /// Makes FIFOs at `path` for that user's JVM, and opens them for reading.
    ///
    /// # Errors
    /// As making and opening them does.
    pub fn through_pipes(path: &Path, version: &Version, owner: Option<(u32, u32)>) -> io::Result<Self> {
        let main = Feed::Pipe(Pipe::make(path.to_owned(), owner)?);
        let segment = if has_segment(version) {
            Some(Source::new(Feed::Pipe(Pipe::make(segment_path(path), owner)?), Borders::default()))
        } else {
            None
        };
        Ok(Self::new(Source::new(main, Borders::of_dump()), segment))
    }

    /// Follows the file `path` until nobody writes it any more, or its end has come. Its blocks
    /// are gone once they are read.
    pub fn of_file(path: &Path, version: &Version, open: &Opener, is_over: &IsOver) -> Self {
        let growing =
            |path: PathBuf, borders| Growing::new(path, Arc::clone(open), Arc::clone(is_over), borders);
        // Lengths that are patched later tell of no borders.
        let borders = takes_pipes(version).then(Borders::of_dump);
        let main = growing(path.to_owned(), borders);
        if !has_segment(version) {
            return Self::new(Source::new(Feed::File(main), Borders::of_dump()), None);
        }
        let main = Source::new(Feed::File(main.names_only()), Borders::of_dump());
        let segment = Source::new(Feed::File(growing(segment_path(path), None)), Borders::default());
        Self::new(main, Some(segment))
    }

    /// The same of a file of which nothing is known.
    pub fn of_file_as_it_is(path: &Path, open: &Opener, is_over: &IsOver) -> Self {
        let main = Growing::new(path.to_owned(), Arc::clone(open), Arc::clone(is_over), None);
        Self::new(Source::new(Feed::File(main), Borders::default()), None)
    }

    fn new(main: Source, segment: Option<Source>) -> Self {
        Self { main, segment, cut: Cut::default(), is_merged: false, is_idle: false }
    }

    /// The diagnostic command's options in front of the path.
    pub fn options(&self, live: bool) -> String {
        // Without -all a full collection comes first.
        let which = if live { "" } else { "-all " };
        match (&self.main.feed, &self.segment) {
            (Feed::File(_), _) => format!("GC.heap_dump {which}"),
            (Feed::Pipe(_), None) => format!("GC.heap_dump {which}-overwrite "),
            (Feed::Pipe(_), Some(_)) => format!("GC.heap_dump {which}-overwrite -parallel=1 "),
        }
    }

    /// Its names come in between objects: what the JVM has buffered of them comes last, and
    /// belongs first.
    pub fn mixes_names(&self) -> bool {
        self.segment.is_some()
    }

    pub fn cut(&self) -> Cut {
        self.cut.clone()
    }

    /// Only one, as it comes.
    fn read_one(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // What was held when it turned out to be the only one.
            let count = self.main.take_rest(buffer);
            if count > 0 || self.main.has_ended {
                return Ok(count);
            }
            self.wait()?;
            match self.main.read(buffer)? {
                Some(count) => return Ok(count),
                None => self.is_idle = true,
            }
        }
    }

    /// Until one of them may have something, or it is time to end.
    fn wait(&mut self) -> io::Result<()> {
        let is_idle = std::mem::take(&mut self.is_idle);
        loop {
            if self.cut.is_due() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let mut polled = Vec::new();
            for source in [Some(&self.main), self.segment.as_ref()].into_iter().flatten() {
                match &source.feed {
                    Feed::File(_) => {
                        if is_idle {
                            std::thread::park_timeout(NAP);
                        }
                        return Ok(());
                    }
                    Feed::Pipe(pipe) if !source.has_ended && source.held.len() < RECORD_LIMIT => {
                        polled.push(PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
                    }
                    Feed::Pipe(_) => {}
                }
            }
            match poll(&mut polled, PollTimeout::from(LOOK)) {
                Ok(0) | Err(nix::errno::Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Read for DumpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.segment.is_none() || self.is_merged {
                return self.read_one(buffer);
            }
            let Some(segment) = &mut self.segment else { return Ok(0) };
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
                (true, false) if segment.feed.is_never_written() => return Ok(self.main.take_rest(buffer)),
                _ => {}
            }
            self.wait()?;
            let Some(segment) = &mut self.segment else { return Ok(0) };
            self.main.fill()?;
            if self.main.feed.meet(segment)? {
                self.is_merged = true;
                continue;
            }
            if self.main.has_whole() && segment.borders.is_at_one() {
                continue;
            }
            // What waits there comes in between at the next border.
            let room = if self.main.has_whole() { segment.borders.until_next() } else { buffer.len() };
            let room = room.min(buffer.len());
            match segment.read(buffer.get_mut(..room).unwrap_or_default())? {
                Some(0) => segment.feed.hold()?,
                Some(count) => {
                    segment.borders.pass(buffer.get(..count).unwrap_or_default());
                    return Ok(count);
                }
                None => self.is_idle = true,
            }
        }
    }
}

/// Where bytes come from.
#[derive(Debug)]
enum Feed {
    Pipe(Pipe),
    File(Growing),
}

impl Feed {
    fn is_never_written(&self) -> bool {
        matches!(self, Self::Pipe(pipe) if !pipe.has_begun())
    }

    fn hold(&mut self) -> io::Result<()> {
        match self {
            Self::Pipe(pipe) => pipe.hold(),
            Self::File(_) => Ok(()),
        }
    }

    /// Where this file has come to the copy of `segment`: that one is whole then; once it has been
    /// read, the copy is passed over. Whether the copy is all there is.
    fn meet(&mut self, segment: &mut Source) -> io::Result<bool> {
        let (Self::File(main), Self::File(from)) = (self, &mut segment.feed) else { return Ok(false) };
        if !main.is_at_heap() {
            return Ok(false);
        }
        if !from.is_there()? {
            main.skip_heap(0);
            return Ok(true);
        }
        from.is_final = true;
        if segment.has_ended {
            main.skip_heap(from.position());
        }
        Ok(false)
    }
}

/// One of them, in records.
#[derive(Debug)]
struct Source {
    feed: Feed,
    has_ended: bool,
    borders: Borders,
    /// Read and not yet handed on; so many of it are whole records.
    held: Vec<u8>,
    whole: usize,
}

impl Source {
    fn new(feed: Feed, borders: Borders) -> Self {
        Self { feed, has_ended: false, borders, held: Vec::new(), whole: 0 }
    }

    /// Some bytes; 0 once at its end; none while there is nothing.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if self.has_ended {
            return Ok(None);
        }
        let count = match &mut self.feed {
            Feed::Pipe(pipe) => pipe.read(buffer)?,
            Feed::File(file) => file.read(buffer)?,
        };
        self.has_ended = count == Some(0);
        Ok(count)
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
}

#[cfg(test)]
mod tests;
