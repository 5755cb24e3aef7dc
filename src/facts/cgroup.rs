//! The container's own limits (kernel documentation: `cgroup-v2.rst`,
//! `cgroup-v1/memory.rst`). Inside a container both hierarchies are mounted
//! with the container's group at the root.

use std::path::Path;

/// The memory limit in bytes; `None` where there is none.
pub fn memory_limit() -> Option<u64> {
    limit_from(Path::new("/sys/fs/cgroup/memory.max"))
        .or_else(|| limit_from(Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes")))
}

/// What the container may still use of its limit, in bytes; `None` where there
/// is no limit.
pub fn available_memory() -> Option<u64> {
    let used = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let used = used("/sys/fs/cgroup/memory.current")
        .or_else(|| used("/sys/fs/cgroup/memory/memory.usage_in_bytes"))?;
    Some(memory_limit()?.saturating_sub(used.saturating_sub(reclaimable())))
}

/// Pages of files that the kernel gives up before it kills anybody: counted as used, and no
/// need of anybody's (`memory.stat`; as the kubelet reckons its working set).
fn reclaimable() -> u64 {
    let stat = |path: &str| std::fs::read_to_string(path).ok();
    let text = stat("/sys/fs/cgroup/memory.stat").or_else(|| stat("/sys/fs/cgroup/memory/memory.stat"));
    text.map_or(0, |text| parse_reclaimable(&text))
}

fn parse_reclaimable(text: &str) -> u64 {
    // v1 has both, of the group alone and with what is below it.
    ["total_inactive_file ", "inactive_file "]
        .iter()
        .find_map(|name| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()))
        .unwrap_or(0)
}

/// The share of the last ten seconds in which nobody here could run for want of
/// memory, in percent (`memory.pressure`, "full avg10"; cgroup v2 with PSI only).
pub fn memory_pressure() -> Option<f64> {
    parse_pressure(&std::fs::read_to_string("/sys/fs/cgroup/memory.pressure").ok()?)
}

fn parse_pressure(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("full "))?;
    line.split_whitespace().find_map(|word| word.strip_prefix("avg10="))?.parse().ok()
}

/// How often the kernel killed something in here for want of memory
/// (`memory.events`, v1: `memory.oom_control`).
pub fn oom_kills() -> u64 {
    let files = ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"];
    let texts = files.iter().filter_map(|path| std::fs::read_to_string(path).ok());
    texts
        .filter_map(|text| {
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok())
        })
        .sum()
}

fn limit_from(path: &Path) -> Option<u64> {
    parse_limit(&std::fs::read_to_string(path).ok()?)
}

/// `max` (v2) and a page-rounded `i64::MAX` (v1) both mean "no limit".
fn parse_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes < 1 << 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_no_need() {
        assert_eq!(parse_reclaimable("anon 5\ninactive_file 7\nactive_file 9\n"), 7);
        assert_eq!(parse_reclaimable("inactive_file 7\ntotal_inactive_file 11\n"), 11);
        assert_eq!(parse_reclaimable(""), 0);
    }

    #[test]
    fn pressure_as_the_kernel_prints_it() {
        let text = "some avg10=1.50 avg60=0.10 avg300=0.00 total=1\nfull avg10=12.34 avg60=0.05 avg300=0.00 total=2\n";
        assert_eq!(parse_pressure(text), Some(12.34));
        assert_eq!(parse_pressure("nonsense"), None);
    }

    #[test]
    fn no_limit_is_told_in_two_ways() {
        assert_eq!(parse_limit("max\n"), None);
        assert_eq!(parse_limit("9223372036854771712\n"), None);
        assert_eq!(parse_limit("536870912\n"), Some(512 << 20));
        assert_eq!(parse_limit("nonsense"), None);
    }
}
