//! The carrier: one thread for each stream, which waits for the service to write and
//! for our own standard stream to take it.
//!
//! Bytes are moved by `splice(2)` after `tee(2)` has copied them for the ring: they
//! are in the one pipe or in the other, so that whoever kills us in between loses
//! nothing and doubles nothing. Where the standard stream cannot be spliced to (a
//! file opened for appending) they are written first and taken out of the pipe
//! then: a kill in between repeats at most one pipe's content, and loses none.

use super::labels::{Labelled, label_all};
use super::ring::Ring;
use nix::errno::Errno;
use nix::fcntl::{OFlag, SpliceFFlags, splice, tee};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{pipe2, read, write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tracing::warn;

/// One pipe holds so much unless asked otherwise (`pipe(7)`). Bytes.
const AT_ONCE: usize = 64 << 10;

/// From the service's pipe to one of our standard streams.
#[derive(Debug)]
pub struct Stream<'a> {
    pub from: BorrowedFd<'a>,
    pub to: BorrowedFd<'a>,
}

/// Carries until the service, and everybody that it started, has closed both, and helper
/// processes theirs. False if something is left in a pipe: somebody else has to go on.
pub fn carry(streams: &[Stream<'_>], labelled: Vec<Labelled<'_>>, ring: Option<OwnedFd>) -> bool {
    // Without one it is passed on all the same.
    let ring = ring.and_then(|ring| Ring::open(ring).ok());
    let ring = ring.as_ref();
    if labelled.is_empty() {
        return carry_streams(streams, ring);
    }
    if streams.is_empty() {
        return label_all(labelled);
    }
    let plain: Vec<BorrowedFd<'_>> = labelled.iter().map(Labelled::source).collect();
    std::thread::scope(|scope| {
        let labelling = std::thread::Builder::new().spawn_scoped(scope, || label_all(labelled));
        match labelling {
            Ok(labelling) => carry_streams(streams, ring) & labelling.join().unwrap_or(false),
            // One thread for all: without labels, and in turns.
            Err(_) => {
                let to = crate::sys::descriptors::standard_output();
                let plain: Vec<Stream<'_>> = plain.iter().map(|from| Stream { from: *from, to }).collect();
                carry_in_turns(streams.iter().chain(&plain).map(Carrier::new).collect(), ring)
            }
        }
    })
}

fn carry_streams(streams: &[Stream<'_>], ring: Option<&Ring>) -> bool {
    let mut carriers: Vec<Carrier<'_>> = streams.iter().map(Carrier::new).collect();
    let [first, rest @ ..] = carriers.as_mut_slice() else { return true };
    let Some(second) = rest.first_mut() else { return first.carry_on(ring) };
    let carried = std::thread::scope(|scope| {
        // Refused by a seccomp profile that is older than clone3(2), or where no pid is left.
        let other = std::thread::Builder::new().spawn_scoped(scope, || second.carry_on(ring)).ok()?;
        let is_done = first.carry_on(ring);
        Some(other.join().unwrap_or(false) && is_done)
    });
    carried.unwrap_or_else(|| carry_in_turns(carriers, ring))
}

/// One thread for both: whoever does not read the one holds up the other.
fn carry_in_turns(mut open: Vec<Carrier<'_>>, ring: Option<&Ring>) -> bool {
    let mut is_done = true;
    while !open.is_empty() {
        let mut polled: Vec<PollFd<'_>> =
            open.iter().map(|carrier| PollFd::new(carrier.stream.from, PollFlags::POLLIN)).collect();
        let _interrupted = poll(&mut polled, PollTimeout::NONE);
        let ready: Vec<bool> = polled.iter().map(|polled| polled.any().unwrap_or(true)).collect();
        let mut ready = ready.into_iter();
        open.retain_mut(|carrier| {
            if ready.next() != Some(true) {
                return true;
            }
            match carrier.turn(ring) {
                Turn::More => true,
                Turn::Over => false,
                Turn::Left => {
                    is_done = false;
                    false
                }
            }
        });
    }
    is_done
}

/// How far one stream is.
#[derive(Debug)]
struct Carrier<'a> {
    stream: &'a Stream<'a>,
    /// A second pipe: without one, or where tee(2) is not allowed, what is read is taken out at once.
    copies: Option<(OwnedFd, OwnedFd)>,
    buffer: Vec<u8>,
    /// Nobody took the last piece.
    is_lost: bool,
}

/// What comes of one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    More,
    Over,
    /// Something is left in the pipe.
    Left,
}

