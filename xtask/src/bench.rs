//! `cargo xtask bench`: what bookend costs, beside tini and jcmd, in one run.
//!
//! Figures of one machine at one moment: read the ratios.

use crate::java;
use crate::tools::{build, is_root, need, quietly, say, target};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Starts of each program, in turns.
const STARTS: usize = 300;
/// Dumps of each kind, in turns.
const DUMPS: usize = 5;

pub(crate) fn run() -> Result<()> {
    if !is_root() {
        bail!("needs root, for PID namespaces");
    }
    let bookend = build()?;
    let tini = need("tini-static", "tini")?;
    // Pages of a file that was just written count as dirty in whoever maps it.
    quietly(&mut Command::new("sync"))?;
    println!("machine: {}", quietly(Command::new("uname").args(["-srm"]))?.trim());
    println!("\nfile size");
    for (name, path) in [("bookend", &bookend), ("tini-static", &tini)] {
        println!("  {name:34} {:>10} bytes", path.metadata()?.len());
    }
    idle(&bookend, &tini)?;
    start(&bookend, &tini)?;
    dumps(&bookend)
}

/// Resident and private memory, threads and wake-ups of an init whose child sleeps.
fn idle(bookend: &Path, tini: &Path) -> Result<()> {
    println!("\nidle, its child sleeping          resident  private dirty  threads  wake-ups in 5 s");
    let folder = target().join("bench");
    std::fs::create_dir_all(&folder)?;
    let with_hooks = folder.join("hooks.toml");
    std::fs::write(&with_hooks, "[stop]\ngrace = \"30s\"\n[[hook]]\nname = \"a\"\ncommand = [\"true\"]\n")?;
    let with_agent = folder.join("agent.toml");
    let rule = "[[rule]]\nname = \"a\"\non = \"stop\"\ncapture = [\"threads\"]\n";
    let store = format!("[store]\nurl = \"file://{}/store\"\n", folder.display());
    std::fs::write(&with_agent, format!("[stop]\ngrace = \"30s\"\n{rule}{store}"))?;
    let text = |path: &Path| path.display().to_string();
    let cases: [(&str, Vec<String>); 4] = [
        ("tini-static", vec![text(tini), "--".to_owned()]),
        ("bookend, no configuration", vec![text(bookend), "run".to_owned(), "--".to_owned()]),
        (
            "bookend, hooks",
            vec![text(bookend), "run".into(), "--config".into(), text(&with_hooks), "--".into()],
        ),
        (
            "bookend, hooks and agent",
            vec![text(bookend), "run".into(), "--config".into(), text(&with_agent), "--".into()],
        ),
    ];
    for (name, command) in cases {
        let run = Namespace::start(&command, &["sleep", "600"])?;
        let init = run.init()?;
        run.wait_for("sleep")?;
        print(name, init)?;
        if name.ends_with("agent") {
            print("  its agent (no JVM to attach to)", run.wait_for("bookend agent")?)?;
        }
    }
    Ok(())
}

fn print(name: &str, pid: u32) -> Result<()> {
    // What is done at start is over by then.
    std::thread::park_timeout(Duration::from_secs(1));
    let before = field(pid, "status", "voluntary_ctxt_switches:")?;
    std::thread::park_timeout(Duration::from_secs(5));
    let after = field(pid, "status", "voluntary_ctxt_switches:")?;
    println!(
        "  {name:32} {:>7} kB {:>11} kB {:>8} {:>16}",
        field(pid, "status", "VmRSS:")?,
        field(pid, "smaps_rollup", "Private_Dirty:")?,
        field(pid, "status", "Threads:")?,
        after - before
    );
    Ok(())
}

fn field(pid: u32, file: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    line.split_whitespace()
        .next()
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("no {name}"))
}

