//! Taking measures: reads of mapped files and of /proc, nothing that the JVM notices.

use crate::config::Measure;
use crate::facts::{cgroup, processes};
use crate::jvm::{Counters, Target};
use crate::units::Moment;

/// What must be remembered from one measure to the next.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    /// Time spent in collections, when it was read.
    gc: Option<(Moment, u64)>,
    has_told: bool,
}

impl Sampler {
    /// The measures that can be taken now.
    pub(super) fn sample(
        &mut self,
        wanted: &[Measure],
        target: Option<&Target>,
        now: Moment,
    ) -> Vec<(Measure, f64)> {
        let counters = target.and_then(Counters::read);
        if target.is_some()
            && counters.is_none()
            && !self.has_told
            && wanted.iter().copied().any(is_of_the_jvm)
        {
            self.has_told = true;
            tracing::warn!(
                "the JVM has no performance counters (a user without a passwd entry, or -XX:-UsePerfData): \
                 rules on heap, gc and threads see nothing"
            );
        }
        let counters = counters.as_ref();
        wanted
            .iter()
            .filter_map(|measure| {
                let value = match measure {
                    Measure::Heap => share(counters?.heap()?),
                    Measure::HeapAfterGc => share(counters?.old_generation()?),
                    Measure::Gc => self.gc_share(counters?, now),
                    Measure::Threads => to_float(counters?.threads()?),
                    Measure::Memory => {
                        let limit = cgroup::memory_limit()?;
                        share((limit.saturating_sub(cgroup::available_memory()?), limit))
                    }
                    Measure::FileDescriptors => share(processes::descriptors(target?.pid)?),
                };
                Some((*measure, value?))
            })
            .collect()
    }

    /// Since the last look, in percent.
    fn gc_share(&mut self, counters: &Counters, now: Moment) -> Option<f64> {
        let total = counters.gc_time()?;
        let (before, earlier) = self.gc.replace((now, total))?;
        let elapsed = u64::try_from(before.until(now).as_nanos()).ok().filter(|elapsed| *elapsed > 0)?;
        // A new JVM begins at zero.
        share((total.saturating_sub(earlier), elapsed))
    }
}

fn is_of_the_jvm(measure: Measure) -> bool {
    !matches!(measure, Measure::Memory | Measure::FileDescriptors)
}

fn share((part, whole): (u64, u64)) -> Option<f64> {
    (whole > 0).then(|| to_float(part).unwrap_or(0.0) * 100.0 / to_float(whole).unwrap_or(1.0))
}

#[expect(clippy::unnecessary_wraps, reason = "as the other measures")]
#[expect(clippy::cast_precision_loss, reason = "a share, to a few digits")]
fn to_float(value: u64) -> Option<f64> {
    Some(value as f64)
}
