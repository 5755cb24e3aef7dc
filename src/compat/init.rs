//! The common work of a small init: spawn one child, forward signals, reap,
//! end with the child's code.

use crate::sys::process::{self, Pid, Reaped, Status, reap};
use crate::sys::signals::{Inherited, Received, SignalDescriptor};
use crate::sys::spawn::{self, Failure, Image, Session, Streams};
use crate::sys::{descriptors, terminal};
use crate::units::{Attributes, Signal};
use nix::errno::Errno;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;

/// How this init differs from others.
#[derive(Debug)]
pub(super) struct Behaviour {
    pub(super) session: Session,
    /// Signals go to the child's whole group.
    pub(super) to_group: bool,
    /// When the child has ended, its group gets SIGTERM.
    pub(super) terminate_group: bool,
    /// What a signal becomes; `None` drops it.
    pub(super) rewrite: Vec<(Signal, Option<Signal>)>,
    pub(super) is_verbose: bool,
    /// What stands before a line of the log.
    pub(super) prefix: &'static str,
}

/// Why the child did not start.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The signal descriptor.
    Signals(Errno),
    Spawn(Failure),
}

/// Runs the command to its end.
pub(super) fn run(
    behaviour: &Behaviour,
    command: &[OsString],
    environment: &[(OsString, OsString)],
    inherited: &Inherited,
) -> Result<Status, Trouble> {
    let signals = SignalDescriptor::open().map_err(Trouble::Signals)?;
    let on_terminal = terminal::has_foreground();
    let image = image(behaviour, command, environment, on_terminal);
    let child = spawn::spawn(&image, inherited).map_err(Trouble::Spawn)?;
    descriptors::close_from(3, &[signals.as_fd().as_raw_fd()]);
    let init = Init { behaviour, child, session: image.session, on_terminal };
    loop {
        while let Some(received) = signals.read() {
            init.forward(received);
        }
        if let Some(status) = init.collect() {
            if behaviour.terminate_group {
                // Nobody left in it is the usual case.
                let _gone = process::signal_group(child, Signal::TERM);
            }
            return Ok(status);
        }
        // EINTR and every other error lead to one more look.
        if let Some(received) = signals.wait(None) {
            init.forward(received);
        }
    }
}

struct Init<'a> {
    behaviour: &'a Behaviour,
    child: Pid,
    session: Session,
    /// We had its foreground at start.
    on_terminal: bool,
}

impl Init<'_> {
    /// Keys reach us and the child alike.
    fn shares_terminal(&self) -> bool {
        self.on_terminal && self.session == Session::Shared
    }

    fn forward(&self, received: Received) {
        // SIGCHLD only wakes us.
        if received.signal == Signal::CHLD || !received.is_meant_for_us(self.shares_terminal()) {
            return;
        }
        if received.is_key() {
            if received.signal == Signal::TSTP && self.shares_terminal() {
                // There is no shell that would continue what Ctrl-Z stopped.
                let _nobody = process::signal_own_group(Signal::CONT);
                return;
            }
            if terminal::shares_our_group(self.child) {
                // It has it from the terminal already.
                return;
            }
        }
        let rewritten = self.behaviour.rewrite.iter().find(|(from, _)| *from == received.signal);
        let Some(signal) = rewritten.map_or(Some(received.signal), |(_, to)| *to) else { return };
        if self.behaviour.is_verbose {
            super::complain(&format!("{}passing signal {}\n", self.behaviour.prefix, signal.number()));
        }
        // It is not reaped yet, so at worst it has ended and its exit follows.
        let _ended = match (self.behaviour.to_group, self.session) {
            (true, Session::Shared) => process::signal_own_group(signal),
            (true, _) => process::signal_group(self.child, signal),
            (false, _) => process::signal(self.child, signal),
        };
    }

    /// Reaps everybody; the child's status, if it was among them.
    fn collect(&self) -> Option<Status> {
        let mut ended = None;
        loop {
            match reap() {
                Reaped::NoneEnded | Reaped::NoChildren => return ended,
                Reaped::Ended(pid, status) if pid == self.child => ended = Some(status),
                Reaped::Stopped(pid, Signal::TSTP | Signal::TTIN | Signal::TTOU)
                    if pid == self.child && self.on_terminal =>
                {
                    let _gone = process::signal(pid, Signal::CONT);
                    let _gone = process::signal_group(pid, Signal::CONT);
                }
                Reaped::Ended(..) | Reaped::Stopped(..) => {}
            }
        }
    }
}

fn image(
    behaviour: &Behaviour,
    command: &[OsString],
    environment: &[(OsString, OsString)],
    on_terminal: bool,
) -> Image {
    // On a terminal everybody shares our group, so that keys reach us too.
    let session = match behaviour.session {
        Session::Group if on_terminal => Session::Shared,
        session => session,
    };
    let text = |bytes: Vec<u8>| CString::new(bytes).unwrap_or_default();
    let name = command.first().map(OsString::as_os_str).unwrap_or_default();
    Image {
        candidates: candidates(name, environment),
        arguments: command.iter().map(|argument| text(argument.as_bytes().to_vec())).collect(),
        environment: environment
            .iter()
            .map(|(name, value)| text([name.as_bytes(), b"=", value.as_bytes()].concat()))
            .collect(),
        directory: None,
        credentials: None,
        attributes: Attributes::default(),
        session,
        streams: Streams::Inherited,
    }
}

/// As `execvp(3)` would look, in our own PATH.
fn candidates(name: &OsStr, environment: &[(OsString, OsString)]) -> Vec<CString> {
    spawn::candidates(name, super::variable(environment, "PATH"))
}
