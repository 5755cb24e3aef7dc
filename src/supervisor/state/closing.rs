//! After the main process: leftovers, the agent's last work, post-stop hooks.

use super::machine::{Agent, Carrier, KILL_PATIENCE, Machine, Phase, earlier};
use super::task::Task;
use super::{Action, Child, EvidenceEnd, Note, Reason};
use crate::exit;
use crate::plan::HookPlan;
use crate::units::{Moment, Signal};
use std::time::Duration;

/// How long the agent may take to end once everything is stored.
const AGENT_PATIENCE: Duration = Duration::from_secs(2);
/// However little time is left.
const AGENT_END: Duration = Duration::from_millis(50);
/// No post-stop hook is started with less than this left.
const SHORTEST_HOOK: Duration = Duration::from_millis(50);

/// What is left of the output is carried to its end for at most so long.
const CARRY_PATIENCE: Duration = Duration::from_secs(3);

/// Things that end independently of each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closing {
    leftovers: Leftovers,
    pub(super) storing: Storing,
    carrying: Carrying,
}

/// The output that nobody has read yet.
#[derive(Clone, Copy, Debug)]
enum Carrying {
    /// Somebody may still write to it.
    Open,
    Draining {
        until: Moment,
    },
    Over,
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
pub(super) enum Storing {
    /// Until it says that everything is stored.
    Wanted {
        until: Moment,
    },
    /// Everything is stored, and somebody wants to look at what is left.
    Held {
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

impl Machine<'_> {
    pub(super) fn close(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.outcome.is_none() {
            let signal = self.stop.map_or(Signal::TERM, |stop| stop.signal);
            self.outcome = Some((exit::of_signal(signal), Reason::Stopped));
        }
        if let Agent::Waiting { .. } = self.agent {
            self.agent = Agent::Ended;
        }
        self.phase = Phase::Helped;
        self.stop_helpers(now, actions);
        if !self.has_helpers_to_go() {
            self.close_now(now, actions);
        }
    }

    /// No helper process is left.
    pub(super) fn close_now(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if !self.helpers.is_empty() || self.plan.main_restart.is_ever() {
            actions.push(Action::LetGoOfOutput);
        }
        // When nobody is stopping us, leftovers get what a stop would give
        // them, and evidence its own, longer deadline.
        let leftovers_until =
            self.at_least(self.plan.stop.kill_at(self.stop.map_or(now, |stop| stop.begun)), now);
        let storing_until =
            if self.stop.is_some() { leftovers_until } else { now.after(self.longest_rule()) };
        let storing = match self.agent {
            Agent::Running { .. } if self.has_something_to_store() => {
                Storing::Wanted { until: storing_until }
            }
            Agent::Running { .. } => {
                self.held(now, actions).unwrap_or_else(|| finish_agent(self.stop_deadline, now, actions))
            }
            _ => Storing::Over,
        };
        self.carry_on(actions);
        let carrying = match self.carrier {
            Carrier::Running { .. } | Carrier::Waiting { .. } => Carrying::Open,
            Carrier::None | Carrier::Ended => Carrying::Over,
        };
        let leftovers = Leftovers::Asked { until: leftovers_until };
        self.phase = Phase::Closing(Closing { leftovers, storing, carrying });
        // Always SIGTERM, whatever stopped us: background jobs of a shell ignore SIGINT.
        actions.push(Action::SignalLeftovers(Signal::TERM));
    }

    /// Somebody wants to look at what is left: until then, and never beyond a stop.
    fn held(&self, now: Moment, actions: &mut Vec<Action>) -> Option<Storing> {
        let wanted = self.hold.filter(|until| *until > now)?;
        let until = self.stop.map_or(wanted, |stop| wanted.min(self.plan.stop.kill_at(stop.begun)));
        (until > now).then(|| {
            actions.push(Action::Note(Note::Holding { until }));
            Storing::Held { until }
        })
    }

    pub(super) fn stored(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Phase::Closing(Closing { storing: Storing::Wanted { .. }, .. }) = self.phase else {
            return;
        };
        let next = self.held(now, actions);
        let next = next.unwrap_or_else(|| finish_agent(self.stop_deadline, now, actions));
        if let Phase::Closing(closing) = &mut self.phase {
            closing.storing = next;
        }
    }

    pub(super) fn release(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.hold.take().is_none() {
            return;
        }
        actions.push(Action::Note(Note::Released));
        match &mut self.phase {
            Phase::Evidence { .. } => self.forward_stop(EvidenceEnd::Captured, now, actions),
            Phase::Closing(closing) if matches!(closing.storing, Storing::Held { .. }) => {
                closing.storing = finish_agent(self.stop_deadline, now, actions);
            }
            _ => {}
        }
    }

    /// A rule applies to how the main process ended.
    fn has_something_to_store(&self) -> bool {
        match (self.stop, self.outcome) {
            _ if !self.main_was_started => false,
            (Some(_), _) => self.armed && !self.is_stored,
            // Armed: an event is under way, whatever the code.
            // Stored already while helper processes ended.
            (None, Some(_)) if self.is_stored => false,
            (None, Some((code, _))) => self.armed || (code != 0 && self.has_rule_on_end()),
            (None, None) => false,
        }
    }

    /// A deadline that rests on a platform's default is no reason to give what
    /// comes last no time at all: it gets a quarter of that default.
    fn at_least(&self, deadline: Moment, now: Moment) -> Moment {
        if self.plan.stop.grace_is_known {
            deadline
        } else {
            deadline.max(now.after(self.plan.stop.grace / 4))
        }
    }

    fn longest_rule(&self) -> Duration {
        let rules = self.plan.evidence.iter().flat_map(|evidence| &evidence.rules);
        rules.map(|rule| rule.deadline).max().unwrap_or(Duration::ZERO)
    }

    pub(super) fn closing_timer(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Phase::Closing(closing) = &mut self.phase else {
            return;
        };
        match closing.leftovers {
            Leftovers::Asked { until } if now >= until => {
                actions.push(Action::Note(Note::KillingLeftovers));
                actions.push(Action::SignalLeftovers(Signal::KILL));
                closing.leftovers = Leftovers::Killed { until: now.after(KILL_PATIENCE) };
            }
            // In D state: it ends with the namespace.
            Leftovers::Killed { until } if now >= until => closing.leftovers = Leftovers::Over,
            _ => {}
        }
        match closing.carrying {
            Carrying::Draining { until } if now >= until => {
                actions.push(Action::Note(Note::OutputCutOff));
                closing.carrying = Carrying::Over;
            }
            _ => {}
        }
        match closing.storing {
            Storing::Wanted { until } if now >= until => {
                actions.push(Action::Note(Note::EvidenceEnds(EvidenceEnd::OutOfTime)));
                closing.storing = finish_agent(self.stop_deadline, now, actions);
            }
            Storing::Held { until } if now >= until => {
                actions.push(Action::Note(Note::Released));
                closing.storing = finish_agent(self.stop_deadline, now, actions);
            }
            Storing::Asked { until } if now >= until => {
                actions.push(Action::Note(Note::Killing(Child::Agent)));
                actions.push(Action::Signal(Child::Agent, Signal::KILL));
                closing.storing = Storing::Killed { until: now.after(KILL_PATIENCE) };
            }
            Storing::Killed { until } if now >= until => closing.storing = Storing::Over,
            _ => {}
        }
        self.closing_goes_on(now, actions);
    }

    pub(super) fn closing_goes_on(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let drained_by = self.stop_deadline.map_or(now.after(CARRY_PATIENCE), |deadline| {
            deadline.min(now.after(CARRY_PATIENCE)).max(now.after(SHORTEST_HOOK))
        });
        let Phase::Closing(closing) = &mut self.phase else { return };
        if let (Leftovers::Over, Carrying::Open) = (closing.leftovers, closing.carrying) {
            closing.carrying = Carrying::Draining { until: drained_by };
        }
        if let Closing { leftovers: Leftovers::Over, storing: Storing::Over, carrying: Carrying::Over } =
            closing
        {
            self.agent = Agent::Ended;
            self.carrier = Carrier::Ended;
            self.start_post_stop(0, now, actions);
        }
    }

    pub(super) fn no_leftovers(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if let Phase::Closing(closing) = &mut self.phase {
            closing.leftovers = Leftovers::Over;
            self.closing_goes_on(now, actions);
        }
    }

    pub(super) fn alone(&mut self, now: Moment, actions: &mut Vec<Action>) {
        // The carrier too: what is in the pipes needs another one.
        let carries_on = matches!(self.phase, Phase::Closing(_)) && self.carry_on(actions);
        if let Phase::Closing(closing) = &mut self.phase {
            let carrying = if carries_on { Carrying::Open } else { Carrying::Over };
            *closing = Closing { leftovers: Leftovers::Over, storing: Storing::Over, carrying };
            self.closing_goes_on(now, actions);
        }
    }

    /// Starts the carrier that would wait, at once; whether it did.
    pub(super) fn carry_on(&mut self, actions: &mut Vec<Action>) -> bool {
        let Carrier::Waiting { restarts, .. } = self.carrier else { return false };
        self.start_carrier(restarts, actions);
        true
    }

    /// Everything that was printed is passed on.
    pub(super) fn carried(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if let Phase::Closing(closing) = &mut self.phase {
            closing.carrying = Carrying::Over;
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
        self.phase = Phase::PostStop { index, task: Task::begin(child, timeout, grace, now) };
        actions.push(Action::Spawn(child));
    }

    /// Timeout and grace of a post-stop hook: its own, cut to what the stop leaves.
    fn post_stop_time(&self, hook: &HookPlan, now: Moment) -> Option<(Duration, Duration)> {
        let Some(stop) = self.stop else {
            return Some((hook.timeout, hook.grace));
        };
        let left = now.until(self.at_least(self.plan.stop.deadline(stop.begun), now));
        if left < SHORTEST_HOOK {
            return None;
        }
        let grace = hook.grace.min(left / 4);
        Some((hook.timeout.min(left.saturating_sub(grace)), grace))
    }

    pub(super) fn post_stop_done(&mut self, index: usize, now: Moment, actions: &mut Vec<Action>) {
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
}

impl Closing {
    pub(super) fn awaits_leftovers(&self) -> bool {
        !matches!(self.leftovers, Leftovers::Over)
    }

    pub(super) fn next_deadline(&self) -> Option<Moment> {
        let leftovers = match self.leftovers {
            Leftovers::Asked { until } | Leftovers::Killed { until } => Some(until),
            Leftovers::Over => None,
        };
        let storing = match self.storing {
            Storing::Wanted { until }
            | Storing::Held { until }
            | Storing::Asked { until }
            | Storing::Killed { until } => Some(until),
            Storing::Over => None,
        };
        let carrying = match self.carrying {
            Carrying::Draining { until } => Some(until),
            Carrying::Open | Carrying::Over => None,
        };
        earlier(earlier(leftovers, storing), carrying)
    }

    /// Nothing is to be waited for beyond `moment`.
    pub(super) fn shorten(&mut self, moment: Moment) {
        if let Leftovers::Asked { until } = &mut self.leftovers {
            *until = moment.min(*until);
        }
        if let Storing::Wanted { until } | Storing::Held { until } | Storing::Asked { until } =
            &mut self.storing
        {
            *until = moment.min(*until);
        }
    }
}

pub(super) fn finish_agent(stop_deadline: Option<Moment>, now: Moment, actions: &mut Vec<Action>) -> Storing {
    let patience = now.after(AGENT_PATIENCE);
    // It has nothing more to do: an instant is enough, and the margin has it.
    let until = stop_deadline.map_or(patience, |deadline| deadline.min(patience).max(now.after(AGENT_END)));
    actions.push(Action::TellFinish { by: until });
    Storing::Asked { until }
}
