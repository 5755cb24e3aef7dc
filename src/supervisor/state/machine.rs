//! The machine itself: one phase, one event at a time.

use super::closing::Closing;
use super::helpers::{Helper, Restarts};
use super::roles::AGENT_SILENCE;
use super::task::Task;
use super::{Action, Child, Event, EvidenceEnd, Note, Reason};
use crate::config::{OnFailure, Start, Trigger};
use crate::exit;
use crate::plan::{Evidence, Plan};
use crate::sys::process::Status;
use crate::units::{Moment, Signal};
use std::time::Duration;

/// How long killed processes may take to be gone (a process in D state may
/// take for ever; the kernel ends it with the namespace).
pub(super) const KILL_PATIENCE: Duration = Duration::from_secs(1);

/// The lifecycle of one container.
#[derive(Clone, Debug)]
pub struct Machine<'a> {
    pub(super) plan: &'a Plan,
    pub(super) phase: Phase,
    pub(super) stop: Option<Stop>,
    /// When everything must be over, once a stop has begun.
    pub(super) stop_deadline: Option<Moment>,
    pub(super) agent: Agent,
    pub(super) carrier: Carrier,
    /// As many as the plan has.
    pub(super) helpers: Vec<Helper>,
    /// Of the main process.
    pub(super) main_restarts: Restarts,
    /// Code and reason, once they are known; the first is the true one.
    pub(super) outcome: Option<(u8, Reason)>,
    pub(super) main_was_started: bool,
    /// A stop has evidence to wait for.
    pub(super) armed: bool,
    /// Somebody wants the container kept so long.
    pub(super) hold: Option<Moment>,
    /// What the stop's event captured is in the store.
    pub(super) is_stored: bool,
    /// For the jitter of retries; no secret.
    seed: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    pub(super) signal: Signal,
    pub(super) begun: Moment,
    /// Stop signals from the terminal's keys, this one included.
    pub(super) keys: u32,
    /// What went to the main process for it, once something did.
    pub(super) forwarded: Option<Signal>,
    /// The agent was told of it.
    pub(super) is_told: bool,
    /// Nothing is to be waited for before the main process is asked.
    pub(super) is_drained: bool,
    /// Bits of every stop signal that was sent for it: each goes out once.
    pub(super) sent: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    Boot,
    Preflight(Task),
    Hook {
        index: usize,
        attempt: u32,
        task: Task,
    },
    /// Until the next attempt.
    Backoff {
        index: usize,
        attempt: u32,
        until: Moment,
    },
    /// That helper process is to become ready.
    Helpers {
        index: usize,
    },
    /// The main process is being started.
    Starting,
    Running,
    /// It is asked to end, and will be started again.
    Restarting {
        kill_at: Option<Moment>,
    },
    /// It is started again then.
    MainBackoff {
        until: Moment,
    },
    Evidence {
        until: Moment,
    },
    /// Helper processes in front of the main one end, and it lingers.
    Draining {
        until: Option<Moment>,
    },
    Stopping {
        kill_at: Option<Moment>,
        /// When the agent is told that it will be killed.
        tell_at: Option<Moment>,
    },
    /// Everything but the other helper processes has ended.
    Helped,
    Closing(Closing),
    PostStop {
        index: usize,
        task: Task,
    },
    Done,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Agent {
    None,
    Running {
        restarts: u32,
        /// Killed then, unless it says something before.
        silent_until: Moment,
    },
    Waiting {
        restarts: u32,
        until: Moment,
    },
    /// Ended, and not to be started again.
    Ended,
}

/// Who passes the main process's output on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Carrier {
    None,
    Running {
        restarts: u32,
    },
    Waiting {
        restarts: u32,
        until: Moment,
    },
    /// Ended, and not to be started again.
    Ended,
}

impl<'a> Machine<'a> {
    pub fn new(plan: &'a Plan, seed: u64) -> Self {
        Self {
            plan,
            phase: Phase::Boot,
            stop: None,
            stop_deadline: None,
            agent: Agent::None,
            carrier: Carrier::None,
            helpers: plan.helpers.iter().map(|_| Helper::new()).collect(),
            main_restarts: Restarts::default(),
            outcome: None,
            main_was_started: false,
            armed: always_armed(plan),
            hold: None,
            is_stored: false,
            seed,
        }
    }

