//! The project's own tool: everything that takes more than one command.
//!
//! `cargo xtask demo` shows the main job; `cargo xtask test` runs every test;
//! `cargo xtask bench` prints the figures. Each finds or installs what it
//! needs, and says so.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a tool that people run talks to them, and starts other programs"
)]

mod bench;
mod demo;
mod engine;
mod images;
mod java;
mod test;
mod tools;

use anyhow::{Result, bail};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <verb>

  demo            run a service that falls ill under bookend as PID 1, stop it, show the evidence
  test [FILTER]   every test: unit, PID namespaces, JVM 11/17/21/25, containers
                  (--no-containers leaves out the engine; CI=true makes a skip a failure)
  bench           size, memory, start-up and dump time beside tini and jcmd";

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
    match verb {
        "demo" => demo::run(),
        "test" => test::run(rest),
        "bench" => bench::run(),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        other => bail!("`{other}` is not a verb\n{USAGE}"),
    }
}
