//! What an operator wants of a helper process: `bookend restart`, `stop`, `start`.

use super::helpers::State;
use super::machine::Machine;
use super::{Action, Child};
use crate::link::Order;
use crate::units::Moment;

impl Machine<'_> {
    /// Does as it is told, unless the end has begun: then everybody goes anyway.
    pub(super) fn order(&mut self, index: usize, order: Order, now: Moment, actions: &mut Vec<Action>) {
        let Some(state) = self.state_of(index) else { return };
        if self.ends() {
            return;
        }
        let is_up = matches!(state, State::Starting { .. } | State::Running { .. });
        if let Some(helper) = self.helpers.get_mut(index) {
            helper.is_wanted = order != Order::Stop;
            // Somebody has looked: what failed before does not count.
            helper.failures = 0;
        }
        match (order, state) {
            (Order::Restart | Order::Stop, _) if is_up => {
                self.forget_gate(index, actions);
                self.stop_helper(index, now, actions);
            }
            (Order::Stop, State::Waiting { .. }) => self.set(index, State::Ended),
            (Order::Restart | Order::Start, State::Waiting { .. } | State::Ended) => {
                self.spawn_helper(index, actions);
            }
            // One that goes is started once it is gone, one whose turn has not come in its turn.
            _ => {}
        }
    }

    pub(super) fn spawn_helper(&mut self, index: usize, actions: &mut Vec<Action>) {
        actions.push(Action::Spawn(Child::Helper(index)));
        // Until it is known whether that could be done.
        self.set(index, State::Idle);
    }
}
