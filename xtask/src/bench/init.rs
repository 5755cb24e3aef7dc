//! PID 1 beside its peers; writes `docs/performance.md`.
#![allow(
    clippy::indexing_slicing,
    reason = "tables whose rows stand a few lines above; a tool may fail loudly"
)]

use super::{Namespace, children, field};
use crate::tools::{binary, build, is_root, need, quietly, root, run as run_command, say, step, target};
use anyhow::{Context, Result, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Starts of each init, in turns.
const STARTS: usize = 500;
/// Signals to each, in turns.
const SIGNALS: usize = 2_000;
/// Stops of each, in turns: a life each.
const STOPS: usize = 200;
/// A life is left alone so long before its stop: start-up is another measure.
const SETTLED: Duration = Duration::from_millis(200);
/// Orphans that end while the init is stopped, in one burst; bursts in turns.
const ORPHANS: usize = 2_000;
const BURSTS: usize = 7;
/// TERMs at the first moment at which the init handles them, for each mode of ours.
const EARLY: usize = 1_000;
/// The same for a peer: one that loses many costs three seconds for each.
const EARLY_OF_PEERS: usize = 200;

/// One init as it is called.
struct Subject {
    name: String,
    words: Vec<String>,
}

impl Subject {
    fn new(name: &str, words: &[&str]) -> Self {
        Self { name: name.to_owned(), words: words.iter().map(|word| (*word).to_owned()).collect() }
    }
}

pub(super) fn run() -> Result<()> {
    if !is_root() {
        bail!("needs root, for PID namespaces");
    }
    let folder = target().join("bench");
    std::fs::create_dir_all(&folder)?;
    let bookend = build()?;
    let small = small_build()?;
    let child = child(&folder)?;
    let names = ["tini-static", "dumb-init", "catatonit"];
    let [tini, dumb_init, catatonit] =
        [need(names[0], "tini")?, need(names[1], "dumb-init")?, need(names[2], "catatonit")?];
    // Pages of a file that was just written count as dirty in whoever maps it.
    quietly(&mut Command::new("sync"))?;

    let text = |path: &Path| path.display().to_string();
    let plain = |name: &str, path: &Path| Subject::new(name, &[&text(path), "--"]);
    let ours = Subject::new("bookend", &[&text(&bookend), "run", "--"]);
    let peers = [plain(names[0], &tini), plain(names[1], &dumb_init), plain(names[2], &catatonit)];
    let all: Vec<&Subject> = std::iter::once(&ours).chain(&peers).collect();

    let mut page = head(&catatonit)?;
    let mut goals = Vec::new();
    sizes(&mut page, &mut goals, &bookend, &small, &tini)?;
    step("Memory and wake-ups (10 s each)", || memory(&mut page, &mut goals, &folder, &bookend, &all))?;
    step("Start and exit", || start_and_exit(&mut page, &mut goals, &all, &child))?;
    step("Signal latency", || latency(&mut page, &mut goals, &all, &child))?;
    step("Stop latency of a healthy service", || {
        stop_latency(&mut page, &mut goals, &folder, &bookend, &peers[0], &child)
    })?;
    step("Orphans reaped", || orphans(&mut page, &mut goals, &all, &child))?;
    step("Early TERMs (a minute or two)", || early_terms(&mut page, &mut goals, &folder, &bookend, &peers))?;

    let mut table = String::from("| | goal | measured |\n|---|---|---|\n");
    for goal in &goals {
        let mark = if goal.met { "✓" } else { "✗" };
        writeln!(table, "| {} | {} | {} {mark} |", goal.what, goal.wanted, goal.measured)?;
    }
    let page = page.replace("GOALS\n", &table);
    println!("{page}");
    let path = root().join("docs/performance.md");
    let notes = std::fs::read_to_string(&path)
        .ok()
        .and_then(|old| old.split_once(NOTES).map(|(_, notes)| notes.to_owned()));
    std::fs::write(&path, format!("{page}{NOTES}{}", notes.unwrap_or_else(|| "\n".to_owned())))?;
    say(&format!("Written to {}", path.display()));
    Ok(())
}

/// What stands below it is written by people, and kept.
const NOTES: &str = "\n## Notes\n";

struct Goal {
    what: String,
    wanted: String,
    measured: String,
    met: bool,
}

fn ratio(goals: &mut Vec<Goal>, what: &str, at_most: f64, measured: f64) {
    let (what, wanted) = (what.to_owned(), format!("≤ {at_most:.1}"));
    // Two digits are more than such a measurement is good for.
    let met = (measured * 100.0).round() / 100.0 <= at_most;
    goals.push(Goal { what, wanted, measured: format!("{measured:.2}"), met });
}

fn head(catatonit: &Path) -> Result<String> {
    let version = |package: &str| {
        quietly(Command::new("dpkg-query").args(["-W", "-f", "${Version}", package])).unwrap_or_default()
    };
    let machine = quietly(Command::new("uname").args(["-srm"]))?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let commit = quietly(Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(root()))?;
    let _there = catatonit.metadata()?;
    Ok(format!(
        "# Performance\n\n\
        Made by `cargo xtask bench init` in one run on one machine ({}, {processors} processors, commit {}):\n\
        read the ratios. Peers: Debian's tini {}, dumb-init {}, catatonit {}; tini is its\n\
        static build.\n\nGOALS\n",
        machine.trim(),
        commit.trim(),
        version("tini"),
        version("dumb-init"),
        version("catatonit")
    ))
}

/// bookend without its agent: no network, no evidence.
fn small_build() -> Result<PathBuf> {
    let folder = target().join("bench/no-agent");
    step("Building bookend --no-default-features (minutes the first time)", || {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(["build", "--release", "--quiet", "--no-default-features", "--target-dir"]);
        run_command(command.arg(&folder).current_dir(root()))
    })?;
    let triple = binary("release")?;
    let triple = triple.parent().and_then(Path::parent).and_then(Path::file_name).context("no target")?;
    Ok(folder.join(triple).join("release/bookend"))
}

/// The measuring child, by the C compiler that the linker is part of.
fn child(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("child");
    let source = root().join("xtask/src/bench/child.c");
    quietly(Command::new("cc").args(["-O2", "-static", "-o"]).arg(&path).arg(source))?;
    Ok(path)
}

fn sizes(page: &mut String, goals: &mut Vec<Goal>, full: &Path, small: &Path, tini: &Path) -> Result<()> {
    let size = |path: &Path| -> Result<u64> { Ok(path.metadata()?.len()) };
    let (full, small, tini) = (size(full)?, size(small)?, size(tini)?);
    writeln!(page, "## File size\n\n| | bytes |\n|---|---|")?;
    writeln!(
        page,
        "| bookend | {full} |\n| bookend, `--no-default-features` | {small} |\n| tini-static | {tini} |"
    )?;
    for (what, size, limit) in
        [("file size, everything in", full, 8.0), ("file size, `--no-default-features`", small, 2.5)]
    {
        #[expect(clippy::cast_precision_loss, reason = "a size in megabytes, to two digits")]
        let megabytes = size as f64 / 1e6;
        goals.push(Goal {
            what: what.to_owned(),
            wanted: format!("≤ {limit} MB"),
            measured: format!("{megabytes:.2} MB"),
            met: megabytes <= limit,
        });
    }
    Ok(())
}

fn memory(
    page: &mut String,
    goals: &mut Vec<Goal>,
    folder: &Path,
    bookend: &Path,
    all: &[&Subject],
) -> Result<()> {
    writeln!(page, "\n## Idle, its child sleeping\n")?;
    writeln!(page, "| | resident | private dirty | threads | wake-ups in 5 s |\n|---|---|---|---|---|")?;
    let hooks = "[stop]\ngrace = \"30s\"\n[[hook]]\nname = \"a\"\ncommand = [\"true\"]\n";
    let rules = format!(
        "{hooks}[[rule]]\nname = \"a\"\non = \"stop\"\ncapture = [\"threads\"]\n[store]\nurl = \"file://{}\"\n",
        folder.join("store").display()
    );
    let config = folder.join("rules.toml");
    std::fs::write(&config, rules)?;
    let (bookend, config) = (bookend.display().to_string(), config.display().to_string());
    let configured = Subject::new("bookend, hooks and rules", &[&bookend, "run", "--config", &config, "--"]);
    for subject in all.iter().copied().chain([&configured]) {
        let run = Namespace::start(&subject.words, &["sleep", "600"])?;
        let init = run.init()?;
        run.wait_for("sleep")?;
        let (resident, dirty, wake_ups) = idle(page, &subject.name, init)?;
        if subject.name == "bookend" {
            goals.push(Goal {
                what: "private dirty memory idle, no configuration".to_owned(),
                wanted: "≤ 300 kB".to_owned(),
                measured: format!("{dirty} kB"),
                met: dirty <= 300,
            });
        }
        if std::ptr::eq(subject, &raw const configured) {
            goals.push(Goal {
                what: "resident memory idle, supervisor, hooks and rules configured".to_owned(),
                wanted: "≤ 2 MB".to_owned(),
                measured: format!("{resident} kB"),
                met: resident <= 2_000,
            });
            goals.push(Goal {
                what: "wake-ups while idle, supervisor".to_owned(),
                wanted: "0".to_owned(),
                measured: format!("{wake_ups} in 5 s"),
                met: wake_ups == 0,
            });
            idle(page, "its agent, looking for a JVM", run.wait_for("bookend agent")?)?;
        }
    }
    Ok(())
}

fn idle(page: &mut String, name: &str, pid: u32) -> Result<(u64, u64, u64)> {
    // What is done at start is over by then.
    std::thread::park_timeout(Duration::from_secs(2));
    let switches = || field(pid, "status", "voluntary_ctxt_switches:");
    let before = switches()?;
    std::thread::park_timeout(Duration::from_secs(5));
    let wake_ups = switches()? - before;
    let resident = field(pid, "status", "VmRSS:")?;
    let dirty = field(pid, "smaps_rollup", "Private_Dirty:")?;
    let threads = field(pid, "status", "Threads:")?;
    writeln!(page, "| {name} | {resident} kB | {dirty} kB | {threads} | {wake_ups} |")?;
    Ok((resident, dirty, wake_ups))
}

fn now() -> Result<i64> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}

