//! What fits into the time there is. Pure: estimates in, a choice out.
//!
//! What an artifact costs depends on the heap, on the number of threads, and on
//! the machine: the first two are read, the third is learnt from what earlier
//! artifacts took here. Before the first, defaults hold that are slow on purpose.

use std::collections::BTreeMap;
use std::time::Duration;

/// Kinds of work that cost alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Answers that need no safepoint.
    Answers,
    FirstThreads,
    MoreThreads,
    VirtualThreads,
    Histogram,
    /// After a full collection.
    LiveHistogram,
    GcLog,
    Command,
    Files,
    Program,
    Recording,
    Heap,
    /// After a full collection.
    LiveHeap,
}

/// What costs depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Bytes of Java heap in use.
    pub heap: Option<u64>,
    pub threads: Option<u64>,
}

/// Taken to be so large where nobody knows. Bytes.
const HEAP_UNKNOWN: u64 = 1 << 30;
const THREADS_UNKNOWN: u64 = 200;
/// Bytes of dump for a byte of used heap, generously (facts 3.4: 1.25–1.3).
const DUMP_FACTOR_PERCENT: u64 = 140;
/// Headers, symbols and stacks of an empty heap. Bytes.
const DUMP_BASE: u64 = 16 << 20;
/// A JVM writes 300 to 450 MB/s to a disk on two cores (facts 3.4); half of
/// that, since the machine is in trouble. Bytes a second.
const DUMP_RATE: u64 = 200_000_000;
/// A histogram walks 1 GB in 0.4 to 0.9 s (facts: section 2). Bytes a second.
const WALK_RATE: u64 = 1_000_000_000;
/// A full collection copies or marks that much. Bytes a second.
const COLLECTION_RATE: u64 = 300_000_000;
/// A dump that is begun cannot be broken off, and the service's own time comes next:
/// so much more than expected must be there, in percent. Less, where it was measured.
const MARGIN_PERCENT: u32 = 200;
const MARGIN_MEASURED_PERCENT: u32 = 150;
/// What was measured counts within these bounds of the default, in percent.
const LEAST_PERCENT: u128 = 10;
const MOST_PERCENT: u128 = 2_000;

/// How long a dump of that much heap is. Bytes.
pub(super) fn dump_size(heap: u64) -> u64 {
    heap.saturating_mul(DUMP_FACTOR_PERCENT) / 100 + DUMP_BASE
}

/// How fast this machine is, by kind of work: percent of the default cost.
#[derive(Clone, Debug, Default)]
pub struct Rates(BTreeMap<Kind, u128>);

impl Rates {
    /// How long it will take, with a margin where it cannot be broken off.
    pub fn estimate(&self, kind: Kind, size: Size) -> Duration {
        let default = default_cost(kind, size);
        let measured = self.0.get(&kind);
        let expected = measured.map_or(default, |percent| scale(default, *percent));
        match (kind, measured) {
            (Kind::Heap | Kind::LiveHeap, None) => expected * MARGIN_PERCENT / 100,
            (Kind::Heap | Kind::LiveHeap, Some(_)) => expected * MARGIN_MEASURED_PERCENT / 100,
            _ => expected,
        }
    }

    /// One took so long. The slower of the last and the mean counts: a machine in
    /// trouble gets slower, not faster.
    pub fn learn(&mut self, kind: Kind, size: Size, took: Duration) {
        let default = default_cost(kind, size).as_micros().max(1);
        let percent = (took.as_micros() * 100 / default).clamp(LEAST_PERCENT, MOST_PERCENT);
        let before = self.0.get(&kind).copied().unwrap_or(percent);
        self.0.insert(kind, percent.max(percent.midpoint(before)));
    }
}

fn scale(span: Duration, percent: u128) -> Duration {
    Duration::from_micros(u64::try_from(span.as_micros() * percent / 100).unwrap_or(u64::MAX))
}

fn default_cost(kind: Kind, size: Size) -> Duration {
    let milliseconds = Duration::from_millis;
    let heap = size.heap.unwrap_or(HEAP_UNKNOWN);
    let threads = size.threads.unwrap_or(THREADS_UNKNOWN);
    let at = |bytes: u64, rate: u64| milliseconds(bytes / (rate / 1_000));
    let collection = at(heap, COLLECTION_RATE);
    match kind {
        Kind::Answers => milliseconds(300),
        Kind::FirstThreads | Kind::MoreThreads => milliseconds(100 + threads * 3 / 10),
        Kind::VirtualThreads => milliseconds(300 + threads / 5),
        Kind::Histogram => milliseconds(50) + at(heap, WALK_RATE),
        Kind::LiveHistogram => milliseconds(50) + at(heap, WALK_RATE) + collection,
        Kind::GcLog => milliseconds(100),
        Kind::Command | Kind::Files => milliseconds(200),
        Kind::Program => milliseconds(1_000),
        Kind::Recording => milliseconds(700),
        Kind::Heap => at(dump_size(heap), DUMP_RATE),
        Kind::LiveHeap => at(dump_size(heap), DUMP_RATE) + collection,
    }
}

