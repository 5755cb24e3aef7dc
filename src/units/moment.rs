//! A point on the kernel's monotonic clock.

use std::time::Duration;

/// Nanoseconds of `CLOCK_MONOTONIC` (`clock_gettime(2)`).
///
/// Unlike `std::time::Instant` it can be made from a number, so that supervisor
/// and agent, two processes on one clock, can tell each other a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The moment `nanoseconds` after the clock's zero.
    pub const fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// Nanoseconds since the clock's zero.
    pub const fn nanoseconds(self) -> u64 {
        self.0
    }

    /// The moment `span` later; the end of time where that cannot be represented.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(span)))
    }

    /// The moment `span` earlier; the clock's zero where there is none.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(nanoseconds(span)))
    }

    /// Whole seconds since `earlier`; 0 if it was not earlier.
    pub fn seconds_since(self, earlier: Self) -> u64 {
        earlier.until(self).as_secs()
    }

    /// How long from `self` until `later`; zero if `later` has passed.
    pub fn until(self, later: Self) -> Duration {
        Duration::from_nanos(later.0.saturating_sub(self.0))
    }
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let zero = Moment::from_nanoseconds(0);
        assert_eq!(zero.before(Duration::from_secs(1)), zero);
        assert_eq!(zero.after(Duration::MAX), Moment::from_nanoseconds(u64::MAX));
        assert_eq!(zero.after(Duration::from_secs(2)).until(zero), Duration::ZERO);
        assert_eq!(zero.until(zero.after(Duration::from_secs(2))), Duration::from_secs(2));
    }
}