fn read_time(stream: &mut ChildStdout) -> Result<i64> {
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes).context("the measuring child said nothing")?;
    Ok(i64::from_ne_bytes(bytes))
}

/// Microseconds at that share of the sorted times.
#[expect(clippy::cast_precision_loss, reason = "microseconds, to a few digits")]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index from a share of 0 to 1"
)]
fn quantile(times: &mut [i64], share: f64) -> f64 {
    times.sort_unstable();
    let index = ((times.len().saturating_sub(1)) as f64 * share).round() as usize;
    times.get(index).map_or(f64::NAN, |time| *time as f64 / 1e3)
}

/// Not as PID 1: making a namespace would drown what is measured.
fn start_and_exit(page: &mut String, goals: &mut Vec<Goal>, all: &[&Subject], child: &Path) -> Result<()> {
    let mut times: Vec<[Vec<i64>; 2]> = all.iter().map(|_| [Vec::new(), Vec::new()]).collect();
    for _ in 0..STARTS {
        for (subject, [start, exit]) in all.iter().zip(&mut times) {
            let mut command = Command::new(&subject.words[0]);
            command.args(&subject.words[1..]).arg(child).arg("stamp");
            command.env("BOOKEND_CONFIG", "").env("TINI_SUBREAPER", "1").stdin(Stdio::null());
            let begun = now()?;
            let mut init = command.stdout(Stdio::piped()).spawn()?;
            let status = init.wait()?;
            let ended = now()?;
            let mut output = init.stdout.take().context("no output")?;
            start.push(read_time(&mut output)? - begun);
            exit.push(ended - read_time(&mut output)?);
            if !status.success() {
                bail!("{} ended with {status}", subject.name);
            }
        }
    }
    writeln!(page, "\n## Start and exit, {STARTS} times in turns, median\n")?;
    writeln!(page, "| | exec of init to main() | main's exit to init's |\n|---|---|---|")?;
    let mut medians = Vec::new();
    for (subject, [start, exit]) in all.iter().zip(&mut times) {
        let (start, exit) = (quantile(start, 0.5), quantile(exit, 0.5));
        writeln!(page, "| {} | {start:.0} µs | {exit:.0} µs |", subject.name)?;
        medians.push((start, exit));
    }
    let (ours, tini) = (medians[0], medians[1]);
    ratio(goals, "start (exec of init to main()), bookend / tini-static", 1.2, ours.0 / tini.0);
    ratio(goals, "exit (main's exit to init's), bookend / tini-static", 1.2, ours.1 / tini.1);
    Ok(())
}

