//! Running other programs, and telling people what is going on.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// Where everything that is made goes.
pub(crate) fn target() -> PathBuf {
    root().join("target")
}

/// One line about what is done next.
pub(crate) fn say(text: &str) {
    eprintln!("==> {text}");
}

/// Runs a program to its end, its output shown.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// Runs a program to its end; what it says is shown only if it fails.
pub(crate) fn quietly(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{shown}`"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("`{shown}` failed: {}\n{said}{complaint}", output.status);
    }
    Ok(said)
}

fn show(command: &Command) -> String {
    let parts: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect();
    parts.join(" ")
}

/// Says what is done, does it, and says how long it took.
pub(crate) fn step<T>(text: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    say(text);
    let begun = Instant::now();
    let result = work().with_context(|| text.to_owned())?;
    if begun.elapsed().as_secs() >= 2 {
        eprintln!("    done in {:.1} s", begun.elapsed().as_secs_f64());
    }
    Ok(result)
}

/// The program of that name in PATH.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}

pub(crate) fn is_root() -> bool {
    quietly(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

/// Installs Debian packages where that is possible: as root, with apt.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    if !is_root() || find("apt-get").is_none() {
        bail!("cannot install {}: needs root and apt; install them and try again", packages.join(" "));
    }
    step(&format!("Installing {} (Debian packages)", packages.join(" ")), || {
        let apt = || {
            let mut command = Command::new("apt-get");
            command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1").args([
                "-qq",
                "-o",
                "DPkg::Lock::Timeout=600",
            ]);
            command
        };
        let mut attempt = quietly(apt().args(["-y", "--no-install-recommends", "install"]).args(packages));
        if attempt.is_err() {
            quietly(apt().arg("update"))?;
            attempt = quietly(apt().args(["-y", "--no-install-recommends", "install"]).args(packages));
        }
        attempt.map(drop)
    })
}

/// A program by name, installed from `package` if it is not there.
pub(crate) fn need(name: &str, package: &str) -> Result<PathBuf> {
    if let Some(path) = find(name) {
        return Ok(path);
    }
    install(&[package])?;
    find(name).with_context(|| format!("{package} was installed, but there is no `{name}` in PATH"))
}

/// Builds bookend as it is shipped; its path.
pub(crate) fn build() -> Result<PathBuf> {
    step("Building bookend (cargo build --release; minutes the first time)", || {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        run(Command::new(cargo).args(["build", "--release", "--quiet"]).current_dir(root()))
    })?;
    binary("release")
}

/// The binary of a profile. This program lies beside it: target/TRIPLE/debug/xtask.
pub(crate) fn binary(profile: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find out where this program is")?;
    let triple = own.parent().and_then(Path::parent).context("an unexpected place for this program")?;
    let path = triple.join(profile).join("bookend");
    if !path.is_file() {
        bail!("there is no {}", path.display());
    }
    Ok(path)
}

/// When, of what and on what a page of figures was made.
pub(crate) fn made_on() -> String {
    let said = |command: &mut Command| quietly(command).unwrap_or_default().trim().to_owned();
    let date = said(Command::new("date").args(["-u", "+%Y-%m-%d"]));
    let machine =
        said(Command::new("sh").args([
            "-c",
            "echo \"$(nproc) CPUs, $(free -g | awk '/^Mem/ {print $2}') GB, Linux $(uname -r)\"",
        ]));
    let commit = said(Command::new("git").current_dir(root()).args(["rev-parse", "--short", "HEAD"]));
    format!("on {date}, at {commit}, on a shared machine with {machine}")
}
