//! The pipes between the main process and the carrier.

use crate::facts::users::Identity;
use crate::output::{self, Ring};
use crate::sys::descriptors;
use crate::sys::spawn::Streams;
use nix::errno::Errno;
use nix::unistd::{Gid, Uid, fchown};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use tracing::{info, warn};

/// Kept as long as the main process runs: a carrier that dies has a successor, which
/// finds what is still in the pipes.
#[derive(Debug)]
pub(super) struct Carried {
    output: Option<Pipe>,
    error: Option<Pipe>,
    ring: OwnedFd,
}

#[derive(Debug)]
struct Pipe {
    reader: OwnedFd,
    /// Until the main process has it.
    writer: Option<OwnedFd>,
}

impl Carried {
    /// Makes pipes for the streams that are no terminal: a program looks at where it
    /// prints, and prints to a terminal differently. `None`, with a word in the log,
    /// where nothing can be carried.
    ///
    /// The pipes are `owner`'s: a program may open its own `/dev/stdout` anew.
    pub(super) fn open(keep: u64, owner: Option<&Identity>) -> Option<Self> {
        let pipe = |is_terminal: bool, name: &str| -> Result<Option<Pipe>, Errno> {
            if is_terminal {
                info!("{name} is a terminal: the main process has it for itself, and nothing of it is kept");
                return Ok(None);
            }
            let (reader, writer) = descriptors::pipe()?;
            if let Some(owner) = owner {
                let (user, group) = (Uid::from_raw(owner.user), Gid::from_raw(owner.group));
                fchown(&writer, Some(user), Some(group))?;
            }
            Ok(Some(Pipe { reader, writer: Some(writer) }))
        };
        let opened = || {
            Ok(Self {
                output: pipe(std::io::stdout().is_terminal(), "standard output")?,
                error: pipe(std::io::stderr().is_terminal(), "standard error")?,
                ring: output::create(keep)?,
            })
        };
        match opened() {
            Ok(carried) => (carried.output.is_some() || carried.error.is_some()).then_some(carried),
            Err(error) => {
                let error: Errno = error;
                warn!("the main process's output is not kept: {}", error.desc());
                None
            }
        }
    }

    /// What the main process is given.
    pub(super) fn for_main(&self) -> Streams {
        let writer = |pipe: &Option<Pipe>| pipe.as_ref()?.writer.as_ref().map(AsRawFd::as_raw_fd);
        Streams::Carried { output: writer(&self.output), error: writer(&self.error) }
    }

    /// The main process has them: the pipes end when it, and all that it started, has closed them.
    pub(super) fn let_go_of_writers(&mut self) {
        for pipe in [&mut self.output, &mut self.error].into_iter().flatten() {
            pipe.writer = None;
        }
    }

    /// What whoever carries, or reads what is kept, must not close.
    pub(super) fn descriptors(&self) -> Vec<RawFd> {
        let readers = [&self.output, &self.error].into_iter().flatten();
        readers.map(|pipe| pipe.reader.as_raw_fd()).chain([self.ring.as_raw_fd()]).collect()
    }

    /// In the agent: what is kept, and the pipes in which the rest of it waits.
    pub(super) fn ring(&self) -> io::Result<Ring> {
        let readers = [&self.output, &self.error].into_iter().flatten();
        let pipes = readers.map(|pipe| pipe.reader.try_clone()).collect::<io::Result<Vec<_>>>()?;
        Ok(Ring::open(self.ring.try_clone()?)?.fed_by(pipes))
    }

    /// In the carrier: to the end. Its exit code: 0 if nothing was left behind.
    pub(super) fn carry(&self) -> u8 {
        let pairs =
            [(&self.output, descriptors::standard_output()), (&self.error, descriptors::standard_error())];
        let streams: Vec<output::Stream<'_>> = pairs
            .into_iter()
            .filter_map(|(pipe, to): (&Option<Pipe>, BorrowedFd<'_>)| {
                Some(output::Stream { from: pipe.as_ref()?.reader.as_fd(), to })
            })
            .collect();
        let Ok(ring) = self.ring.try_clone() else { return crate::exit::KERNEL };
        if output::carry(&streams, ring) { crate::exit::SUCCESS } else { crate::exit::KERNEL }
    }
}
