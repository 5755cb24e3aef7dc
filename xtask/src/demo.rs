//! `cargo xtask demo`: the main job, once, in front of your eyes.
//!
//! A service that falls ill runs under bookend as a real PID 1; it is broken
//! and stopped; its evidence is shown.

use crate::engine::Engine;
use crate::java;
use crate::tools::{build, find, is_root, quietly, root, say, step, target};
use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// Nothing in the demo takes longer unless it hangs.
const PATIENCE: Duration = Duration::from_mins(1);

/// The phases whose times are told: what is looked for in the output, and its name.
const PHASES: [(&str, &str); 7] = [
    ("main process started", "main process started"),
    ("sick-service: ready", "service ready"),
    ("stop requested", "stop signal received"),
    ("evidence captured", "evidence captured, stop signal passed on"),
    ("shutdown hook ends", "the service's own shutdown done"),
    ("evidence stored", "bundle stored, manifest written"),
    ("exit: ", "container ends"),
];

pub(crate) fn run() -> Result<()> {
    let binary = build()?;
    let folder = target().join("demo");
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder)?;
    if let Some(engine) = Engine::existing() {
        match in_container(&engine, &binary, &folder) {
            Ok(()) => return Ok(()),
            Err(error) => say(&format!("Not in a container, then: {error:#}")),
        }
    }
    in_namespace(&binary, &folder)
}

/// The configuration of the demo, its evidence in `store`.
fn configuration(folder: &Path, store: &str) -> Result<PathBuf> {
    let text = std::fs::read_to_string(root().join("examples/smallest.toml"))?;
    let text = text.replace("file:///var/lib/bookend", &format!("file://{store}"));
    let path = folder.join("bookend.toml");
    std::fs::write(&path, text + "\n[service]\nname = \"sick-service\"\n")?;
    Ok(path)
}

fn in_namespace(binary: &Path, folder: &Path) -> Result<()> {
    let java = java::any()?;
    let classes = java::classes()?;
    let evidence = folder.join("evidence");
    let config = configuration(folder, &evidence.display().to_string())?;
    let mut unshare = as_root()?;
    unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(binary);
    unshare.args(["run", "--config"]).arg(&config).arg("--").arg(java).args(["-Xmx256m", "-cp"]).arg(classes);
    unshare.args(["SickService", "--port=0", "--bind=127.0.0.1", "--heap=64m", "--shutdown=500ms"]);
    let show = Show::start(unshare, "bookend is PID 1 of a new PID namespace (unshare --pid)")?;
    let unshare = show.child.id();
    let text = show.wait_for("ready on port ")?;
    let port =
        text.split("ready on port ").nth(1).and_then(|rest| rest.split(',').next()).context("no port")?;
    let port: u16 = port.trim().parse().context("no port")?;
    show.wait_for("attached to the JVM")?;
    say("Breaking it: two threads deadlock, and its health check fails from now on");
    for path in ["/threads?count=10", "/deadlock", "/break"] {
        request(port, path)?;
    }
    say(&format!(
        "Its health check now says: {}",
        request(port, "/health")?.lines().last().unwrap_or_default()
    ));
    say("Stopping it, as an orchestrator would: SIGTERM to PID 1");
    let init = init_of(unshare)?;
    quietly(Command::new(if is_root() { "kill" } else { "/bin/kill" }).args(["-TERM", &init]))?;
    let (code, times) = show.finish()?;
    report(&evidence, code, &times)
}

/// The process that unshare started, below sudo or not.
fn init_of(outer: u32) -> Result<String> {
    let mut pid = outer.to_string();
    loop {
        let path = format!("/proc/{pid}/task/{pid}/children");
        let children = std::fs::read_to_string(path).unwrap_or_default();
        let child = children.split_whitespace().next().context("bookend is gone")?.to_owned();
        let line = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        let name =
            String::from_utf8_lossy(line.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
        pid = child;
        if name.ends_with("/bookend") {
            return Ok(pid);
        }
    }
}

/// `unshare`, with whatever lets us make a PID namespace here.
fn as_root() -> Result<Command> {
    if is_root() {
        return Ok(Command::new("unshare"));
    }
    let test = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "true"];
    if quietly(Command::new("unshare").args(test)).is_ok() {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user"]);
        return Ok(command);
    }
    if find("sudo").is_some() && quietly(Command::new("sudo").args(["--non-interactive", "true"])).is_ok() {
        let mut command = Command::new("sudo");
        command.args(["--non-interactive", "unshare"]);
        return Ok(command);
    }
    bail!("no way to make a PID namespace: be root, allow user namespaces, or start a Docker engine")
}

