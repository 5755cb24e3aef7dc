//! Which rules act: triggers in, rules out. Pure: the clock is an argument.

use super::health::State;
use crate::config::{Measure, Trigger, When};
use crate::plan::RulePlan;
use crate::units::Moment;
use std::collections::VecDeque;

/// Remembers when each rule acted, and since when each measure is above its bound.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    rules: &'a [RulePlan],
    memory: Vec<Memory>,
}

#[derive(Clone, Debug, Default)]
struct Memory {
    acted: VecDeque<Moment>,
    above_since: Option<Moment>,
    /// It acted on this stretch above the bound: not again before it was below.
    is_spent: bool,
}

/// What a rule's condition may ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Situation {
    pub(super) state: Option<State>,
    pub(super) was_ready: bool,
}

/// What comes of a trigger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Indices of the rules that act.
    pub(super) act: Vec<usize>,
    /// Names of rules that would, but have acted as often as they may.
    pub(super) limited: Vec<String>,
}

impl<'a> Rules<'a> {
    pub(super) fn new(rules: &'a [RulePlan]) -> Self {
        Self { rules, memory: vec![Memory::default(); rules.len()] }
    }

    /// Something happened that is a trigger by itself.
    pub(super) fn happened(&mut self, trigger: Trigger, situation: Situation, now: Moment) -> Verdict {
        let mut verdict = Verdict::default();
        for (index, (rule, memory)) in self.rules.iter().zip(&mut self.memory).enumerate() {
            if rule.on == trigger && holds(rule.when, situation) {
                memory.judge(index, rule, now, &mut verdict);
            }
        }
        verdict
    }

    /// The same, for what goes on until somebody takes it away: each rule acts on it
    /// once.
    pub(super) fn once(&mut self, trigger: Trigger, situation: Situation, now: Moment) -> Verdict {
        let mut verdict = Verdict::default();
        for (index, (rule, memory)) in self.rules.iter().zip(&mut self.memory).enumerate() {
            if rule.on == trigger && !memory.is_spent && holds(rule.when, situation) {
                memory.is_spent = true;
                memory.judge(index, rule, now, &mut verdict);
            }
        }
        verdict
    }

    /// Some rule is on `trigger`.
    pub(super) fn has(&self, trigger: Trigger) -> bool {
        self.rules.iter().any(|rule| rule.on == trigger)
    }

    /// A measure was taken.
    pub(super) fn measured(
        &mut self,
        measure: Measure,
        value: f64,
        situation: Situation,
        now: Moment,
    ) -> Verdict {
        let mut verdict = Verdict::default();
        for (index, (rule, memory)) in self.rules.iter().zip(&mut self.memory).enumerate() {
            let Trigger::Above(wanted, bound) = rule.on else { continue };
            if wanted != measure {
                continue;
            }
            if value <= f64::from(bound.above) {
                memory.above_since = None;
                memory.is_spent = false;
                continue;
            }
            let since = *memory.above_since.get_or_insert(now);
            let lasted = now >= since.after(bound.lasting);
            if lasted && !memory.is_spent && holds(rule.when, situation) {
                memory.is_spent = true;
                memory.judge(index, rule, now, &mut verdict);
            }
        }
        verdict
    }

    /// The measures that some rule asks for.
    pub(super) fn measures(&self) -> Vec<Measure> {
        let mut measures = Vec::new();
        for rule in self.rules {
            if let Trigger::Above(measure, _) = rule.on
                && !measures.contains(&measure)
            {
                measures.push(measure);
            }
        }
        measures
    }

    /// A stop in this situation would set off a rule: no limit applies to the last event.
    pub(super) fn would_act_at_stop(&self, situation: Situation) -> bool {
        self.rules.iter().any(|rule| rule.on == Trigger::Stop && holds(rule.when, situation))
    }
}

impl Memory {
    fn judge(&mut self, index: usize, rule: &RulePlan, now: Moment, verdict: &mut Verdict) {
        // The service's last words are never one too many.
        if !matches!(rule.on, Trigger::Stop | Trigger::Exit | Trigger::OutOfMemory) {
            while self.acted.front().is_some_and(|acted| acted.after(rule.limit.per) <= now) {
                self.acted.pop_front();
            }
            let times = usize::try_from(rule.limit.times).unwrap_or(usize::MAX);
            if self.acted.len() >= times {
                verdict.limited.push(rule.name.clone());
                return;
            }
            self.acted.push_back(now);
        }
        verdict.act.push(index);
    }
}