impl<'a> Carrier<'a> {
    fn new(stream: &'a Stream<'a>) -> Self {
        Self { stream, copies: pipe2(OFlag::O_CLOEXEC).ok(), buffer: vec![0; AT_ONCE], is_lost: false }
    }

    /// Until the pipe's end; false if it was left before that.
    fn carry_on(&mut self, ring: Option<&Ring>) -> bool {
        loop {
            match self.turn(ring) {
                Turn::More => {}
                end => return end == Turn::Over,
            }
        }
    }

    fn turn(&mut self, ring: Option<&Ring>) -> Turn {
        let is_taken = self.copies.is_none();
        let size = match next(self.stream, self.copies.as_ref(), &mut self.buffer) {
            Ok(0) => return Turn::Over,
            Ok(size) => size,
            Err(Errno::EINTR | Errno::EAGAIN) => return Turn::More,
            Err(Errno::EINVAL | Errno::ENOSYS | Errno::EPERM) if !is_taken => {
                self.copies = None;
                return Turn::More;
            }
            Err(error) => {
                warn!("the main process's output cannot be read: {}", error.desc());
                return Turn::Left;
            }
        };
        let piece = self.buffer.get_mut(..size).unwrap_or_default();
        if let Some(ring) = ring {
            // Kept or not: what matters is that it is passed on.
            let _full = ring.append(piece);
        }
        let passed = if is_taken { write_all(self.stream.to, piece) } else { pass_on(self.stream, piece) };
        // Nobody takes it: the service does not suffer for it, and the next piece may find somebody.
        match (passed, self.is_lost) {
            (Ok(()), _) => self.is_lost = false,
            (Err(error), false) => {
                self.is_lost = true;
                warn!("the main process's output is kept, and cannot be passed on: {}", error.desc());
            }
            (Err(_), true) => {}
        }
        Turn::More
    }
}

/// The next piece of the stream, in `buffer`: still in the pipe too, where there are `copies`.
fn next(stream: &Stream<'_>, copies: Option<&(OwnedFd, OwnedFd)>, buffer: &mut [u8]) -> Result<usize, Errno> {
    let Some((copy_out, copy_in)) = copies else {
        return read(stream.from, buffer);
    };
    let size = tee(stream.from, copy_in, AT_ONCE, SpliceFFlags::empty())?;
    fill(copy_out, buffer.get_mut(..size).unwrap_or_default())?;
    Ok(size)
}

/// Moves as many bytes as `bytes` has, which are those that come next. They are out of the
/// pipe in any case.
fn pass_on(stream: &Stream<'_>, bytes: &mut [u8]) -> Result<(), Errno> {
    let mut moved = 0;
    while moved < bytes.len() {
        let left = bytes.len().saturating_sub(moved);
        match splice(stream.from, None, stream.to, None, left, SpliceFFlags::empty()) {
            Ok(0) => return Ok(()),
            Ok(size) => moved = moved.saturating_add(size),
            Err(Errno::EINTR) => {}
            // Whoever shares it has made it so.
            Err(Errno::EAGAIN) => wait_to_write(stream.to)?,
            Err(Errno::EINVAL | Errno::ENOSYS | Errno::EPERM) => {
                let rest = bytes.get_mut(moved..).unwrap_or_default();
                let written = write_all(stream.to, rest);
                fill(stream.from, rest)?;
                return written;
            }
            Err(error) => {
                fill(stream.from, bytes.get_mut(moved..).unwrap_or_default())?;
                return Err(error);
            }
        }
    }
    Ok(())
}

pub(super) fn write_all(to: BorrowedFd<'_>, bytes: &[u8]) -> Result<(), Errno> {
    let mut left = bytes;
    while !left.is_empty() {
        match write(to, left) {
            Ok(size) => left = left.get(size..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => wait_to_write(to)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Takes exactly as many bytes out of a pipe in which they stand.
fn fill(from: impl AsFd, bytes: &mut [u8]) -> Result<(), Errno> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match read(from.as_fd(), rest) {
            Ok(0) => return Ok(()),
            Ok(size) => filled = filled.saturating_add(size),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn wait_to_write(to: BorrowedFd<'_>) -> Result<(), Errno> {
    match poll(&mut [PollFd::new(to, PollFlags::POLLOUT)], PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error),
    }
}
