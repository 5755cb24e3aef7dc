//! Puts the commit and the target triple into `bookend --version`.

#![expect(clippy::disallowed_methods, reason = "a build script starts git; it is not the supervisor")]

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=BOOKEND_COMMIT");
    println!("cargo::rerun-if-changed=.git/HEAD");
    println!("cargo::rerun-if-changed=.git/logs/HEAD");
    let commit = std::env::var("BOOKEND_COMMIT").ok().or_else(commit_of_checkout);
    let commit = commit.unwrap_or_else(|| "unknown commit".to_owned());
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo::rustc-env=BOOKEND_COMMIT={commit}");
    println!("cargo::rustc-env=BOOKEND_TARGET={target}");
}

fn commit_of_checkout() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let commit = text.trim();
    (output.status.success() && !commit.is_empty()).then(|| commit.to_owned())
}
