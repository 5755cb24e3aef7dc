//! `cargo xtask survival`: every cell of the survival table, kept in the docs.

use crate::tools::{build, is_root, made_on, root, say, target};
use crate::{java, test};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

const COLLECTORS: [&str; 5] = ["Serial", "Parallel", "G1", "ZGC", "Shenandoah"];
const SICKNESSES: [&str; 7] =
    ["unhealthy", "failing", "hung", "deadlocked", "leaking", "crashing", "stopped"];
const GRACES: [u64; 3] = [5, 10, 30];
const HEAPS: [u64; 2] = [64, 1024];

/// One cell, as the suite has noted it.
#[derive(Debug)]
struct Cell {
    captured: String,
    milliseconds: u64,
}

type Key = (u64, String, u64, String, u64);

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if !is_root() {
        bail!("needs root, for PID namespaces");
    }
    let binary = build()?;
    let folder = target().join("survival");
    if arguments.iter().any(|argument| argument == "--again") {
        say("The cells that failed before, or were not run");
    } else {
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        say("840 cells, three at a time (about an hour)");
    }
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(root())
        .args(["test", "--quiet", "--test", "suite", "--", "survival::", "--test-threads", "3"])
        .env("BOOKEND_TEST_BINARY", binary)
        .env("BOOKEND_TEST_SURVIVAL", "1")
        .stderr(Stdio::null());
    test::name_javas(&mut command)?;
    let output = command.output().context("cargo test")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    std::fs::write(target().join("survival.log"), &text)?;
    let failed: Vec<&str> =
        text.lines().filter(|line| line.starts_with("test survival::") && line.ends_with("FAILED")).collect();
    let cells = read(&folder)?;
    let page = page(&cells, failed.len());
    let path = root().join("docs/survival.md");
    std::fs::write(&path, &page)?;
    say(&format!("{} cells survived; written to {}", cells.len(), path.display()));
    if failed.is_empty() { Ok(()) } else { bail!("{}\nwhy: target/survival.log", failed.join("\n")) }
}

/// What the suite has noted.
pub(crate) fn cells_in(folder: &std::path::Path) -> Result<Vec<serde_json::Value>> {
    let entries = std::fs::read_dir(folder).context("no cell was noted")?.flatten();
    entries.map(|entry| Ok(serde_json::from_slice(&std::fs::read(entry.path())?)?)).collect()
}

fn read(folder: &std::path::Path) -> Result<BTreeMap<Key, Cell>> {
    let mut cells = BTreeMap::new();
    for value in cells_in(folder)? {
        let number = |name: &str| value.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
        let text = |name: &str| value.get(name).and_then(serde_json::Value::as_str).unwrap_or("").to_owned();
        let key = (number("version"), text("collector"), number("grace"), text("sickness"), number("heap"));
        cells.insert(key, Cell { captured: text("captured"), milliseconds: number("milliseconds") });
    }
    Ok(cells)
}

fn page(cells: &BTreeMap<Key, Cell>, failed: usize) -> String {
    let mut text = format!(
        "# Survival\n\n\
        Made by `cargo xtask survival` {}; three cells\n\
        at a time. {} cells survived, {failed} did not.\n\n\
        Each cell is a real JVM with the sick service under bookend as PID 1, with the default\n\
        rules, `[jvm] diagnostics = true` and `main.output` kept. The orchestrator is the test: it\n\
        sends SIGTERM once the service is sick, and SIGKILL when the grace is over; a cell that\n\
        needs that SIGKILL fails, and so does one without a picture of the JVM's threads, or whose\n\
        manifest misses something without saying why. A selection of these cells in which every\n\
        pair of values stands at least once runs with each `cargo xtask test`.\n\n\
        A cell says what was captured, over all events, and how long the container took from the\n\
        stop signal (leaking and crashing: from the request that did it) to its end.\n\n\
        O: the kernel's view. L: last lines of the output. C: what the JVM wrote itself (crash\n\
        report, its own heap dump). V: the JVM about itself. T: thread dumps. H: histogram.\n\
        J: flight recording. D: heap dump. A small letter: not got or cut, with the reason, and\n\
        where time decided with estimate and time left, in the manifest.\n",
        made_on(),
        cells.len(),
    );
    for heap in HEAPS {
        for grace in GRACES {
            text.push_str(&format!(
                "\n## Grace {grace} s, {heap} MB live\n\n| JVM | {} |\n|---|",
                SICKNESSES.join(" | ")
            ));
            text.push_str(&"---|".repeat(SICKNESSES.len()));
            text.push('\n');
            for version in java::versions() {
                for collector in COLLECTORS {
                    let cell = |sickness: &str| {
                        let key =
                            (u64::from(version), collector.to_owned(), grace, sickness.to_owned(), heap);
                        cells.get(&key).map_or_else(
                            || "**failed**".to_owned(),
                            |cell| {
                                let tenths = cell.milliseconds.div_ceil(100);
                                format!("{} {}.{} s", cell.captured, tenths / 10, tenths % 10)
                            },
                        )
                    };
                    let row = SICKNESSES.map(cell).join(" | ");
                    text.push_str(&format!("| {version} {collector} | {row} |\n"));
                }
            }
        }
    }
    text
}
