//! The carrier: one thread for each stream, which waits for the service to write and
//! for our own standard stream to take it.
//!
//! Bytes are moved by `splice(2)` after `tee(2)` has copied them for the ring: they
//! are in the one pipe or in the other, so that whoever kills us in between loses
//! nothing and doubles nothing. Where the standard stream cannot be spliced to (a
//! file opened for appending) they are written first and taken out of the pipe
//! then: a kill in between repeats at most one pipe's content, and loses none.

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

/// Carries until the service, and everybody that it started, has closed both. False if
/// something is left in a pipe: somebody else has to go on.
pub fn carry(streams: &[Stream<'_>], ring: OwnedFd) -> bool {
    // Without one it is passed on all the same.
    let ring = Ring::open(ring).ok();
    let ring = ring.as_ref();
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            streams.iter().map(|stream| scope.spawn(move || carry_one(stream, ring))).collect();
        // Each of them, also after one that failed.
        let ends: Vec<bool> = threads.into_iter().map(|thread| thread.join().unwrap_or(false)).collect();
        ends.into_iter().all(|is_done| is_done)
    })
}

/// Until the pipe's end; false if it was left before that.
fn carry_one(stream: &Stream<'_>, ring: Option<&Ring>) -> bool {
    // Without a second pipe, or where tee(2) is not allowed, what is read is taken out at once.
    let mut copies = pipe2(OFlag::O_CLOEXEC).ok();
    let mut buffer = vec![0; AT_ONCE];
    let mut is_lost = false;
    loop {
        let is_taken = copies.is_none();
        let size = match next(stream, copies.as_ref(), &mut buffer) {
            Ok(0) => return true,
            Ok(size) => size,
            Err(Errno::EINTR | Errno::EAGAIN) => continue,
            Err(Errno::EINVAL | Errno::ENOSYS | Errno::EPERM) if !is_taken => {
                copies = None;
                continue;
            }
            Err(error) => {
                warn!("the main process's output cannot be read: {}", error.desc());
                return false;
            }
        };
        let Some(piece) = buffer.get_mut(..size) else { return false };
        if let Some(ring) = ring {
            // Kept or not: what matters is that it is passed on.
            let _full = ring.append(piece);
        }
        let passed = if is_taken { write_all(stream.to, piece) } else { pass_on(stream, piece) };
        // Nobody takes it: the service does not suffer for it, and the next piece may find somebody.
        match (passed, is_lost) {
            (Ok(()), _) => is_lost = false,
            (Err(error), false) => {
                is_lost = true;
                warn!("the main process's output is kept, and cannot be passed on: {}", error.desc());
            }
            (Err(_), true) => {}
        }
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

fn write_all(to: BorrowedFd<'_>, bytes: &[u8]) -> Result<(), Errno> {
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
