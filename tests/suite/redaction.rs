//! Heap dumps by hand: what is taken out, what stays, what is counted.

use crate::bundle;
use crate::hprof;
use crate::jvm::{config, on_each_jvm, port, sick, store};
use crate::scenario::Scenario;
use crate::setup::Setup;
use libtest_mimic::Trial;
use std::path::Path;
use std::process::{Command, Output};

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    on_each_jvm(
        setup,
        "hprof",
        &[
            ("values_are_taken_out_and_the_structure_stays", redacted),
            ("values_are_taken_out_on_the_way_to_the_store", streamed),
            ("a_broken_dump_is_named", broken),
        ],
    )
}

type Outcome = Result<(), String>;

fn bookend(setup: &Setup, words: &[&str]) -> Output {
    Command::new(&setup.binary).args(words).output().expect("it starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A dump of the example, and what the JVM itself says of its objects.
fn dump<'a>(setup: &'a Setup, version: u32, heap: &str) -> (Scenario<'a>, String) {
    let scenario = Scenario::new(setup);
    let folder = scenario.folder().display().to_string();
    let service = Scenario::new(setup).command(sick(setup, version, &["-Xmx256m"], &[heap])).start();
    port(&service);
    let pid = service.descendant("SickService").to_string();
    let answer = bookend(setup, &["dump", "heap", "--pid", &pid, "--to", &folder]);
    assert!(answer.status.success(), "{}", text(&answer.stderr));
    let histogram = bookend(setup, &["jcmd", &pid, "GC.class_histogram", "-all"]);
    service.stop();
    (scenario, text(&histogram.stdout))
}

fn summary(setup: &Setup, dump: &Path) -> serde_json::Value {
    let answer = bookend(setup, &["hprof", "summary", "--json", &dump.display().to_string()]);
    assert!(answer.status.success(), "{}", text(&answer.stderr));
    serde_json::from_slice(&answer.stdout).expect("it is JSON")
}

fn count(bytes: &[u8], word: &str) -> usize {
    memchr::memmem::find_iter(bytes, word.as_bytes()).count()
}

/// Every text that the example holds: contents of strings, and its classes' literals.
const PLANTED: [&str; 4] = ["Customer number ", "@example.com", "SKU-", "ORD-"];

fn redacted(setup: &Setup, version: u32) -> Outcome {
    let (scenario, histogram) = dump(setup, version, "--heap=32m");
    let original = scenario.folder().join("heap.hprof");
    let counts = hprof::walk(&original)?;
    let before = std::fs::read(&original).map_err(|error| error.to_string())?;
    assert!(count(&before, "@example.com") > 10_000, "only {}", count(&before, "@example.com"));
    let tables = summary(setup, &original);
    for only_strings in [false, true] {
        let name = if only_strings { "texts.hprof" } else { "values.hprof" };
        let path = scenario.folder().join(name);
        let (from, to) = (original.display().to_string(), path.display().to_string());
        let mut words = vec!["hprof", "redact", &from, &to];
        if only_strings {
            words.push("--only-strings");
        }
        let answer = bookend(setup, &words);
        assert!(answer.status.success(), "{}", text(&answer.stderr));
        assert_eq!(hprof::walk(&path)?, counts);
        let after = std::fs::read(&path).map_err(|error| error.to_string())?;
        assert_eq!(after.len(), before.len());
        for word in PLANTED {
            assert!(count(&before, word) > 0, "{word} is in no dump: this shows nothing");
            assert_eq!(count(&after, word), 0, "{word} in {name}");
        }
        for kept in ["SickService$Customer", "quantityBySku", "SickService.java", "java/util/HashMap$Node"] {
            assert!(count(&after, kept) > 0, "{kept} is lost in {name}");
        }
        let tables_after = summary(setup, &path);
        for table in ["objects", "bytes", "classes_by_bytes", "classes_by_objects", "class_loaders", "stacks"]
        {
            assert_eq!(tables_after[table], tables[table], "{table} of {name}");
        }
        // A second time it is refused: nothing is written over.
        let again = bookend(setup, &words);
        assert_eq!(again.status.code(), Some(1));
        assert!(text(&again.stderr).contains("is there already"), "{}", text(&again.stderr));
    }
    // The JVM's own count of what does not change while it is idle.
    for class in ["SickService$Order", "SickService$Customer"] {
        let line = histogram.lines().find(|line| line.trim_end().split(' ').any(|word| word == class));
        let line = line.ok_or_else(|| format!("no {class} in {histogram}"))?;
        let rows = tables["classes_by_objects"].as_array().expect("a table");
        let row = rows.iter().find(|row| row["class"] == class).ok_or("not in the summary")?;
        let objects = row["objects"].as_u64().expect("a number").to_string();
        assert!(line.split_whitespace().any(|word| word == objects), "{line} and {row}");
    }
    Ok(())
}

/// The JDK's own form: members of a megabyte, the first of which tells so.
fn gunzip(from: &Path, to: &Path) -> Result<(), String> {
    let bytes = std::fs::read(from).map_err(|error| error.to_string())?;
    assert_eq!(bytes.get(..4), Some(&[0x1f, 0x8b, 8, 0x10][..]), "no gzip with a comment");
    assert_eq!(bytes.get(10..34), Some(&b"HPROF BLOCKSIZE=1048576\0"[..]));
    let file = std::fs::File::create_new(to).map_err(|error| error.to_string())?;
    let done = std::process::Command::new("gzip").arg("-dc").arg(from).stdout(file).status();
    if done.map_err(|error| error.to_string())?.success() {
        Ok(())
    } else {
        Err("gzip refuses it".to_owned())
    }
}

/// By a rule: compressed or not, what is stored never held a value.
fn streamed(setup: &Setup, version: u32) -> Outcome {
    for (compression, file) in [("zstd", "heap.hprof.zst"), ("gzip", "heap.hprof.gz"), ("none", "heap.hprof")]
    {
        let scenario = Scenario::new(setup);
        let heap = format!("[heap]\nredact = \"primitives\"\ncompression = \"{compression}\"\n");
        let configuration = config(scenario.folder(), "60s", "stop") + &heap;
        let command = sick(setup, version, &["-Xmx256m"], &["--heap=32m", "--shutdown=0s"]);
        let service = scenario.config(&configuration).command(command).start();
        port(&service);
        service.wait_for("attached to the JVM");
        let ended = service.stop();
        ended.exits(143);
        let bundle = bundle::only(&store(&ended.folder));
        assert_eq!(bundle.status("heap"), "complete", "{}", bundle.manifest);
        assert_eq!(bundle.file("heap"), file, "{}", bundle.manifest);
        assert_eq!(bundle.artifact("heap")["content"]["redacted"], "primitives", "{}", bundle.manifest);
        let stored = bundle.folder.join(file);
        let plain = ended.folder.join("plain.hprof");
        match compression {
            "zstd" => hprof::decompress(&stored, &plain)?,
            // Its peer's word, not ours.
            "gzip" => gunzip(&stored, &plain)?,
            _ => std::fs::copy(&stored, &plain).map(drop).map_err(|error| error.to_string())?,
        }
        if compression != "none" {
            let unpacked = ended.folder.join("unpacked.hprof");
            let (from, to) = (stored.display().to_string(), unpacked.display().to_string());
            let answer = bookend(setup, &["hprof", "unpack", &from, &to]);
            assert!(answer.status.success(), "{}", text(&answer.stderr));
            let read = |path: &Path| std::fs::read(path).map_err(|error| error.to_string());
            assert!(read(&unpacked)? == read(&plain)?, "unpacked it is another");
            assert_eq!(summary(setup, &stored), summary(setup, &plain));
        }
        let counts = hprof::walk(&plain)?;
        assert!(counts.ended && counts.instances > 100_000, "{counts:?}");
        let bytes = std::fs::read(&plain).map_err(|error| error.to_string())?;
        for word in PLANTED {
            assert_eq!(count(&bytes, word), 0, "{word} in {file}");
        }
        assert!(count(&bytes, "SickService$Customer") > 0, "its classes are lost");
        assert!(bundle.read("heap-summary.txt").contains("SickService$Customer"));
    }
    Ok(())
}

/// Cut off, and with a byte too many in the middle, as a short write leaves it: read one byte off, a
/// record is either none that exists or one that is longer than what is left.
fn broken(setup: &Setup, version: u32) -> Outcome {
    let (scenario, _) = dump(setup, version, "--heap=4m");
    let whole = std::fs::read(scenario.folder().join("heap.hprof")).map_err(|error| error.to_string())?;
    let middle = whole.len() / 2;
    let shifted = [&whole[..middle], b"\0", &whole[middle..]].concat();
    for (name, bytes, said) in [
        ("cut", &whole[..middle], &["the dump ends at byte"][..]),
        ("shifted", shifted.as_slice(), &["the dump is broken at byte", "the dump ends at byte"]),
        ("none", b"something else entirely".as_slice(), &["this is no heap dump"]),
        ("endless", &whole[..whole.len() - 9], &["was broken off"]),
    ] {
        let path = scenario.folder().join(name);
        std::fs::write(&path, bytes).map_err(|error| error.to_string())?;
        let path = path.display().to_string();
        let out = scenario.folder().join("out").display().to_string();
        for words in [&["hprof", "summary", &path][..], &["hprof", "redact", &path, &out]] {
            let answer = bookend(setup, words);
            assert_eq!(answer.status.code(), Some(1), "{name}");
            let error = text(&answer.stderr);
            assert!(said.iter().any(|words| error.contains(words)), "{name}: {error}");
            assert!(name != "none" || answer.stdout.is_empty(), "tables of nothing");
        }
        let unpacked = bookend(setup, &["hprof", "unpack", &path, &out]);
        assert!(text(&unpacked.stderr).contains("nothing to unpack"), "{}", text(&unpacked.stderr));
        // What is broken is not kept; what is only cut off between two records is.
        assert_eq!(Path::new(&out).exists(), name == "endless", "{name}");
    }
    Ok(())
}
