//! One FIFO that a JVM writes into, read without blocking.

use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, chown, mkfifo};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// As large as anybody may make one (`/proc/sys/fs/pipe-max-size`). Bytes.
const PIPE_SIZE: i32 = 1 << 20;

/// Removed when dropped.
#[derive(Debug)]
pub(super) struct Pipe {
    path: PathBuf,
    file: File,
    /// Bytes have come.
    has_begun: bool,
    /// Both ends, once the writer is gone: nobody who opens it waits.
    kept_open: Option<File>,
}

impl Pipe {
    /// Made for that user, and open for reading: a FIFO without a reader would freeze the JVM
    /// at its next collection.
    pub(super) fn make(path: PathBuf, owner: Option<(u32, u32)>) -> io::Result<Self> {
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        if let Some((user, group)) = owner {
            chown(&path, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
        }
        let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&path)?;
        // A smaller one is slower, and no more.
        let _size = fcntl(&file, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE));
        Ok(Self { path, file, has_begun: false, kept_open: None })
    }

    /// Some bytes; 0 once at its end; none while there is nothing.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.file.read(buffer) {
            // Nobody has opened it for writing yet.
            Ok(0) if !self.has_begun && !self.has_writer_gone()? => Ok(None),
            Ok(count) => {
                self.has_begun |= count > 0;
                Ok(Some(count))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// A FIFO hangs up only after somebody who wrote has closed it (`pipe_poll`).
    fn has_writer_gone(&self) -> io::Result<bool> {
        let mut polled = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::ZERO)?;
        Ok(polled
            .iter()
            .any(|polled| polled.revents().is_some_and(|found| found.contains(PollFlags::POLLHUP))))
    }

    /// At its end, at once: the JVM is about to open it for reading, and would wait for a writer.
    pub(super) fn hold(&mut self) -> io::Result<()> {
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

impl AsFd for Pipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // A segment is removed by the JVM itself, once it has merged it.
        drop(self.kept_open.take());
        drop(std::fs::remove_file(&self.path));
    }
}