    /// The next moment at which [`Event::Timer`] has something to do.
    pub fn next_deadline(&self) -> Option<Moment> {
        let phase = match &self.phase {
            Phase::Boot
            | Phase::Helpers { .. }
            | Phase::Starting
            | Phase::Running
            | Phase::Helped
            | Phase::Done => None,
            Phase::Preflight(task) | Phase::Hook { task, .. } | Phase::PostStop { task, .. } => {
                task.next_deadline()
            }
            Phase::Backoff { until, .. } | Phase::MainBackoff { until } | Phase::Evidence { until } => {
                Some(*until)
            }
            Phase::Draining { until } => *until,
            Phase::Restarting { kill_at } => *kill_at,
            Phase::Stopping { kill_at, tell_at } => earlier(*kill_at, *tell_at),
            Phase::Closing(closing) => closing.next_deadline(),
        };
        let agent = match self.agent {
            Agent::Waiting { until, .. } if self.stop.is_none() => Some(until),
            Agent::Running { silent_until, .. } if self.stop.is_none() => Some(silent_until),
            _ => None,
        };
        let carrier = match self.carrier {
            Carrier::Waiting { until, .. } => Some(until),
            _ => None,
        };
        earlier(earlier(earlier(phase, agent), carrier), self.helpers_deadline())
    }

    /// Code and reason, once known: what post-stop hooks are told.
    pub fn outcome(&self) -> Option<(u8, Reason)> {
        self.outcome
    }

    pub fn main_was_started(&self) -> bool {
        self.main_was_started
    }

    /// What the main process and the hooks left is being waited for.
    pub fn awaits_leftovers(&self) -> bool {
        matches!(self.phase, Phase::Closing(closing) if closing.awaits_leftovers())
    }

    /// Takes one event in; what is to be done about it is appended to `actions`.
    pub fn step(&mut self, event: Event, now: Moment, actions: &mut Vec<Action>) {
        if let Phase::Done = self.phase {
            return;
        }
        match event {
            Event::Begin => self.begin(now, actions),
            Event::Spawned(Child::Main) => self.main_started(now, actions),
            Event::Spawned(Child::Helper(index)) => self.helper_started(index, now, actions),
            Event::SpawnFailed(child, code) => self.spawn_failed(child, code, now, actions),
            Event::Skipped(Child::Hook(index)) => self.hook_done(index, now, actions),
            Event::Skipped(Child::PostStop(index)) => self.post_stop_done(index, now, actions),
            Event::Skipped(Child::Carrier) => {
                self.carrier = Carrier::Ended;
                self.carried(now, actions);
            }
            Event::Spawned(_) | Event::Skipped(_) => {}
            Event::Exited(child, status) => self.exited(child, status, now, actions),
            Event::Signal { signal, by_key } => self.signal(signal, by_key, now, actions),
            Event::Agent(deed) => self.agent_asks(deed, now, actions),
            Event::Alone => self.alone(now, actions),
            Event::NoLeftovers => self.no_leftovers(now, actions),
            Event::Timer => self.timer(now, actions),
        }
    }

    // ---- before the main process -------------------------------------------------

    fn begin(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Phase::Boot = self.phase else { return };
        match &self.plan.preflight {
            Some(preflight) => {
                // Its own checks end by the timeout; this is for a check that hangs in the kernel.
                let limit = preflight.timeout.saturating_add(Duration::from_secs(1));
                self.phase = Phase::Preflight(Task::begin(Child::Preflight, limit, KILL_PATIENCE, now));
                actions.push(Action::Spawn(Child::Preflight));
            }
            None => self.start_hook(0, 1, now, actions),
        }
    }

    pub(super) fn start_hook(&mut self, index: usize, attempt: u32, now: Moment, actions: &mut Vec<Action>) {
        if self.stop.is_some() {
            return self.close(now, actions);
        }
        let Some(hook) = self.plan.hooks.get(index) else {
            if self.plan.has_output_to_carry() && matches!(self.carrier, Carrier::None) {
                self.start_carrier(0, actions);
            }
            return self.start_helpers_before(0, now, actions);
        };
        let child = Child::Hook(index);
        let task = Task::begin(child, hook.timeout, hook.grace, now).on_stop(hook.on_stop);
        self.phase = Phase::Hook { index, attempt, task };
        actions.push(Action::Spawn(child));
    }

    fn hook_done(&mut self, index: usize, now: Moment, actions: &mut Vec<Action>) {
        match self.phase {
            Phase::Hook { index: current, .. } if current == index => {
                self.start_hook(index.saturating_add(1), 1, now, actions);
            }
            _ => {}
        }
    }

    fn hook_failed(&mut self, index: usize, attempt: u32, code: u8, now: Moment, actions: &mut Vec<Action>) {
        if self.stop.is_some() {
            return self.close(now, actions);
        }
        let Some(hook) = self.plan.hooks.get(index) else {
            return;
        };
        let child = Child::Hook(index);
        if attempt <= hook.retries && is_worth_a_retry(code) {
            let wait = hook.backoff.wait(attempt, self.jitter());
            actions.push(Action::Note(Note::HookRetries { child, attempt: attempt.saturating_add(1), wait }));
            self.phase = Phase::Backoff { index, attempt: attempt.saturating_add(1), until: now.after(wait) };
            return;
        }
        let aborts = hook.on_failure == OnFailure::Abort;
        actions.push(Action::Note(Note::HookFailed { child, code, aborts }));
        if aborts {
            self.outcome = Some((code, Reason::HookFailed(index)));
            self.close(now, actions);
        } else {
            self.start_hook(index.saturating_add(1), 1, now, actions);
        }
    }

