//! The JVM's performance counters: a file that it maps and writes, so that they
//! can be read without asking it, also while it hangs.
//!
//! Layout: `perfMemory.hpp` (`PerfDataPrologue`, `PerfDataEntry`): big-endian
//! magic 0xcafec0c0, then byte order and versions, then entries of name and
//! value in that order. Read as hostile input: every offset is checked.

use super::Target;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

/// The JVM makes 32 KiB (`-XX:PerfDataMemorySize`), rounded up; nobody sets more
/// than this. Bytes.
const SIZE_LIMIT: u64 = 1 << 20;

/// The numbers among the counters, at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counters(BTreeMap<String, i64>);

impl Counters {
    /// Reads them; `None` where there are none: a user without a passwd entry,
    /// `-XX:-UsePerfData`, a JVM that is not HotSpot.
    pub fn read(target: &Target) -> Option<Self> {
        let path = find(target)?;
        let mut bytes = Vec::new();
        File::open(path).ok()?.take(SIZE_LIMIT).read_to_end(&mut bytes).ok()?;
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let is_little = match bytes.get(..5)? {
            [0xca, 0xfe, 0xc0, 0xc0, order] => *order == 1,
            _ => return None,
        };
        let i4 = |at: usize| -> Option<usize> {
            let raw: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
            let value = if is_little { i32::from_le_bytes(raw) } else { i32::from_be_bytes(raw) };
            usize::try_from(value).ok()
        };
        let i8 = |at: usize| -> Option<i64> {
            let raw: [u8; 8] = bytes.get(at..at.checked_add(8)?)?.try_into().ok()?;
            Some(if is_little { i64::from_le_bytes(raw) } else { i64::from_be_bytes(raw) })
        };
        let (mut at, count) = (i4(24)?, i4(28)?);
        let mut counters = BTreeMap::new();
        for _ in 0..count.min(10_000) {
            let length = i4(at)?;
            if length == 0 {
                break;
            }
            let (name_at, vector, data_at) = (i4(at + 4)?, i4(at + 8)?, i4(at + 16)?);
            // A number: no vector, and 'J' for its type.
            if vector == 0 && bytes.get(at + 12) == Some(&b'J') {
                let name = bytes.get(at.checked_add(name_at)?..)?;
                let end = name.iter().take(200).position(|byte| *byte == 0)?;
                if let Some(value) = i8(at.checked_add(data_at)?) {
                    let name = String::from_utf8_lossy(name.get(..end)?).into_owned();
                    counters.insert(name, value);
                }
            }
            at = at.checked_add(length)?;
        }
        Some(Self(counters))
    }

    fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).and_then(|value| u64::try_from(*value).ok())
    }

    /// Nanoseconds in collections that stop the world, since the JVM's start. Blind
    /// to what ZGC and Shenandoah do concurrently.
    pub fn gc_time(&self) -> Option<u64> {
        let frequency = self.get("sun.os.hrt.frequency").filter(|frequency| *frequency > 0)?;
        let times = (0..8).filter_map(|index| self.get(&format!("sun.gc.collector.{index}.time")));
        let ticks = times.reduce(u64::saturating_add)?;
        u64::try_from(u128::from(ticks) * 1_000_000_000 / u128::from(frequency)).ok()
    }

    /// Bytes of Java heap in use and at most, as of the last collection.
    pub fn heap(&self) -> Option<(u64, u64)> {
        let used: u64 =
            spaces().filter_map(|space| self.get(&format!("{space}.used"))).fold(0, u64::saturating_add);
        Some((used, self.maximum()?))
    }

    /// Bytes in use in the old generation (the only one, where there is one), as
    /// of the last collection, and at most.
    pub fn old_generation(&self) -> Option<(u64, u64)> {
        let used = self.get("sun.gc.generation.1.space.0.used")?;
        Some((used, self.get("sun.gc.generation.1.space.0.maxCapacity")?))
    }

    /// Live Java threads.
    pub fn threads(&self) -> Option<u64> {
        self.get("java.threads.live")
    }

    /// Collections since the JVM's start.
    pub fn collections(&self) -> u64 {
        (0..8)
            .filter_map(|index| self.get(&format!("sun.gc.collector.{index}.invocations")))
            .fold(0, u64::saturating_add)
    }

    /// The generations share the heap in G1 and ZGC: each may grow to all of it.
    fn maximum(&self) -> Option<u64> {
        let of = |index| self.get(&format!("sun.gc.generation.{index}.maxCapacity")).unwrap_or(0);
        let (young, old) = (of(0), of(1));
        let maximum = if young == old { old } else { young.saturating_add(old) };
        Some(maximum).filter(|maximum| *maximum > 0)
    }
}

/// One a line, sorted by name.
impl fmt::Display for Counters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, value)| writeln!(formatter, "{name}={value}"))
    }
}

/// Eden, survivors and old, by the counters' names.
fn spaces() -> impl Iterator<Item = String> {
    (0..2).flat_map(|generation| {
        (0..3).map(move |space| format!("sun.gc.generation.{generation}.space.{space}"))
    })
}

/// `/tmp/hsperfdata_USER/PID`, its pid in its own namespace. The user's name may
/// be unknown here: the folder that holds that pid and belongs to that user.
fn find(target: &Target) -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    for entry in std::fs::read_dir(target.temporary()).ok()?.flatten() {
        if !entry.file_name().to_string_lossy().starts_with("hsperfdata_") {
            continue;
        }
        let path = entry.path().join(target.inner_pid().to_string());
        let is_its = std::fs::symlink_metadata(&path)
            .is_ok_and(|metadata| metadata.is_file() && metadata.uid() == target.user);
        if is_its {
            return Some(path);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file as a JVM writes it, with these numbers.
    fn file(numbers: &[(&str, i64)]) -> Vec<u8> {
        let mut bytes = vec![0xca, 0xfe, 0xc0, 0xc0, 1, 2, 0, 1];
        bytes.extend([0; 16]);
        bytes.extend(32_i32.to_le_bytes());
        bytes.extend(i32::try_from(numbers.len()).expect("few").to_le_bytes());
        for (name, value) in numbers {
            let padded = (name.len() + 1).next_multiple_of(8);
            let data = 20 + padded;
            for number in [data + 8, 20, 0] {
                bytes.extend(i32::try_from(number).expect("small").to_le_bytes());
            }
            bytes.extend([b'J', 0, 1, 3]);
            bytes.extend(i32::try_from(data).expect("small").to_le_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend(vec![0; padded - name.len()]);
            bytes.extend(value.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn numbers_by_name() {
        let counters = Counters::parse(&file(&[
            ("sun.os.hrt.frequency", 1_000_000),
            ("sun.gc.collector.0.time", 2_000_000),
            ("sun.gc.collector.1.time", 500_000),
            ("java.threads.live", 17),
        ]))
        .expect("whole");
        assert_eq!(counters.gc_time(), Some(2_500_000_000));
        assert_eq!(counters.threads(), Some(17));
        assert_eq!(counters.heap(), None);
    }

    #[test]
    fn nonsense_is_survived() {
        let whole = file(&[("java.threads.live", 17), ("x", 1)]);
        for end in 0..whole.len() {
            let _some_or_none = Counters::parse(whole.get(..end).expect("within"));
        }
        for at in 0..whole.len() {
            let mut broken = whole.clone();
            broken[at] ^= 0xff;
            let _some_or_none = Counters::parse(&broken);
        }
    }
}
