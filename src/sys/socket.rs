//! The socket pair between supervisor and agent, and sockets on which others say that they are ready.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, bind, getsockname, recv, send, socket, socketpair,
};
use std::ffi::OsString;
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

/// A socket on which anybody in this network namespace may say `READY=1`, and what
/// `$NOTIFY_SOCKET` calls it: an abstract name of the kernel's choosing, which needs no directory
/// (`sd_notify(3)`; `unix(7)`, "Autobind feature").
///
/// # Errors
/// `EMFILE`, `ENFILE`, `ENOMEM`.
pub fn notify() -> Result<(OwnedFd, OsString), Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    bind(socket.as_raw_fd(), &UnixAddr::new_unnamed())?;
    let address: UnixAddr = getsockname(socket.as_raw_fd())?;
    let name = address.as_abstract().ok_or(Errno::EADDRNOTAVAIL)?;
    let mut text = String::from("@");
    text.push_str(&String::from_utf8_lossy(name));
    Ok((socket, text.into()))
}
