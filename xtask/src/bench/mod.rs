//! `cargo xtask bench`: what bookend costs, beside its peers, in one run.
//!
//! Figures of one machine at one moment: read the ratios.

mod dumps;
mod hprof;
mod init;
mod stream;

use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    match arguments.first().map(String::as_str) {
        Some("init") => init::run(),
        Some("dumps") => dumps::run(),
        Some("hprof") => hprof::run(),
        Some("stream") => stream::run(arguments.get(1..).unwrap_or_default()),
        _ => bail!("say which: `cargo xtask bench init`, `dumps`, `hprof` or `stream`"),
    }
}

pub(super) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn field(pid: u32, file: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    line.split_whitespace()
        .next()
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("no {name}"))
}

/// An init as PID 1.
struct Namespace(Child);

impl Namespace {
    fn start(init: &[String], child: &[&str]) -> Result<Self> {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).args(init).args(child);
        command.env("BOOKEND_CONFIG", "").stdin(Stdio::null()).stderr(Stdio::null());
        Ok(Self(command.spawn()?))
    }

    fn init(&self) -> Result<u32> {
        poll(|| children(self.0.id()).first().copied())
    }

    /// The pid of the init's child with that word in its command line.
    fn wait_for(&self, word: &str) -> Result<u32> {
        let init = self.init()?;
        poll(|| {
            children(init).into_iter().find(|pid| {
                let line = std::fs::read(PathBuf::from(format!("/proc/{pid}/cmdline"))).unwrap_or_default();
                String::from_utf8_lossy(&line).contains(word)
            })
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|number| number.parse().ok()).collect()
}

fn poll<T>(mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if begun.elapsed() > Duration::from_secs(20) {
            bail!("it did not start");
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
}
