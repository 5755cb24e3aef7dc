//! What the kernel knows of the service: no cooperation of the JVM is needed.

use super::write_text;
use crate::agent::elsewhere::elsewhere;
use crate::evidence::{ArtifactRecord, Bundle, mask};
use crate::facts::processes::{self, Thread};
use crate::jvm::Counters;
use crate::sys::process::Pid;
use nix::sys::statvfs::statvfs;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Files that are taken as they are, and what of them.
const FILES_OF_PROCESS: [&str; 5] = ["status", "limits", "smaps_rollup", "io", "oom_score"];
const FILES_OF_CONTAINER: [&str; 17] = [
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/pressure/cpu",
    "/proc/pressure/memory",
    "/proc/pressure/io",
    "/sys/fs/cgroup/memory.current",
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory.events",
    "/sys/fs/cgroup/memory.stat",
    "/sys/fs/cgroup/cpu.stat",
    "/sys/fs/cgroup/cpu.max",
    "/sys/fs/cgroup/pids.current",
    "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    "/sys/fs/cgroup/memory/memory.stat",
    "/sys/fs/cgroup/memory.pressure",
    "/sys/fs/cgroup/cpu/cpu.stat",
];
/// More threads than that are counted, not listed.
const THREADS_LISTED: usize = 5_000;

/// Writes it; with the JVM's own counters, which need nobody's answer either.
///
/// Read by another thread: some of these files wait for locks that a process in
/// disk sleep may hold, and a mount whose server is gone answers nobody.
pub(in crate::agent) async fn capture_os(
    pid: Option<Pid>,
    counters: Option<Counters>,
    bundle: &Bundle,
    name: &str,
) -> ArtifactRecord {
    let begun = Instant::now();
    let described = elsewhere(move || {
        let mut text = describe(pid);
        if let Some(counters) = counters {
            let _always = writeln!(text, "=== performance counters of the JVM\n{counters}");
        }
        mask(&text)
    });
    match timeout(PATIENCE, described).await {
        Ok(Ok(text)) => write_text(bundle, "os", name, text.as_bytes(), begun),
        Ok(Err(reason)) => ArtifactRecord::failed("os", reason, begun.elapsed()),
        Err(_) => ArtifactRecord::failed("os", "the kernel did not answer in time", begun.elapsed()),
    }
}

/// A kernel that is well answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(3);

/// One text about `pid`, if it is still there, and the container around it.
fn describe(pid: Option<Pid>) -> String {
    let mut text = String::new();
    if let Some(pid) = pid {
        for name in FILES_OF_PROCESS {
            section(&mut text, &processes::path(pid, name));
        }
        threads(&mut text, pid);
        descriptors(&mut text, pid);
    }
    for name in FILES_OF_CONTAINER {
        section(&mut text, Path::new(name));
    }
    // Namespaces are the container's: our own view is as good as anybody's.
    sockets(&mut text);
    mounts(&mut text);
    text
}

/// A file's content under its name; nothing where it is not there.
fn section(text: &mut String, path: &Path) {
    if let Ok(content) = std::fs::read(path) {
        let content = String::from_utf8_lossy(&content);
        let _always = writeln!(text, "=== {}\n{}", path.display(), content.trim_end());
    }
}

/// State, processor time and wait channel of each thread.
fn threads(text: &mut String, pid: Pid) {
    let mut rows = processes::threads(pid);
    if rows.is_empty() {
        return;
    }
    rows.sort_by_key(|thread| std::cmp::Reverse(thread.ticks));
    let _always = writeln!(
        text,
        "=== threads: {} (ticks, id in hex as in a thread dump's nid, state, name, waits in)",
        rows.len()
    );
    for Thread { id, name, state, ticks } in rows.iter().take(THREADS_LISTED) {
        let channel = processes::path(pid, &format!("task/{id}/wchan"));
        let channel = std::fs::read_to_string(channel).unwrap_or_default();
        let id = id.number();
        let _always = writeln!(text, "{ticks:>8} {id:#8x} {state} {name:<16} {channel}");
    }
}

/// Open descriptors by kind.
fn descriptors(text: &mut String, pid: Pid) {
    let Ok(entries) = std::fs::read_dir(processes::path(pid, "fd")) else { return };
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    for entry in entries.flatten() {
        let target = std::fs::read_link(entry.path()).unwrap_or_default().display().to_string();
        let kind = match target.split_once(':') {
            Some((kind, _)) if !target.starts_with('/') => kind.to_owned(),
            _ if target.starts_with("/dev/") || target.starts_with("/proc/") => target,
            _ => "file".to_owned(),
        };
        *kinds.entry(kind).or_default() += 1;
    }
    let total: u64 = kinds.values().sum();
    let _always = writeln!(text, "=== open descriptors: {total}");
    for (kind, count) in kinds {
        let _always = writeln!(text, "{count:>8} {kind}");
    }
}