/// An init that runs the measuring child, its output at hand.
struct Running {
    namespace: Child,
    init: Pid,
    child: Pid,
    output: ChildStdout,
}

impl Running {
    fn start(subject: &Subject, child: &[&str]) -> Result<Self> {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).args(&subject.words).args(child);
        command.env("BOOKEND_CONFIG", "").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut namespace = command.spawn()?;
        let mut output = namespace.stdout.take().context("no output")?;
        // Its first time: it is ready.
        read_time(&mut output)?;
        let only = |pid: u32| children(pid).first().copied().context("no child");
        let init = only(namespace.id())?;
        let child = only(init)?;
        let pid = |number: u32| -> Result<Pid> { Ok(Pid::from_raw(i32::try_from(number)?)) };
        Ok(Self { namespace, init: pid(init)?, child: pid(child)?, output })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.namespace.kill());
        drop(self.namespace.wait());
    }
}

fn latency(page: &mut String, goals: &mut Vec<Goal>, all: &[&Subject], child: &Path) -> Result<()> {
    let child = child.display().to_string();
    let mut running = all
        .iter()
        .map(|subject| Running::start(subject, &[&child, "signals"]))
        .collect::<Result<Vec<_>>>()?;
    writeln!(page, "\n## Signal latency, {SIGNALS} signals in turns: from `kill` to the child\n")?;
    writeln!(page, "| | SIGHUP p50 | p99 | SIGUSR1 p50 | p99 |\n|---|---|---|---|---|")?;
    let mut found = Vec::new();
    for signal in [Signal::SIGHUP, Signal::SIGUSR1] {
        let mut times: Vec<Vec<i64>> = all.iter().map(|_| Vec::new()).collect();
        for _ in 0..SIGNALS {
            for (run, times) in running.iter_mut().zip(&mut times) {
                let sent = now()?;
                kill(run.init, signal)?;
                times.push(read_time(&mut run.output)? - sent);
            }
        }
        let quantiles = |times: &mut Vec<i64>| (quantile(times, 0.5), quantile(times, 0.99));
        found.push(times.iter_mut().map(quantiles).collect::<Vec<_>>());
    }
    for ((subject, hup), usr1) in all.iter().zip(&found[0]).zip(&found[1]) {
        let cells = [hup.0, hup.1, usr1.0, usr1.1].map(|time| format!("{time:.1} µs"));
        writeln!(page, "| {} | {} |", subject.name, cells.join(" | "))?;
    }
    let (ours, tini) = (found[0][0], found[0][1]);
    ratio(goals, "signal latency p50 (SIGHUP), bookend / tini-static", 1.0, ours.0 / tini.0);
    ratio(goals, "signal latency p99 (SIGHUP), bookend / tini-static", 1.0, ours.1 / tini.1);
    Ok(())
}

