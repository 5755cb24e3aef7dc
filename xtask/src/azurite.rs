//! Azurite: Microsoft's own server that speaks Azure's blob protocol and checks signatures, from npm.

use crate::tools::{need, quietly, step, target};
use anyhow::{Result, bail};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const RELEASE: &str = "azurite@3.35.0";
const START_LIMIT: Duration = Duration::from_mins(1);

/// A running server that keeps nothing. Ends when dropped.
pub(crate) struct Azurite {
    child: Child,
    pub(crate) port: u16,
}

fn program() -> Result<PathBuf> {
    let folder = target().join("tools/azurite");
    let program = folder.join("node_modules/azurite/dist/src/blob/main.js");
    let whole = folder.join(".whole");
    if !whole.is_file() {
        let npm = need("npm", "npm")?;
        step("Bringing Azurite (180 MB) from npm", || {
            std::fs::create_dir_all(&folder)?;
            let options = ["install", "--silent", "--no-audit", "--no-fund", "--prefix"];
            quietly(Command::new(npm).args(options).arg(&folder).arg(RELEASE))?;
            std::fs::write(whole, RELEASE)?;
            Ok(())
        })?;
    }
    Ok(program)
}

impl Azurite {
    pub(crate) fn start() -> Result<Self> {
        let program = program()?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let child = Command::new(need("node", "nodejs")?)
            .arg(program)
            .args(["--silent", "--disableTelemetry", "--inMemoryPersistence", "--skipApiVersionCheck"])
            .args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let server = Self { child, port };
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if begun.elapsed() > START_LIMIT {
                bail!("Azurite did not start");
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
        Ok(server)
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
