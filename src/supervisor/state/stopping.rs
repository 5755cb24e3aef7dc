//! Signals, and what a stop means in each phase.

use super::machine::{Agent, Machine, Phase, Stop};
use super::{Action, Child, EvidenceEnd, Note};
use crate::config::{Forwarding, Trigger};
use crate::units::{Moment, Signal};
use std::time::Duration;

/// Before a main process that does not end is killed, the agent asks it once more why. At most so
/// long before.
const LAST_WORDS: Duration = Duration::from_millis(1_500);

impl Machine<'_> {
    pub(super) fn signal(&mut self, signal: Signal, by_key: bool, now: Moment, actions: &mut Vec<Action>) {
        if self.plan.stop.signals.contains(&signal) {
            return self.stop_signal(signal, by_key, now, actions);
        }
        if by_key && signal == Signal::TSTP {
            return actions.push(Action::ContinueGroup);
        }
        if self.signal_helpers(signal, actions) {
            return;
        }
        let action = match self.plan.stop.forwarding.get(&signal) {
            None if by_key => Action::SignalIfMissed(Child::Main, signal),
            None => Action::Signal(Child::Main, signal),
            Some(Forwarding::As(other)) => Action::Signal(Child::Main, *other),
            Some(Forwarding::Drop) => return actions.push(Action::Note(Note::Dropped { signal })),
        };
        match self.phase {
            Phase::Running
            | Phase::Restarting { .. }
            | Phase::Evidence { .. }
            | Phase::Draining { .. }
            | Phase::Stopping { .. } => {
                actions.push(action);
            }
            _ => actions.push(Action::Note(Note::NotForwarded { signal })),
        }
    }

    fn stop_signal(&mut self, signal: Signal, by_key: bool, now: Moment, actions: &mut Vec<Action>) {
        if self.stop.is_some() {
            return self.stop_repeated(signal, by_key, now, actions);
        }
        self.begin_stop(signal, by_key, now, actions);
    }

    /// As if `signal` had come.
    pub(super) fn stop_by(&mut self, signal: Signal, now: Moment, actions: &mut Vec<Action>) {
        if self.stop.is_none() {
            self.begin_stop(signal, false, now, actions);
        }
    }

    fn begin_stop(&mut self, signal: Signal, by_key: bool, now: Moment, actions: &mut Vec<Action>) {
        self.stop = Some(Stop {
            signal,
            begun: now,
            keys: u32::from(by_key),
            forwarded: None,
            is_told: false,
            is_drained: false,
            sent: 0,
        });
        let deadline = self.plan.stop.deadline(now);
        self.stop_deadline = self.plan.stop.grace_is_known.then_some(deadline);
        actions.push(Action::Note(Note::Stop { signal, deadline }));
        let kill_at = self.kill_at();
        match &mut self.phase {
            Phase::Preflight(task) | Phase::Hook { task, .. } => {
                task.stop(signal, by_key, kill_at, actions);
            }
            Phase::Boot | Phase::Backoff { .. } => self.close(now, actions),
            Phase::Helpers { .. } => {
                self.stop_helpers(now, actions);
                if !self.has_helpers_to_go() {
                    self.close(now, actions);
                }
            }
            Phase::MainBackoff { .. } => {
                if matches!(self.agent, Agent::Running { .. }) {
                    self.tell_stop(actions);
                }
                self.close(now, actions);
            }
            // It is on its way to its end: now for good.
            Phase::Restarting { .. } => {
                let own = self.plan.main.stop_signal.unwrap_or(Signal::TERM);
                if let Some(stop) = &mut self.stop {
                    (stop.forwarded, stop.sent, stop.is_drained) = (Some(own), own.bit(), true);
                }
                if matches!(self.agent, Agent::Running { .. }) {
                    self.tell_stop(actions);
                }
                self.phase = Phase::Stopping { kill_at, tell_at: None };
            }
            Phase::Helped => self.shorten_helpers(self.plan.stop.kill_at(now)),
            Phase::Running => self.stop_main(now, actions),
            // Begun by the main process's own end; the orchestrator's time counts from now.
            Phase::Closing(closing) => {
                closing.shorten(self.plan.stop.kill_at(now));
                if matches!(self.agent, Agent::Running { .. }) {
                    self.tell_stop(actions);
                }
            }
            // It would run in any stop; only its time gets shorter.
            Phase::PostStop { task, .. } => task.shorten(self.plan.stop.deadline(now)),
            Phase::Starting
            | Phase::Evidence { .. }
            | Phase::Draining { .. }
            | Phase::Stopping { .. }
            | Phase::Done => {}
        }
    }

    /// The same again from an orchestrator changes nothing; a key hurries; another
    /// stop signal is passed on, as the main process may not have cared for the first.
    fn stop_repeated(&mut self, signal: Signal, by_key: bool, now: Moment, actions: &mut Vec<Action>) {
        let Some(stop) = &mut self.stop else { return };
        actions.push(Action::Note(Note::StopRepeated { signal }));
        if by_key {
            stop.keys = stop.keys.saturating_add(1);
            let keys = stop.keys;
            return self.hurry(keys, now, actions);
        }
        if let Phase::Draining { .. } = self.phase {
            return self.skip_drain(now, actions);
        }
        let is_new = stop.sent & signal.bit() == 0 && stop.forwarded == Some(stop.signal);
        if is_new && let Phase::Stopping { .. } = self.phase {
            stop.sent |= signal.bit();
            actions.push(Action::Note(Note::Forwarding { signal }));
            actions.push(Action::Signal(Child::Main, signal));
        }
    }

    /// The second Ctrl-C skips what can be skipped, the third kills.
    fn hurry(&mut self, keys: u32, now: Moment, actions: &mut Vec<Action>) {
        actions.push(Action::Note(Note::Hurry));
        let kill = keys >= 3;
        match &mut self.phase {
            Phase::Evidence { .. } => self.forward_stop(EvidenceEnd::Skipped, now, actions),
            Phase::Draining { .. } => self.skip_drain(now, actions),
            Phase::Helpers { .. } | Phase::Helped if kill => self.shorten_helpers(now),
            Phase::Stopping { kill_at, .. } if kill => *kill_at = Some(now),
            Phase::Preflight(task) | Phase::Hook { task, .. } | Phase::PostStop { task, .. } if kill => {
                task.kill(actions);
            }
            Phase::Preflight(task) | Phase::Hook { task, .. } => task.hurry(now),
            Phase::Closing(closing) => closing.shorten(now),
            _ => {}
        }
        self.timer(now, actions);
    }

    /// When a main process that does not end is killed: never, unless somebody
    /// told us the grace period.
    fn kill_at(&self) -> Option<Moment> {
        let stop = self.stop?;
        self.plan.stop.grace_is_known.then(|| self.plan.stop.kill_at(stop.begun))
    }

    pub(super) fn stop_main(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Some(stop) = self.stop else { return };
        let until = self.plan.stop.evidence_until(stop.begun);
        // Nobody new reaches the service while its evidence is taken.
        self.stop_helpers(now, actions);
        let is_held = self.hold.is_some_and(|hold| hold > now);
        if !self.armed && !is_held {
            return self.forward_stop_quietly(now, actions);
        }
        if !matches!(self.agent, Agent::Running { .. }) {
            return self.forward_stop(EvidenceEnd::AgentLost, now, actions);
        }
        self.tell_stop(actions);
        if until <= now {
            return self.forward_stop(EvidenceEnd::OutOfTime, now, actions);
        }
        actions.push(Action::Note(Note::EvidenceBegins { until }));
        self.phase = Phase::Evidence { until };
    }

    fn tell_stop(&mut self, actions: &mut Vec<Action>) {
        let Some(stop) = &mut self.stop else { return };
        stop.is_told = true;
        let stop = *stop;
        actions.push(Action::TellStop {
            signal: stop.signal,
            begun: stop.begun,
            evidence_until: self.plan.stop.evidence_until(stop.begun),
            deadline: self.plan.stop.kill_at(stop.begun),
        });
    }

    pub(super) fn forward_stop(&mut self, end: EvidenceEnd, now: Moment, actions: &mut Vec<Action>) {
        actions.push(Action::Note(Note::EvidenceEnds(end)));
        self.forward_stop_quietly(now, actions);
    }

    pub(super) fn forward_stop_quietly(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.drain(now, actions) {
            return;
        }
        let kill_at = self.kill_at();
        let own = self.plan.main.stop_signal;
        let Some(stop) = self.stop.as_mut().filter(|stop| stop.forwarded.is_none()) else {
            return;
        };
        let rewritten = match self.plan.stop.forwarding.get(&stop.signal) {
            Some(Forwarding::As(other)) => *other,
            _ => stop.signal,
        };
        let signal = own.unwrap_or(rewritten);
        stop.forwarded = Some(signal);
        stop.sent = signal.bit();
        actions.push(Action::Note(Note::Forwarding { signal }));
        actions.push(if stop.keys > 0 && signal == stop.signal {
            Action::SignalIfMissed(Child::Main, signal)
        } else {
            Action::Signal(Child::Main, signal)
        });
        let has_agent = matches!(self.agent, Agent::Running { .. });
        let tell_at = kill_at.filter(|_| has_agent && self.has_rule(&Trigger::Stop)).map(|at| {
            // A main process that ends by itself needs its time; its last words need little.
            at.before(LAST_WORDS.min(now.until(at) / 2))
        });
        if has_agent && self.stop.is_some_and(|stop| !stop.is_told) {
            // After the signal: whatever it does about it, it delays nothing.
            self.tell_stop(actions);
        }
        self.phase = Phase::Stopping { kill_at, tell_at };
    }
}
