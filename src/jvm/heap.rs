//! What `GC.heap_info` and `GC.heap_dump` answer.

/// How a heap dump went, by the JVM's own words. The status is 0 in either
/// case (`diagnosticCommand.cpp`, `HeapDumpDCmd`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DumpOutcome {
    Created,
    /// Its first line, or a word of ours if there is none.
    Failed(String),
}

/// Reads the answer to `GC.heap_dump`.
pub fn judge_dump(status: i32, text: &str) -> DumpOutcome {
    // "Heap dump file created [N bytes in S secs]" (`heapDumper.cpp`).
    if status == 0 && text.contains("Heap dump file created") {
        return DumpOutcome::Created;
    }
    let said = text.lines().map(str::trim).filter(|line| !line.is_empty());
    // "Dumping heap to … ..." says nothing of how it went.
    let reason: Vec<&str> = said.filter(|line| !line.starts_with("Dumping heap to")).collect();
    DumpOutcome::Failed(match reason.first() {
        Some(line) => line.chars().take(300).collect(),
        None => "the JVM did not say whether the dump was written".to_owned(),
    })
}

/// The bytes of Java heap in use, from `GC.heap_info` of any collector; `None`
/// if it was not understood.
///
/// Every collector prints "used N" (`12345K`, `20M`), once for the heap or once
/// a generation; Shenandoah prints "N used". Class metadata is not heap.
pub fn used_bytes(text: &str) -> Option<u64> {
    let heap = text.lines().filter(|line| {
        let line = line.trim_start();
        !line.starts_with("Metaspace") && !line.starts_with("class space")
    });
    heap.filter_map(used_in_line).reduce(u64::saturating_add)
}

fn used_in_line(line: &str) -> Option<u64> {
    line.split(',').find_map(|part| {
        let words: Vec<&str> = part.split_whitespace().collect();
        words.windows(2).find_map(|pair| match pair {
            ["used", size] | [size, "used"] => bytes(size),
            _ => None,
        })
    })
}

fn bytes(word: &str) -> Option<u64> {
    let digits = word.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = word.split_at(digits);
    let scale = match unit {
        "B" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn heaps_of_every_collector() {
        for (text, used) in [
            (
                "garbage-first heap   total 262144K, used 5120K [0x1, 0x2)\n  region size 2048K, 3 young (6144K)\n Metaspace       used 300K, committed 512K, reserved 1114112K\n  class space    used 20K\n",
                Some(5120 << 10),
            ),
            ("garbage-first heap   total reserved 4194304K, committed 262144K, used 7K [0x1)", Some(7 << 10)),
            (
                " PSYoungGen      total 76288K, used 10K [0x1)\n  eden space 65536K, 8% used [0x1)\n ParOldGen       total 175104K, used 5K [0x1)\n  object space 175104K, 0% used [0x1)",
                Some(15 << 10),
            ),
            (" ZHeap           used 20M, capacity 256M, max capacity 4096M", Some(20 << 20)),
            ("Shenandoah Heap\n 256M max, 256M soft max, 256M committed, 12345K used\n", Some(12345 << 10)),
            ("nonsense", None),
        ] {
            assert_eq!(used_bytes(text), used, "{text}");
        }
    }

    #[test]
    fn dumps_are_judged_by_their_words() {
        let created = "Dumping heap to /x ...\nHeap dump file created [152071057 bytes in 0.412 secs]\n";
        assert_eq!(judge_dump(0, created), DumpOutcome::Created);
        for (status, text, reason) in [
            (
                0,
                "Dumping heap to /x ...\nUnable to create /x: Permission denied\n",
                "Unable to create /x: Permission denied",
            ),
            (
                0,
                "Dump file is incomplete: No space left on device\n",
                "Dump file is incomplete: No space left on device",
            ),
            (
                -1,
                "java.lang.IllegalArgumentException: Unknown diagnostic command\n",
                "java.lang.IllegalArgumentException: Unknown diagnostic command",
            ),
            (0, "Dumping heap to /x ...\n", "the JVM did not say whether the dump was written"),
        ] {
            assert_eq!(judge_dump(status, text), DumpOutcome::Failed(reason.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn nonsense_never_panics(text: String, status: i32) {
            let _used = used_bytes(&text);
            let _outcome = judge_dump(status, &text);
        }
    }
}
