//! A child with a time limit: preflight, hook or post-stop hook.

use super::{Action, Child, Note};
use crate::config::OnStop;
use crate::units::{Moment, Signal};
use std::time::Duration;

/// One attempt of one task, from its spawn to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    pub(super) child: Child,
    timeout_at: Moment,
    grace: Duration,
    on_stop: OnStop,
    ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Nobody asked it to end.
    No,
    /// A stop is under way, and it is asked to end then, unless it has by itself.
    Left {
        signal: Signal,
        ask_at: Moment,
        kill_at: Moment,
    },
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
        let timeout_at = now.after(timeout);
        Self { child, timeout_at, grace, on_stop: OnStop::Signal, ending: Ending::No }
    }

    /// What a stop means to it.
    pub(super) fn on_stop(self, on_stop: OnStop) -> Self {
        Self { on_stop, ..self }
    }

    pub(super) fn timed_out(&self) -> bool {
        matches!(self.ending, Ending::Asked { timed_out: true, .. } | Ending::Killed { timed_out: true })
    }

    pub(super) fn next_deadline(&self) -> Option<Moment> {
        match self.ending {
            Ending::No => Some(self.timeout_at),
            Ending::Left { ask_at, .. } => Some(ask_at),
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
                // Its own limit still holds, where the stop has none.
                let own = self.timeout_at.after(self.grace);
                let kill_at = kill_at.map_or(own, |stop| stop.min(own));
                // Whoever presses a key has told it already, and does not want to wait.
                if self.on_stop == OnStop::Finish && !by_key {
                    let ask_at = kill_at.before(self.grace);
                    actions.push(Action::Note(Note::HookFinishes { child: self.child, until: ask_at }));
                    self.ending = Ending::Left { signal, ask_at, kill_at };
                    return;
                }
                actions.push(Action::Note(Note::Forwarding { signal }));
                actions.push(if by_key {
                    Action::SignalIfMissed(self.child, signal)
                } else {
                    Action::SignalTree(self.child, signal)
                });
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
            Ending::Left { .. } | Ending::Killed { .. } => {}
        }
    }

    /// It must be over by then.
    pub(super) fn shorten(&mut self, deadline: Moment) {
        match &mut self.ending {
            Ending::No => {
                self.grace = self.grace.min(Duration::from_millis(500));
                self.timeout_at = self.timeout_at.min(deadline.before(self.grace));
            }
            Ending::Left { ask_at, kill_at, .. } => {
                *kill_at = deadline.min(*kill_at);
                *ask_at = kill_at.before(self.grace).min(*ask_at);
            }
            Ending::Asked { kill_at, .. } => *kill_at = Some(kill_at.map_or(deadline, |at| at.min(deadline))),
            Ending::Killed { .. } => {}
        }
    }

    /// One that is left to finish is asked to end now.
    pub(super) fn hurry(&mut self, now: Moment) {
        if let Ending::Left { ask_at, .. } = &mut self.ending {
            *ask_at = now.min(*ask_at);
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
            Ending::Left { signal, ask_at, kill_at } if now >= ask_at => {
                actions.push(Action::Note(Note::Forwarding { signal }));
                actions.push(Action::SignalTree(self.child, signal));
                self.ending = Ending::Asked { kill_at: Some(kill_at), timed_out: false };
            }
            Ending::Asked { kill_at: Some(at), .. } if now >= at => self.kill(actions),
            _ => {}
        }
    }
}
