//! File descriptors: the standard streams, and what we inherited.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

/// Opens `/dev/null` on each of 0–2 that is closed.
///
/// Otherwise the next file that anybody opens becomes the service's standard
/// output. Where there is no `/dev/null` (an empty root) an unlinked memory
/// file takes its place: it reads as empty and swallows what is written.
pub fn open_missing_standard_streams() {
    for wanted in 0..=2 {
        if is_open(wanted) {
            continue;
        }
        let opened = open("/dev/null", OFlag::O_RDWR, Mode::empty())
            .or_else(|_| nix::sys::memfd::memfd_create(c"closed", nix::sys::memfd::MFdFlags::empty()));
        // The kernel gives the lowest free number, which is the one we want:
        // all lower ones are open by now. It stays open for good.
        if let Ok(descriptor) = opened {
            let _number = descriptor.into_raw_fd();
        }
    }
}

fn is_open(descriptor: RawFd) -> bool {
    // SAFETY: F_GETFD on any number is harmless; a closed one answers EBADF.
    let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFD) };
    flags >= 0
}

/// The process's standard output.
pub fn standard_output() -> BorrowedFd<'static> {
    // SAFETY: `open_missing_standard_streams` opened 1, and nothing closes it.
    unsafe { BorrowedFd::borrow_raw(1) }
}

/// The process's standard error.
pub fn standard_error() -> BorrowedFd<'static> {
    // SAFETY: `open_missing_standard_streams` opened 2, and nothing closes it.
    unsafe { BorrowedFd::borrow_raw(2) }
}

/// The process's standard input.
pub fn standard_input() -> BorrowedFd<'static> {
    // SAFETY: `open_missing_standard_streams` opened 0, and nothing closes it.
    unsafe { BorrowedFd::borrow_raw(0) }
}

/// Writes at most one page to `target`, without ever waiting for its reader.
///
/// `O_NONBLOCK` is no way: it would belong to the service's standard error too.
/// `RWF_NOWAIT` belongs to this one write (`pwritev2(2)`; pipes since Linux
/// 6.4). Where it is not known: a pipe that polls writable takes `PIPE_BUF`
/// (4096) bytes at once (`pipe(7)`), unless somebody else fills it meanwhile.
///
/// # Errors
/// `EAGAIN` if the reader is behind, or the error of `write(2)`.
pub fn write_without_waiting(target: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    let page = bytes.get(..4096).unwrap_or(bytes);
    let is_file =
        nix::sys::stat::fstat(target).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFREG);
    if is_file {
        return nix::unistd::write(target, page);
    }
    match write_now(target, page) {
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EPERM | Errno::EINVAL | Errno::ESPIPE) => {}
        result => return result,
    }
    let mut polled = [PollFd::new(target, PollFlags::POLLOUT)];
    poll(&mut polled, PollTimeout::ZERO)?;
    let ready = polled[0].revents().unwrap_or(PollFlags::empty());
    if !ready.intersects(PollFlags::POLLOUT | PollFlags::POLLERR) {
        return Err(Errno::EAGAIN);
    }
    nix::unistd::write(target, page)
}

fn write_now(target: BorrowedFd<'_>, page: &[u8]) -> Result<usize, Errno> {
    let piece = libc::iovec { iov_base: page.as_ptr().cast_mut().cast(), iov_len: page.len() };
    let (position, high) = (-1_i64, 0_i64);
    // SAFETY: one piece of memory that is only read; -1 means the current position.
    let count = unsafe {
        libc::syscall(
            libc::SYS_pwritev2,
            target.as_raw_fd(),
            &raw const piece,
            1,
            position,
            high,
            libc::RWF_NOWAIT,
        )
    };
    usize::try_from(Errno::result(count)?).map_err(|_| Errno::EIO)
}

/// Marks `descriptor` to be closed when a child execs.
pub fn set_close_on_exec(descriptor: impl AsFd) -> Result<(), Errno> {
    fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map(drop)
}

/// Closes every descriptor from `first` on, except `keep`.
///
/// For a child that was forked and does not exec (the agent), and for the
/// supervisor once the main process has its inherited descriptors.
/// `close_range(2)` where the kernel has it and the seccomp profile lets it
/// through, else one by one up to the limit.
pub fn close_from(first: RawFd, keep: &[RawFd]) {
    let mut kept: Vec<RawFd> = keep.iter().copied().filter(|number| *number >= first).collect();
    kept.sort_unstable();
    let mut from = first;
    for number in kept.into_iter().chain([RawFd::MAX]) {
        if number > from {
            close_between(from, number - 1);
        }
        from = number.saturating_add(1);
    }
}

fn close_between(from: RawFd, to: RawFd) {
    // SAFETY: the callers own every descriptor in the range, by their contract.
    let result = unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) };
    if result == 0 {
        return;
    }
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
        .map_or(1024, |(soft, _)| soft.min(65_536));
    let last = to.min(RawFd::try_from(limit).unwrap_or(1024));
    for number in from..=last {
        // SAFETY: as above; a number that is not open answers EBADF.
        unsafe { libc::close(number) };
    }
}

/// A pipe that no child inherits: reading end, writing end.
///
/// # Errors
/// `EMFILE`, `ENFILE`.
pub fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
}