/// From exec of the init to its end, around `true`, in turns.
fn start(bookend: &Path, tini: &Path) -> Result<()> {
    let once = |command: &mut Command| -> Result<Duration> {
        command.env("BOOKEND_CONFIG", "").stdin(Stdio::null());
        let begun = Instant::now();
        let status = command.status()?;
        let took = begun.elapsed();
        if status.success() { Ok(took) } else { bail!("it failed") }
    };
    let (mut ours, mut theirs, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        ours.push(once(Command::new(bookend).args(["run", "--", "/bin/true"]))?);
        theirs.push(once(Command::new(tini).args(["-s", "--", "/bin/true"]))?);
        bare.push(once(&mut Command::new("/bin/true"))?);
    }
    println!("\nstart, run `true` and end, {STARTS} times in turns (median)");
    let [ours, theirs, bare] = [ours, theirs, bare].map(|times| median(times).as_secs_f64() * 1e3);
    println!("  /bin/true alone                  {bare:>8.3} ms");
    println!("  tini-static                      {theirs:>8.3} ms");
    println!("  bookend                          {ours:>8.3} ms   {:.2} x tini", ours / theirs);
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// A thread dump and a heap dump of one JVM, by bookend and by jcmd, in turns.
fn dumps(bookend: &Path) -> Result<()> {
    let kit = java::development_kit()?;
    let classes = java::classes()?;
    let folder = target().join("bench");
    say("Starting a JVM with 512 MiB of live heap");
    let mut service = Command::new(kit.join("bin/java"))
        .args(["-Xmx1g", "-cp"])
        .arg(classes)
        .args(["SickService", "--port=0", "--bind=127.0.0.1", "--heap=512m"])
        .stdout(Stdio::piped())
        .spawn()?;
    let result = (|| {
        let mut line = String::new();
        let output = service.stdout.take().context("no output")?;
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line)?;
        let pid = service.id().to_string();
        let jcmd = kit.join("bin/jcmd");
        let heap = folder.join("jcmd.hprof");
        let ours_to = folder.join("ours");
        let (mut ours, mut theirs) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for _ in 0..DUMPS {
            let timed = |command: &mut Command| -> Result<Duration> {
                // Each finds the same disk: nothing to write back, no file of the other's.
                drop(std::fs::remove_dir_all(&ours_to));
                drop(std::fs::remove_file(&heap));
                std::fs::create_dir_all(&ours_to)?;
                quietly(&mut Command::new("sync"))?;
                let begun = Instant::now();
                quietly(command)?;
                Ok(begun.elapsed())
            };
            theirs[0].push(timed(Command::new(&jcmd).args([&pid, "Thread.print", "-l"]))?);
            ours[0].push(timed(Command::new(bookend).args(["dump", "threads", "--pid", &pid, "--to", "-"]))?);
            theirs[1].push(timed(Command::new(&jcmd).args([&pid, "GC.heap_dump", "-all"]).arg(&heap))?);
            ours[1].push(timed(
                Command::new(bookend).args(["dump", "heap", "--pid", &pid, "--to"]).arg(&ours_to),
            )?);
        }
        println!("\ndumps of a JVM with 512 MiB of live heap, {DUMPS} times in turns (median)");
        let size = ours_to.join("heap.hprof").metadata()?.len();
        for (index, name) in
            ["thread dump".to_owned(), format!("heap dump ({} MB)", size / 1_000_000)].iter().enumerate()
        {
            let [ours, theirs] = [&ours, &theirs].map(|times| times.get(index).cloned().unwrap_or_default());
            let [ours, theirs] = [ours, theirs].map(|times| median(times).as_secs_f64());
            println!(
                "  {name:24} jcmd {theirs:>7.3} s   bookend {ours:>7.3} s   {:.2} x jcmd",
                ours / theirs
            );
        }
        drop(std::fs::remove_file(heap));
        drop(std::fs::remove_dir_all(ours_to));
        Ok(())
    })();
    drop(service.kill());
    drop(service.wait());
    result
}

/// An init as PID 1.
struct Namespace(Child);

impl Namespace {
    fn start(init: &[String], child: &[&str]) -> Result<Self> {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).args(init).args(child);
        command.env("BOOKEND_CONFIG", "").stdin(Stdio::null()).stderr(Stdio::null());
        Ok(Self(command.spawn()?))
    }

    fn init(&self) -> Result<u32> {
        poll(|| children(self.0.id()).first().copied())
    }

    /// The pid of the init's child with that word in its command line.
    fn wait_for(&self, word: &str) -> Result<u32> {
        let init = self.init()?;
        poll(|| {
            children(init).into_iter().find(|pid| {
                let line = std::fs::read(PathBuf::from(format!("/proc/{pid}/cmdline"))).unwrap_or_default();
                String::from_utf8_lossy(&line).contains(word)
            })
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|number| number.parse().ok()).collect()
}

fn poll<T>(mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if begun.elapsed() > Duration::from_secs(20) {
            bail!("it did not start");
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
}
