//! Helper processes: started in order, kept, stopped in the reverse order.
//!
//! Those that come before the main process are waited for, each until it is ready; those
//! that come after it end before it is asked to.

use super::machine::{Agent, KILL_PATIENCE, Machine, Phase, earlier};
use super::{Action, Child, Note, Reason};
use crate::config::{Limit, Restart, Start};
use crate::exit;
use crate::sys::process::Status;
use crate::units::{Moment, Signal};
use std::time::Duration;

/// One that ran so long is well: what failed before it does not count for its next wait.
const LONG_RUN: Duration = Duration::from_mins(1);
/// Its own timeout ends a readiness check; this is for one that hangs.
const GATE_PATIENCE: Duration = Duration::from_secs(2);

/// How one helper process fares.
#[derive(Clone, Copy, Debug)]
pub(super) struct Helper {
    state: State,
    /// Failures in a row, for the next wait.
    pub(super) failures: u32,
    /// An operator wants it to be started again once it is gone.
    pub(super) is_wanted: bool,
    /// Readiness checks that were killed, and are still to be reaped.
    killed_gates: u32,
    pub(super) restarts: Restarts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Idle,
    /// Whether it could be started is not known yet.
    Spawned,
    /// It runs, and is not ready yet; whoever waits for that says so before `until`.
    Starting {
        since: Moment,
        until: Moment,
    },
    Running {
        since: Moment,
    },
    /// It is started again then.
    Waiting {
        until: Moment,
    },
    Stopping {
        kill_at: Moment,
    },
    Killed {
        until: Moment,
    },
    Ended,
}

/// How often something was started again in the current window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Restarts {
    count: u32,
    begun: Option<Moment>,
}

impl Restarts {
    /// Counts one more; false if that is more than `limit` allows.
    pub(super) fn count(&mut self, limit: Limit, now: Moment) -> bool {
        if self.begun.is_none_or(|begun| begun.until(now) >= limit.per) {
            *self = Self { count: 0, begun: Some(now) };
        }
        self.count = self.count.saturating_add(1);
        self.count <= limit.times
    }
}

impl Helper {
    pub(super) fn new() -> Self {
        Self {
            state: State::Idle,
            failures: 0,
            is_wanted: false,
            killed_gates: 0,
            restarts: Restarts::default(),
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Idle | State::Spawned | State::Ended)
    }

    fn next_deadline(&self) -> Option<Moment> {
        match self.state {
            State::Starting { until, .. } | State::Waiting { until } | State::Killed { until } => Some(until),
            State::Stopping { kill_at } => Some(kill_at),
            _ => None,
        }
    }
}

