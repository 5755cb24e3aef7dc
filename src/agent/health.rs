//! The service's health, from the answers of its probe. Pure: no clock, no I/O.

use crate::plan::Thresholds;
use crate::units::Moment;

/// What the service is taken to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not ready yet; failures do not count until the start period is over.
    Starting,
    Healthy,
    /// Probes fail, not yet often enough.
    Failing,
    Unhealthy,
}

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Failing => "failing",
            Self::Unhealthy => "unhealthy",
        }
    }

    pub(super) fn is_trouble(self) -> bool {
        matches!(self, Self::Failing | Self::Unhealthy)
    }
}

/// From probe to probe.
#[derive(Clone, Debug)]
pub(super) struct Health {
    thresholds: Thresholds,
    started: Moment,
    pub(super) state: State,
    /// It was healthy at least once: it became ready.
    pub(super) was_ready: bool,
    failures: u32,
    successes: u32,
    is_told_unhealthy: bool,
    /// When it became what it is.
    pub(super) since: Moment,
}

impl Health {
    pub(super) fn new(thresholds: Thresholds, started: Moment) -> Self {
        Self {
            thresholds,
            started,
            state: State::Starting,
            was_ready: false,
            failures: 0,
            successes: 0,
            is_told_unhealthy: false,
            since: started,
        }
    }

    /// The platform says what it takes us for: it has its own thresholds. The new state
    /// if it is another one.
    pub(super) fn told(&mut self, is_well: bool, now: Moment) -> Option<State> {
        let was_told = std::mem::replace(&mut self.is_told_unhealthy, !is_well);
        if was_told && !is_well {
            // It said so already; what our own probes have seen since is newer.
            return None;
        }
        let next = match self.state {
            _ if !is_well => State::Unhealthy,
            // It takes back what it said itself; what our own probes say is theirs.
            State::Unhealthy if was_told => State::Healthy,
            state => state,
        };
        self.was_ready |= is_well;
        self.become_state(next, now)
    }

    fn become_state(&mut self, next: State, now: Moment) -> Option<State> {
        if next == self.state {
            return None;
        }
        self.state = next;
        self.since = now;
        Some(next)
    }

    /// Takes one answer in; the new state if it is another one.
    pub(super) fn observe(&mut self, is_well: bool, now: Moment) -> Option<State> {
        if is_well {
            self.failures = 0;
            self.successes = self.successes.saturating_add(1);
        } else {
            self.successes = 0;
            let counts = self.was_ready || now >= self.started.after(self.thresholds.start_period);
            if counts {
                self.failures = self.failures.saturating_add(1);
            }
        }
        let next = match self.state {
            State::Failing | State::Unhealthy
                if is_well && self.successes < self.thresholds.healthy_after =>
            {
                self.state
            }
            // Also readiness: the first success.
            _ if is_well => State::Healthy,
            _ if self.failures >= self.thresholds.unhealthy_after => State::Unhealthy,
            State::Unhealthy => State::Unhealthy,
            _ if self.failures >= self.thresholds.failing_after => State::Failing,
            state => state,
        };
        self.was_ready |= is_well;
        self.become_state(next, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn health() -> Health {
        let thresholds = Thresholds {
            start_period: Duration::from_mins(1),
            failing_after: 1,
            unhealthy_after: 3,
            healthy_after: 2,
        };
        Health::new(thresholds, Moment::from_nanoseconds(0))
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_nanoseconds(0).after(Duration::from_secs(seconds))
    }

    #[test]
    fn the_platform_has_its_own_say() {
        let now = Moment::from_nanoseconds(0);
        let mut health = health();
        assert_eq!(health.told(true, now), None);
        assert_eq!(health.told(false, now), Some(State::Unhealthy));
        assert_eq!(health.told(false, now), None);
        assert_eq!(health.told(true, now), Some(State::Healthy));
    }

    #[test]
    fn failures_before_readiness_do_not_count_until_the_start_period_is_over() {
        let mut slow = health();
        for second in 0..60 {
            assert_eq!(slow.observe(false, at(second)), None);
        }
        assert_eq!(slow.observe(false, at(60)), Some(State::Failing));
        let mut ready = health();
        assert_eq!(ready.observe(true, at(1)), Some(State::Healthy));
        assert_eq!(ready.observe(false, at(2)), Some(State::Failing), "it was ready: from now on they count");
    }

    #[test]
    fn two_of_three_failures_are_no_illness() {
        let mut health = health();
        health.observe(true, at(1));
        assert_eq!(health.observe(false, at(2)), Some(State::Failing));
        assert_eq!(health.observe(false, at(3)), None);
        assert_eq!(health.observe(true, at(4)), None, "one success is not yet health");
        assert_eq!(health.observe(true, at(5)), Some(State::Healthy));
        assert_eq!(health.observe(false, at(6)), Some(State::Failing));
        assert_eq!(health.observe(false, at(7)), None);
        assert_eq!(health.observe(false, at(8)), Some(State::Unhealthy));
        assert_eq!(health.observe(true, at(9)), None);
        assert_eq!(health.observe(false, at(10)), None, "still unhealthy");
        assert_eq!(health.observe(true, at(11)), None);
        assert_eq!(health.observe(true, at(12)), Some(State::Healthy));
    }

    proptest! {
        #[test]
        fn unhealthy_only_after_so_many_failures_in_a_row(answers in prop::collection::vec(any::<bool>(), 0..200)) {
            let mut health = health();
            let mut in_a_row = 0;
            for (second, is_well) in (61..).zip(answers) {
                in_a_row = if is_well { 0 } else { in_a_row + 1 };
                if health.observe(is_well, at(second)) == Some(State::Unhealthy) {
                    prop_assert!(in_a_row >= 3);
                }
            }
        }
    }
}
