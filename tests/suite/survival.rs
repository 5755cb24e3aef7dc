//! The survival table: every JVM, every collector, every sickness, whatever the grace:
//! the container ends before the orchestrator's SIGKILL, with all that the budget allowed.
//!
//! The rules are the defaults, the orchestrator is this test: it sends SIGTERM, and SIGKILL
//! when the grace is over. A selection in which every pair of values stands at least once runs
//! with the suite; `cargo xtask survival` runs all cells and keeps the table.

use crate::bundle::{self, Bundle};
use crate::health::free_port;
use crate::jvm::{VERSIONS, request, store};
use crate::scenario::{Running, Scenario, send};
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const COLLECTORS: [&str; 5] = ["Serial", "Parallel", "G1", "ZGC", "Shenandoah"];
const GRACES: [u64; 3] = [5, 10, 30];
const SICKNESSES: [Sickness; 7] = [
    Sickness::Unhealthy,
    Sickness::Failing,
    Sickness::Hung,
    Sickness::Deadlocked,
    Sickness::Leaking,
    Sickness::Crashing,
    Sickness::Stopped,
];
/// Live heap in MB.
const HEAPS: [u64; 2] = [64, 1024];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sickness {
    /// For ten seconds, then the stop.
    Unhealthy,
    /// The first failed probe, and the stop at once.
    Failing,
    /// No request is answered.
    Hung,
    Deadlocked,
    /// To the OutOfMemoryError, of which it dies.
    Leaking,
    /// A SIGSEGV in native code.
    Crashing,
    /// By SIGSTOP.
    Stopped,
}

impl Sickness {
    fn name(self) -> &'static str {
        match self {
            Self::Unhealthy => "unhealthy",
            Self::Failing => "failing",
            Self::Hung => "hung",
            Self::Deadlocked => "deadlocked",
            Self::Leaking => "leaking",
            Self::Crashing => "crashing",
            Self::Stopped => "stopped",
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    version: u32,
    collector: &'static str,
    grace: u64,
    sickness: Sickness,
    heap: u64,
}

impl Cell {
    fn name(&self) -> String {
        let Self { version, collector, grace, sickness, heap } = self;
        format!("survival::jdk{version}::{collector}::{grace}s::{}::{heap}m", sickness.name())
    }

    /// Its values by their places in the lists.
    fn values(&self) -> [usize; 5] {
        let at = |found: Option<usize>| found.unwrap_or(0);
        [
            at(VERSIONS.iter().position(|version| *version == self.version)),
            at(COLLECTORS.iter().position(|collector| *collector == self.collector)),
            at(GRACES.iter().position(|grace| *grace == self.grace)),
            at(SICKNESSES.iter().position(|sickness| *sickness == self.sickness)),
            at(HEAPS.iter().position(|heap| *heap == self.heap)),
        ]
    }
}

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let all = cells();
    // One that was noted already is done: what failed, or was cut short, can be run again.
    let is_open = |cell: &Cell| !noted(setup, cell).exists();
    let chosen = if setup.survival { all.into_iter().filter(is_open).collect() } else { pairwise(&all) };
    chosen
        .into_iter()
        .map(|cell| {
            let needs = [Need::Root, Need::Java(cell.version)];
            setup.trial(cell.name(), &needs, move |setup| survive(setup, cell))
        })
        .collect()
}

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for version in VERSIONS {
        for collector in COLLECTORS {
            for grace in GRACES {
                for sickness in SICKNESSES {
                    cells.extend(HEAPS.map(|heap| Cell { version, collector, grace, sickness, heap }));
                }
            }
        }
    }
    cells
}

/// Greedily: always the cell with the most pairs that no earlier one has.
fn pairwise(all: &[Cell]) -> Vec<Cell> {
    let pairs = |cell: &Cell| {
        let values = cell.values();
        (0..5).flat_map(move |one| (one + 1..5).map(move |two| (one, two, values[one], values[two])))
    };
    let mut open: std::collections::BTreeSet<_> = all.iter().flat_map(pairs).collect();
    let mut chosen = Vec::new();
    while !open.is_empty() {
        let count = |cell: &&Cell| pairs(cell).filter(|pair| open.contains(pair)).count();
        // The first of the best: the same selection in each run.
        let best = all.iter().rev().max_by_key(count).expect("there are cells");
        for pair in pairs(best) {
            open.remove(&pair);
        }
        chosen.push(*best);
    }
    chosen
}

