//! Lines of helper processes, each with its name in front.

use super::carrier::write_all;
use crate::sys::descriptors;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::read;
use std::os::fd::BorrowedFd;

/// What is read at once. Bytes.
const AT_ONCE: usize = 16 << 10;
/// A line that is longer goes out in pieces. Bytes.
const LINE_LIMIT: usize = 64 << 10;

/// One helper process's pipe.
#[derive(Debug)]
pub struct Labelled<'a> {
    label: String,
    from: BorrowedFd<'a>,
    /// A line that is not whole.
    line: Vec<u8>,
}

impl<'a> Labelled<'a> {
    pub fn new(name: &str, from: BorrowedFd<'a>) -> Self {
        Self { label: format!("{name} | "), from, line: Vec::new() }
    }

    pub(super) fn source(&self) -> BorrowedFd<'a> {
        self.from
    }

    /// Appends to `out` the lines that `piece` makes whole, labelled.
    fn take(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") || self.line.len() >= LINE_LIMIT {
                self.end_line(out);
            }
        }
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        if self.line.is_empty() {
            return;
        }
        out.extend_from_slice(self.label.as_bytes());
        out.append(&mut self.line);
        if !out.ends_with(b"\n") {
            out.push(b'\n');
        }
    }
}

/// Until all of them are closed. What nobody takes is lost: a helper process does not suffer for it.
pub(super) fn label_all(mut open: Vec<Labelled<'_>>) -> bool {
    let to = descriptors::standard_output();
    let mut buffer = vec![0; AT_ONCE];
    let mut out = Vec::new();
    while !open.is_empty() {
        let mut polled: Vec<PollFd<'_>> =
            open.iter().map(|labelled| PollFd::new(labelled.from, PollFlags::POLLIN)).collect();
        let _interrupted = poll(&mut polled, PollTimeout::NONE);
        let ready: Vec<bool> = polled.iter().map(|polled| polled.any().unwrap_or(true)).collect();
        let mut ready = ready.into_iter();
        open.retain_mut(|labelled| {
            if ready.next() != Some(true) {
                return true;
            }
            match read(labelled.from, &mut buffer) {
                Ok(0) => {
                    labelled.end_line(&mut out);
                    false
                }
                Ok(size) => {
                    labelled.take(buffer.get(..size).unwrap_or_default(), &mut out);
                    true
                }
                Err(Errno::EINTR | Errno::EAGAIN) => true,
                Err(_) => false,
            }
        });
        if !out.is_empty() {
            let _nobody_reads = write_all(to, &out);
            out.clear();
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn every_line_has_its_label_however_it_comes() {
        let (reader, _writer) = descriptors::pipe().expect("a pipe");
        for size in [1, 3, 100] {
            let mut labelled = Labelled::new("nginx", reader.as_fd());
            let mut out = Vec::new();
            for piece in b"one\n\ntwo\nrest".chunks(size) {
                labelled.take(piece, &mut out);
            }
            labelled.end_line(&mut out);
            assert_eq!(String::from_utf8_lossy(&out), "nginx | one\nnginx | \nnginx | two\nnginx | rest\n");
        }
    }
}
