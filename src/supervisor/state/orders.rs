//! What an operator wants of a helper process: `bookend restart`, `stop`, `start`.

use super::helpers::{Restarts, State};
use super::machine::Machine;
use super::{Action, Child, Note};
use crate::link::Order;
use crate::units::Moment;

impl Machine<'_> {
    /// Does as it is told, unless the end has begun: then everybody goes anyway.
    pub(super) fn order(&mut self, index: usize, order: Order, now: Moment, actions: &mut Vec<Action>) {
        let (Some(state), Some(plan)) = (self.state_of(index), self.plan.helpers.get(index)) else { return };
        if self.ends() {
            return;
        }
        if let Some(helper) = self.helpers.get_mut(index) {
            helper.is_wanted = order != Order::Stop;
            // Somebody has looked: what failed before does not count.
            (helper.failures, helper.restarts) = (0, Restarts::default());
        }
        match (order, state) {
            (Order::Restart | Order::Stop, State::Starting { .. } | State::Running { .. }) => {
                self.forget_gate(index, actions);
                self.stop_helper(index, now, actions);
            }
            (Order::Stop, State::Waiting { .. } | State::Idle) => self.set(index, State::Ended),
            (Order::Restart | Order::Start, State::Waiting { .. } | State::Idle | State::Ended) => {
                return self.spawn_helper(index, actions);
            }
            // One that goes is started once it is gone.
            (_, State::Stopping { .. } | State::Killed { .. }) => {}
            _ => actions.push(Action::Note(Note::HelperStays(index))),
        }
        // Whoever waited for it waits no longer; before its turn had come nobody did.
        if state != State::Idle {
            self.start_helpers_behind(plan.start, actions);
        }
    }

    pub(super) fn spawn_helper(&mut self, index: usize, actions: &mut Vec<Action>) {
        self.set(index, State::Spawned);
        actions.push(Action::Spawn(Child::Helper(index)));
    }
}