fn start(setup: &Setup, cell: Cell, port: u16) -> Running {
    let scenario = Scenario::new(setup);
    let config = format!(
        "[service]\nname = \"sick\"\n[main]\nuser = \"1000:1000\"\noutput = {{ keep = \"256KiB\" }}\n\
         limits = {{ core = 0 }}\n[stop]\ngrace = \"{}s\"\n[jvm]\ndiagnostics = true\n\
         [health]\nhttp = \"http://127.0.0.1:{port}/health\"\ninterval = \"250ms\"\ntimeout = \"1s\"\n\
         [store]\nurl = \"file://{}\"\n",
        cell.grace,
        store(scenario.folder()).display()
    );
    let java = setup.java(cell.version).expect("the need was checked").display().to_string();
    let classes = setup.classes.as_ref().expect("the need was checked").display().to_string();
    let maximum = cell.heap * 3 / 2 + 192;
    let options = [
        "-XX:+UnlockExperimentalVMOptions".to_owned(),
        format!("-XX:+Use{}{}", cell.collector, if cell.collector == "ZGC" { "" } else { "GC" }),
        format!("-Xmx{maximum}m"),
        format!("-Xms{maximum}m"),
    ];
    let service = [
        "-cp".to_owned(),
        classes,
        "SickService".to_owned(),
        "--bind=127.0.0.1".to_owned(),
        format!("--port={port}"),
        format!("--heap={}m", cell.heap),
    ];
    // Its dumps are large: on the disk, as in a container, and not in a tmpfs.
    let running = scenario
        .config(&config)
        .temporary("size=4g")
        .command([java].into_iter().chain(options).chain(service))
        .start();
    running.wait_for("health: healthy");
    running.wait_for("attached to the JVM");
    running
}

fn survive(setup: &Setup, cell: Cell) -> Result<(), String> {
    let port = free_port();
    let running = start(setup, cell, port);
    match cell.sickness {
        Sickness::Unhealthy => {
            request(port, "/break");
            running.wait_for("health: unhealthy");
            // What the orchestrator takes to see it.
            std::thread::park_timeout(Duration::from_secs(10));
        }
        Sickness::Failing => drop(request(port, "/break")),
        Sickness::Hung => drop(request(port, "/hang")),
        Sickness::Deadlocked => {
            request(port, "/deadlock");
            request(port, "/break");
        }
        Sickness::Leaking => drop(request(port, &format!("/leak?rate={}m", cell.heap.max(256)))),
        Sickness::Crashing => drop(request(port, "/crash")),
        Sickness::Stopped => crate::scenario::freeze(running.descendant("SickService")),
    }
    let ends_itself = match cell.sickness {
        Sickness::Crashing => true,
        Sickness::Leaking => dies_of_its_leak(&running),
        _ => {
            running.wait_for("health: failing");
            false
        }
    };
    let init = running.init();
    let begun = Instant::now();
    let ended = if ends_itself {
        running.wait()
    } else {
        running.terminate();
        // The orchestrator, at the end of the grace; a pid that is gone gets nothing.
        let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let flag = std::sync::Arc::clone(&over);
        let grace = Duration::from_secs(cell.grace);
        let orchestrator = std::thread::spawn(move || {
            std::thread::park_timeout(grace);
            let is_late = !flag.load(std::sync::atomic::Ordering::Acquire);
            if is_late {
                send(init, 9);
            }
            is_late
        });
        let ended = running.wait();
        over.store(true, std::sync::atomic::Ordering::Release);
        orchestrator.thread().unpark();
        let is_late = orchestrator.join().map_err(|_| "the orchestrator panicked")?;
        assert!(!is_late, "SIGKILL at the end of the grace; output:\n{}", ended.output);
        ended
    };
    let took = begun.elapsed();
    let bundles = bundles(&store(&ended.folder));
    assert!(!bundles.is_empty(), "no evidence; output:\n{}", ended.output);
    assert!(bundles.iter().any(has_picture), "no picture of the threads: {bundles:#?}\n{}", ended.output);
    note(setup, cell, &bundles, ended.code, took);
    // Two hundred gigabytes of dumps are too many to keep.
    drop(std::fs::remove_dir_all(&ended.folder));
    Ok(())
}