/// What one of the kind is worth to whoever looks for the cause: a judgement, not a
/// measure. A thread dump tells most; a heap dump tells as much, and costs most.
fn value(kind: Kind) -> u32 {
    match kind {
        Kind::FirstThreads => 100,
        Kind::Heap | Kind::LiveHeap => 80,
        Kind::Answers | Kind::Histogram | Kind::LiveHistogram => 30,
        Kind::MoreThreads | Kind::Recording => 25,
        Kind::VirtualThreads | Kind::GcLog => 15,
        Kind::Command | Kind::Files | Kind::Program => 10,
    }
}

/// Which of them fit into `left`, the most valuable per second first.
pub(super) fn fitting(items: &[(Kind, Duration)], left: Duration) -> Vec<bool> {
    let density = |(kind, cost): &(Kind, Duration)| f64::from(value(*kind)) / cost.as_secs_f64().max(0.001);
    let mut order: Vec<usize> = (0..items.len()).collect();
    let rank = |index: &usize| items.get(*index).map_or(0.0, density);
    order.sort_by(|one, other| rank(other).total_cmp(&rank(one)));
    let mut fits = vec![false; items.len()];
    let mut left = left;
    for index in order {
        let Some(((_, cost), fits)) = items.get(index).zip(fits.get_mut(index)) else { continue };
        if let Some(rest) = left.checked_sub(*cost) {
            left = rest;
            *fits = true;
        }
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIGABYTE: Size = Size { heap: Some(1 << 30), threads: Some(100) };

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn a_heap_dump_is_expected_to_be_slow_until_one_was_measured() {
        let mut rates = Rates::default();
        let before = rates.estimate(Kind::Heap, GIGABYTE);
        assert!(before > seconds(10) && before < seconds(20), "{before:?}");
        rates.learn(Kind::Heap, GIGABYTE, seconds(3));
        let after = rates.estimate(Kind::Heap, GIGABYTE);
        assert!(after > seconds(4) && after < seconds(5), "half as much again: {after:?}");
        // One slow one counts at once, a fast one by half.
        rates.learn(Kind::Heap, GIGABYTE, seconds(12));
        assert!(rates.estimate(Kind::Heap, GIGABYTE) >= seconds(17));
        rates.learn(Kind::Heap, GIGABYTE, seconds(3));
        assert!(rates.estimate(Kind::Heap, GIGABYTE) >= seconds(10));
        assert!(rates.estimate(Kind::LiveHeap, GIGABYTE) > before, "a collection comes first");
    }

    #[test]
    fn the_cheap_and_valuable_come_first() {
        let items = [
            (Kind::Answers, Duration::from_millis(300)),
            (Kind::FirstThreads, Duration::from_millis(130)),
            (Kind::MoreThreads, Duration::from_millis(130)),
            (Kind::Histogram, seconds(1)),
            (Kind::Heap, seconds(15)),
        ];
        assert_eq!(fitting(&items, seconds(20)), [true; 5]);
        assert_eq!(fitting(&items, seconds(10)), [true, true, true, true, false]);
        assert_eq!(fitting(&items, Duration::from_millis(500)), [false, true, true, false, false]);
        assert_eq!(fitting(&items, Duration::ZERO), [false; 5]);
    }

    proptest! {
        #[test]
        fn what_is_chosen_fits_and_nothing_more_would(
            costs in prop::collection::vec(1_u64..20_000, 0..12),
            left in 0_u64..60_000,
        ) {
            let kinds = [Kind::Answers, Kind::FirstThreads, Kind::Histogram, Kind::Heap];
            let items: Vec<_> = costs.iter().enumerate()
                .map(|(index, cost)| (kinds[index % kinds.len()], Duration::from_millis(*cost))).collect();
            let left = Duration::from_millis(left);
            let fits = fitting(&items, left);
            let spent: Duration = items.iter().zip(&fits).filter(|(_, fits)| **fits).map(|((_, cost), _)| *cost).sum();
            prop_assert!(spent <= left);
            for ((_, cost), fits) in items.iter().zip(&fits) {
                prop_assert!(*fits || *cost > left.checked_sub(spent).expect("spent is less"));
            }
        }

        #[test]
        fn nothing_overflows(heap: u64, threads in 0_u64..10_000_000, took: u32) {
            let mut rates = Rates::default();
            let size = Size { heap: Some(heap / 1000), threads: Some(threads) };
            for kind in [Kind::Heap, Kind::LiveHeap, Kind::FirstThreads, Kind::Answers] {
                rates.learn(kind, size, Duration::from_micros(u64::from(took)));
                let _estimate = rates.estimate(kind, size);
            }
        }
    }
}
