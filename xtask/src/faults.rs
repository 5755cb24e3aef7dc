//! `cargo xtask faults`: what becomes of evidence where the store fails, kept in the docs.

use crate::survival::cells_in;
use crate::tools::{build, is_root, made_on, root, say, target};
use crate::{java, test};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fmt::Write;
use std::process::{Command, Stdio};

/// As the suite calls them, and what they are.
const FAULTS: [(&str, &str); 5] = [
    ("Refused", "nobody listens any longer"),
    ("BlackHole", "connections are taken, and nothing comes back"),
    ("Reset", "every connection ends, once"),
    ("Slow", "a kilobyte a second"),
    ("Busy", "503 SlowDown for five seconds"),
];
const MOMENTS: [(&str, &str); 3] = [
    ("Before", "from the start"),
    ("During", "after two parts and a half of the heap"),
    ("Last", "when the parts are put together"),
];

pub(crate) fn run() -> Result<()> {
    if !is_root() {
        bail!("needs root, for PID namespaces");
    }
    let binary = build()?;
    let folder = target().join("faults");
    drop(std::fs::remove_dir_all(&folder));
    say("60 cells, three at a time (about ten minutes)");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(root())
        .args(["test", "--quiet", "--test", "suite", "--", "s3::fault::", "--test-threads", "3"])
        .env("BOOKEND_TEST_BINARY", binary)
        .env("BOOKEND_TEST_FAULTS", "1")
        .stderr(Stdio::null());
    test::name_javas(&mut command)?;
    let output = command.output().context("cargo test")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    std::fs::write(target().join("faults.log"), &text)?;
    let cells = cells_in(&folder)?;
    let path = root().join("docs/faults.md");
    std::fs::write(&path, page(&cells)?)?;
    say(&format!("{} cells; written to {}", cells.len(), path.display()));
    if output.status.success() { Ok(()) } else { bail!("some failed; why: target/faults.log") }
}

fn page(cells: &[Value]) -> Result<String> {
    let mut text = format!(
        "# When the store fails\n\n\
        Made by `cargo xtask faults` {}.\n\n\
        A real JVM with 520 MB of live heap under bookend as PID 1, a stop with 40 s of grace, and a real\n\
        S3 server behind a proxy that fails. In every cell the service ended by itself in time with\n\
        exit code 143, `os` and `threads` arrived whole, no unfinished upload was left at the server, and\n\
        after the next start no file in the spool: whatever had not left by then was sent. A cell that\n\
        lacks any of this is a failed test and is not here.\n\n\
        *At once*: the manifest was in the bucket when the container ended; *later*: sent by the next start.\n\
        The time is that of the whole stop.\n",
        made_on()
    );
    for (fault, meaning) in FAULTS {
        write!(
            text,
            "\n## {fault}: {meaning}\n\n| JVM | {} |\n|---|---|---|---|\n",
            MOMENTS.map(|(_, what)| what).join(" | ")
        )?;
        for version in java::versions() {
            let cell = |(moment, _): (&str, &str)| {
                let is_its = |cell: &&Value| {
                    cell["version"] == version && cell["fault"] == fault && cell["moment"] == moment
                };
                cells.iter().find(is_its).map_or_else(|| "**failed**".to_owned(), shown)
            };
            writeln!(text, "| {version} | {} |", MOMENTS.map(cell).join(" | "))?;
        }
    }
    Ok(text)
}

fn shown(cell: &Value) -> String {
    let text = |pointer: &str| cell.pointer(pointer).and_then(Value::as_str).unwrap_or("").to_owned();
    let when = if cell["at_once"] == true { "at once" } else { "later" };
    let tenths = cell["milliseconds"].as_u64().unwrap_or(0).div_ceil(100);
    // Files of the test's own, and words of a table.
    let reason: String = text("/heap/reason").replace('|', "/").chars().take(160).collect();
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    format!("{when}, {}.{} s; heap {}{reason}", tenths / 10, tenths % 10, text("/heap/status"))
}
