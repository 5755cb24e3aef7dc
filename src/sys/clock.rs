//! The monotonic clock that supervisor and agent share.

use crate::units::Moment;
use nix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC` now. It cannot fail on Linux (`clock_gettime(2)`: only an
/// unknown clock or a bad address does); zero stands for the impossible.
pub fn now() -> Moment {
    let nanoseconds = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        let fraction = u64::try_from(time.tv_nsec()).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(fraction)
    });
    Moment::from_nanoseconds(nanoseconds)
}