    pub(super) fn start_main(&mut self, now: Moment, actions: &mut Vec<Action>) {
        // The agent first, so that it is there when the service begins.
        if self.plan.needs_agent() && matches!(self.agent, Agent::None) {
            self.start_agent(0, now, actions);
        }
        self.phase = Phase::Starting;
        actions.push(Action::Spawn(Child::Main));
    }

    // ---- the main process ---------------------------------------------------------

    fn main_started(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Phase::Starting = self.phase else { return };
        self.main_was_started = true;
        // What was of an earlier life of it is nothing to this one.
        self.is_stored = false;
        self.phase = Phase::Running;
        if self.stop.is_some() {
            return self.stop_main(now, actions);
        }
        self.start_helpers_behind(Start::After, actions);
    }

    fn main_ended(&mut self, status: Status, now: Moment, actions: &mut Vec<Action>) {
        if !matches!(
            self.phase,
            Phase::Starting
                | Phase::Running
                | Phase::Restarting { .. }
                | Phase::Evidence { .. }
                | Phase::Draining { .. }
                | Phase::Stopping { .. }
        ) {
            return;
        }
        if self.main_restarts(status, now, actions) {
            return;
        }
        let asked = self.stop.is_some_and(|stop| stop.forwarded.is_some());
        let reason = if asked { Reason::Stopped } else { Reason::MainEnded };
        // Only where we asked: the same code by itself is the service's own message.
        let mapped = self.plan.stop.exit_codes.get(&status.code()).filter(|_| asked);
        // A helper process that could not be had is the first cause, and so the true one.
        let outcome = self.outcome.unwrap_or((mapped.copied().unwrap_or(status.code()), reason));
        self.outcome = Some(outcome);
        // The kernel takes the agent first when memory runs out, and the main process next:
        // what there is to say of that end, a new agent has to say.
        if let Agent::Waiting { restarts, .. } = self.agent
            && self.has_rule_on_end()
            && !asked
            && !status.is_success()
        {
            self.start_agent(restarts, now, actions);
        }
        if matches!(self.agent, Agent::Running { .. }) {
            actions.push(Action::TellMainEnded { status, asked });
        }
        self.close(now, actions);
    }

    fn start_agent(&mut self, restarts: u32, now: Moment, actions: &mut Vec<Action>) {
        self.agent = Agent::Running { restarts, silent_until: now.after(AGENT_SILENCE) };
        actions.push(Action::Spawn(Child::Agent));
    }

    pub(super) fn start_carrier(&mut self, restarts: u32, actions: &mut Vec<Action>) {
        self.carrier = Carrier::Running { restarts };
        actions.push(Action::Spawn(Child::Carrier));
    }

    /// The main process's end by itself sets off a rule.
    pub(super) fn has_rule_on_end(&self) -> bool {
        self.has_rule(&Trigger::Exit) || self.has_rule(&Trigger::OutOfMemory)
    }

    pub(super) fn has_rule(&self, trigger: &Trigger) -> bool {
        self.plan.evidence.as_ref().is_some_and(|evidence| evidence.rules_on(trigger).next().is_some())
    }

    // ---- children that end -------------------------------------------------------------

    fn spawn_failed(&mut self, child: Child, code: u8, now: Moment, actions: &mut Vec<Action>) {
        match (child, self.phase) {
            (Child::Preflight, Phase::Preflight(_)) => {
                self.outcome = Some((code, Reason::PreflightFailed));
                self.close(now, actions);
            }
            (Child::Hook(index), Phase::Hook { index: current, attempt, .. }) if current == index => {
                self.hook_failed(index, attempt, code, now, actions);
            }
            (Child::Main, Phase::Starting) => {
                self.outcome = Some((code, Reason::MainNotStarted));
                self.close(now, actions);
            }
            (Child::PostStop(index), Phase::PostStop { index: current, .. }) if current == index => {
                actions.push(Action::Note(Note::HookFailed { child, code, aborts: false }));
                self.post_stop_done(index, now, actions);
            }
            (Child::Helper(index), _) => self.helper_not_started(index, code, now, actions),
            (Child::Gate(index), _) => self.gate_ended(index, Status::Exited(code), now, actions),
            (Child::Agent, _) => self.agent_lost(now, actions),
            (Child::Carrier, _) => self.carrier_lost(false, now, actions),
            _ => {}
        }
    }