/// With probes, default rules and a store, and nothing wrong: from `kill` to the service's
/// SIGTERM, beside tini.
fn stop_latency(
    page: &mut String,
    goals: &mut Vec<Goal>,
    folder: &Path,
    bookend: &Path,
    tini: &Subject,
    child: &Path,
) -> Result<()> {
    let config = folder.join("evidence.toml");
    let store = folder.join("store");
    std::fs::write(
        &config,
        format!("[health]\nexec = [\"true\"]\n[store]\nurl = \"file://{}\"\n", store.display()),
    )?;
    let (bookend, config) = (bookend.display().to_string(), config.display().to_string());
    let words = [bookend.as_str(), "run", "--log-level", "error", "--config", &config, "--"];
    let ours = Subject::new("bookend, probes and rules", &words);
    let child = child.display().to_string();
    writeln!(page, "\n## Stop of a healthy service, {STOPS} lives in turns: from `kill` to its SIGTERM\n")?;
    writeln!(page, "| | p10 | p50 | p90 |\n|---|---|---|---|")?;
    // On one processor what is seen is the init's own work; on all of them also where
    // the scheduler put its child, and how long an idle processor takes to wake.
    let everywhere = sched_getaffinity(Pid::from_raw(0))?;
    let mut first = CpuSet::new();
    first.set(
        (0..CpuSet::count()).find(|number| everywhere.is_set(*number) == Ok(true)).context("no processor")?,
    )?;
    for (place, processors) in [("one processor", first), ("all processors", everywhere)] {
        sched_setaffinity(Pid::from_raw(0), &processors)?;
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..STOPS {
            for (subject, times) in [&ours, tini].into_iter().zip(&mut times) {
                let mut run = Running::start(subject, &[&child, "signals"])?;
                std::thread::park_timeout(SETTLED);
                let sent = now()?;
                kill(run.init, Signal::SIGTERM)?;
                times.push(read_time(&mut run.output)? - sent);
            }
        }
        let [ours_found, tini_found] =
            times.each_mut().map(|times| [0.1, 0.5, 0.9].map(|q| quantile(times, q)));
        for (subject, found) in [(&ours, ours_found), (tini, tini_found)] {
            let cells = found.map(|time| format!("{time:.0} µs"));
            writeln!(page, "| {}, {place} | {} |", subject.name, cells.join(" | "))?;
        }
        let (later, noise) = (ours_found[1] - tini_found[1], tini_found[2] - tini_found[0]);
        goals.push(Goal {
            what: format!("stop of a healthy service with probes, rules and a store, later than with tini-static ({place})"),
            wanted: format!("≤ {noise:.0} µs, tini's own p10 to p90"),
            measured: format!("{later:.0} µs"),
            met: later <= noise,
        });
    }
    Ok(())
}

