//! A Docker engine: the one that answers, or a private one.
//!
//! The private one leaves nothing behind: it lives in a PID, mount and network
//! namespace of its own that dies with this program, and keeps everything in one
//! folder. Its bridges and packet filters are in there too.

use crate::tools::{find, install, is_root, quietly, say, step, target};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long dockerd may take to answer; it needs a second.
const PATIENCE: Duration = Duration::from_mins(1);

/// An engine that answers.
#[derive(Debug)]
pub(crate) struct Engine {
    client: PathBuf,
    private: Option<Private>,
}

#[derive(Debug)]
struct Private {
    folder: PathBuf,
    process: Child,
    control_group: String,
}

impl Engine {
    /// The engine that answers here already.
    pub(crate) fn existing() -> Option<Self> {
        let client = find("docker")?;
        let answers =
            quietly(Command::new(&client).args(["version", "--format", "{{.Server.Version}}"])).ok()?;
        say(&format!("Using the Docker engine that answers here ({})", answers.trim()));
        Some(Self { client, private: None })
    }

    /// That one, or a private one made from Debian's `docker.io`.
    /// `docker run --init` of a private one uses `init`.
    pub(crate) fn find_or_start(init: &Path) -> Result<Self> {
        if let Some(engine) = Self::existing() {
            return Ok(engine);
        }
        if !is_root() {
            bail!("no Docker engine answers, and only root can start one");
        }
        // tini-static is the other init that the tests run bookend below.
        let programs = ["dockerd", "docker-init", "iptables", "ip", "debootstrap", "tini-static"];
        if !programs.iter().all(|name| find(name).is_some() || sbin(name).is_some()) {
            install(&["docker.io", "debootstrap", "iptables", "iproute2", "tini"])?;
        }
        step("Starting a private Docker engine", || Self::start(init))
    }

    fn start(init: &Path) -> Result<Self> {
        // Socket paths are short (108 bytes), so not below the checkout.
        let folder = PathBuf::from(format!("/tmp/bookend-engine-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        // The images are kept between runs.
        let data = target().join("engine");
        std::fs::create_dir_all(&data)?;
        let settings = format!("{{\"deprecated-key-path\":\"{}/key.json\"}}\n", folder.display());
        std::fs::write(folder.join("daemon.json"), settings)?;
        // By its name it knows what it is to be.
        let docker_init = folder.join("docker-init");
        std::fs::copy(init, &docker_init)?;
        let control_group = format!("/bookend-test-{}", std::process::id());
        let log = std::fs::File::create(folder.join("dockerd.log"))?;
        let process = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "unshare",
                "--net",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ])
            // A private /run: dockerd would use a containerd that is there already.
            .args([
                "sh",
                "-c",
                "mount -t tmpfs -o mode=755 none /run && ip link set lo up && exec docker-init -- \"$@\"",
                "sh",
                "dockerd",
            ])
            .arg(format!("--config-file={}/daemon.json", folder.display()))
            .arg(format!("--data-root={}", data.display()))
            .arg(format!("--exec-root={}/run", folder.display()))
            .arg(format!("--pidfile={}/dockerd.pid", folder.display()))
            .arg(format!("--host=unix://{}/docker.sock", folder.display()))
            .arg(format!("--cgroup-parent={control_group}"))
            .args(["--group=root", "--storage-driver=overlay2", "--exec-opt=native.cgroupdriver=cgroupfs"])
            .arg(format!("--init-path={}", docker_init.display()))
            .arg("--shutdown-timeout=3")
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &folder)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start dockerd")?;
        // Debian's own client: it has the builder inside.
        let client = PathBuf::from("/usr/bin/docker");
        let mut engine = Self { client, private: Some(Private { folder, process, control_group }) };
        engine.wait()?;
        Ok(engine)
    }

    fn wait(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            if quietly(self.command().arg("version")).is_ok() {
                return Ok(());
            }
            let Some(private) = &mut self.private else { return Ok(()) };
            if begun.elapsed() > PATIENCE || private.process.try_wait()?.is_some() {
                let log = std::fs::read_to_string(private.folder.join("dockerd.log")).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let last = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n");
                bail!("the private Docker engine does not answer; its log ends:\n{last}");
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    /// The client, pointed at this engine.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.client);
        for (name, value) in self.environment() {
            command.env(name, value);
        }
        command
    }

    /// What the suite needs to reach it.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        // The classic builder: it needs no network and no front end.
        let mut variables = vec![("DOCKER_BUILDKIT", "0".to_owned())];
        if let Some(private) = &self.private {
            variables.push(("DOCKER_HOST", format!("unix://{}/docker.sock", private.folder.display())));
            variables.push(("BOOKEND_TEST_DOCKER_INIT", "ours".to_owned()));
            variables.push(("DOCKER_CONFIG", private.folder.join("client").display().to_string()));
        }
        variables
    }

    pub(crate) fn client(&self) -> &Path {
        &self.client
    }
}

fn sbin(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/sbin"].iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The client first: it needs the engine.
        if self.private.is_some()
            && let Ok(all) = quietly(self.command().args(["ps", "--all", "--quiet"]))
        {
            let ids: Vec<&str> = all.split_whitespace().collect();
            if !ids.is_empty() {
                drop(quietly(self.command().args(["rm", "--force", "--volumes"]).args(ids)));
            }
        }
        let Some(private) = &mut self.private else { return };
        // docker-init, its first child, passes TERM on to dockerd.
        let own = private.process.id();
        let children =
            std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        for child in children.split_whitespace() {
            drop(quietly(Command::new("kill").args(["-TERM", child])));
        }
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) && matches!(private.process.try_wait(), Ok(None)) {
            std::thread::park_timeout(Duration::from_millis(50));
        }
        drop(private.process.kill());
        drop(private.process.wait());
        remove_control_groups(&private.control_group);
        drop(std::fs::remove_dir_all(&private.folder));
    }
}

/// dockerd never removes the parent that it was given.
fn remove_control_groups(name: &str) {
    let Ok(hierarchies) = std::fs::read_dir("/sys/fs/cgroup") else { return };
    let mut folders: Vec<PathBuf> =
        hierarchies.flatten().map(|entry| entry.path().join(name.trim_start_matches('/'))).collect();
    folders.push(Path::new("/sys/fs/cgroup").join(name.trim_start_matches('/')));
    for folder in folders {
        if folder.is_dir() {
            drop(quietly(
                Command::new("find").arg(folder).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", "+"]),
            ));
        }
    }
}
