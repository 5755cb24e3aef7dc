//! Streamed dumps beside one that the JVM wrote to a file at the same moment, and read by a
//! program that others wrote: heaps of 64 MB, 1 GB and 4 GB.

use crate::bundle;
use crate::hprof::{self, Counts};
use crate::jvm::{VERSIONS, port, sick};
use crate::scenario::Scenario;
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;
use std::path::Path;
use std::process::Command;

/// Megabytes of live heap.
const HEAPS: [u32; 3] = [64, 1024, 4096];
/// The one of the largest that runs with all the others: it has the most to be put together.
const CHOSEN: u32 = 25;

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let mut trials = Vec::new();
    for version in VERSIONS {
        for heap in HEAPS {
            // Minutes and gigabytes: with the hunts, all of them if they are asked for by name.
            let is_chosen = match heap {
                64 => true,
                1024 => setup.hunts || setup.large,
                _ => setup.large || (setup.hunts && version == CHOSEN),
            };
            if is_chosen {
                let needs = &[Need::Root, Need::Java(version), Need::Slurp];
                let name = format!("large::{version}::{heap}m_streamed_is_what_a_file_has");
                trials.push(setup.trial(name, needs, move |setup| same(setup, version, heap)));
            }
        }
    }
    trials
}

fn same(setup: &Setup, version: u32, heap: u32) -> Result<(), String> {
    let scenario = Scenario::new(setup);
    let folder = scenario.folder().to_owned();
    let text = format!(
        "[service]\nname = \"sick\"\n[[rule]]\nname = \"by-hand\"\non = \"manual\"\ncapture = [\"heap\"]\n\
         [store]\nurl = \"file://{}/store\"\n",
        folder.display()
    );
    let most = format!("-Xmx{}m", heap * 3 / 2 + 200);
    let live = format!("--heap={heap}m");
    let running = scenario.config(&text).command(sick(setup, version, &[&most], &[&live])).start();
    running.wait_for("attached to the JVM");
    port(&running);
    let pid = running.descendant("SickService").to_string();
    let loaded_before = loaded(setup, &pid)?;
    let file = folder.join("file.hprof");
    let command = format!("GC.heap_dump -all {}", file.display());
    let answer = Command::new(&setup.binary)
        .args(["jcmd", "--timeout=10m", &pid, &command])
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&answer.stdout).into_owned();
    assert!(said.contains("Heap dump file created"), "{said}{}", String::from_utf8_lossy(&answer.stderr));
    let (code, said) = running.verb(setup, "root", &["dump", "all"]);
    assert_eq!(code, Some(0), "{said}");
    let loaded_between = loaded(setup, &pid)? - loaded_before;
    running.stop();
    let bundle = bundle::only(&folder.join("store"));
    assert_eq!(bundle.status("heap"), "complete", "{}", bundle.manifest);
    let streamed = folder.join("streamed.hprof");
    hprof::decompress(&bundle.folder.join(bundle.file("heap")), &streamed)?;
    let (streamed_has, file_has) = (hprof::walk(&streamed)?, hprof::walk(&file)?);
    assert!(streamed_has.ended && file_has.ended);
    // The JVM counts what it has loaded meanwhile: its HTTP server's timer may tick for the first time.
    let more = streamed_has.classes.checked_sub(file_has.classes).ok_or("classes are lost")?;
    assert!(more <= loaded_between, "{more} more classes, and {loaded_between} were loaded");
    // What ran between: a command, a request or two.
    let near =
        |of: fn(&Counts) -> u64| of(&streamed_has).abs_diff(of(&file_has)) <= of(&file_has) / 100 + 2000;
    assert!(
        near(|counts| counts.instances)
            && near(|counts| counts.object_arrays)
            && near(|counts| counts.primitive_arrays),
        "{streamed_has:?} {file_has:?}"
    );
    let (ours, theirs) = (slurped(setup, &streamed)?, slurped(setup, &file)?);
    assert_eq!(ours, theirs, "what hprof-slurp counts");
    Ok(())
}

/// How many classes the JVM has, by its own count: `Total = 4   495  2801664 ...`.
fn loaded(setup: &Setup, pid: &str) -> Result<u64, String> {
    let answer = Command::new(&setup.binary)
        .args(["jcmd", pid, "VM.classloader_stats"])
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&answer.stdout).into_owned();
    let total = said.lines().find_map(|line| line.strip_prefix("Total = "));
    let count = total.and_then(|total| total.split_whitespace().nth(1)?.parse().ok());
    count.ok_or_else(|| format!("no total in {said}"))
}

/// How many of the service's own objects the public reader counts.
fn slurped(setup: &Setup, dump: &Path) -> Result<Vec<String>, String> {
    let program = setup.hprof_slurp.as_ref().expect("the need was checked");
    let answer = Command::new(program)
        .args(["--filter", "SickService$", "--top", "100"])
        .arg(dump)
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&answer.stdout).into_owned();
    assert!(answer.status.success(), "{said}{}", String::from_utf8_lossy(&answer.stderr));
    let mut found: Vec<String> = said
        .lines()
        // Of its table: what stands above it has the share of the whole, in which other objects come and go.
        .filter(|line| line.contains("| SickService$"))
        .map(|line| line.trim().to_owned())
        .collect();
    assert!(found.iter().any(|line| line.contains("SickService$Order")), "{said}");
    found.sort();
    found.dedup();
    Ok(found)
}
