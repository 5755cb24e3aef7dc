//! The pipes between the main process, helper processes, and the carrier.

use crate::facts::users::Identity;
use crate::output::{self, Ring};
use crate::plan::Plan;
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
    /// By the helper process's index in the plan.
    labelled: Vec<(usize, Pipe)>,
    ring: Option<OwnedFd>,
}

#[derive(Debug)]
struct Pipe {
    reader: OwnedFd,
    /// Until nobody else is given it.
    writer: Option<OwnedFd>,
}

impl Pipe {
    /// It is `owner`'s: a program may open its own `/dev/stdout` anew.
    fn open(owner: Option<&Identity>) -> Result<Self, Errno> {
        let (reader, writer) = descriptors::pipe()?;
        if let Some(owner) = owner {
            let (user, group) = (Uid::from_raw(owner.user), Gid::from_raw(owner.group));
            fchown(&writer, Some(user), Some(group))?;
        }
        Ok(Self { reader, writer: Some(writer) })
    }

    fn writer(&self) -> Option<RawFd> {
        self.writer.as_ref().map(AsRawFd::as_raw_fd)
    }
}

impl Carried {
    /// Makes pipes for the main process's streams that are no terminal, if they are to be kept: a
    /// program looks at where it prints, and prints to a terminal differently; and for helper
    /// processes whose lines are labelled. `None`, with a word in the log, where nothing can be
    /// carried.
    pub(super) fn open(plan: &Plan) -> Option<Self> {
        let pipe = |is_terminal: bool, name: &str| -> Result<Option<Pipe>, Errno> {
            if plan.keep_output.is_none() {
                return Ok(None);
            }
            if is_terminal {
                info!("{name} is a terminal: the main process has it for itself, and nothing of it is kept");
                return Ok(None);
            }
            Pipe::open(plan.main.identity.as_ref()).map(Some)
        };
        let opened = || {
            let mut labelled = Vec::new();
            for (index, helper) in plan.helpers.iter().enumerate().filter(|(_, helper)| helper.has_label) {
                labelled.push((index, Pipe::open(helper.program.identity.as_ref())?));
            }
            Ok(Self {
                output: pipe(std::io::stdout().is_terminal(), "standard output")?,
                error: pipe(std::io::stderr().is_terminal(), "standard error")?,
                labelled,
                ring: plan.keep_output.map(output::create).transpose()?,
            })
        };
        match opened() {
            Ok(carried) => {
                let carries =
                    carried.output.is_some() || carried.error.is_some() || !carried.labelled.is_empty();
                carries.then_some(carried)
            }
            Err(error) => {
                let error: Errno = error;
                warn!("the output of processes is neither kept nor labelled: {}", error.desc());
                None
            }
        }
    }

    /// What the main process is given.
    pub(super) fn for_main(&self) -> Streams {
        let writer = |pipe: &Option<Pipe>| pipe.as_ref().and_then(Pipe::writer);
        Streams::Carried { output: writer(&self.output), error: writer(&self.error) }
    }

    /// What that helper process is given.
    pub(super) fn for_helper(&self, index: usize) -> Streams {
        let writer =
            self.labelled.iter().find(|(known, _)| *known == index).and_then(|(_, pipe)| pipe.writer());
        Streams::Carried { output: writer, error: writer }
    }

    /// The main process has them: the pipes end when it, and all that it started, has closed them.
    pub(super) fn let_go_of_writers(&mut self) {
        for pipe in [&mut self.output, &mut self.error].into_iter().flatten() {
            pipe.writer = None;
        }
    }

    /// No helper process is started any more.
    pub(super) fn let_go_of_helpers(&mut self) {
        for (_, pipe) in &mut self.labelled {
            pipe.writer = None;
        }
    }

    /// What whoever carries, or reads what is kept, must not close.
    pub(super) fn descriptors(&self) -> Vec<RawFd> {
        let labelled = self.labelled.iter().map(|(_, pipe)| pipe);
        let readers = [&self.output, &self.error].into_iter().flatten().chain(labelled);
        let ring = self.ring.iter().map(AsRawFd::as_raw_fd);
        readers.map(|pipe| pipe.reader.as_raw_fd()).chain(ring).collect()
    }

    /// What the supervisor keeps for who is started later.
    pub(super) fn writers(&self) -> Vec<RawFd> {
        let labelled = self.labelled.iter().map(|(_, pipe)| pipe);
        let all = [&self.output, &self.error].into_iter().flatten().chain(labelled);
        all.filter_map(Pipe::writer).collect()
    }

    /// In the agent: what is kept, and the pipes in which the rest of it waits; nothing where
    /// nothing is kept.
    pub(super) fn ring(&self) -> io::Result<Option<Ring>> {
        let Some(ring) = &self.ring else { return Ok(None) };
        let readers = [&self.output, &self.error].into_iter().flatten();
        let pipes = readers.map(|pipe| pipe.reader.try_clone()).collect::<io::Result<Vec<_>>>()?;
        Ok(Some(Ring::open(ring.try_clone()?)?.fed_by(pipes)))
    }

    /// In the carrier: to the end. Its exit code: 0 if nothing was left behind.
    pub(super) fn carry(&self, plan: &Plan) -> u8 {
        let pairs =
            [(&self.output, descriptors::standard_output()), (&self.error, descriptors::standard_error())];
        let streams: Vec<output::Stream<'_>> = pairs
            .into_iter()
            .filter_map(|(pipe, to): (&Option<Pipe>, BorrowedFd<'_>)| {
                Some(output::Stream { from: pipe.as_ref()?.reader.as_fd(), to })
            })
            .collect();
        let labelled: Vec<output::Labelled<'_>> = self
            .labelled
            .iter()
            .map(|(index, pipe)| {
                let name = plan.helpers.get(*index).map_or("", |helper| helper.name.as_str());
                output::Labelled::new(name, pipe.reader.as_fd())
            })
            .collect();
        let ring = self.ring.as_ref().and_then(|ring| ring.try_clone().ok());
        if output::carry(&streams, labelled, ring) { crate::exit::SUCCESS } else { crate::exit::KERNEL }
    }
}
