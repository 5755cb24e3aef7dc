//! A child with a time limit: preflight, hook or post-stop hook.

use super::{Action, Child, Note};
use crate::units::{Moment, Signal};
use std::time::Duration;

/// One attempt of one task, from its spawn to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    pub(super) child: Child,
    timeout_at: Moment,
    grace: Duration,
    ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Nobody asked it to end.
    No,
    /// It was sent a stop signal; killed then, if ever.
    Asked {
        kill_at: Option<Moment>,
        timed_out: bool,
    },
    Killed {
        timed_out: bool,
    },
}

impl Task {
    pub(super) fn begin(child: Child, timeout: Duration, grace: Duration, now: Moment) -> Self {
        Self { child, timeout_at: now.after(timeout), grace, ending: Ending::No }
    }

    pub(super) fn timed_out(&self) -> bool {
        matches!(self.ending, Ending::Asked { timed_out: true, .. } | Ending::Killed { timed_out: true })
    }

    pub(super) fn next_deadline(&self) -> Option<Moment> {
        match self.ending {
            Ending::No => Some(self.timeout_at),
            Ending::Asked { kill_at, .. } => kill_at,
            Ending::Killed { .. } => None,
        }
    }

    /// A stop reached it: it gets the signal once, and until `kill_at`.
    pub(super) fn stop(
        &mut self,
        signal: Signal,
        by_key: bool,
        kill_at: Option<Moment>,
        actions: &mut Vec<Action>,
    ) {
        match self.ending {
            Ending::No => {
                actions.push(Action::Note(Note::Forwarding { signal }));
                actions.push(if by_key {
                    Action::SignalIfMissed(self.child, signal)
                } else {
                    Action::SignalTree(self.child, signal)
                });
                // Its own limit still holds, where the stop has none.
                let own = self.timeout_at.after(self.grace);
                let kill_at = kill_at.map_or(own, |stop| stop.min(own));
                self.ending = Ending::Asked { kill_at: Some(kill_at), timed_out: false };
            }
            // Its own timeout was faster: it has the signal already.
            Ending::Asked { kill_at: own, timed_out } => {
                let kill_at = match (own, kill_at) {
                    (Some(own), Some(stop)) => Some(own.min(stop)),
                    (own, stop) => own.or(stop),
                };
                self.ending = Ending::Asked { kill_at, timed_out };
            }
            Ending::Killed { .. } => {}
        }
    }

    /// It must be over by then.
    pub(super) fn shorten(&mut self, deadline: Moment) {
        match &mut self.ending {
            Ending::No => {
                self.grace = self.grace.min(Duration::from_millis(500));
                self.timeout_at = self.timeout_at.min(deadline.before(self.grace));
            }
            Ending::Asked { kill_at, .. } => *kill_at = Some(kill_at.map_or(deadline, |at| at.min(deadline))),
            Ending::Killed { .. } => {}
        }
    }

    pub(super) fn kill(&mut self, actions: &mut Vec<Action>) {
        if let Ending::Killed { .. } = self.ending {
            return;
        }
        let timed_out = self.timed_out();
        actions.push(Action::Note(Note::Killing(self.child)));
        actions.push(Action::SignalTree(self.child, Signal::KILL));
        self.ending = Ending::Killed { timed_out };
    }

    pub(super) fn timer(&mut self, now: Moment, actions: &mut Vec<Action>) {
        match self.ending {
            Ending::No if now >= self.timeout_at => {
                actions.push(Action::Note(Note::HookTimedOut { child: self.child }));
                actions.push(Action::SignalTree(self.child, Signal::TERM));
                self.ending = Ending::Asked { kill_at: Some(now.after(self.grace)), timed_out: true };
            }
            Ending::Asked { kill_at: Some(at), .. } if now >= at => self.kill(actions),
            _ => {}
        }
    }
}
