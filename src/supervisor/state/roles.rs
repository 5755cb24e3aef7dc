//! Roles of ours beside the supervisor's: what the agent asks for, and how both are replaced.

use super::closing::Storing;
use super::machine::{Agent, Carrier, Machine, Phase, always_armed};
use super::{Action, EvidenceEnd, Note};
use crate::config::Start;
use crate::link::Deed;
use crate::plan::Backoff;
use crate::units::Moment;
use std::time::Duration;

/// An agent that says nothing for so long is stuck; it says that it is alive
/// three times as often.
pub(super) const AGENT_SILENCE: Duration = Duration::from_secs(90);

impl Machine<'_> {
    // ---- the agent ----------------------------------------------------------------------

    pub(super) fn agent_asks(&mut self, deed: Deed, now: Moment, actions: &mut Vec<Action>) {
        match deed {
            Deed::Armed => (self.armed, self.is_stored) = (true, false),
            Deed::Stored => self.is_stored = true,
            Deed::Disarmed => self.armed = always_armed(self.plan),
            Deed::Hold { until } => {
                self.hold = Some(until);
                actions.push(Action::Note(Note::Hold { until }));
            }
            Deed::Release => return self.release(now, actions),
            Deed::RestartMain => self.restart_main(now, actions),
            Deed::Healthy => self.start_helpers_behind(Start::Healthy, actions),
            Deed::Helper { index, order } => self.order(index, order, now, actions),
            _ => {}
        }
        if let Agent::Running { silent_until, .. } = &mut self.agent {
            *silent_until = now.after(AGENT_SILENCE);
        }
        match (deed, &mut self.phase) {
            // Kept as long as the stop's deadlines allow.
            (Deed::Captured | Deed::NotCaptured | Deed::Disarmed, Phase::Evidence { until })
                if self.hold.is_some_and(|hold| hold > now) =>
            {
                *until = self.hold.map_or(*until, |hold| hold.min(*until));
            }
            (Deed::Disarmed, Phase::Evidence { .. }) => self.forward_stop_quietly(now, actions),
            (Deed::Captured, Phase::Evidence { .. }) => {
                self.forward_stop(EvidenceEnd::Captured, now, actions);
            }
            (Deed::NotCaptured, Phase::Evidence { .. }) => {
                self.forward_stop(EvidenceEnd::Nothing, now, actions);
            }
            (Deed::Stored, Phase::Closing(_)) => self.stored(now, actions),
            _ => {}
        }
    }

    pub(super) fn agent_lost(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Agent::Running { restarts, .. } = self.agent else {
            return;
        };
        self.agent = Agent::Ended;
        self.is_stored = false;
        // Nobody could release it any more.
        self.hold = None;
        // What it knew of the service's health is gone with it.
        self.armed = always_armed(self.plan);
        match self.phase {
            Phase::Starting | Phase::Running | Phase::Restarting { .. } | Phase::MainBackoff { .. }
                if self.stop.is_none() =>
            {
                let backoff = Backoff { first: Duration::from_secs(1) };
                let wait = backoff.wait(restarts.saturating_add(1), self.jitter());
                actions.push(Action::Note(Note::AgentRestarts { wait }));
                self.agent = Agent::Waiting { restarts: restarts.saturating_add(1), until: now.after(wait) };
            }
            Phase::Evidence { .. } => self.forward_stop(EvidenceEnd::AgentLost, now, actions),
            Phase::Closing(ref mut closing) => {
                closing.storing = Storing::Over;
                self.closing_goes_on(now, actions);
            }
            _ => {}
        }
    }

    // ---- the carrier --------------------------------------------------------------------

    /// `is_done`: everybody has closed what it carried. Else what is in the pipes waits
    /// for the next one.
    pub(super) fn carrier_lost(&mut self, is_done: bool, now: Moment, actions: &mut Vec<Action>) {
        let Carrier::Running { restarts } = self.carrier else { return };
        if is_done || matches!(self.phase, Phase::PostStop { .. }) {
            self.carrier = Carrier::Ended;
            return self.carried(now, actions);
        }
        // At once the first time: the service may wait for room in the pipe.
        let backoff = Backoff { first: Duration::from_millis(200) };
        let wait = if restarts == 0 { Duration::ZERO } else { backoff.wait(restarts, self.jitter()) };
        actions.push(Action::Note(Note::CarrierRestarts { wait }));
        self.carrier = Carrier::Waiting { restarts: restarts.saturating_add(1), until: now.after(wait) };
    }
}
