//! The rules of dependency, read from the sources (ARCHITECTURE.md).

use libtest_mimic::{Failed, Trial};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("architecture::rules_of_dependency", dependencies),
        Trial::test("architecture::no_two_modules_import_each_other", no_cycles),
        Trial::test("architecture::unsafe_only_in_sys", unsafe_only_in_sys),
        Trial::test("architecture::files_are_small", small_files),
    ]
}

/// What each module may import. `cli` and `main` may import everything.
const RULES: &[(&str, &[&str])] = &[
    ("units", &[]),
    ("exit", &["units"]),
    ("sys", &["units", "exit"]),
    ("config", &["units"]),
    ("facts", &["units", "sys"]),
    ("plan", &["units", "config", "facts"]),
    ("link", &["units", "sys"]),
    // Libraries: they know neither plan nor roles.
    ("jvm", &["units", "sys", "facts"]),
    ("hprof", &["units"]),
    ("net", &[]),
    ("probe", &["net", "units", "sys"]),
    ("evidence", &["hprof", "units"]),
    ("store", &["net", "units", "evidence"]),
    // The carrier: it understands nothing of what it carries.
    ("output", &["sys"]),
    ("compat", &["exit", "sys", "units"]),
    ("telemetry", &["config", "plan", "sys", "units"]),
    ("supervisor", &["config", "exit", "facts", "link", "output", "plan", "sys", "units"]),
    (
        "agent",
        &[
            "config", "evidence", "exit", "facts", "hprof", "jvm", "link", "net", "output", "plan", "probe",
            "store", "sys", "units",
        ],
    ),
];

/// One source file, test modules cut off.
struct Source {
    path: PathBuf,
    /// `supervisor/state/machine.rs`
    name: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the sources are there").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = std::fs::read_to_string(&path).expect("a source is UTF-8");
                let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
                let name = path.strip_prefix(&root).expect("below it").display().to_string();
                found.push(Source { path, name, text });
            }
        }
    }
    found
}

/// The top-level modules of this crate that a file names.
fn imports(source: &Source) -> Vec<String> {
    let code: String = source
        .text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let mut names = Vec::new();
    for part in code.split("crate::").skip(1) {
        let list: Vec<String> = match part.strip_prefix('{') {
            Some(rest) => {
                let mut depth = 0_i32;
                let mut name = String::new();
                let mut all = Vec::new();
                for character in rest.chars() {
                    match character {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => all.push(std::mem::take(&mut name)),
                        other if depth == 0 => name.push(other),
                        _ => {}
                    }
                }
                all.push(name);
                all
            }
            None => vec![part.to_owned()],
        };
        for item in list {
            let name: String =
                item.trim().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if !name.is_empty() {
                names.push(name);
            }
        }
    }
    names
}

fn module(source: &Source) -> String {
    source.name.split(['/', '.']).next().unwrap_or_default().to_owned()
}

fn dependencies() -> Result<(), Failed> {
    let mut wrong = Vec::new();
    for source in sources() {
        let module = module(&source);
        let allowed = RULES.iter().find(|(name, _)| *name == module).map(|(_, allowed)| *allowed);
        for import in imports(&source) {
            if import == "cli" && module != "cli" && module != "main" {
                wrong.push(format!("{} imports cli", source.name));
            }
            if import != module && allowed.is_some_and(|allowed| !allowed.contains(&import.as_str())) {
                wrong.push(format!("{} imports {import}", source.name));
            }
        }
        // The pure parts see no kernel and no runtime; of `sys` only plain types.
        let is_pure = ["supervisor/state/", "plan/"].iter().any(|part| source.name.starts_with(part))
            && !source.name.ends_with("tests.rs");
        if is_pure {
            for forbidden in ["tokio", "nix::", "std::fs", "std::env", "Instant", "SystemTime", "clock::"] {
                if source.text.contains(forbidden) {
                    wrong.push(format!("{} is pure and names {forbidden}", source.name));
                }
            }
        }
        let without_runtime = ["supervisor", "plan", "config", "facts", "sys", "link", "output", "units"];
        if without_runtime.contains(&module.as_str()) && source.text.contains("tokio") {
            wrong.push(format!("{} names tokio", source.name));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

fn no_cycles() -> Result<(), Failed> {
    let mut graph: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources() {
        graph.entry(module(&source)).or_default().extend(imports(&source));
    }
    let mut wrong = Vec::new();
    for (module, imports) in &graph {
        for other in imports {
            if module < other && graph.get(other).is_some_and(|back| back.contains(module)) {
                wrong.push(format!("{module} and {other} import each other"));
            }
        }
    }
    wrong.dedup();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

fn unsafe_only_in_sys() -> Result<(), Failed> {
    for source in sources() {
        let outside = !source.name.starts_with("sys/");
        let blocks = source.text.lines().filter(|line| {
            let line = line.trim_start();
            !line.starts_with("//") && line.contains("unsafe") && !line.contains("unsafe_code")
        });
        if outside && blocks.count() > 0 {
            return Err(format!("{} has unsafe code", source.path.display()).into());
        }
    }
    Ok(())
}

fn small_files() -> Result<(), Failed> {
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > 600 {
            return Err(format!("{} has {lines} lines: one subject each?", source.name).into());
        }
        if !source.text.starts_with("//!") {
            return Err(format!("{} does not say what it owns", source.name).into());
        }
    }
    Ok(())
}
