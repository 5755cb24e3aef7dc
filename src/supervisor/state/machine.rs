//! The machine itself: one phase, one event at a time.

use super::task::Task;
use super::{Action, Child, Event, EvidenceEnd, Note, Reason};
use crate::config::{OnFailure, Trigger};
use crate::exit;
use crate::link::Deed;
use crate::plan::{Backoff, HookPlan, Plan};
use crate::sys::process::Status;
use crate::units::{Moment, Signal};
use std::time::Duration;

/// How long killed processes may take to be gone (a process in D state may
/// take for ever; the kernel ends it with the namespace).
const KILL_PATIENCE: Duration = Duration::from_secs(1);
/// How long the agent may take to end once everything is stored.
const AGENT_PATIENCE: Duration = Duration::from_secs(2);
/// No post-stop hook is started with less than this left.
const SHORTEST_HOOK: Duration = Duration::from_millis(50);

/// The lifecycle of one container.
#[derive(Debug)]
pub struct Machine<'a> {
    plan: &'a Plan,
    phase: Phase,
    stop: Option<Stop>,
    /// When everything must be over, once a stop has begun.
    stop_deadline: Option<Moment>,
    agent: Agent,
    /// Code and reason, once they are known; the first is the true one.
    outcome: Option<(u8, Reason)>,
    main_was_started: bool,
    /// For the jitter of retries; no secret.
    seed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Stop {
    signal: Signal,
    begun: Moment,
    /// Stop signals from the terminal's keys, this one included.
    keys: u32,
    /// The stop signal went to the main process.
    forwarded: bool,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
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
    /// The main process is being started.
    Starting,
    Running,
    Evidence {
        until: Moment,
    },
    Stopping {
        kill_at: Option<Moment>,
    },
    Closing(Closing),
    PostStop {
        index: usize,
        task: Task,
    },
    Done,
}

/// Two things that end independently of each other.
#[derive(Clone, Copy, Debug)]
struct Closing {
    leftovers: Leftovers,
    storing: Storing,
}

/// What the main process and the hooks left running.
#[derive(Clone, Copy, Debug)]
enum Leftovers {
    /// They have the stop signal.
    Asked {
        until: Moment,
    },
    Killed {
        until: Moment,
    },
    Over,
}

/// The agent, from the main process's end to its own.
#[derive(Clone, Copy, Debug)]
enum Storing {
    /// Until it says that everything is stored.
    Wanted {
        until: Moment,
    },
    /// Told to end.
    Asked {
        until: Moment,
    },
    Killed {
        until: Moment,
    },
    Over,
}

