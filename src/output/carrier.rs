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

/// One pipe holds so much unless asked otherwise (`pipe(7)`). Bytes.
const AT_ONCE: usize = 64 << 10;

/// From the service's pipe to one of our standard streams.
#[derive(Debug)]
pub struct Stream<'a> {
    pub from: BorrowedFd<'a>,
    pub to: BorrowedFd<'a>,
}

/// Carries until the service, and everybody that it started, has closed both. The
/// names of what went wrong, if something did.
pub fn carry(streams: &[Stream<'_>], ring: OwnedFd) -> Vec<String> {
    // Without one it is passed on all the same.
    let ring = Ring::open(ring).ok();
    let ring = ring.as_ref();
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            streams.iter().map(|stream| scope.spawn(move || carry_one(stream, ring))).collect();
        threads
            .into_iter()
            .filter_map(|thread| thread.join().unwrap_or_else(|_| Some("a thread ended early".to_owned())))
            .collect()
    })
}

/// Until the pipe's end; why it was not passed on to the end, if so.
fn carry_one(stream: &Stream<'_>, ring: Option<&Ring>) -> Option<String> {
    let (copy_out, copy_in) = match pipe2(OFlag::O_CLOEXEC) {
        Ok(pipe) => pipe,
        Err(error) => return Some(format!("no pipe for a copy: {}", error.desc())),
    };
    let mut buffer = vec![0; AT_ONCE];
    let mut trouble = None;
    loop {
        let size = match tee(stream.from, &copy_in, AT_ONCE, SpliceFFlags::empty()) {
            Ok(0) => return trouble,
            Ok(size) => size,
            Err(Errno::EINTR | Errno::EAGAIN) => continue,
            Err(error) => return Some(format!("cannot read it: {}", error.desc())),
        };
        let Some(copy) = buffer.get_mut(..size) else { return trouble };
        if let Err(error) = fill(&copy_out, copy) {
            return Some(format!("cannot read its copy: {}", error.desc()));
        }
        if let Some(ring) = ring {
            // Kept or not: what matters is that it is passed on.
            let _full = ring.append(copy);
        }
        if trouble.is_none()
            && let Err(error) = pass_on(stream, copy)
        {
            trouble = Some(format!("cannot pass it on: {}", error.desc()));
        } else if trouble.is_some() {
            // Nobody reads it any more: the service does not suffer for it.
            let _gone = fill(stream.from, copy);
        }
    }
}

/// Moves as many bytes as `bytes` has, which are those that come next.
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
                write_all(stream.to, rest)?;
                return fill(stream.from, rest);
            }
            Err(error) => return Err(error),
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