fn orphans(page: &mut String, goals: &mut Vec<Goal>, all: &[&Subject], child: &Path) -> Result<()> {
    let child = child.display().to_string();
    let count = ORPHANS.to_string();
    let mut times: Vec<Vec<i64>> = all.iter().map(|_| Vec::new()).collect();
    for _ in 0..BURSTS {
        for (subject, times) in all.iter().zip(&mut times) {
            let mut run = Running::start(subject, &[&child, "orphans", &count])?;
            // All end while nobody reaps; then the init goes on with all of them at once.
            kill(run.init, Signal::SIGSTOP)?;
            kill(run.child, Signal::SIGUSR1)?;
            read_time(&mut run.output)?;
            let init = u32::try_from(run.init.as_raw())?;
            wait_until(|| children(init).len() > ORPHANS, "all orphans are the init's")?;
            let begun = now()?;
            kill(run.init, Signal::SIGCONT)?;
            wait_until(|| children(init).len() == 1, "all orphans are reaped")?;
            times.push(now()? - begun);
        }
    }
    writeln!(page, "\n## Orphans: {ORPHANS} at once, {BURSTS} times in turns, median\n")?;
    writeln!(page, "| | reaped per second |\n|---|---|")?;
    let mut rates = Vec::new();
    for (subject, times) in all.iter().zip(&mut times) {
        #[expect(clippy::cast_precision_loss, reason = "a rate, to a few digits")]
        let rate = ORPHANS as f64 / (quantile(times, 0.5) / 1e6);
        writeln!(page, "| {} | {rate:.0} |", subject.name)?;
        rates.push(rate);
    }
    let best = rates[1..].iter().copied().fold(0.0, f64::max);
    let measured = rates[0] / best;
    goals.push(Goal {
        what: "orphans reaped per second, bookend / best of its peers".to_owned(),
        wanted: "≥ 1.0".to_owned(),
        measured: format!("{measured:.2}"),
        met: (measured * 100.0).round() >= 100.0,
    });
    Ok(())
}