#[derive(Clone, Copy, Debug)]
enum Agent {
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
            outcome: None,
            main_was_started: false,
            seed,
        }
    }

    /// The next moment at which [`Event::Timer`] has something to do.
    pub fn next_deadline(&self) -> Option<Moment> {
        let phase = match &self.phase {
            Phase::Boot | Phase::Starting | Phase::Running | Phase::Done => None,
            Phase::Preflight(task) | Phase::Hook { task, .. } | Phase::PostStop { task, .. } => {
                task.next_deadline()
            }
            Phase::Backoff { until, .. } | Phase::Evidence { until } => Some(*until),
            Phase::Stopping { kill_at } => *kill_at,
            Phase::Closing(closing) => closing.next_deadline(),
        };
        let agent = match self.agent {
            Agent::Waiting { until, .. } => Some(until),
            _ => None,
        };
        earlier(phase, agent)
    }

    /// Code and reason, once known: what post-stop hooks are told.
    pub fn outcome(&self) -> Option<(u8, Reason)> {
        self.outcome
    }

    pub fn main_was_started(&self) -> bool {
        self.main_was_started
    }

    /// A stop signal has arrived.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_some()
    }

    /// Takes one event in; what is to be done about it is appended to `actions`.
    pub fn step(&mut self, event: Event, now: Moment, actions: &mut Vec<Action>) {
        if let Phase::Done = self.phase {
            return;
        }
        match event {
            Event::Begin => self.begin(now, actions),
            Event::Spawned(Child::Main) => self.main_started(now, actions),
            Event::Spawned(_) => {}
            Event::SpawnFailed(child, code) => self.spawn_failed(child, code, now, actions),
            Event::Skipped(Child::Hook(index)) => self.hook_done(index, now, actions),
            Event::Skipped(Child::PostStop(index)) => self.post_stop_done(index, now, actions),
            Event::Skipped(_) => {}
            Event::Exited(child, status) => self.exited(child, status, now, actions),
            Event::Signal {
                signal,
                from_terminal,
            } => self.signal(signal, from_terminal, now, actions),
            Event::Agent(deed) => self.agent_asks(deed, now, actions),
            Event::Alone => self.alone(now, actions),
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

    fn start_hook(&mut self, index: usize, attempt: u32, now: Moment, actions: &mut Vec<Action>) {
        if self.stop.is_some() {
            return self.close(now, actions);
        }
        let Some(hook) = self.plan.hooks.get(index) else {
            return self.start_main(actions);
        };
        let child = Child::Hook(index);
        self.phase = Phase::Hook {
            index,
            attempt,
            task: Task::begin(child, hook.timeout, hook.grace, now),
        };
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
            actions.push(Action::Note(Note::HookRetries {
                child,
                attempt: attempt.saturating_add(1),
                wait,
            }));
            self.phase = Phase::Backoff {
                index,
                attempt: attempt.saturating_add(1),
                until: now.after(wait),
            };
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

    fn start_main(&mut self, actions: &mut Vec<Action>) {
        // The agent first, so that it is there when the service begins.
        if self.plan.evidence.is_some() && matches!(self.agent, Agent::None) {
            self.agent = Agent::Running { restarts: 0 };
            actions.push(Action::Spawn(Child::Agent));
        }
        self.phase = Phase::Starting;
        actions.push(Action::Spawn(Child::Main));
    }

    // ---- the main process ---------------------------------------------------------

    fn main_started(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Phase::Starting = self.phase else { return };
        self.main_was_started = true;
        self.phase = Phase::Running;
        if self.stop.is_some() {
            self.stop_main(now, actions);
        }
    }

    fn main_ended(&mut self, status: Status, now: Moment, actions: &mut Vec<Action>) {
        if !matches!(
            self.phase,
            Phase::Starting | Phase::Running | Phase::Evidence { .. } | Phase::Stopping { .. }
        ) {
            return;
        }
        let asked = self.stop.is_some_and(|stop| stop.forwarded);
        let reason = if asked { Reason::Stopped } else { Reason::MainEnded };
        self.outcome = Some((status.code(), reason));
        if matches!(self.agent, Agent::Running { .. }) {
            actions.push(Action::TellMainEnded { status, asked });
        }
        self.close(now, actions);
    }

    fn has_rule(&self, trigger: Trigger) -> bool {
        self.plan
            .evidence
            .as_ref()
            .is_some_and(|evidence| evidence.rules_on(trigger).next().is_some())
    }

    // ---- signals --------------------------------------------------------------------

    fn signal(&mut self, signal: Signal, from_terminal: bool, now: Moment, actions: &mut Vec<Action>) {
        if self.plan.stop.signals.contains(&signal) {
            return self.stop_signal(signal, from_terminal, now, actions);
        }
        match self.phase {
            Phase::Running | Phase::Evidence { .. } | Phase::Stopping { .. } => {
                actions.push(Action::Signal(Child::Main, signal));
            }
            _ => actions.push(Action::Note(Note::NotForwarded { signal })),
        }
    }

    fn stop_signal(&mut self, signal: Signal, from_terminal: bool, now: Moment, actions: &mut Vec<Action>) {
        if let Some(stop) = &mut self.stop {
            actions.push(Action::Note(Note::StopRepeated { signal }));
            if from_terminal {
                stop.keys = stop.keys.saturating_add(1);
                let keys = stop.keys;
                self.hurry(keys, now, actions);
            }
            return;
        }
        self.stop = Some(Stop {
            signal,
            begun: now,
            keys: u32::from(from_terminal),
            forwarded: false,
        });
        let deadline = self.plan.stop.deadline(now);
        self.stop_deadline = Some(deadline);
        actions.push(Action::Note(Note::Stop { signal, deadline }));
        let kill_at = self.kill_at();
        match &mut self.phase {
            Phase::Boot => self.close(now, actions),
            Phase::Preflight(task) | Phase::Hook { task, .. } => task.stop(signal, kill_at, actions),
            Phase::Backoff { .. } => self.close(now, actions),
            Phase::Running => self.stop_main(now, actions),
            // Begun by the main process's own end; the orchestrator's time counts from now.
            Phase::Closing(closing) => closing.shorten(self.plan.stop.kill_at(now)),
            Phase::PostStop { task, .. } => {
                let limit = self.plan.stop.deadline(now);
                task.stop(signal, Some(limit), actions);
            }
            Phase::Starting | Phase::Evidence { .. } | Phase::Stopping { .. } | Phase::Done => {}
        }
    }

    /// The second Ctrl-C skips what can be skipped, the third kills.
    fn hurry(&mut self, keys: u32, now: Moment, actions: &mut Vec<Action>) {
        actions.push(Action::Note(Note::Hurry));
        let kill = keys >= 3;
        match &mut self.phase {
            Phase::Evidence { .. } => self.forward_stop(EvidenceEnd::Skipped, actions),
            Phase::Stopping { kill_at } if kill => *kill_at = Some(now),
            Phase::Preflight(task) | Phase::Hook { task, .. } | Phase::PostStop { task, .. } if kill => {
                task.kill(actions);
            }
            Phase::Closing(closing) => closing.shorten(now),
            _ => {}
        }
        self.timer(now, actions);
    }

    /// When a main process that does not end is killed: never, unless somebody
    /// told us the grace period.
    fn kill_at(&self) -> Option<Moment> {
        let stop = self.stop?;
        self.plan
            .stop
            .grace_is_known
            .then(|| self.plan.stop.kill_at(stop.begun))
    }

    fn stop_main(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Some(stop) = self.stop else { return };
        let until = self.plan.stop.evidence_until(stop.begun);
        if !self.has_rule(Trigger::Stop) {
            return self.forward_stop_quietly(actions);
        }
        if !matches!(self.agent, Agent::Running { .. }) {
            return self.forward_stop(EvidenceEnd::AgentLost, actions);
        }
        actions.push(Action::TellStop {
            signal: stop.signal,
            begun: stop.begun,
            evidence_until: until,
            deadline: self.plan.stop.kill_at(stop.begun),
        });
        if until <= now {
            return self.forward_stop(EvidenceEnd::OutOfTime, actions);
        }
        actions.push(Action::Note(Note::EvidenceBegins { until }));
        self.phase = Phase::Evidence { until };
    }

    fn forward_stop(&mut self, end: EvidenceEnd, actions: &mut Vec<Action>) {
        actions.push(Action::Note(Note::EvidenceEnds(end)));
        self.forward_stop_quietly(actions);
    }

    fn forward_stop_quietly(&mut self, actions: &mut Vec<Action>) {
        let kill_at = self.kill_at();
        let own = self.plan.main.stop_signal;
        let Some(stop) = self.stop.as_mut().filter(|stop| !stop.forwarded) else {
            return;
        };
        stop.forwarded = true;
        let signal = own.unwrap_or(stop.signal);
        actions.push(Action::Note(Note::Forwarding { signal }));
        actions.push(Action::Signal(Child::Main, signal));
        self.phase = Phase::Stopping { kill_at };
    }

    // ---- children that end -------------------------------------------------------------

    fn spawn_failed(&mut self, child: Child, code: u8, now: Moment, actions: &mut Vec<Action>) {
        match (child, self.phase) {
            (Child::Preflight, Phase::Preflight(_)) => {
                self.outcome = Some((code, Reason::PreflightFailed));
                self.close(now, actions);
            }
            (
                Child::Hook(index),
                Phase::Hook {
                    index: current,
                    attempt,
                    ..
                },
            ) if current == index => {
                self.hook_failed(index, attempt, code, now, actions);
            }
            (Child::Main, Phase::Starting) => {
                self.outcome = Some((code, Reason::MainNotStarted));
                self.close(now, actions);
            }
            (Child::PostStop(index), Phase::PostStop { index: current, .. }) if current == index => {
                actions.push(Action::Note(Note::HookFailed {
                    child,
                    code,
                    aborts: false,
                }));
                self.post_stop_done(index, now, actions);
            }
            (Child::Agent, _) => self.agent_lost(now, actions),
            _ => {}
        }
    }

    fn exited(&mut self, child: Child, status: Status, now: Moment, actions: &mut Vec<Action>) {
        match (child, self.phase) {
            (Child::Main, _) => self.main_ended(status, now, actions),
            (Child::Agent, _) => self.agent_lost(now, actions),
            (Child::Preflight, Phase::Preflight(task)) => {
                if self.stop.is_none() && (!status.is_success() || task.timed_out()) {
                    self.outcome = Some((exit::PREFLIGHT, Reason::PreflightFailed));
                    return self.close(now, actions);
                }
                self.start_hook(0, 1, now, actions);
            }
            (
                Child::Hook(index),
                Phase::Hook {
                    index: current,
                    attempt,
                    task,
                },
            ) if current == index => {
                if task.timed_out() {
                    self.hook_failed(index, attempt, exit::HOOK_TIMED_OUT, now, actions);
                } else if status.is_success() {
                    self.hook_done(index, now, actions);
                } else {
                    self.hook_failed(index, attempt, status.code(), now, actions);
                }
            }
            (Child::PostStop(index), Phase::PostStop { index: current, task }) if current == index => {
                let code = if task.timed_out() {
                    exit::HOOK_TIMED_OUT
                } else {
                    status.code()
                };
                if code != 0 {
                    actions.push(Action::Note(Note::HookFailed {
                        child,
                        code,
                        aborts: false,
                    }));
                }
                self.post_stop_done(index, now, actions);
            }
            _ => {}
        }
    }

    // ---- the agent ----------------------------------------------------------------------

    fn agent_asks(&mut self, deed: Deed, now: Moment, actions: &mut Vec<Action>) {
        match (deed, &mut self.phase) {
            (Deed::Captured, Phase::Evidence { .. }) => self.forward_stop(EvidenceEnd::Captured, actions),
            (Deed::Stored, Phase::Closing(closing)) => {
                if let Storing::Wanted { .. } = closing.storing {
                    closing.storing = finish_agent(self.stop_deadline, now, actions);
                }
            }
            _ => {}
        }
    }

    fn agent_lost(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Agent::Running { restarts } = self.agent else {
            return;
        };
        self.agent = Agent::Ended;
        match self.phase {
            Phase::Starting | Phase::Running if self.stop.is_none() => {
                let backoff = Backoff {
                    first: Duration::from_secs(1),
                };
                let wait = backoff.wait(restarts.saturating_add(1), self.jitter());
                actions.push(Action::Note(Note::AgentRestarts { wait }));
                self.agent = Agent::Waiting {
                    restarts: restarts.saturating_add(1),
                    until: now.after(wait),
                };
            }
            Phase::Evidence { .. } => self.forward_stop(EvidenceEnd::AgentLost, actions),
            Phase::Closing(ref mut closing) => {
                closing.storing = Storing::Over;
                self.closing_goes_on(now, actions);
            }
            _ => {}
        }
    }

    // ---- after the main process -----------------------------------------------------------

    fn close(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.outcome.is_none() {
            let signal = self.stop.map_or(Signal::TERM, |stop| stop.signal);
            self.outcome = Some((exit::of_signal(signal), Reason::Stopped));
        }
        if let Agent::Waiting { .. } = self.agent {
            self.agent = Agent::Ended;
        }
        // When nobody is stopping us, leftovers get what a stop would give
        // them, and evidence its own, longer deadline.
        let leftovers_until = self.plan.stop.kill_at(self.stop.map_or(now, |stop| stop.begun));
        let storing_until = if self.stop.is_some() {
            leftovers_until
        } else {
            now.after(self.longest_rule())
        };
        let storing = match (self.agent, self.main_was_started) {
            (Agent::Running { .. }, true) => Storing::Wanted { until: storing_until },
            (Agent::Running { .. }, false) => finish_agent(self.stop_deadline, now, actions),
            _ => Storing::Over,
        };
        self.phase = Phase::Closing(Closing {
            leftovers: Leftovers::Asked {
                until: leftovers_until,
            },
            storing,
        });
        let signal = self.stop.map_or(Signal::TERM, |stop| stop.signal);
        actions.push(Action::SignalLeftovers(signal));
    }

    fn longest_rule(&self) -> Duration {
        let rules = self
            .plan
            .evidence
            .as_ref()
            .map_or(&[][..], |evidence| &evidence.rules);
        rules
            .iter()
            .map(|rule| rule.deadline)
            .max()
            .unwrap_or(Duration::ZERO)
    }

    fn closing_timer(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Phase::Closing(closing) = &mut self.phase else {
            return;
        };
        match closing.leftovers {
            Leftovers::Asked { until } if now >= until => {
                actions.push(Action::Note(Note::KillingLeftovers));
                actions.push(Action::SignalLeftovers(Signal::KILL));
                closing.leftovers = Leftovers::Killed {
                    until: now.after(KILL_PATIENCE),
                };
            }
            // In D state: it ends with the namespace.
            Leftovers::Killed { until } if now >= until => closing.leftovers = Leftovers::Over,
            _ => {}
        }
        match closing.storing {
            Storing::Wanted { until } if now >= until => {
                actions.push(Action::Note(Note::EvidenceEnds(EvidenceEnd::OutOfTime)));
                closing.storing = finish_agent(self.stop_deadline, now, actions);
            }
            Storing::Asked { until } if now >= until => {
                actions.push(Action::Note(Note::Killing(Child::Agent)));
                actions.push(Action::Signal(Child::Agent, Signal::KILL));
                closing.storing = Storing::Killed {
                    until: now.after(KILL_PATIENCE),
                };
            }
            Storing::Killed { until } if now >= until => closing.storing = Storing::Over,
            _ => {}
        }
        self.closing_goes_on(now, actions);
    }

    fn closing_goes_on(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if let Phase::Closing(Closing {
            leftovers: Leftovers::Over,
            storing: Storing::Over,
        }) = self.phase
        {
            self.agent = Agent::Ended;
            self.start_post_stop(0, now, actions);
        }
    }

    fn alone(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if let Phase::Closing(closing) = &mut self.phase {
            *closing = Closing {
                leftovers: Leftovers::Over,
                storing: Storing::Over,
            };
            self.closing_goes_on(now, actions);
        }
    }

    fn start_post_stop(&mut self, index: usize, now: Moment, actions: &mut Vec<Action>) {
        let Some(hook) = self.plan.post_stop.get(index) else {
            return self.end(actions);
        };
        let child = Child::PostStop(index);
        let Some((timeout, grace)) = self.post_stop_time(hook, now) else {
            actions.push(Action::Note(Note::NoTimeFor { child }));
            return self.start_post_stop(index.saturating_add(1), now, actions);
        };
        self.phase = Phase::PostStop {
            index,
            task: Task::begin(child, timeout, grace, now),
        };
        actions.push(Action::Spawn(child));
    }

    /// Timeout and grace of a post-stop hook: its own, cut to what the stop leaves.
    fn post_stop_time(&self, hook: &HookPlan, now: Moment) -> Option<(Duration, Duration)> {
        let Some(stop) = self.stop else {
            return Some((hook.timeout, hook.grace));
        };
        let left = now.until(self.plan.stop.deadline(stop.begun));
        if left < SHORTEST_HOOK {
            return None;
        }
        let grace = hook.grace.min(left / 4);
        Some((hook.timeout.min(left.saturating_sub(grace)), grace))
    }

    fn post_stop_done(&mut self, index: usize, now: Moment, actions: &mut Vec<Action>) {
        match self.phase {
            Phase::PostStop { index: current, .. } if current == index => {
                self.start_post_stop(index.saturating_add(1), now, actions);
            }
            _ => {}
        }
    }

    fn end(&mut self, actions: &mut Vec<Action>) {
        let (code, reason) = self.outcome.unwrap_or((exit::INTERNAL, Reason::MainEnded));
        self.phase = Phase::Done;
        actions.push(Action::SignalLeftovers(Signal::KILL));
        actions.push(Action::Note(Note::Ends { code, reason }));
        actions.push(Action::Exit(code));
    }

    // ---- time --------------------------------------------------------------------------------

    fn timer(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if let Agent::Waiting { restarts, until } = self.agent
            && now >= until
        {
            self.agent = Agent::Running { restarts };
            actions.push(Action::Spawn(Child::Agent));
        }
        match &mut self.phase {
            Phase::Preflight(task) | Phase::Hook { task, .. } | Phase::PostStop { task, .. } => {
                task.timer(now, actions);
            }
            Phase::Backoff {
                index,
                attempt,
                until,
            } if now >= *until => {
                let (index, attempt) = (*index, *attempt);
                self.start_hook(index, attempt, now, actions);
            }
            Phase::Evidence { until } if now >= *until => {
                self.forward_stop(EvidenceEnd::OutOfTime, actions);
            }
            Phase::Stopping { kill_at } if kill_at.is_some_and(|at| now >= at) => {
                *kill_at = None;
                actions.push(Action::Note(Note::Killing(Child::Main)));
                actions.push(Action::Signal(Child::Main, Signal::KILL));
            }
            Phase::Closing(_) => self.closing_timer(now, actions),
            _ => {}
        }
    }

    /// The next step of a linear congruential generator (Knuth's MMIX constants).
    fn jitter(&mut self) -> u8 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u8::try_from(self.seed >> 56).unwrap_or(0)
    }
}

impl Closing {
    fn next_deadline(&self) -> Option<Moment> {
        let leftovers = match self.leftovers {
            Leftovers::Asked { until } | Leftovers::Killed { until } => Some(until),
            Leftovers::Over => None,
        };
        let storing = match self.storing {
            Storing::Wanted { until } | Storing::Asked { until } | Storing::Killed { until } => Some(until),
            Storing::Over => None,
        };
        earlier(leftovers, storing)
    }

    /// Nothing is to be waited for beyond `moment`.
    fn shorten(&mut self, moment: Moment) {
        if let Leftovers::Asked { until } = &mut self.leftovers {
            *until = moment.min(*until);
        }
        if let Storing::Wanted { until } | Storing::Asked { until } = &mut self.storing {
            *until = moment.min(*until);
        }
    }
}

fn finish_agent(stop_deadline: Option<Moment>, now: Moment, actions: &mut Vec<Action>) -> Storing {
    let patience = now.after(AGENT_PATIENCE);
    let until = stop_deadline.map_or(patience, |deadline| deadline.min(patience));
    actions.push(Action::TellFinish { by: until });
    Storing::Asked { until }
}

fn earlier(one: Option<Moment>, other: Option<Moment>) -> Option<Moment> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// A command that is not there will not be there in a second either.
fn is_worth_a_retry(code: u8) -> bool {
    !matches!(code, exit::NOT_FOUND | exit::NOT_EXECUTABLE)
}
