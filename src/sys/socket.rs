//! The socket pair between supervisor and agent.

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Two connected ends that keep message borders and never block
/// (`unix(7)`, `SOCK_SEQPACKET`).
///
/// # Errors
/// `EMFILE`, `ENFILE`, `ENOMEM`.
pub fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
    )
}

/// Sends one message; never waits and never raises SIGPIPE.
///
/// # Errors
/// `EAGAIN` if the other side does not read, `EPIPE` if it is gone.
pub fn send_message(socket: impl AsFd, message: &[u8]) -> Result<(), Errno> {
    send(socket.as_fd().as_raw_fd(), message, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT).map(drop)
}

/// Receives one message into `buffer`; its length, or 0 once the other side is gone.
///
/// # Errors
/// `EAGAIN` if there is none.
pub fn receive_message(socket: impl AsFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    recv(socket.as_fd().as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)
}
