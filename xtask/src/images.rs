//! Images from a local root file system; nothing is pulled.

use crate::engine::Engine;
use crate::java;
use crate::tools::{find, install, quietly, step, target};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

const DEBIAN: &str = "bookend-test/debian";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The image that compiles.
pub(crate) const JDK: &str = "bookend-test/jdk";

/// The image that runs that line of Java.
pub(crate) fn jre(version: u32) -> String {
    format!("bookend-test/jre:{version}")
}

/// Makes what is not there yet: Debian, a JRE of each line, a JDK.
pub(crate) fn make(engine: &Engine) -> Result<()> {
    if !exists(engine, DEBIAN) {
        let archive = root_file_system()?;
        step("Importing it as an image", || {
            let changes = ["--change", "CMD [\"/bin/bash\"]", "--change", &format!("ENV PATH={PATH}")];
            quietly(engine.command().arg("import").args(changes).arg(archive).arg(DEBIAN)).map(drop)
        })?;
    }
    for version in java::versions() {
        if !exists(engine, &jre(version)) {
            let home = java::home(version)?;
            step(&format!("Making an image with Java {version}"), || {
                with_java(engine, &home, &jre(version))
            })?;
        }
    }
    if !exists(engine, JDK) {
        let kit = java::development_kit()?;
        step("Making an image with javac", || with_java(engine, &kit, JDK))?;
    }
    Ok(())
}

fn exists(engine: &Engine, image: &str) -> bool {
    quietly(engine.command().args(["image", "inspect", image])).is_ok()
}

/// A minimal Debian as an archive, made once.
fn root_file_system() -> Result<PathBuf> {
    let folder = target().join("images");
    let archive = folder.join("debian.tar");
    if archive.is_file() {
        return Ok(archive);
    }
    std::fs::create_dir_all(&folder)?;
    step("Making a minimal Debian (debootstrap, half a minute)", || {
        let root = folder.join("debian");
        drop(std::fs::remove_dir_all(&root));
        if find("debootstrap").is_none() && !Path::new("/usr/sbin/debootstrap").is_file() {
            install(&["debootstrap"])?;
        }
        // The archive is the one that this machine's apt uses by default.
        quietly(
            Command::new("unshare")
                .args(["--mount", "debootstrap", "--variant=minbase", "bookworm"])
                .arg(&root),
        )?;
        let left_out =
            ["./proc/*", "./sys/*", "./dev/*", "./run/*", "./tmp/*", "./debootstrap", "./var/cache/apt/*"];
        let more =
            ["./var/lib/apt/lists/*", "./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*"];
        let unfinished = folder.join("debian.tar.unfinished");
        quietly(
            Command::new("tar")
                .arg("-C")
                .arg(&root)
                .args(["--numeric-owner", "--one-file-system"])
                .args(left_out.iter().chain(&more).map(|pattern| format!("--exclude={pattern}")))
                .arg("-cf")
                .arg(&unfinished)
                .arg("."),
        )?;
        std::fs::rename(&unfinished, &archive)?;
        std::fs::remove_dir_all(&root).context("cannot remove the root file system")
    })?;
    Ok(archive)
}

/// Copies a Java home, links followed, into an image on top of Debian.
fn with_java(engine: &Engine, home: &Path, image: &str) -> Result<()> {
    let context = target().join("images/context");
    drop(std::fs::remove_dir_all(&context));
    let copy = context.join("java");
    std::fs::create_dir_all(&copy)?;
    let left_out = ["./docs", "./man", "./jmods", "./lib/src.zip", "./legal", "./demo"];
    let exclude: Vec<String> = left_out.iter().map(|name| format!("--exclude={name}")).collect();
    let script = "tar -C \"$1\" --dereference --ignore-failed-read \"${@:3}\" -cf - . 2>/dev/null | tar -C \"$2\" -xf -";
    quietly(Command::new("bash").args(["-c", script, "bash"]).arg(home).arg(&copy).args(exclude))?;
    quietly(Command::new("chmod").args(["-R", "a+rX"]).arg(&copy))?;
    let recipe =
        format!("FROM {DEBIAN}\nCOPY java /opt/java\nENV JAVA_HOME=/opt/java PATH=/opt/java/bin:{PATH}\n");
    std::fs::write(context.join("Dockerfile"), recipe)?;
    quietly(engine.command().args(["build", "--quiet", "--network=none", "--tag", image]).arg(&context))?;
    std::fs::remove_dir_all(&context)?;
    Ok(())
}
