//! A heap dump on its way: checked, redacted, compressed, encrypted and digested in one pass.
//!
//! Two threads and a few buffers, whatever the heap: one reads, checks, redacts and
//! digests, the other compresses and writes. Back-pressure: the pieces are few, and a full
//! one is only handed on once an empty one has come back.
//! Where names come in between objects they are put in front at the end; of what is encrypted,
//! whose order is fixed, or where the sink cannot, they are a file of their own.

use super::digest::{Digest, Digested, Hasher};
use super::encoder::{Encoder, Part, fill, threads};
use super::seal::Sealed;
use crate::hprof::{self, DumpError, Structure, Summary};
use crate::units::Recipe;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// What goes from one thread to the other at once. Bytes.
const PIECE: usize = 1 << 20;
/// Pieces that are filled, wait or are written.
const PIECES: usize = 3;
/// Whoever waits for a piece looks so often whether it should go on.
const LOOK: Duration = Duration::from_millis(50);
/// A sink that takes nothing for so long takes no more: the JVM stands still meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a dump goes.
pub trait Sink: Write + Send {
    /// Whether anything can be put in front of what was written.
    fn takes_first(&self) -> bool;

    /// Puts these bytes in front of all that was written; nothing is written after that.
    ///
    /// # Errors
    /// As writing does.
    fn put_first(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// What came of it.
#[derive(Debug)]
pub struct Piped<S> {
    /// Of the dump itself, after redaction.
    pub plain: Digested,
    /// Of what was written.
    pub stored: Digested,
    pub summary: Summary,
    /// What the dump is made of, or what is wrong with it.
    pub structure: Result<Structure, DumpError>,
    /// What belongs in front and could not be put there: compressed and encrypted by itself.
    pub names: Option<Vec<u8>>,
    /// The sink; or why what was written is not what was read.
    pub sink: Result<S, io::Error>,
}

/// Passes `source` to `sink`. What is written is sound in any case: a dump that ends early
/// or is broken gives a whole file of what there was.
///
/// `mixes_names`: its names come in between its objects, and are put in front of them.
/// `is_over`: the source is let go, however long the sink takes.
pub fn pipe<S: Sink>(
    source: impl Read,
    sink: S,
    recipe: &Recipe,
    mixes_names: bool,
    is_over: impl Fn() -> bool,
) -> Piped<S> {
    let (sender, pieces) = channel();
    let (give_back, empty) = channel();
    for _ in 1..PIECES {
        // The receiver is there.
        drop(give_back.send(Vec::new()));
    }
    let (send_first, first) = channel();
    let part = if mixes_names { Part::Later } else { Part::First };
    let are_names_apart = !recipe.encrypt_to.is_empty() || !sink.takes_first();
    std::thread::scope(|scope| {
        let writer = std::thread::Builder::new()
            .spawn_scoped(scope, move || write_all(pieces, &give_back, &first, sink, recipe, part));
        let piece = Vec::with_capacity(PIECE);
        let mut output = Output { sender, empty, is_over, piece, hasher: Hasher::default() };
        let mut names = mixes_names.then(|| Names::new(recipe));
        let to_names = names.as_mut().map(|names| names as &mut dyn Write);
        let (structure, summary) = hprof::pass(source, &mut output, to_names, recipe.redaction);
        let objects = output.finish();
        let names = names.map(Names::finish);
        let mut apart = None;
        let (plain_names, stored_names) = match names {
            Some((plain, Ok(bytes))) if are_names_apart => {
                apart = Some(bytes);
                (Some(plain), None)
            }
            Some((plain, Ok(bytes))) => {
                let mut hasher = Hasher::default();
                hasher.update(&bytes);
                // The reason why nobody takes it is the other thread's to tell.
                drop(send_first.send(bytes));
                (Some(plain), Some(Ok(hasher.finish())))
            }
            Some((plain, Err(error))) => (Some(plain), Some(Err(error))),
            None => (None, None),
        };
        drop(send_first);
        let joined = writer
            .and_then(|writer| writer.join().map_err(|_| io::Error::other("the thread that writes is gone")));
        let (stored, sink) = joined.unwrap_or_else(|error| (Hasher::default().finish(), Err(error)));
        let (stored_names, sink) = match stored_names.transpose() {
            Ok(names) => (names, sink),
            Err(error) => (None, Err(error)),
        };
        let plain = Digested::of(plain_names, objects);
        let stored = Digested::of(stored_names, stored);
        Piped { plain, stored, summary, structure, names: apart, sink }
    })
}

/// What belongs in front: compressed by itself, in memory. A few megabytes.
struct Names {
    to: io::Result<Encoder<Sealed<Vec<u8>>>>,
    hasher: Hasher,
}

impl Names {
    fn new(recipe: &Recipe) -> Self {
        let sealed = Sealed::new(&recipe.encrypt_to, Vec::new());
        let to = sealed.and_then(|sealed| Encoder::new(recipe.compression, Part::First, 0, sealed));
        Self { to, hasher: Hasher::default() }
    }

    fn finish(self) -> (Digest, io::Result<Vec<u8>>) {
        (self.hasher.finish(), self.to.and_then(Encoder::finish).and_then(Sealed::finish))
    }
}

impl Write for Names {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Ok(to) = &mut self.to else { return Err(io::ErrorKind::OutOfMemory.into()) };
        let count = to.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The first thread's end of the channel.
struct Output<F> {
    sender: Sender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    is_over: F,
    piece: Vec<u8>,
    hasher: Hasher,
}

impl<F: Fn() -> bool> Output<F> {
    fn send(&mut self) -> io::Result<()> {
        let mut next = self.next()?;
        next.reserve_exact(PIECE);
        let piece = std::mem::replace(&mut self.piece, next);
        self.hasher.update(&piece);
        // The reason is the other thread's to tell.
        self.sender.send(piece).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }

    fn next(&self) -> io::Result<Vec<u8>> {
        let begun = Instant::now();
        loop {
            match self.empty.recv_timeout(LOOK) {
                Ok(piece) => return Ok(piece),
                Err(RecvTimeoutError::Disconnected) => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(RecvTimeoutError::Timeout) if begun.elapsed() > PATIENCE => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was taken for 10s"));
                }
                Err(RecvTimeoutError::Timeout) if (self.is_over)() => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn finish(mut self) -> Digest {
        if !self.piece.is_empty() {
            let piece = std::mem::take(&mut self.piece);
            self.hasher.update(&piece);
            drop(self.sender.send(piece));
        }
        self.hasher.finish()
    }
}

impl<F: Fn() -> bool> Write for &mut Output<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = fill(&mut self.piece, PIECE, bytes);
        if self.piece.len() == PIECE {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_all<S: Sink>(
    pieces: Receiver<Vec<u8>>,
    give_back: &Sender<Vec<u8>>,
    first: &Receiver<Vec<u8>>,
    sink: S,
    recipe: &Recipe,
    part: Part,
) -> (Digest, io::Result<S>) {
    let mut sink = Digesting { sink, hasher: Hasher::default() };
    let mut done = compress(pieces, give_back, &mut sink, recipe, part);
    let Digesting { mut sink, hasher } = sink;
    // There is none where names came first of themselves, or cannot. Not waited for where nothing
    // is taken any more: whoever reads waits for us then, and the JVM for that.
    if done.is_ok()
        && let Ok(bytes) = first.recv()
    {
        done = sink.put_first(&bytes);
    }
    (hasher.finish(), done.and_then(|()| sink.flush()).map(|()| sink))
}

fn compress(
    pieces: Receiver<Vec<u8>>,
    give_back: &Sender<Vec<u8>>,
    sink: &mut impl Write,
    recipe: &Recipe,
    part: Part,
) -> io::Result<()> {
    let sealed = Sealed::new(&recipe.encrypt_to, sink)?;
    let mut encoder = Encoder::new(recipe.compression, part, threads(), sealed)?;
    for mut piece in pieces {
        encoder.write_all(&piece)?;
        piece.clear();
        // Nobody waits for it at the end.
        drop(give_back.send(piece));
    }
    encoder.finish()?.finish().map(drop)
}

struct Digesting<W> {
    sink: W,
    hasher: Hasher,
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.sink.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
