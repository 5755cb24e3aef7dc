//! `hprof-slurp`: a reader of heap dumps that others wrote, built from crates.io.

use crate::tools::{quietly, step, target};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

const RELEASE: &str = "0.10.0";

/// The program, built if it is not here yet.
pub(crate) fn program() -> Result<PathBuf> {
    let root = target().join(format!("tools/hprof-slurp-{RELEASE}"));
    let program = root.join("bin/hprof-slurp");
    if !program.is_file() {
        step("Building hprof-slurp from crates.io (a minute or two)", || {
            let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            command.args(["install", "--quiet", "--locked", "--version", RELEASE, "hprof-slurp", "--root"]);
            quietly(command.arg(&root).current_dir(target()))
        })?;
    }
    Ok(program)
}