fn in_container(engine: &Engine, binary: &Path, folder: &Path) -> Result<()> {
    let evidence = folder.join("evidence");
    std::fs::create_dir_all(&evidence)?;
    std::fs::set_permissions(&evidence, std::fs::Permissions::from_mode(0o777))?;
    let binary = binary.strip_prefix(root()).context("the binary is not below the checkout")?;
    let mut build = engine.command();
    build
        .args(["build", "--quiet", "--tag", "bookend-demo", "--file", "Dockerfile.example"])
        .current_dir(root());
    build.arg("--build-arg").arg(format!("BINARY={}", binary.display()));
    for (name, argument) in [("BOOKEND_DEMO_BASE", "BASE"), ("BOOKEND_DEMO_JDK", "JDK")] {
        if let Ok(image) = std::env::var(name) {
            build.arg("--build-arg").arg(format!("{argument}={image}"));
        }
    }
    step("Building the image of Dockerfile.example (pulls its base image the first time)", || {
        quietly(build.arg("."))
    })?;
    let name = format!("bookend-demo-{}", std::process::id());
    let mut run = engine.command();
    run.args([
        "run",
        "--rm",
        "--name",
        &name,
        "--network",
        "none",
        "--env",
        "BOOKEND_SERVICE__NAME=sick-service",
    ]);
    if !is_root() {
        // The evidence is its owner's alone to read: let that be us.
        let [user, group] = ["-u", "-g"].map(|what| quietly(Command::new("id").arg(what)));
        run.arg(format!("--user={}:{}", user?.trim(), group?.trim()));
    }
    run.arg("--volume").arg(format!("{}:/var/lib/bookend", evidence.display())).arg("bookend-demo");
    let show = Show::start(run, "bookend is PID 1 of a container (docker run)")?;
    show.wait_for("ready on port ")?;
    show.wait_for("attached to the JVM")?;
    say("Breaking it: two threads deadlock, and its health check fails from now on");
    for path in ["/threads?count=10", "/deadlock", "/break"] {
        // From inside: the container has no network.
        let script = format!(
            "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3"
        );
        quietly(engine.command().args(["exec", &name, "bash", "-c", &script]))?;
    }
    say("Stopping it: docker stop");
    quietly(engine.command().args(["stop", "--time", "30", &name]))?;
    let (code, times) = show.finish()?;
    report(&evidence, code, &times)
}

/// A run whose output is shown, and whose phases are timed.
struct Show {
    child: Child,
    lines: Receiver<(Instant, String)>,
    begun: Instant,
    seen: std::cell::RefCell<Vec<(Instant, String)>>,
}

impl Show {
    fn start(mut command: Command, what: &str) -> Result<Self> {
        say(&format!("Starting the service: {what}"));
        command.env("BOOKEND_CONFIG", "");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let begun = Instant::now();
        let mut child = command.spawn().context("cannot start it")?;
        let (sender, lines) = channel();
        follow(child.stdout.take().context("no output")?, sender.clone());
        follow(child.stderr.take().context("no output")?, sender);
        Ok(Self { child, lines, begun, seen: std::cell::RefCell::default() })
    }

    fn wait_for(&self, text: &str) -> Result<String> {
        loop {
            if let Some((_, line)) = self.seen.borrow().iter().find(|(_, line)| line.contains(text)) {
                return Ok(line.clone());
            }
            let line = self.lines.recv_timeout(PATIENCE).with_context(|| format!("`{text}` never came"))?;
            self.seen.borrow_mut().push(line);
        }
    }

    /// Waits for the end: the exit code, and when each phase came.
    fn finish(mut self) -> Result<(i32, Vec<(&'static str, Duration)>)> {
        let status = self.child.wait()?;
        self.seen.borrow_mut().extend(self.lines.iter());
        let seen = self.seen.borrow();
        let times = PHASES.iter().filter_map(|(text, name)| {
            let (at, _) = seen.iter().find(|(_, line)| line.contains(text))?;
            Some((*name, at.duration_since(self.begun)))
        });
        let mut times: Vec<_> = times.collect();
        times.sort_by_key(|(_, at)| *at);
        Ok((status.code().unwrap_or(-1), times))
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        drop(self.child.kill());
    }
}

fn follow(stream: impl Read + Send + 'static, sender: Sender<(Instant, String)>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            eprintln!("    {line}");
            if sender.send((Instant::now(), line)).is_err() {
                return;
            }
        }
    });
}

fn request(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn report(evidence: &Path, code: i32, times: &[(&str, Duration)]) -> Result<()> {
    if code != 143 {
        bail!("the exit code is {code}, and the JVM's own for SIGTERM is 143");
    }
    let mut text = String::from("\nThe way of the container, in time:\n");
    for (name, at) in times {
        writeln!(text, "  {:7.2} s  {name}", at.as_secs_f64())?;
    }
    writeln!(text, "\nExit code {code}: the JVM's own, passed through.\n\nThe evidence:")?;
    let mut folder = evidence.to_path_buf();
    let mut depth = 0;
    loop {
        let mut entries: Vec<_> = std::fs::read_dir(&folder)?.flatten().collect();
        entries.retain(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
        entries.sort_by_key(std::fs::DirEntry::file_name);
        let Some(first) = entries.first() else { bail!("there is no evidence in {}", folder.display()) };
        if !first.file_type()?.is_dir() {
            for entry in &entries {
                let name = entry.file_name().to_string_lossy().into_owned();
                writeln!(text, "  {:depth$}{name:16} {:>12} bytes", "", entry.metadata()?.len())?;
            }
            break;
        }
        writeln!(text, "  {:depth$}{}/", "", first.file_name().to_string_lossy())?;
        depth += 2;
        folder = first.path();
    }
    writeln!(text, "\nOpen:")?;
    writeln!(text, "  {}   (what was saved, and what not, and why)", folder.join("manifest.json").display())?;
    writeln!(
        text,
        "  {}   (look for \"Found one Java-level deadlock\")",
        folder.join("threads-1.txt").display()
    )?;
    writeln!(
        text,
        "  {}   (zstd -d, then Eclipse MAT or VisualVM)",
        folder.join("heap.hprof.zst").display()
    )?;
    println!("{text}");
    Ok(())
}
