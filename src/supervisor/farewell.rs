//! The last word: one line of JSON where Kubernetes looks for it.
//!
//! "Determine the Reason for Pod Failure": the kubelet reads at most 4096 bytes of the container's
//! `terminationMessagePath`. Where evidence went the agent knows: it leaves that in a piece of
//! shared memory, as JSON, which is passed on unread.

use super::state::Reason;
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use tracing::debug;

/// What the kubelet reads. Bytes.
const LIMIT: usize = 4096;
/// What there is beside the agent's part, at most. Bytes.
const OWN: usize = 512;

/// What the agent has left, if there is one.
#[derive(Debug)]
pub(super) struct Farewell(File);

impl Farewell {
    /// # Errors
    /// As `memfd_create(2)`.
    pub(super) fn new() -> Result<Self, Errno> {
        memfd_create(c"bookend-evidence", MFdFlags::MFD_CLOEXEC).map(|memory| Self(File::from(memory)))
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// For the agent.
    ///
    /// # Errors
    /// As `dup(2)`.
    pub(super) fn share(&self) -> std::io::Result<OwnedFd> {
        self.0.try_clone().map(OwnedFd::from)
    }

    /// Its length stands in front: written last, so that what is half written is not read.
    fn evidence(&self) -> Option<String> {
        let mut length = [0; 4];
        self.0.read_exact_at(&mut length, 0).ok()?;
        let length = usize::try_from(u32::from_ne_bytes(length)).ok()?;
        let mut text = vec![0; length.min(LIMIT - OWN)];
        self.0.read_exact_at(&mut text, 4).ok()?;
        String::from_utf8(text).ok().filter(|text| !text.is_empty())
    }
}

/// Writes it; what cannot be written is nobody's trouble at the end.
pub(super) fn write(path: &Path, code: u8, reason: Reason, farewell: Option<&Farewell>) {
    let evidence = farewell.and_then(Farewell::evidence).unwrap_or_else(|| "[]".to_owned());
    let line = format!("{{\"reason\":\"{}\",\"exit_code\":{code},\"evidence\":{evidence}}}\n", reason.word());
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    // The kubelet has made it; elsewhere it is for whoever wants to look.
    let opened = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(path);
    if let Err(error) = opened.and_then(|mut file| file.write_all(line.as_bytes())) {
        debug!("the termination message cannot be written to {}: {error}", path.display());
    }
}
