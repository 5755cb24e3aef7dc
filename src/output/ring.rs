//! The end of a stream in a memory file that two processes share: one appends, the
//! other reads when it likes.
//!
//! ```text
//! bytes 0-7   how many bytes were ever written; byte N of the stream is at N modulo the size
//! bytes 8-15  how many will have been, once what is being written is
//! bytes 16-   the ring
//! ```
//!
//! Read and written by position, so that nothing has to be mapped. The first count is
//! written after the bytes: a reader that sees it sees them. The second comes before them: it
//! tells a reader, afterwards, which of what he has read may have been overwritten meanwhile.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Mutex;

const HEAD: u64 = 16;
const RESERVED: u64 = 8;

/// Makes the memory file for `size` bytes.
///
/// # Errors
/// `memfd_create(2)` or `ftruncate(2)`: no memory, or not allowed.
pub fn create(size: u64) -> Result<OwnedFd, Errno> {
    let file = memfd_create(c"bookend-output", MFdFlags::MFD_CLOEXEC)?;
    nix::unistd::ftruncate(&file, i64::try_from(HEAD.saturating_add(size)).unwrap_or(i64::MAX))?;
    Ok(file)
}

/// One side of it.
#[derive(Debug)]
pub struct Ring {
    file: File,
    size: u64,
    /// The carrier's threads write in turns.
    turn: Mutex<()>,
    /// Where what is not in it yet waits; of a reader that wants to know.
    pipes: Vec<OwnedFd>,
}

impl Ring {
    /// # Errors
    /// It is no ring.
    pub fn open(file: OwnedFd) -> io::Result<Self> {
        let file = File::from(file);
        let size = file.metadata()?.len().checked_sub(HEAD).filter(|size| *size > 0);
        let size = size.ok_or_else(|| io::Error::other("too small for a ring"))?;
        Ok(Self { file, size, turn: Mutex::new(()), pipes: Vec::new() })
    }

    /// With the reading ends of the pipes from which it is filled: only looked at.
    #[must_use]
    pub fn fed_by(self, pipes: Vec<OwnedFd>) -> Self {
        Self { pipes, ..self }
    }

    /// Everything that was written to the pipes is in it: the carrier takes nothing out of them
    /// before.
    pub fn is_caught_up(&self) -> bool {
        self.pipes.iter().all(|pipe| {
            let mut polled = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
            let looked = poll(&mut polled, PollTimeout::ZERO);
            let waits = polled[0].revents().is_some_and(|found| found.contains(PollFlags::POLLIN));
            looked.is_err() || !waits
        })
    }

    /// How many bytes were ever written.
    pub fn end(&self) -> u64 {
        self.count(0)
    }

    fn count(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        // A file that cannot be read has nothing in it.
        self.file.read_exact_at(&mut bytes, at).map_or(0, |()| u64::from_ne_bytes(bytes))
    }

    /// Adds to the end; what is older than the ring's size is gone.
    ///
    /// # Errors
    /// As writing to memory does: none is left.
    pub fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let _turn = self.turn.lock();
        let end = self.end();
        // Only its own last part would stay.
        let kept = bytes.len().min(usize::try_from(self.size).unwrap_or(usize::MAX));
        let skipped = bytes.len().saturating_sub(kept);
        let mut at = end.saturating_add(u64::try_from(skipped).unwrap_or(0));
        let mut left = bytes.get(skipped..).unwrap_or_default();
        let next = end.saturating_add(u64::try_from(bytes.len()).unwrap_or(0));
        self.file.write_all_at(&next.to_ne_bytes(), RESERVED)?;
        while !left.is_empty() {
            let place = at % self.size;
            let room = usize::try_from(self.size - place).unwrap_or(usize::MAX);
            let (now, later) = left.split_at(room.min(left.len()));
            self.file.write_all_at(now, HEAD + place)?;
            at = at.saturating_add(u64::try_from(now.len()).unwrap_or(0));
            left = later;
        }
        self.file.write_all_at(&at.to_ne_bytes(), 0)
    }

    /// What was written from `position` on, or as far back as there is; and the position of its
    /// first byte. Read once: what is overwritten meanwhile is left out.
    ///
    /// # Errors
    /// As reading memory does.
    pub fn read_from(&self, position: u64) -> io::Result<(u64, Vec<u8>)> {
        let end = self.end();
        let first = position.max(end.saturating_sub(self.size)).min(end);
        let mut bytes = vec![0; usize::try_from(end - first).unwrap_or(0)];
        let mut filled = 0_usize;
        while filled < bytes.len() {
            let place = first.saturating_add(u64::try_from(filled).unwrap_or(0)) % self.size;
            let room = usize::try_from(self.size - place).unwrap_or(usize::MAX);
            let until = bytes.len().min(filled.saturating_add(room));
            let Some(part) = bytes.get_mut(filled..until) else { break };
            self.file.read_exact_at(part, HEAD + place)?;
            filled = until;
        }
        let whole_from = self.count(RESERVED).saturating_sub(self.size).clamp(first, end);
        bytes.drain(..usize::try_from(whole_from - first).unwrap_or(0));
        Ok((whole_from, bytes))
    }

    /// Everything that is kept.
    ///
    /// # Errors
    /// As [`Self::read_from`].
    pub fn tail(&self) -> io::Result<Vec<u8>> {
        self.read_from(0).map(|(_, bytes)| bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keeps_the_end_whatever_the_pieces(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..40)) {
            let ring = Ring::open(create(64).expect("made")).expect("a ring");
            let mut all = Vec::new();
            for piece in pieces {
                ring.append(&piece).expect("memory");
                all.extend_from_slice(&piece);
                let kept = all.len().min(64);
                prop_assert_eq!(ring.tail().expect("read"), &all[all.len() - kept..]);
                prop_assert_eq!(ring.end(), all.len() as u64);
                let from = all.len().saturating_sub(10) as u64;
                let (first, bytes) = ring.read_from(from).expect("read");
                prop_assert_eq!(first, from);
                prop_assert_eq!(bytes, &all[all.len().saturating_sub(10)..]);
            }
        }
    }
}
