//! The lifecycle as a pure state machine: `(state, event, now) -> actions`.
//!
//! No I/O, no clock, no pids: so every order of events can be generated and
//! tested. Knows the plan; never reads anything else.
//!
//! ```text
//!              stop                stop            stop
//!   boot --> preflight --> hooks --+--> starting --> running --+--> evidence --> stopping
//!     |          |           |     |        |           |      |        |           |
//!     |          | failed    | failed       | not found | exit |        | exit      | exit
//!     |          v           v     v        v           v      v        v           v
//!     |       +--------------------------- closing -------------------------------------+
//!     |       | leftovers: stop signal, wait, kill;  evidence: wait until stored         |
//!     |       +--------------------------------------------------------------------------+
//!     |                                     |
//!     +------------------------------> post-stop hooks --> done
//! ```
//!
//! With helper processes: those before the main process come up between hooks and starting, one
//! after the other; those after it are drained between evidence and stopping, while it lingers;
//! whoever is left then ends, in the reverse order, before closing. A main process that is
//! started again goes from running by way of restarting and a backoff to starting.

mod closing;
mod helpers;
mod machine;
mod orders;
mod roles;
mod stopping;
mod task;
// Their plans have rules, which a build without the agent refuses.
#[cfg(test)]
#[cfg(feature = "agent")]
mod helper_tests;
#[cfg(test)]
#[cfg(feature = "agent")]
mod tests;

pub use machine::Machine;

use crate::link::Deed;
use crate::sys::process::Status;
use crate::units::{Moment, Signal};
use std::time::Duration;

/// One of the children that the machine itself starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Child {
    Preflight,
    /// Index into the plan's hooks.
    Hook(usize),
    Main,
    /// Index into the plan's helper processes.
    Helper(usize),
    /// Waits until that helper process is ready.
    Gate(usize),
    /// Index into the plan's post-stop hooks.
    PostStop(usize),
    Agent,
    /// Passes the main process's output on.
    Carrier,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Begin,
    Spawned(Child),
    /// It could not be started; the code says why as a shell would.
    SpawnFailed(Child, u8),
    /// Its condition does not hold.
    Skipped(Child),
    Exited(Child, Status),
    Signal {
        signal: Signal,
        /// A key on our terminal: everybody in our process group has it already.
        by_key: bool,
    },
    Agent(Deed),
    /// No child is left, of whatever origin.
    Alone,
    /// Nothing is left but roles of ours.
    NoLeftovers,
    /// Time passed; whatever is due is due.
    Timer,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Spawn(Child),
    /// To the process itself.
    Signal(Child, Signal),
    /// To it and to what it has started.
    SignalTree(Child, Signal),
    /// A key gave it to our process group: only to a child that has left that.
    SignalIfMissed(Child, Signal),
    /// Ctrl-Z stopped our process group, and there is no shell to continue it.
    ContinueGroup,
    /// To everything in the container that is not ours to keep.
    SignalLeftovers(Signal),
    TellStop {
        signal: Signal,
        begun: Moment,
        evidence_until: Moment,
        deadline: Moment,
    },
    /// The main process is killed then, unless it ends before.
    TellKill {
        at: Moment,
    },
    TellMainEnded {
        status: Status,
        asked: bool,
    },
    TellFinish {
        by: Moment,
    },
    /// Nobody whose output is carried is started any more: it ends.
    LetGoOfOutput,
    Note(Note),
    Exit(u8),
}

/// What is worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    Stop {
        signal: Signal,
        deadline: Moment,
    },
    StopRepeated {
        signal: Signal,
    },
    Hurry,
    Forwarding {
        signal: Signal,
    },
    NotForwarded {
        signal: Signal,
    },
    /// By `[signals]`.
    Dropped {
        signal: Signal,
    },
    EvidenceBegins {
        until: Moment,
    },
    EvidenceEnds(EvidenceEnd),
    HookRetries {
        child: Child,
        attempt: u32,
        wait: Duration,
    },
    HookTimedOut {
        child: Child,
    },
    /// A stop leaves it its time.
    HookFinishes {
        child: Child,
        until: Moment,
    },
    HookFailed {
        child: Child,
        code: u8,
        aborts: bool,
    },
    Killing(Child),
    KillingLeftovers,
    NoTimeFor {
        child: Child,
    },
    AgentSilent,
    Hold {
        until: Moment,
    },
    Holding {
        until: Moment,
    },
    Released,
    AgentRestarts {
        wait: Duration,
    },
    CarrierRestarts {
        wait: Duration,
    },
    HelperReady(usize),
    /// By itself, and it is not started again.
    HelperEnded(usize),
    HelperRestarts {
        index: usize,
        wait: Duration,
    },
    /// It cannot be had: the container ends.
    HelperFailed(usize),
    /// An operator wants what is so already.
    HelperStays(usize),
    HelperStops {
        index: usize,
        signal: Signal,
    },
    /// It is unhealthy.
    MainIsRestarted {
        signal: Signal,
    },
    MainRestarts {
        wait: Duration,
    },
    MainRestartsTooOften,
    Lingers {
        until: Moment,
    },
    /// Its reader does not take what is left of it.
    OutputCutOff,
    Ends {
        code: u8,
        reason: Reason,
    },
}

/// How evidence at a stop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvidenceEnd {
    Captured,
    OutOfTime,
    AgentLost,
    /// The agent could not; it has said why.
    Nothing,
    Skipped,
}

/// Why the container ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The main process ended by itself.
    MainEnded,
    /// The main process could not be started.
    MainNotStarted,
    /// Somebody asked for a stop.
    Stopped,
    HookFailed(usize),
    HelperFailed(usize),
    PreflightFailed,
}

impl Reason {
    /// The word that post-stop hooks find in `BOOKEND_REASON`.
    pub fn word(self) -> &'static str {
        match self {
            Self::MainEnded => "exit",
            Self::MainNotStarted => "not-started",
            Self::Stopped => "stop",
            Self::HookFailed(_) => "hook-failed",
            Self::HelperFailed(_) => "process-failed",
            Self::PreflightFailed => "preflight-failed",
        }
    }
}
