//! Taking measures: reads of mapped files and of /proc, nothing that the JVM notices.
//!
//! Where the JVM has no counters (a user without a passwd entry, `-XX:-UsePerfData`)
//! or they are blind (ZGC and Shenandoah collect beside the service), the heap is
//! what `GC.heap_info` answered last, threads are the kernel's, and the share of
//! collections is that of the collector's threads in the process's CPU time.

use crate::config::Measure;
use crate::facts::{cgroup, processes};
use crate::jvm::{Counters, Target, used_bytes};
use crate::sys::process::Pid;
use crate::units::Moment;
use std::time::Duration;

/// A process that uses less than this share of one CPU is in no storm, whoever of its
/// threads uses it. Percent.
const IDLE_PERCENT: f64 = 50.0;
/// Ticks of the kernel's clock a second (`USER_HZ`, 100 on every Linux).
const TICKS: f64 = 100.0;
/// Nobody could run for a tenth of the time: the kernel's OOM killer is near. Percent.
const PRESSURE: f64 = 10.0;
/// How long there is then.
const PRESSED: Duration = Duration::from_secs(10);

/// What must be remembered from one measure to the next.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    /// Time spent in collections, when it was read.
    gc: Option<(Moment, u64)>,
    /// Ticks of the collector's threads, and of all.
    cpu: Option<(Moment, u64, u64)>,
    /// Bytes that the container had left.
    memory: Option<(Moment, u64)>,
    /// Bytes a second by which they shrink.
    shrinking: u64,
    /// Used and at most, where the JVM must be asked.
    pub(super) asked_heap: Option<(u64, u64)>,
    is_concurrent: Option<bool>,
    has_told: bool,
}

impl Sampler {
    /// Another JVM: nothing that is known of the old one holds.
    pub(super) fn renew(&mut self) {
        let has_told = self.has_told;
        *self = Self { memory: self.memory, has_told, ..Self::default() };
    }

    /// The JVM must be asked for its heap.
    pub(super) fn must_ask(target: &Target, wanted: &[Measure]) -> bool {
        wanted.iter().any(|measure| matches!(measure, Measure::Heap | Measure::HeapAfterGc))
            && Counters::read(target).is_none()
    }

    /// The measures that can be taken now.
    pub(super) fn sample(
        &mut self,
        wanted: &[Measure],
        target: Option<&Target>,
        now: Moment,
    ) -> Vec<(Measure, f64)> {
        let counters = target.and_then(Counters::read);
        self.tell(wanted, target, counters.is_some());
        let counters = counters.as_ref();
        let mut measures = Vec::new();
        for measure in wanted {
            let value = match measure {
                Measure::Heap => counters.and_then(Counters::heap).or(self.asked_heap).and_then(share),
                Measure::HeapAfterGc => {
                    counters.and_then(Counters::old_generation).or(self.asked_heap).and_then(share)
                }
                Measure::Gc => {
                    let seen = counters.and_then(|counters| self.gc_share(counters, now));
                    let is_blind =
                        seen.is_none() || target.is_some_and(|target| self.is_concurrent(target.pid));
                    let of_threads =
                        target.filter(|_| is_blind).and_then(|target| self.collectors_share(target.pid, now));
                    match (seen, of_threads) {
                        (Some(seen), Some(of_threads)) => Some(seen.max(of_threads)),
                        (seen, of_threads) => seen.or(of_threads),
                    }
                }
                Measure::Threads => counters
                    .and_then(Counters::threads)
                    .or_else(|| processes::thread_count(target?.pid))
                    .and_then(to_float),
                Measure::Memory => self.memory_share(now),
                Measure::FileDescriptors => {
                    target.and_then(|target| processes::descriptors(target.pid)).and_then(share)
                }
            };
            measures.extend(value.map(|value| (*measure, value)));
        }
        measures
    }

    /// How long until the kernel kills somebody for want of memory, if it goes on like this.
    pub(super) fn time_to_memory_limit(&self) -> Option<Duration> {
        let (_, left) = self.memory?;
        let by_growth = (self.shrinking > 0).then(|| Duration::from_secs(left / self.shrinking));
        let by_pressure = cgroup::memory_pressure().filter(|percent| *percent > PRESSURE).map(|_| PRESSED);
        by_growth.into_iter().chain(by_pressure).min()
    }