    fn exited(&mut self, child: Child, status: Status, now: Moment, actions: &mut Vec<Action>) {
        match (child, self.phase) {
            (Child::Main, _) => self.main_ended(status, now, actions),
            (Child::Helper(index), _) => self.helper_ended(index, status, now, actions),
            (Child::Gate(index), _) => self.gate_ended(index, status, now, actions),
            (Child::Agent, _) => self.agent_lost(now, actions),
            (Child::Carrier, _) => self.carrier_lost(status.is_success(), now, actions),
            (Child::Preflight, Phase::Preflight(task)) => {
                if self.stop.is_none() && (!status.is_success() || task.timed_out()) {
                    self.outcome = Some((exit::PREFLIGHT, Reason::PreflightFailed));
                    return self.close(now, actions);
                }
                self.start_hook(0, 1, now, actions);
            }
            (Child::Hook(index), Phase::Hook { index: current, attempt, task }) if current == index => {
                if task.timed_out() {
                    self.hook_failed(index, attempt, exit::HOOK_TIMED_OUT, now, actions);
                } else if status.is_success() {
                    self.hook_done(index, now, actions);
                } else {
                    self.hook_failed(index, attempt, status.code(), now, actions);
                }
            }
            (Child::PostStop(index), Phase::PostStop { index: current, task }) if current == index => {
                let code = if task.timed_out() { exit::HOOK_TIMED_OUT } else { status.code() };
                if code != 0 {
                    actions.push(Action::Note(Note::HookFailed { child, code, aborts: false }));
                }
                self.post_stop_done(index, now, actions);
            }
            _ => {}
        }
    }

    // ---- time --------------------------------------------------------------------------------

    pub(super) fn timer(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if let Agent::Waiting { restarts, until } = self.agent
            && now >= until
            && self.stop.is_none()
        {
            self.start_agent(restarts, now, actions);
        }
        if let Agent::Running { silent_until, .. } = &mut self.agent
            && now >= *silent_until
            && self.stop.is_none()
        {
            // Its exit comes, and with it the restart.
            *silent_until = now.after(AGENT_SILENCE);
            actions.push(Action::Note(Note::AgentSilent));
            actions.push(Action::Signal(Child::Agent, Signal::KILL));
        }
        if matches!(self.carrier, Carrier::Waiting { until, .. } if now >= until) {
            self.carry_on(actions);
        }
        self.helpers_timer(now, actions);
        match &mut self.phase {
            Phase::Preflight(task) | Phase::Hook { task, .. } | Phase::PostStop { task, .. } => {
                task.timer(now, actions);
            }
            Phase::Draining { .. } => self.drained(now, actions),
            Phase::MainBackoff { until } if now >= *until => self.start_main(now, actions),
            Phase::Restarting { kill_at } if kill_at.is_some_and(|at| now >= at) => {
                *kill_at = None;
                actions.push(Action::Note(Note::Killing(Child::Main)));
                actions.push(Action::Signal(Child::Main, Signal::KILL));
            }
            Phase::Backoff { index, attempt, until } if now >= *until => {
                let (index, attempt) = (*index, *attempt);
                self.start_hook(index, attempt, now, actions);
            }
            Phase::Evidence { until } if now >= *until => {
                self.forward_stop(EvidenceEnd::OutOfTime, now, actions);
            }
            Phase::Stopping { kill_at: Some(at), tell_at }
                if tell_at.is_some_and(|at| now >= at) && now < *at =>
            {
                *tell_at = None;
                actions.push(Action::TellKill { at: *at });
            }
            Phase::Stopping { kill_at, tell_at } if kill_at.is_some_and(|at| now >= at) => {
                (*kill_at, *tell_at) = (None, None);
                actions.push(Action::Note(Note::Killing(Child::Main)));
                actions.push(Action::Signal(Child::Main, Signal::KILL));
            }
            Phase::Closing(_) => self.closing_timer(now, actions),
            _ => {}
        }
    }

    /// The next step of a linear congruential generator (Knuth's MMIX constants).
    pub(super) fn jitter(&mut self) -> u8 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u8::try_from(self.seed >> 56).unwrap_or(0)
    }
}

/// Every stop sets off a rule, whatever the service's health.
pub(super) fn always_armed(plan: &Plan) -> bool {
    plan.evidence.as_ref().is_some_and(Evidence::every_stop)
}

/// A command that is not there will not be there in a second either.
fn is_worth_a_retry(code: u8) -> bool {
    !matches!(code, exit::NOT_FOUND | exit::NOT_EXECUTABLE)
}

/// The earlier of two deadlines, where there are any.
pub(super) fn earlier(one: Option<Moment>, other: Option<Moment>) -> Option<Moment> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