fn holds(when: Option<When>, situation: Situation) -> bool {
    match when {
        None => true,
        Some(When::Unhealthy) => situation.state.is_some_and(State::is_trouble),
        Some(When::HealthyOnce) => situation.was_ready,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Bound, Limit};
    use std::time::Duration;

    fn rule(name: &str, on: Trigger, when: Option<When>) -> RulePlan {
        RulePlan {
            name: name.to_owned(),
            on,
            when,
            capture: Vec::new(),
            limit: Limit { times: 2, per: Duration::from_hours(1) },
            deadline: Duration::from_mins(2),
            hold: None,
        }
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_nanoseconds(0).after(Duration::from_secs(seconds))
    }

    const WELL: Situation = Situation { state: Some(State::Healthy), was_ready: true };
    const ILL: Situation = Situation { state: Some(State::Unhealthy), was_ready: true };

    #[test]
    fn a_limit_is_a_sliding_window() {
        let plan = [rule("sick", Trigger::Unhealthy, None)];
        let mut rules = Rules::new(&plan);
        let mut act = |second| rules.happened(Trigger::Unhealthy, ILL, at(second));
        assert_eq!(act(0).act, [0]);
        assert_eq!(act(1800).act, [0]);
        assert_eq!(act(3000), Verdict { act: Vec::new(), limited: vec!["sick".to_owned()] });
        assert_eq!(act(3600).act, [0], "the first is an hour ago");
        assert_eq!(act(3700).act, Vec::<usize>::new());
    }

    #[test]
    fn a_bound_acts_once_a_stretch_and_only_if_it_lasts() {
        let bound = Bound { above: 90, lasting: Duration::from_mins(2) };
        let plan = [rule("leak", Trigger::Above(Measure::Heap, bound), None)];
        let mut rules = Rules::new(&plan);
        let mut measure = |second, value| rules.measured(Measure::Heap, value, WELL, at(second)).act.len();
        assert_eq!(measure(0, 95.0), 0);
        assert_eq!(measure(60, 89.0), 0, "below: it begins anew");
        assert_eq!(measure(70, 95.0), 0);
        assert_eq!(measure(189, 95.0), 0);
        assert_eq!(measure(190, 95.0), 1);
        assert_eq!(measure(1000, 99.0), 0, "the same stretch");
        assert_eq!(measure(1001, 50.0), 0);
        assert_eq!(measure(1002, 95.0), 0);
        assert_eq!(measure(1122, 95.0), 1);
        assert_eq!(rules.measures(), [Measure::Heap]);
    }

    #[test]
    fn conditions_and_last_words() {
        let plan = [
            rule("while-unhealthy", Trigger::Stop, Some(When::Unhealthy)),
            rule("once-ready", Trigger::Exit, Some(When::HealthyOnce)),
        ];
        let mut rules = Rules::new(&plan);
        assert!(!rules.would_act_at_stop(WELL) && rules.would_act_at_stop(ILL));
        let never = Situation { state: Some(State::Starting), was_ready: false };
        assert!(rules.happened(Trigger::Exit, never, at(0)).act.is_empty());
        for second in 0..10 {
            assert_eq!(rules.happened(Trigger::Exit, WELL, at(second)).act, [1], "no limit on last words");
        }
    }

    #[test]
    fn a_healthy_hour_sets_off_nothing() {
        let bound = |above| Bound { above, lasting: Duration::from_secs(10) };
        let plan = [
            rule("sick", Trigger::Unhealthy, None),
            rule("failing", Trigger::Failing, None),
            rule("leak", Trigger::Above(Measure::HeapAfterGc, bound(90)), None),
            rule("gc", Trigger::Above(Measure::Gc, bound(50)), None),
            rule("threads", Trigger::Above(Measure::Threads, bound(500)), None),
            rule("memory", Trigger::Above(Measure::Memory, bound(90)), None),
            rule("fds", Trigger::Above(Measure::FileDescriptors, bound(80)), None),
        ];
        let mut rules = Rules::new(&plan);
        for second in 0..3600 {
            // A saw tooth that touches the bounds, as a healthy heap does.
            let tooth = f64::from(u32::try_from(second % 9).expect("small"));
            for (measure, value) in [
                (Measure::HeapAfterGc, 82.0 + tooth),
                (Measure::Gc, tooth),
                (Measure::Threads, 490.0 + tooth),
                (Measure::Memory, 85.0 + tooth / 2.0),
                (Measure::FileDescriptors, 72.0 + tooth),
            ] {
                assert_eq!(rules.measured(measure, value, WELL, at(second)), Verdict::default());
            }
        }
    }
}