impl Machine<'_> {
    pub(super) fn helpers_deadline(&self) -> Option<Moment> {
        self.helpers.iter().map(Helper::next_deadline).fold(None, earlier)
    }

    pub(super) fn state_of(&self, index: usize) -> Option<State> {
        self.helpers.get(index).map(|helper| helper.state)
    }

    pub(super) fn set(&mut self, index: usize, state: State) {
        if let Some(helper) = self.helpers.get_mut(index) {
            helper.state = state;
        }
    }

    /// The first at or behind `from` that starts then.
    fn next_of(&self, start: Start, from: usize) -> Option<usize> {
        let helpers = self.plan.helpers.iter().enumerate().skip(from);
        helpers.filter(|(_, helper)| helper.start == start).map(|(index, _)| index).next()
    }

    // ---- their start -----------------------------------------------------------------

    /// Starts those that come before the main process, one after the other, then that.
    pub(super) fn start_helpers_before(&mut self, from: usize, now: Moment, actions: &mut Vec<Action>) {
        if self.stop.is_some() || self.outcome.is_some() {
            return self.close(now, actions);
        }
        let Some(index) = self.next_of(Start::Before, from) else {
            return self.start_main(now, actions);
        };
        self.phase = Phase::Helpers { index };
        self.spawn_helper(index, actions);
    }

    /// Starts the next of those that come after the main process, or once it is healthy: each once
    /// the one in front is ready, or was stopped by an operator.
    pub(super) fn start_helpers_behind(&mut self, start: Start, actions: &mut Vec<Action>) {
        if !matches!(self.phase, Phase::Running) || self.stop.is_some() {
            return;
        }
        let mut from = 0;
        while let Some(index) = self.next_of(start, from) {
            match self.state_of(index) {
                Some(State::Idle) => return self.spawn_helper(index, actions),
                // Its turn is not over.
                Some(State::Spawned | State::Starting { .. }) => return,
                _ => from = index.saturating_add(1),
            }
        }
    }

    pub(super) fn helper_started(&mut self, index: usize, now: Moment, actions: &mut Vec<Action>) {
        let Some(plan) = self.plan.helpers.get(index) else { return };
        if plan.ready.is_some() {
            let until = now.after(plan.ready_timeout.saturating_add(GATE_PATIENCE));
            self.set(index, State::Starting { since: now, until });
            actions.push(Action::Spawn(Child::Gate(index)));
        } else {
            self.set(index, State::Running { since: now });
            self.helper_ready(index, now, actions);
        }
        // A stop came while it was being started.
        self.stop_helpers(now, actions);
    }

    fn helper_ready(&mut self, index: usize, now: Moment, actions: &mut Vec<Action>) {
        let Some(plan) = self.plan.helpers.get(index) else { return };
        actions.push(Action::Note(Note::HelperReady(index)));
        match (plan.start, self.phase) {
            (Start::Before, Phase::Helpers { index: current }) if current == index => {
                self.start_helpers_before(index.saturating_add(1), now, actions);
            }
            (Start::Before, _) => {}
            (start, _) => self.start_helpers_behind(start, actions),
        }
    }

    /// Whoever waits for its readiness has seen it, or has given up.
    pub(super) fn gate_ended(
        &mut self,
        index: usize,
        status: Status,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        // One that we killed says nothing of the helper that may have been started since.
        if let Some(helper) = self.helpers.get_mut(index)
            && helper.killed_gates > 0
            && matches!(status, Status::Signaled { signal: Signal::KILL, .. })
        {
            helper.killed_gates = helper.killed_gates.saturating_sub(1);
            return;
        }
        let is_ready = status.is_success();
        let Some(State::Starting { since, .. }) = self.state_of(index) else { return };
        self.set(index, State::Running { since });
        if is_ready {
            self.helper_ready(index, now, actions);
        } else {
            self.fail(index, now, actions);
        }
    }

    // ---- their end -------------------------------------------------------------------

    pub(super) fn helper_ended(
        &mut self,
        index: usize,
        status: Status,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        match self.state_of(index) {
            Some(State::Stopping { .. } | State::Killed { .. }) => {
                self.set(index, State::Ended);
                self.helpers_go_on(now, actions);
                self.wanted_again(index, actions);
            }
            Some(State::Starting { since, .. } | State::Running { since }) => {
                self.forget_gate(index, actions);
                self.ended_by_itself(index, status, since, now, actions);
            }
            _ => {}
        }
    }

    pub(super) fn helper_not_started(
        &mut self,
        index: usize,
        code: u8,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        // What is not there will not be there in a second either.
        if matches!(code, exit::NOT_FOUND | exit::NOT_EXECUTABLE) {
            self.set(index, State::Ended);
            return self.fail(index, now, actions);
        }
        self.ended_by_itself(index, Status::Exited(code), now, now, actions);
    }

    fn ended_by_itself(
        &mut self,
        index: usize,
        status: Status,
        since: Moment,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        self.set(index, State::Ended);
        let Some(plan) = self.plan.helpers.get(index) else { return };
        if self.ends() {
            return self.helpers_go_on(now, actions);
        }
        let again = match plan.restart {
            Restart::Never => false,
            Restart::OnFailure => !status.is_success(),
            Restart::Always => true,
        };
        if !again {
            // Who is waited for has to come up; a task that is done is ready.
            let is_awaited = matches!(self.phase, Phase::Helpers { index: current } if current == index);
            if is_awaited && (plan.ready.is_some() || !status.is_success()) {
                return self.fail(index, now, actions);
            }
            actions.push(Action::Note(Note::HelperEnded(index)));
            return;
        }
        let jitter = self.jitter();
        let Some(helper) = self.helpers.get_mut(index) else { return };
        if since.until(now) >= LONG_RUN {
            helper.failures = 0;
        }
        helper.failures = helper.failures.saturating_add(1);
        if !helper.restarts.count(plan.limit, now) {
            return self.fail(index, now, actions);
        }
        let wait = plan.backoff.wait(helper.failures, jitter);
        helper.state = State::Waiting { until: now.after(wait) };
        actions.push(Action::Note(Note::HelperRestarts { index, wait }));
    }

    /// The container cannot do without it: it ends as by a stop, with a code of its own.
    fn fail(&mut self, index: usize, now: Moment, actions: &mut Vec<Action>) {
        if self.ends() {
            return;
        }
        actions.push(Action::Note(Note::HelperFailed(index)));
        self.outcome = Some((exit::HELPER, Reason::HelperFailed(index)));
        self.end_by_own_wish(now, actions);
    }

    /// It was stopped only to be started again.
    fn wanted_again(&mut self, index: usize, actions: &mut Vec<Action>) {
        let is_wanted = self.helpers.get(index).is_some_and(|helper| helper.is_wanted);
        if is_wanted && !self.ends() {
            self.spawn_helper(index, actions);
        }
    }

    /// The end has begun: nobody is started again.
    pub(super) fn ends(&self) -> bool {
        self.stop.is_some()
            || self.outcome.is_some()
            || matches!(self.phase, Phase::Closing(_) | Phase::PostStop { .. } | Phase::Done)
    }

    pub(super) fn forget_gate(&mut self, index: usize, actions: &mut Vec<Action>) {
        if let Some(State::Starting { since, .. }) = self.state_of(index) {
            self.set(index, State::Running { since });
            if let Some(helper) = self.helpers.get_mut(index) {
                helper.killed_gates = helper.killed_gates.saturating_add(1);
            }
            actions.push(Action::Signal(Child::Gate(index), Signal::KILL));
        }
    }

    // ---- their stop --------------------------------------------------------------------

    /// Those that have to be gone by now are, or are being stopped; the last one first.
    pub(super) fn stop_helpers(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.stop.is_none() && self.outcome.is_none() {
            return;
        }
        for index in self.stop_order() {
            if !self.is_to_go(index) {
                continue;
            }
            match self.state_of(index) {
                Some(State::Waiting { .. }) => self.set(index, State::Ended),
                Some(State::Starting { .. } | State::Running { .. }) => {
                    self.forget_gate(index, actions);
                    return self.stop_helper(index, now, actions);
                }
                // The one before it is stopped once it is gone. An operator may have asked it to end,
                // and left it a time that a stop has not.
                Some(State::Stopping { kill_at }) => {
                    let kill_at = self.kill_helper_at(index, now).min(kill_at);
                    return self.set(index, State::Stopping { kill_at });
                }
                Some(State::Killed { .. }) => return,
                _ => {}
            }
        }
    }

    /// The reverse of the order in which they are started.
    fn stop_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.helpers.len()).collect();
        let rank = |index: usize| match self.plan.helpers.get(index).map(|plan| plan.start) {
            Some(Start::Healthy) => 2,
            Some(Start::After) => 1,
            Some(Start::Before) | None => 0,
        };
        order.sort_by_key(|index| (rank(*index), *index));
        order.reverse();
        order
    }

    fn is_to_go(&self, index: usize) -> bool {
        let is_after = self.plan.helpers.get(index).is_some_and(|plan| plan.start != Start::Before);
        match self.phase {
            Phase::Running | Phase::Starting | Phase::Evidence { .. } | Phase::Draining { .. } => is_after,
            Phase::Helpers { .. } | Phase::Helped => true,
            // The main process is asked only once they are gone.
            _ => false,
        }
    }

    pub(super) fn stop_helper(&mut self, index: usize, now: Moment, actions: &mut Vec<Action>) {
        let Some(plan) = self.plan.helpers.get(index) else { return };
        let kill_at = self.kill_helper_at(index, now);
        actions.push(Action::Note(Note::HelperStops { index, signal: plan.stop_signal }));
        actions.push(Action::SignalTree(Child::Helper(index), plan.stop_signal));
        self.set(index, State::Stopping { kill_at });
    }

    /// When one that is asked to end now has to be gone.
    fn kill_helper_at(&self, index: usize, now: Moment) -> Moment {
        let Some(plan) = self.plan.helpers.get(index) else { return now };
        let own = now.after(plan.grace);
        // What comes behind it needs its time.
        let shared = self.stop_deadline.map(|_| {
            let begun = self.stop.map_or(now, |stop| stop.begun);
            match plan.start {
                Start::After | Start::Healthy => self.plan.stop.evidence_until(begun),
                Start::Before => self.plan.stop.kill_at(begun),
            }
        });
        shared.map_or(own, |shared| shared.min(own)).max(now)
    }

    pub(super) fn has_helpers_to_go(&self) -> bool {
        let mut helpers = self.helpers.iter().enumerate();
        helpers.any(|(index, helper)| self.is_to_go(index) && !helper.is_over())
    }

    /// Nobody is waited for beyond `moment`.
    pub(super) fn shorten_helpers(&mut self, moment: Moment) {
        for helper in &mut self.helpers {
            if let State::Stopping { kill_at } = &mut helper.state {
                *kill_at = moment.min(*kill_at);
            }
        }
    }

    /// Signals that a helper process wants for itself; whether there is one.
    pub(super) fn signal_helpers(&self, signal: Signal, actions: &mut Vec<Action>) -> bool {
        let mut is_theirs = false;
        for (index, plan) in self.plan.helpers.iter().enumerate() {
            if plan.signals.contains(&signal) {
                is_theirs = true;
                if matches!(self.state_of(index), Some(State::Starting { .. } | State::Running { .. })) {
                    actions.push(Action::Signal(Child::Helper(index), signal));
                }
            }
        }
        is_theirs
    }

    /// One more is gone.
    fn helpers_go_on(&mut self, now: Moment, actions: &mut Vec<Action>) {
        self.stop_helpers(now, actions);
        if self.has_helpers_to_go() {
            return;
        }
        match self.phase {
            Phase::Draining { .. } => self.drained(now, actions),
            Phase::Helped => self.close_now(now, actions),
            Phase::Helpers { .. } if self.ends() => self.close(now, actions),
            _ => {}
        }
    }

    pub(super) fn helpers_timer(&mut self, now: Moment, actions: &mut Vec<Action>) {
        for index in 0..self.helpers.len() {
            match self.state_of(index) {
                // A check that hangs in the kernel.
                Some(State::Starting { until, .. }) if now >= until => {
                    self.forget_gate(index, actions);
                    self.fail(index, now, actions);
                }
                Some(State::Waiting { until }) if now >= until && !self.ends() => {
                    self.spawn_helper(index, actions);
                }
                // Nobody is started again for the end.
                Some(State::Waiting { until }) if now >= until => {
                    self.set(index, State::Ended);
                    self.helpers_go_on(now, actions);
                }
                Some(State::Stopping { kill_at }) if now >= kill_at => {
                    actions.push(Action::Note(Note::Killing(Child::Helper(index))));
                    actions.push(Action::SignalTree(Child::Helper(index), Signal::KILL));
                    self.set(index, State::Killed { until: now.after(KILL_PATIENCE) });
                }
                // In D state. In a stop it ends with the namespace; else it is waited for, as two of
                // them at once would be worse.
                Some(State::Killed { until }) if now >= until && !self.ends() => {
                    self.set(index, State::Killed { until: now.after(KILL_PATIENCE) });
                }
                Some(State::Killed { until }) if now >= until => {
                    self.set(index, State::Ended);
                    self.helpers_go_on(now, actions);
                }
                _ => {}
            }
        }
    }

    // ---- a main process that is started again -------------------------------------------

    /// After an end of its own, where the plan wants it; whether it is.
    pub(super) fn main_restarts(&mut self, status: Status, now: Moment, actions: &mut Vec<Action>) -> bool {
        let was_asked = matches!(self.phase, Phase::Restarting { .. });
        let plan = self.plan.main_restart;
        if self.stop.is_some() || self.outcome.is_some() {
            return false;
        }
        if !was_asked && !plan.after_end(status.is_success()) {
            return false;
        }
        if !self.main_restarts.count(plan.limit, now) {
            actions.push(Action::Note(Note::MainRestartsTooOften));
            return false;
        }
        let jitter = self.jitter();
        let wait =
            if was_asked { Duration::ZERO } else { plan.backoff.wait(self.main_restarts.count, jitter) };
        if matches!(self.agent, Agent::Running { .. }) {
            actions.push(Action::TellMainEnded { status, asked: was_asked });
        }
        actions.push(Action::Note(Note::MainRestarts { wait }));
        self.phase = Phase::MainBackoff { until: now.after(wait) };
        true
    }

    /// It is sick, and its evidence is captured.
    pub(super) fn restart_main(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let (Phase::Running, None, true) = (self.phase, self.stop, self.plan.main_restart.is_ever()) else {
            return;
        };
        let signal = self.plan.main.stop_signal.unwrap_or(Signal::TERM);
        actions.push(Action::Note(Note::MainIsRestarted { signal }));
        actions.push(Action::SignalTree(Child::Main, signal));
        self.phase = Phase::Restarting { kill_at: Some(now.after(self.plan.stop.grace)) };
    }

    // ---- lame duck ------------------------------------------------------------------------

    /// Before the main process is asked to end: those in front of it are gone, and so is the time
    /// for which it goes on serving. Whether there is anything to wait for.
    pub(super) fn drain(&mut self, now: Moment, actions: &mut Vec<Action>) -> bool {
        let Some(stop) = self.stop else { return false };
        if stop.is_drained {
            return false;
        }
        let mut until = stop.begun.after(self.plan.stop.linger);
        if self.stop_deadline.is_some() {
            until = until.min(self.plan.stop.evidence_until(stop.begun));
        }
        let lingers = (until > now).then_some(until);
        self.phase = Phase::Draining { until: lingers };
        self.stop_helpers(now, actions);
        if lingers.is_none() && !self.has_helpers_to_go() {
            return false;
        }
        if let Some(until) = lingers {
            actions.push(Action::Note(Note::Lingers { until }));
        }
        true
    }

    /// Goes on if nothing is left to wait for.
    pub(super) fn drained(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Phase::Draining { until } = &mut self.phase else { return };
        *until = until.filter(|until| *until > now);
        if until.is_some() || self.has_helpers_to_go() {
            return;
        }
        if let Some(stop) = &mut self.stop {
            stop.is_drained = true;
        }
        self.forward_stop_quietly(now, actions);
    }

    /// Somebody does not want to wait.
    pub(super) fn skip_drain(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if let Phase::Draining { until } = &mut self.phase {
            *until = None;
            self.drained(now, actions);
        }
    }

    /// Ends the container as an orchestrator would.
    fn end_by_own_wish(&mut self, now: Moment, actions: &mut Vec<Action>) {
        match self.phase {
            Phase::Running | Phase::Starting => self.stop_by(Signal::TERM, now, actions),
            Phase::Helpers { .. } => {
                self.stop_helpers(now, actions);
                if !self.has_helpers_to_go() {
                    self.close(now, actions);
                }
            }
            Phase::MainBackoff { .. } => self.close(now, actions),
            // Its end is the container's now.
            _ => {}
        }
    }
}
