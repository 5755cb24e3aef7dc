//! Which rules act: triggers in, rules out. Pure: the clock is an argument.

use super::health::State;
use crate::config::{Bound, Measure, Trigger, When};
use crate::plan::RulePlan;
use crate::units::Moment;
use regex_lite::Regex;
use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

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
    /// Seconds of collections that the time in between has not paid off.
    debt: f64,
    measured: Option<Moment>,
    /// Of a rule on the log.
    pattern: Option<Regex>,
}

/// What a rule's condition may ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Situation {
    pub(super) state: Option<State>,
    pub(super) was_ready: bool,
    /// How the main process ended, if it did.
    pub(super) exit_code: Option<u8>,
}

/// What comes of a trigger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Indices of the rules that act.
    pub(super) act: Vec<usize>,
    /// Names of rules that would, but have acted as often as they may.
    pub(super) limited: Vec<String>,
}

impl Verdict {
    /// Two triggers at once make one event.
    pub(super) fn join(&mut self, other: Self) {
        for index in other.act {
            if !self.act.contains(&index) {
                self.act.push(index);
            }
        }
        for name in other.limited {
            if !self.limited.contains(&name) {
                self.limited.push(name);
            }
        }
    }
}

impl<'a> Rules<'a> {
    pub(super) fn new(rules: &'a [RulePlan]) -> Self {
        let pattern = |rule: &RulePlan| match &rule.on {
            // It was compiled once already, when the configuration was read.
            Trigger::Log(pattern) => Regex::new(pattern).ok(),
            _ => None,
        };
        let memory = rules.iter().map(|rule| Memory { pattern: pattern(rule), ..Memory::default() });
        Self { rules, memory: memory.collect() }
    }

    /// Something happened that is a trigger by itself.
    pub(super) fn happened(&mut self, trigger: &Trigger, situation: Situation, now: Moment) -> Verdict {
        self.set_off(situation, now, |on, _| on == trigger)
    }

    /// The same, for what goes on until somebody takes it away: each rule acts on it once.
    pub(super) fn once(
        &mut self,
        is: impl Fn(&Trigger) -> bool,
        situation: Situation,
        now: Moment,
    ) -> Verdict {
        let verdict = self.set_off(situation, now, |on, memory| is(on) && !memory.is_spent);
        self.spend(&verdict);
        verdict
    }

    /// The JVM is another one: what went on with the old one is over.
    pub(super) fn renew(&mut self, is: impl Fn(&Trigger) -> bool) {
        for (rule, memory) in self.rules.iter().zip(&mut self.memory) {
            if is(&rule.on) {
                memory.is_spent = false;
            }
        }
    }

    /// The service printed lines: a rule acts once on all of them.
    pub(super) fn printed(&mut self, lines: &str, situation: Situation, now: Moment) -> Verdict {
        self.set_off(situation, now, |_, memory| {
            memory.pattern.as_ref().is_some_and(|pattern| lines.lines().any(|line| pattern.is_match(line)))
        })
    }

    /// These minutes since 1970 have begun: a rule acts once on all of them.
    pub(super) fn minutes(
        &mut self,
        minutes: &RangeInclusive<u64>,
        situation: Situation,
        now: Moment,
    ) -> Verdict {
        self.set_off(situation, now, |on, _| match on {
            Trigger::Schedule(schedule) => minutes.clone().any(|minute| schedule.is_due(minute)),
            _ => false,
        })
    }

    /// A measure was taken.
    pub(super) fn measured(
        &mut self,
        measure: Measure,
        value: f64,
        situation: Situation,
        now: Moment,
    ) -> Verdict {
        let verdict = self.set_off(situation, now, |on, memory| match on {
            Trigger::Above(wanted, bound) if *wanted == measure => {
                let is_due = if measure == Measure::Gc {
                    memory.owes(value, *bound, now)
                } else {
                    memory.lasts(value, *bound, now)
                };
                is_due && !memory.is_spent
            }
            _ => false,
        });
        self.spend(&verdict);
        verdict
    }

    /// These act no more on what goes on; nor do those that their limit held back.
    fn spend(&mut self, verdict: &Verdict) {
        for (index, (rule, memory)) in self.rules.iter().zip(&mut self.memory).enumerate() {
            memory.is_spent |= verdict.act.contains(&index) || verdict.limited.contains(&rule.name);
        }
    }

