//! Files that grow, in the ways of each JVM.

use super::*;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;

fn version(full: &str) -> Version {
    let feature = full.split('.').next().and_then(|number| number.parse().ok()).unwrap_or(0);
    Version { feature, full: full.to_owned(), name: String::new() }
}

#[test]
fn versions_that_write_into_pipes() {
    for (full, takes) in [
        ("11.0.12", false),
        ("11.0.13", true),
        ("11.0.29+7", true),
        ("16.0.2", false),
        ("17", true),
        ("21.0.8", true),
        ("25", true),
        ("", false),
    ] {
        assert_eq!(takes_pipes(&version(full)), takes, "{full}");
    }
}

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("small").to_be_bytes();
    [&[kind, 0, 0, 0, 0], &length[..], content].concat()
}

fn header() -> Vec<u8> {
    [&b"JAVA PROFILE 1.0.2\0"[..], &[0, 0, 0, 8], &[0; 8]].concat()
}

fn opener() -> Opener {
    Arc::new(|path| OpenOptions::new().read(true).write(true).open(path))
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("bookend-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("made");
    folder
}

/// Since 22: records, segments beside them, the rest of the records, the merged copy.
#[test]
fn a_file_and_its_segment_are_one_stream_however_they_grow() {
    let folder = folder("growing");
    let path = folder.join("x.hprof");
    // One is as long as the JVM makes them.
    let sizes = (0..300).map(|number| number * 20).chain([1 << 20]);
    let segments: Vec<u8> = sizes.flat_map(|size| record(0x1c, &vec![7; size])).collect();
    let (first, rest) = (record(1, b"first"), record(1, b"rest"));
    let end = record(0x2c, &[]);
    let wanted = |parts: &[&[u8]]| parts.concat();
    // The merger is done before anybody looks; it is not; it never comes.
    for merged in [true, false] {
        let mut main = File::create(&path).expect("made");
        let mut stream =
            DumpStream::of_file(&path, &version("25"), &opener(), &(Arc::new(|| false) as IsOver));
        main.write_all(&wanted(&[&header(), &first])).expect("written");
        let mut got = Vec::new();
        let mut buffer = vec![0; 700];
        if !merged {
            std::fs::write(segment_path(&path), &segments).expect("written");
            while got.len() < segments.len() / 2 {
                let count = stream.read(&mut buffer).expect("read");
                got.extend_from_slice(buffer.get(..count).expect("inside"));
            }
        }
        main.write_all(&wanted(&[&rest, &segments, &end])).expect("written");
        stream.read_to_end(&mut got).expect("read");
        let names = wanted(&[&header(), &first]);
        assert!(got.starts_with(&names) && got.ends_with(&end), "{merged}");
        assert_eq!(got.len(), wanted(&[&names, &rest, &segments, &end]).len(), "{merged}");
        if merged {
            assert_eq!(got, wanted(&[&names, &rest, &segments, &end]));
        }
        drop(std::fs::remove_file(segment_path(&path)));
    }
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn blocks_are_given_back_behind_the_reader() {
    let folder = folder("punched");
    let path = folder.join("x.hprof");
    let dump = [header(), (0..40).flat_map(|_| record(0x1c, &vec![7; 1 << 20])).collect(), record(0x2c, &[])]
        .concat();
    std::fs::write(&path, &dump).expect("written");
    let mut stream = DumpStream::of_file(&path, &version("17"), &opener(), &(Arc::new(|| false) as IsOver));
    let mut got = Vec::new();
    stream.read_to_end(&mut got).expect("read");
    assert!(got == dump, "what is read is what was written");
    let metadata = path.metadata().expect("there");
    assert_eq!(metadata.len(), dump.len() as u64);
    assert!(metadata.blocks() * 512 < 4 << 20, "{} blocks", metadata.blocks());
    std::fs::remove_dir_all(&folder).expect("removed");
}
