//! Thread and heap dumps of one JVM, by bookend and by jcmd.

use super::median;
use crate::java;
use crate::tools::{build, quietly, say, target};
use anyhow::{Context, Result};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Dumps of each kind, in turns.
const DUMPS: usize = 5;

/// A thread dump and a heap dump of one JVM, by bookend and by jcmd, in turns.
pub(super) fn run() -> Result<()> {
    let bookend = build()?;
    let kit = java::development_kit()?;
    let classes = java::classes()?;
    let folder = target().join("bench");
    say("Starting a JVM with 512 MiB of live heap");
    let mut service = Command::new(kit.join("bin/java"))
        .args(["-Xmx1g", "-cp"])
        .arg(classes)
        .args(["SickService", "--port=0", "--bind=127.0.0.1", "--heap=512m"])
        .stdout(Stdio::piped())
        .spawn()?;
    let result = (|| {
        let mut line = String::new();
        let output = service.stdout.take().context("no output")?;
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line)?;
        let pid = service.id().to_string();
        let jcmd = kit.join("bin/jcmd");
        let heap = folder.join("jcmd.hprof");
        let ours_to = folder.join("ours");
        let (mut ours, mut theirs) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for _ in 0..DUMPS {
            let timed = |command: &mut Command| -> Result<Duration> {
                // Each finds the same disk: nothing to write back, no file of the other's.
                drop(std::fs::remove_dir_all(&ours_to));
                drop(std::fs::remove_file(&heap));
                std::fs::create_dir_all(&ours_to)?;
                quietly(&mut Command::new("sync"))?;
                let begun = Instant::now();
                quietly(command)?;
                Ok(begun.elapsed())
            };
            theirs[0].push(timed(Command::new(&jcmd).args([&pid, "Thread.print", "-l"]))?);
            ours[0]
                .push(timed(Command::new(&bookend).args(["dump", "threads", "--pid", &pid, "--to", "-"]))?);
            theirs[1].push(timed(Command::new(&jcmd).args([&pid, "GC.heap_dump", "-all"]).arg(&heap))?);
            ours[1].push(timed(
                Command::new(&bookend).args(["dump", "heap", "--pid", &pid, "--to"]).arg(&ours_to),
            )?);
        }
        println!("\ndumps of a JVM with 512 MiB of live heap, {DUMPS} times in turns (median)");
        let size = ours_to.join("heap.hprof").metadata()?.len();
        for (index, name) in
            ["thread dump".to_owned(), format!("heap dump ({} MB)", size / 1_000_000)].iter().enumerate()
        {
            let [ours, theirs] = [&ours, &theirs].map(|times| times.get(index).cloned().unwrap_or_default());
            let [ours, theirs] = [ours, theirs].map(|times| median(times).as_secs_f64());
            println!(
                "  {name:24} jcmd {theirs:>7.3} s   bookend {ours:>7.3} s   {:.2} x jcmd",
                ours / theirs
            );
        }
        drop(std::fs::remove_file(heap));
        drop(std::fs::remove_dir_all(ours_to));
        Ok(())
    })();
    drop(service.kill());
    drop(service.wait());
    result
}