    fn set_off(
        &mut self,
        situation: Situation,
        now: Moment,
        mut acts: impl FnMut(&Trigger, &mut Memory) -> bool,
    ) -> Verdict {
        let mut verdict = Verdict::default();
        for (index, (rule, memory)) in self.rules.iter().zip(&mut self.memory).enumerate() {
            if acts(&rule.on, memory) && holds(rule.when.as_ref(), situation) {
                memory.judge(index, rule, now, &mut verdict);
            }
        }
        verdict
    }

    /// Some rule is on such a trigger.
    pub(super) fn has(&self, is: impl Fn(&Trigger) -> bool) -> bool {
        self.rules.iter().any(|rule| is(&rule.on))
    }

    /// How often somebody wants deadlocks looked for: the shortest.
    pub(super) fn deadlock_interval(&self) -> Option<Duration> {
        let intervals = self.rules.iter().filter_map(|rule| match rule.on {
            Trigger::Deadlock { every } => Some(every),
            _ => None,
        });
        intervals.min()
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
        self.rules.iter().any(|rule| rule.on == Trigger::Stop && holds(rule.when.as_ref(), situation))
    }

    /// How often a rule has acted within its limit's time.
    pub(super) fn acted(&self, index: usize, now: Moment) -> usize {
        let Some((rule, memory)) = self.rules.get(index).zip(self.memory.get(index)) else { return 0 };
        memory.acted.iter().filter(|acted| acted.after(rule.limit.per) > now).count()
    }
}

impl Memory {
    /// It is above the bound for long enough; below it everything begins anew.
    fn lasts(&mut self, value: f64, bound: Bound, now: Moment) -> bool {
        if value <= f64::from(bound.above) {
            self.above_since = None;
            self.is_spent = false;
            return false;
        }
        let since = *self.above_since.get_or_insert(now);
        now >= since.after(bound.lasting)
    }

    /// jvmquake's formula: collections make a debt, which the time in between pays
    /// off so much faster that a share at the bound is even. All time in collections
    /// makes it due after exactly the rule's time; short storms add up, and a single
    /// long collection is no storm (`jvmquake.c`, "GC debt").
    fn owes(&mut self, percent: f64, bound: Bound, now: Moment) -> bool {
        let Some(before) = self.measured.replace(now) else { return false };
        let elapsed = before.until(now).as_secs_f64();
        let (share, even) = (percent / 100.0, f64::from(bound.above) / 100.0);
        let weight = even / (1.0 - even).max(0.01);
        let limit = bound.lasting.as_secs_f64();
        let debt = self.debt + elapsed * (share - (1.0 - share) * weight);
        // No more than twice: a storm that is over is forgotten in time.
        self.debt = debt.clamp(0.0, (2.0 * limit).max(1.0));
        if self.debt <= 0.0 {
            self.is_spent = false;
        }
        self.debt > 0.0 && self.debt >= limit
    }

