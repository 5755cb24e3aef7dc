//! Redaction and summary of a heap dump in the page cache, beside a public reader.

use crate::tools::{build, need, quietly, say, target};
use crate::{hprof_slurp, java};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

const TURNS: usize = 5;
const VERSION: u32 = 17;
const HEAP: &str = "1250m";

/// What one run took, in seconds, and its peak in kB.
#[derive(Clone, Copy, Debug)]
struct Run {
    wall: f64,
    cpu: f64,
    peak: f64,
}

pub(super) fn run() -> Result<()> {
    let bookend = build()?;
    let slurp = hprof_slurp::program()?;
    let clock = need("time", "time")?;
    let folder = target().join("bench/hprof");
    std::fs::create_dir_all(&folder)?;
    let dump = folder.join("heap.hprof");
    say(&format!("A dump of {HEAP} of live heap, by JDK {VERSION}"));
    make(&dump)?;
    let size = dump.metadata()?.len();
    // It is read once, so that all find it in the page cache.
    quietly(Command::new("cat").arg(&dump).stdout(Stdio::null()))?;
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let path = dump.display().to_string();
    let (ours, theirs) = (bookend.display().to_string(), slurp.display().to_string());
    let ways = [
        ("bookend hprof redact", words(&[&ours, "hprof", "redact", &path, "-"])),
        (
            "bookend hprof redact --only-strings",
            words(&[&ours, "hprof", "redact", "--only-strings", &path, "-"]),
        ),
        ("bookend hprof summary", words(&[&ours, "hprof", "summary", &path])),
        ("hprof-slurp", words(&[&theirs, &path])),
    ];
    let mut runs = vec![Vec::new(); ways.len()];
    for _ in 0..TURNS {
        for ((_, command), runs) in ways.iter().zip(&mut runs) {
            runs.push(timed(&clock, command, &folder)?);
        }
    }
    println!("\na heap dump of {} MB in the page cache, {TURNS} times in turns (median)", size / 1_000_000);
    println!("  {:32} {:>8} {:>8} {:>14} {:>9}", "", "wall", "CPU", "a core", "peak");
    for ((name, _), runs) in ways.iter().zip(runs) {
        let median = |of: fn(&Run) -> f64| {
            let mut all: Vec<f64> = runs.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or_default()
        };
        let (wall, cpu, peak) = (median(|run| run.wall), median(|run| run.cpu), median(|run| run.peak));
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let speed = size as f64 / 1e9 / cpu;
        println!("  {name:32} {wall:6.2} s {cpu:6.2} s {speed:9.2} GB/s {:6.0} MB", peak / 1024.0);
    }
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

fn make(dump: &Path) -> Result<()> {
    drop(std::fs::remove_file(dump));
    let mut service = Command::new(java::home(VERSION)?.join("bin/java"))
        .args(["-Xmx4g", "-cp"])
        .arg(java::classes()?)
        .args(["SickService", "--port=0", "--bind=127.0.0.1"])
        .arg(format!("--heap={HEAP}"))
        .stdout(Stdio::piped())
        .spawn()?;
    let made = (|| {
        let mut line = String::new();
        let output = service.stdout.take().context("no output")?;
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line)?;
        let jcmd = java::development_kit()?.join("bin/jcmd");
        quietly(Command::new(jcmd).arg(service.id().to_string()).args(["GC.heap_dump", "-all"]).arg(dump))
    })();
    drop(service.kill());
    drop(service.wait());
    made.map(drop)
}

fn timed(clock: &Path, command: &[String], folder: &Path) -> Result<Run> {
    let figures = folder.join("figures");
    // Nobody is to pass it on through a pipe.
    let nowhere = File::options().write(true).open("/dev/null")?;
    let status = Command::new(clock)
        .args(["-f", "%e %U %S %M", "-o"])
        .arg(&figures)
        .args(command)
        .stdout(nowhere)
        .stderr(Stdio::null())
        .status()?;
    if !status.success() {
        bail!("`{}` failed: {status}", command.join(" "));
    }
    let text = std::fs::read_to_string(figures)?;
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [wall, user, system, peak] = numbers[..] else { bail!("time said {text}") };
    Ok(Run { wall, cpu: user + system, peak })
}