/// TCP sockets of this network namespace by state and peer (`proc(5)`, `net/tcp`).
fn sockets(text: &mut String) {
    const STATES: [&str; 12] = [
        "?",
        "ESTABLISHED",
        "SYN_SENT",
        "SYN_RECV",
        "FIN_WAIT1",
        "FIN_WAIT2",
        "TIME_WAIT",
        "CLOSE",
        "CLOSE_WAIT",
        "LAST_ACK",
        "LISTEN",
        "CLOSING",
    ];
    let mut found: BTreeMap<(String, String), u64> = BTreeMap::new();
    for name in ["net/tcp", "net/tcp6"] {
        let table = std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(remote), Some(state)) = (fields.get(1), fields.get(2), fields.get(3))
            else {
                continue;
            };
            let index = usize::from_str_radix(state, 16).unwrap_or(0);
            let state = STATES.get(index).copied().unwrap_or("?").to_owned();
            let port = |address: &str| {
                address.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok()).unwrap_or(0)
            };
            // What listens is told by its own port, the others by whom they talk to.
            let peer = if state == "LISTEN" { format!("port {}", port(local)) } else { address(remote) };
            *found.entry((state, peer)).or_default() += 1;
        }
    }
    let _always = writeln!(text, "=== tcp sockets: {}", found.values().sum::<u64>());
    for ((state, peer), count) in found {
        let _always = writeln!(text, "{count:>8} {state:<12} {peer}");
    }
}

/// `0100007F:1F90` is 127.0.0.1:8080: four bytes at a time in the machine's order.
fn address(text: &str) -> String {
    let Some((host, port)) = text.split_once(':') else { return text.to_owned() };
    let port = u16::from_str_radix(port, 16).unwrap_or(0);
    let words: Vec<u8> = (0..host.len() / 8)
        .filter_map(|index| u32::from_str_radix(host.get(index * 8..index * 8 + 8)?, 16).ok())
        .flat_map(u32::to_ne_bytes)
        .collect();
    if let Ok(bytes) = <[u8; 4]>::try_from(words.as_slice()) {
        return format!("{}:{port}", std::net::Ipv4Addr::from(bytes));
    }
    match <[u8; 16]>::try_from(words.as_slice()) {
        Ok(bytes) => {
            let ip = std::net::Ipv6Addr::from(bytes);
            ip.to_ipv4_mapped().map_or_else(|| format!("[{ip}]:{port}"), |ip| format!("{ip}:{port}"))
        }
        Err(_) => text.to_owned(),
    }
}

/// Mounts with what is free on them.
fn mounts(text: &mut String) {
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let _always = writeln!(text, "=== mounts (free and whole, in MiB)");
    for line in table.lines() {
        let mut fields = line.split_whitespace();
        let (Some(_), Some(path), Some(kind)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        // A network that is gone would hang whoever asks.
        let is_remote = ["nfs", "nfs4", "cifs", "ceph", "fuse"].iter().any(|name| kind.starts_with(name));
        let sizes = if is_remote { None } else { statvfs(path).ok() };
        let sizes = sizes.map(|space| {
            let mebibytes = |blocks: u64| blocks.saturating_mul(space.fragment_size()) >> 20;
            (mebibytes(space.blocks_available()), mebibytes(space.blocks()))
        });
        let _always = match sizes {
            Some((_, 0)) => Ok(()),
            Some((free, whole)) => writeln!(text, "{free:>10} {whole:>10} {kind:<10} {path}"),
            None => writeln!(text, "{:>10} {:>10} {kind:<10} {path}", "?", "?"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describes_this_process() {
        let own = Pid::from_number(i32::try_from(std::process::id()).expect("fits")).expect("positive");
        let text = describe(Some(own));
        for part in
            ["/status\nName:", "=== threads: ", "=== open descriptors: ", "=== tcp sockets: ", "=== mounts"]
        {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn addresses_as_the_kernel_prints_them() {
        assert_eq!(address("0100007F:1F90"), "127.0.0.1:8080");
        assert_eq!(address("0000000000000000FFFF00000100007F:0050"), "127.0.0.1:80");
        assert_eq!(address("00000000000000000000000001000000:0050"), "[::1]:80");
        assert_eq!(address("nonsense"), "nonsense");
    }
}