    fn tell(&mut self, wanted: &[Measure], target: Option<&Target>, has_counters: bool) {
        let is_needed = wanted.iter().any(|measure| {
            matches!(measure, Measure::Heap | Measure::HeapAfterGc | Measure::Gc | Measure::Threads)
        });
        if target.is_some() && !has_counters && is_needed && !self.has_told {
            self.has_told = true;
            tracing::warn!(
                "the JVM has no performance counters (a user without a passwd entry, or -XX:-UsePerfData): \
                 its heap is asked for now and then, collections are judged by its threads' CPU time"
            );
        }
    }

    fn memory_share(&mut self, now: Moment) -> Option<f64> {
        let (limit, left) = (cgroup::memory_limit()?, cgroup::available_memory()?);
        if let Some((before, earlier)) = self.memory.replace((now, left)) {
            let elapsed = u64::try_from(before.until(now).as_millis()).unwrap_or(u64::MAX).max(1);
            self.shrinking = earlier.saturating_sub(left).saturating_mul(1000) / elapsed;
        }
        share((limit.saturating_sub(left), limit))
    }

    /// Since the last look, in percent.
    fn gc_share(&mut self, counters: &Counters, now: Moment) -> Option<f64> {
        let total = counters.gc_time()?;
        let (before, earlier) = self.gc.replace((now, total))?;
        let elapsed = u64::try_from(before.until(now).as_nanos()).ok().filter(|elapsed| *elapsed > 0)?;
        // A new JVM begins at zero.
        share((total.saturating_sub(earlier), elapsed))
    }

    /// Its collector works beside the service, where the counters do not see it.
    fn is_concurrent(&mut self, pid: Pid) -> bool {
        *self.is_concurrent.get_or_insert_with(|| {
            processes::threads(pid).iter().any(|thread| {
                ["ZDriver", "ZWorker", "Shenandoah GC"].iter().any(|known| thread.name.starts_with(known))
            })
        })
    }

    /// The share of the process's CPU time that its collector's own threads use.
    fn collectors_share(&mut self, pid: Pid, now: Moment) -> Option<f64> {
        let (mut own, mut all) = (0_u64, 0_u64);
        for thread in processes::threads(pid) {
            all = all.saturating_add(thread.ticks);
            if collects(&thread.name) {
                own = own.saturating_add(thread.ticks);
            }
        }
        let (before, own_before, all_before) = self.cpu.replace((now, own, all))?;
        let elapsed = before.until(now).as_secs_f64();
        let used = to_float(all.saturating_sub(all_before))?;
        if elapsed <= 0.0 || used * 100.0 / (elapsed * TICKS) < IDLE_PERCENT {
            return Some(0.0);
        }
        share((own.saturating_sub(own_before), all.saturating_sub(all_before)))
    }
}

/// A thread that collects, by the first 15 characters of its name. Those of Serial and
/// of the pauses of the others are the VM thread, which the counters see.
fn collects(name: &str) -> bool {
    ["GC Thread#", "G1 Conc#", "ZDriver", "ZWorker", "Shenandoah GC"]
        .iter()
        .any(|known| name.starts_with(known))
}

/// Used and at most, in bytes, from the JVM's answers to `GC.heap_info` and `VM.flags`.
pub(super) fn heap_from(info: &str, flags: &str) -> Option<(u64, u64)> {
    let maximum = flags.split_whitespace().find_map(|word| word.strip_prefix("-XX:MaxHeapSize="))?;
    Some((used_bytes(info)?, maximum.parse().ok()?))
}

fn share((part, whole): (u64, u64)) -> Option<f64> {
    (whole > 0).then(|| to_float(part).unwrap_or(0.0) * 100.0 / to_float(whole).unwrap_or(1.0))
}

#[expect(clippy::unnecessary_wraps, reason = "as the other measures")]
#[expect(clippy::cast_precision_loss, reason = "a share, to a few digits")]
fn to_float(value: u64) -> Option<f64> {
    Some(value as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heap_from_two_answers() {
        let info = "garbage-first heap   total 262144K, used 5120K [0x1, 0x2)\n";
        let flags = "-XX:CICompilerCount=2 -XX:MaxHeapSize=268435456 -XX:+UseG1GC";
        assert_eq!(heap_from(info, flags), Some((5120 << 10, 256 << 20)));
        assert_eq!(heap_from(info, "nonsense"), None);
    }
}