fn wait_until(mut holds: impl FnMut() -> bool, what: &str) -> Result<()> {
    let begun = Instant::now();
    while !holds() {
        if begun.elapsed() > Duration::from_secs(30) {
            bail!("it never came that {what}");
        }
    }
    Ok(())
}

/// A TERM as soon as the init blocks or catches it, at offsets of up to 1 ms.
fn early_terms(
    page: &mut String,
    goals: &mut Vec<Goal>,
    folder: &Path,
    bookend: &Path,
    peers: &[Subject],
) -> Result<()> {
    let hook = folder.join("hook.toml");
    std::fs::write(&hook, "[[hook]]\nname = \"slow\"\ncommand = [\"sleep\", \"3\"]\n")?;
    let link = |name: &str| -> Result<String> {
        let link = folder.join(name);
        drop(std::fs::remove_file(&link));
        std::os::unix::fs::symlink(bookend, &link)?;
        Ok(link.display().to_string())
    };
    let (tini, dumb_init) = (link("tini")?, link("dumb-init")?);
    let (bookend, hook) = (bookend.display().to_string(), hook.display().to_string());
    let ours = [
        Subject::new("bookend", &[&bookend, "run", "--"]),
        Subject::new("bookend, in a hook", &[&bookend, "run", "--config", &hook, "--"]),
        Subject::new("bookend as tini", &[&tini, "--"]),
        Subject::new("bookend as tini -g", &[&tini, "-g", "--"]),
        Subject::new("bookend as dumb-init", &[&dumb_init, "--"]),
        Subject::new("bookend as dumb-init -c", &[&dumb_init, "-c", "--"]),
    ];
    writeln!(page, "\n## Early TERM\n\n| | lost |\n|---|---|")?;
    let mut lost_by_us = 0;
    for subject in ours.iter().chain(peers) {
        let mut lost = 0;
        let is_ours = subject.name.starts_with("bookend");
        let rounds = if is_ours { EARLY } else { EARLY_OF_PEERS };
        for round in 0..rounds {
            lost += u32::from(!early_term(subject, round).with_context(|| subject.name.clone())?);
        }
        writeln!(page, "| {} | {lost} of {rounds} |", subject.name)?;
        if is_ours {
            lost_by_us += lost;
        }
    }
    goals.push(Goal {
        what: format!("early TERM lost, {} modes", ours.len()),
        wanted: format!("0 of {EARLY} each"),
        measured: format!("{lost_by_us}"),
        met: lost_by_us == 0,
    });
    Ok(())
}

/// Whether it ended by the TERM, instead of running to its own end after 3 s.
fn early_term(subject: &Subject, round: usize) -> Result<bool> {
    let mut namespace = Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child"])
        .args(&subject.words)
        .args(["sleep", "3"])
        .env("BOOKEND_CONFIG", "")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let name = Path::new(&subject.words[0]).canonicalize()?;
    let mut init = 0;
    wait_until(
        || {
            init = children(namespace.id()).first().copied().unwrap_or(0);
            std::fs::read_link(format!("/proc/{init}/exe")).is_ok_and(|path| path == name)
                && handles_term(init)
        },
        "it handles TERM",
    )?;
    let offset = Duration::from_micros(u64::try_from(round % 20)? * 50);
    let begun = Instant::now();
    while begun.elapsed() < offset {
        std::hint::spin_loop();
    }
    // Gone already: it cannot be, with a child that sleeps.
    kill(Pid::from_raw(i32::try_from(init)?), Signal::SIGTERM)?;
    let status = namespace.wait()?;
    Ok(status.code() == Some(143) && begun.elapsed() < Duration::from_millis(2_500))
}

fn handles_term(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        u64::from_str_radix(line.trim(), 16).unwrap_or(0)
    };
    // Who waits in sigtimedwait(2) shows it as neither, and has a child then.
    (mask("SigBlk:") | mask("SigCgt:")) & (1 << 14) != 0 || !children(pid).is_empty()
}
