//! The project's own tool: everything that takes more than one command.
//!
//! `cargo xtask demo` shows the main job; `cargo xtask test` runs every test;
//! `cargo xtask conformance` and `cargo xtask bench` compare with other
//! programs. Each finds or installs what it
//! needs, and says so.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a tool that people run talks to them, and starts other programs"
)]

mod azurite;
mod bench;
mod conformance;
mod demo;
mod engine;
mod faults;
mod hprof_slurp;
mod images;
mod java;
mod migration;
mod python;
mod seaweed;
mod survival;
mod test;
mod tools;

use anyhow::{Result, bail};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <verb>

  demo            run a service that falls ill under bookend as PID 1, stop it, show the evidence
  test [FILTER]   every test: unit, PID namespaces, JVM 11/17/21/25, containers
                  (--no-containers leaves out the engine; CI=true makes a skip a failure;
                  --hunts adds the race hunts, the soak and large heaps, as CI=true does;
                  --large every large heap on every JVM)
  conformance     every conformance case on bookend, tini, dumb-init and catatonit;
                  writes docs/conformance.md
  survival        every JVM x collector x grace x sickness x heap (about an hour);
                  writes docs/survival.md (--again: only those that failed)
  faults          every fault of a store x moment x JVM (about ten minutes);
                  writes docs/faults.md
  bench init      PID 1 beside its peers: latency, start, reaping, memory, size;
                  writes docs/performance.md
  bench dumps     thread and heap dumps beside jcmd
  bench hprof     redaction and summary of a heap dump, beside hprof-slurp
  bench stream    a heap dump into a bucket, beside jcmd + gzip + AWS CLI
                  (--jdk=17,21,25 --heap=1250m --turns=3)";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (verb, rest) = match arguments.split_first() {
        Some((verb, rest)) => (verb.as_str(), rest),
        None => bail!("no verb\n{USAGE}"),
    };
    // `cargo xtask test --help` asks; it does not run for half an hour.
    if rest.iter().any(|argument| argument == "--help" || argument == "-h") {
        println!("{USAGE}");
        return Ok(());
    }
    match verb {
        "demo" => demo::run(),
        "test" => test::run(rest),
        "bench" => bench::run(rest),
        "conformance" => conformance::run(),
        "faults" => faults::run(),
        "survival" => survival::run(rest),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        other => bail!("`{other}` is not a verb\n{USAGE}"),
    }
}