/// Or it collects for minutes, as Shenandoah does, and is not well: then it is stopped as any
/// other, once the orchestrator has seen it.
fn dies_of_its_leak(running: &Running) -> bool {
    let ends = || running.output().contains("main process ended");
    let is_ill = || running.output().contains("health: unhealthy");
    crate::scenario::poll("it dies, or is ill", || (ends() || is_ill()).then_some(()));
    let seen = Instant::now();
    while !ends() && seen.elapsed() < Duration::from_secs(10) {
        std::thread::park_timeout(Duration::from_millis(50));
    }
    ends()
}

fn bundles(store: &std::path::Path) -> Vec<Bundle> {
    let bundles = bundle::all(store);
    for bundle in &bundles {
        for artifact in bundle.artifacts() {
            let named = artifact["file"].as_str().map(|file| bundle.folder.join(file));
            match named {
                Some(path) => {
                    let size = std::fs::metadata(&path).expect("a named artifact is there").len();
                    assert_eq!(artifact["bytes"].as_u64().unwrap_or(size), size, "{artifact}");
                }
                None => {
                    assert!(
                        artifact["reason"].is_string(),
                        "nothing is missing without a reason: {artifact}"
                    );
                }
            }
        }
    }
    bundles
}

/// What its threads did: asked, printed, in its own report, in its heap dump, or as the
/// kernel saw them while it lived.
fn has_picture(bundle: &Bundle) -> bool {
    bundle.artifacts().iter().filter_map(|artifact| artifact["file"].as_str()).any(|file| match file {
        "hs_err.log" | "heap-oom.hprof.zst" => true,
        "os.txt" | "os-without-answer.txt" => bundle.read(file).contains("=== threads: "),
        file => file.starts_with("threads"),
    })
}

fn noted(setup: &Setup, cell: &Cell) -> PathBuf {
    setup.root.join("target/survival").join(format!("{}.json", cell.name().replace("::", "-")))
}

/// For the table: what was captured, as letters, and how long the stop took.
fn note(setup: &Setup, cell: Cell, bundles: &[Bundle], code: i32, took: Duration) {
    let mut letters: Vec<char> = Vec::new();
    for artifact in bundles.iter().flat_map(Bundle::artifacts) {
        let letter = match artifact["artifact"].as_str() {
            Some("os") => 'o',
            Some("logs") => 'l',
            Some("crash") => 'c',
            Some("vm") => 'v',
            Some("threads") => 't',
            Some("histogram") => 'h',
            Some("jfr") => 'j',
            Some("heap") => 'd',
            _ => continue,
        };
        let is_whole = artifact["status"] == "complete";
        let letter = if is_whole { letter.to_ascii_uppercase() } else { letter };
        let other = if is_whole { letter.to_ascii_lowercase() } else { letter.to_ascii_uppercase() };
        if is_whole {
            letters.retain(|known| *known != other);
        }
        if !letters.contains(&letter) && (is_whole || !letters.contains(&other)) {
            letters.push(letter);
        }
    }
    let order = "oOlLcCvVtThHjJdD";
    letters.sort_by_key(|letter| order.find(*letter));
    let letters: String = letters.into_iter().collect();
    let line = serde_json::json!({
        "version": cell.version, "collector": cell.collector, "grace": cell.grace,
        "sickness": cell.sickness.name(), "heap": cell.heap, "captured": letters,
        "code": code, "milliseconds": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    });
    let path = noted(setup, &cell);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder for the table");
    std::fs::write(path, line.to_string()).expect("the cell is noted");
}
