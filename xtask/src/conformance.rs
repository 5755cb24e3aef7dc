//! `cargo xtask conformance`: who passes which case, as a table in the docs.

use crate::tools::{build, is_root, quietly, root, say};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

/// The columns, as the suite calls them.
const INITS: [&str; 6] =
    ["bookend", "bookend-as-tini", "bookend-as-dumb-init", "tini", "dumb-init", "catatonit"];

pub(crate) fn run() -> Result<()> {
    if !is_root() {
        bail!("needs root, for PID namespaces");
    }
    let binary = build()?;
    say("Every case on every init; a peer that hangs is given ten seconds (some minutes)");
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(root())
        .args(["test", "--quiet", "--test", "suite", "--", "conformance::", "--include-ignored"])
        .args(["--test-threads", "2"])
        .env("BOOKEND_TEST_BINARY", binary)
        .stderr(Stdio::null())
        .output()
        .context("cargo test")?;
    // Peers fail some: the exit code says nothing here, the lines do.
    let results = read(&String::from_utf8_lossy(&output.stdout));
    if results.is_empty() {
        bail!("the suite said nothing that is a result");
    }
    let text = page(&results, &versions());
    let path = root().join("docs/conformance.md");
    std::fs::write(&path, &text)?;
    println!("{text}");
    say(&format!("Written to {}", path.display()));
    let failed: Vec<String> = results
        .iter()
        .flat_map(|(case, inits)| inits.iter().map(move |(init, passed)| (case, init, passed)))
        .filter(|(_, init, passed)| init.starts_with("bookend") && !**passed)
        .map(|(case, init, _)| format!("{init} fails {case}"))
        .collect();
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join(", ")) }
}

/// Case, init, passed: from lines like `test conformance::tini::a1_x ... ok`.
type Results = BTreeMap<String, BTreeMap<String, bool>>;

fn read(output: &str) -> Results {
    let mut results = Results::new();
    for line in output.lines() {
        let Some((name, result)) =
            line.strip_prefix("test conformance::").and_then(|rest| rest.split_once(" ... "))
        else {
            continue;
        };
        let Some((init, case)) = name.trim().split_once("::") else { continue };
        if case.contains("(SKIPPED") {
            continue;
        }
        results.entry(case.trim().to_owned()).or_default().insert(init.to_owned(), result.trim() == "ok");
    }
    results
}

/// What the peers are, by Debian's packages.
fn versions() -> String {
    let version = |package: &str| {
        quietly(Command::new("dpkg-query").args(["-W", "-f", "${Version}", package]))
            .map_or_else(|_| "not installed".to_owned(), |version| version.trim().to_owned())
    };
    ["tini", "dumb-init", "catatonit"].map(|name| format!("{name} {}", version(name))).join(", ")
}

fn page(results: &Results, versions: &str) -> String {
    let mut cases: Vec<&String> = results.keys().collect();
    // a2 before a10.
    let order = |case: &str| {
        let number = case.split('_').next().unwrap_or_default();
        let (letter, digits) = number.split_at(number.len().min(1));
        (letter.to_owned(), digits.parse().unwrap_or(0_u32))
    };
    cases.sort_by_key(|case| order(case));
    let mut text = format!(
        "# Conformance\n\n\
        Made by `cargo xtask conformance`: each case is a test of the suite\n\
        (`tests/suite/conformance`), run as a real PID 1 on bookend, on bookend by its\n\
        other names, and on Debian's packages ({versions}).\n\n\
        ✓ passes, ✗ fails (or hangs, or fails at times), – promises otherwise: tini and\n\
        dumb-init by design leave leftovers to the kernel, for example, and so do we under\n\
        their names.\n\n\
        | case | {} |\n|---|{}\n",
        INITS.join(" | "),
        "---|".repeat(INITS.len())
    );
    for case in cases {
        let (number, name) = case.split_once('_').unwrap_or((case, ""));
        let cells = INITS.map(|init| match results.get(case).and_then(|inits| inits.get(init)) {
            Some(true) => "✓",
            Some(false) => "✗",
            None => "–",
        });
        text.push_str(&format!(
            "| {} {} | {} |\n",
            number.to_uppercase(),
            name.replace('_', " "),
            cells.join(" | ")
        ));
    }
    text
}