    fn judge(&mut self, index: usize, rule: &RulePlan, now: Moment, verdict: &mut Verdict) {
        if !rule.on.is_unlimited() {
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

fn holds(when: Option<&When>, situation: Situation) -> bool {
    match when {
        None => true,
        Some(When::Unhealthy) => situation.state.is_some_and(State::is_trouble),
        Some(When::HealthyOnce) => situation.was_ready,
        Some(When::ExitCode(codes)) => situation.exit_code.is_some_and(|code| codes.contains(&code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limit;
    use crate::units::Schedule;

    fn rule(name: &str, on: Trigger, when: Option<When>) -> RulePlan {
        RulePlan {
            name: name.to_owned(),
            on,
            when,
            capture: Vec::new(),
            limit: Limit { times: 2, per: Duration::from_hours(1) },
            deadline: Duration::from_mins(2),
            hold: None,
            last_resort: None,
        }
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_nanoseconds(0).after(Duration::from_secs(seconds))
    }

    const WELL: Situation = Situation { state: Some(State::Healthy), was_ready: true, exit_code: None };
    const ILL: Situation = Situation { state: Some(State::Unhealthy), was_ready: true, exit_code: None };

    #[test]
    fn a_limit_is_a_sliding_window() {
        let plan = [rule("sick", Trigger::Unhealthy, None)];
        let mut rules = Rules::new(&plan);
        let mut act = |second| rules.happened(&Trigger::Unhealthy, ILL, at(second));
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
    fn collections_make_a_debt_that_work_pays_off() {
        let bound = Bound { above: 50, lasting: Duration::from_secs(30) };
        let plan = [rule("storm", Trigger::Above(Measure::Gc, bound), None)];
        let run = |share: fn(u64) -> f64| {
            let mut rules = Rules::new(&plan);
            (0..600).step_by(2).find(|second| {
                let verdict = rules.measured(Measure::Gc, share(*second), WELL, at(*second));
                !verdict.act.is_empty()
            })
        };
        assert_eq!(run(|_| 100.0), Some(30), "nothing but collections");
        assert_eq!(run(|_| 75.0), Some(60), "half of it is paid off");
        assert_eq!(run(|_| 50.0), None, "even");
        assert_eq!(run(|second| if second % 20 == 0 { 100.0 } else { 30.0 }), None, "single long ones");
        assert_eq!(run(|second| if second % 10 < 8 { 100.0 } else { 40.0 }), Some(40), "storms add up");
    }

    #[test]
    fn lines_clocks_and_codes() {
        let plan = [
            rule("log", Trigger::Log("Out.*Error".to_owned()), None),
            rule("nightly", Trigger::Schedule(Schedule::parse("0 3 * * *").expect("a schedule")), None),
            rule("killed", Trigger::Exit, Some(When::ExitCode(vec![3, 137]))),
        ];
        let mut rules = Rules::new(&plan);
        assert_eq!(rules.printed("x\njava.lang.OutOfMemoryError: heap\nOut of Error", WELL, at(0)).act, [0]);
        assert!(rules.printed("all is well", WELL, at(0)).act.is_empty());
        assert_eq!(rules.minutes(&(2 * 60..=3 * 60), WELL, at(0)).act, [1]);
        assert!(rules.minutes(&(3 * 60 + 1..=3 * 60 + 9), WELL, at(0)).act.is_empty());
        let with = |code| Situation { exit_code: Some(code), ..WELL };
        assert_eq!(rules.happened(&Trigger::Exit, with(137), at(0)).act, [2]);
        assert!(rules.happened(&Trigger::Exit, with(1), at(0)).act.is_empty());
    }

    #[test]
    fn what_goes_on_sets_off_once() {
        let plan = [rule("stuck", Trigger::Deadlock { every: Duration::from_secs(1) }, None)];
        let mut rules = Rules::new(&plan);
        let is = |on: &Trigger| matches!(on, Trigger::Deadlock { .. });
        assert_eq!(rules.once(is, WELL, at(0)).act, [0]);
        assert!(rules.once(is, WELL, at(1)).act.is_empty());
        rules.renew(is);
        assert_eq!(rules.once(is, WELL, at(2)).act, [0]);
        assert_eq!(rules.deadlock_interval(), Some(Duration::from_secs(1)));
    }

    #[test]
    fn conditions_and_last_words() {
        let plan = [
            rule("while-unhealthy", Trigger::Stop, Some(When::Unhealthy)),
            rule("once-ready", Trigger::Exit, Some(When::HealthyOnce)),
        ];
        let mut rules = Rules::new(&plan);
        assert!(!rules.would_act_at_stop(WELL) && rules.would_act_at_stop(ILL));
        let never = Situation { state: Some(State::Starting), was_ready: false, exit_code: Some(1) };
        assert!(rules.happened(&Trigger::Exit, never, at(0)).act.is_empty());
        for second in 0..10 {
            assert_eq!(rules.happened(&Trigger::Exit, WELL, at(second)).act, [1], "no limit on last words");
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
            rule("log", Trigger::Log("OutOfMemoryError|FATAL".to_owned()), None),
            rule("nightly", Trigger::Schedule(Schedule::parse("0 3 * * *").expect("a schedule")), None),
            rule("deadlock", Trigger::Deadlock { every: Duration::from_mins(1) }, None),
            rule("manual", Trigger::Manual, None),
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
            let line = format!("INFO request {second} served");
            assert_eq!(rules.printed(&line, WELL, at(second)), Verdict::default());
            // From 04:00 to 05:00.
            assert_eq!(
                rules.minutes(&(4 * 60 + second / 60..=4 * 60 + second / 60), WELL, at(second)),
                Verdict::default()
            );
        }
    }
}
