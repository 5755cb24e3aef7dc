//! Walks the record structure of a heap dump to its end.
//!
//! Written for the tests, from the format's description in `heapDumper.cpp`,
//! and independent of the program under test.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// One that was fetched, compressed, from a store: it is whole.
pub(crate) fn walk_packed(folder: &Path, packed: &[u8]) -> Result<(), String> {
    let (file, plain) = (folder.join("fetched.hprof.zst"), folder.join("fetched.hprof"));
    std::fs::write(&file, packed).map_err(|error| error.to_string())?;
    decompress(&file, &plain)?;
    assert!(walk(&plain)?.ended);
    Ok(())
}

/// By the library's own decoder, which checks the frame's end and its checksum.
pub(crate) fn decompress(from: &Path, to: &Path) -> Result<(), String> {
    let refused = |error: std::io::Error| format!("{}: {error}", from.display());
    let mut decoder = zstd::Decoder::new(File::open(from).map_err(refused)?).map_err(refused)?;
    let mut plain = File::create_new(to).map_err(refused)?;
    std::io::copy(&mut decoder, &mut plain).map(drop).map_err(refused)
}

/// What was seen on the way.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) classes: u64,
    pub(crate) instances: u64,
    pub(crate) object_arrays: u64,
    pub(crate) primitive_arrays: u64,
    pub(crate) ended: bool,
}

/// Reads the whole dump, also a compressed one; an error names the offset.
pub(crate) fn walk(path: &Path) -> Result<Counts, String> {
    if path.extension().is_some_and(|extension| extension == "zst") {
        let plain = path.with_extension("");
        let counts = decompress(path, &plain).and_then(|()| walk(&plain));
        drop(std::fs::remove_file(&plain));
        return counts;
    }
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let size = file.metadata().map_err(|error| error.to_string())?.len();
    let mut reader = Reader { input: BufReader::with_capacity(1 << 20, file), at: 0, id: 0 };
    let mut counts = Counts::default();
    let mut version = Vec::new();
    loop {
        match reader.u1()? {
            0 => break,
            byte => version.push(byte),
        }
        if version.len() > 40 {
            return Err("no version at the start".to_owned());
        }
    }
    if version != b"JAVA PROFILE 1.0.2" {
        return Err(format!("unknown version {}", String::from_utf8_lossy(&version)));
    }
    reader.id = u64::from(reader.u4()?);
    reader.skip(8)?;
    while reader.at < size {
        let start = reader.at;
        let tag = reader.u1()?;
        reader.u4()?;
        let length = u64::from(reader.u4()?);
        let end = reader.at + length;
        match tag {
            0x0c | 0x1c => {
                while reader.at < end {
                    sub_record(&mut reader, &mut counts)?;
                }
                if reader.at != end {
                    return Err(format!("segment at {start} overruns its length"));
                }
            }
            0x2c => counts.ended = true,
            // As Eclipse MAT reads it: who comes later has no name.
            0x01 | 0x02 if counts.classes > 0 => {
                return Err(format!("a name behind the first class, at {start}"));
            }
            0x01..=0x07 | 0x0a | 0x0b | 0x0d | 0x0e => reader.skip(length)?,
            other => return Err(format!("unknown record {other:#x} at {start}")),
        }
    }
    if counts.ended { Ok(counts) } else { Err("no HEAP_DUMP_END".to_owned()) }
}

fn sub_record(reader: &mut Reader, counts: &mut Counts) -> Result<(), String> {
    let start = reader.at;
    let id = reader.id;
    match reader.u1()? {
        0xff | 0x05 | 0x07 => reader.skip(id),
        0x01 => reader.skip(2 * id),
        0x02 | 0x03 | 0x08 => reader.skip(id + 8),
        0x04 | 0x06 => reader.skip(id + 4),
        0x20 => {
            counts.classes += 1;
            class(reader)
        }
        0x21 => {
            counts.instances += 1;
            reader.skip(2 * id + 4)?;
            let length = u64::from(reader.u4()?);
            reader.skip(length)
        }
        0x22 => {
            counts.object_arrays += 1;
            reader.skip(id + 4)?;
            let length = u64::from(reader.u4()?);
            reader.skip(id + length * id)
        }
        0x23 => {
            counts.primitive_arrays += 1;
            reader.skip(id + 4)?;
            let length = u64::from(reader.u4()?);
            let kind = reader.u1()?;
            let size = reader.size_of(kind)?;
            reader.skip(length * size)
        }
        other => Err(format!("unknown sub-record {other:#x} at {start}")),
    }
}

fn class(reader: &mut Reader) -> Result<(), String> {
    let id = reader.id;
    reader.skip(id + 4 + 6 * id + 4)?;
    for _ in 0..reader.u2()? {
        reader.skip(2)?;
        let kind = reader.u1()?;
        let size = reader.size_of(kind)?;
        reader.skip(size)?;
    }
    for _ in 0..reader.u2()? {
        reader.skip(id)?;
        let kind = reader.u1()?;
        let size = reader.size_of(kind)?;
        reader.skip(size)?;
    }
    let fields = u64::from(reader.u2()?);
    reader.skip(fields * (id + 1))
}

struct Reader {
    input: BufReader<File>,
    at: u64,
    id: u64,
}

impl Reader {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(|error| format!("at {}: {error}", self.at))?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn u1(&mut self) -> Result<u8, String> {
        self.bytes::<1>().map(|[byte]| byte)
    }

    fn u2(&mut self) -> Result<u16, String> {
        self.bytes().map(u16::from_be_bytes)
    }

    fn u4(&mut self) -> Result<u32, String> {
        self.bytes().map(u32::from_be_bytes)
    }

    fn skip(&mut self, count: u64) -> Result<(), String> {
        let copied = std::io::copy(&mut self.input.by_ref().take(count), &mut std::io::sink())
            .map_err(|error| format!("at {}: {error}", self.at))?;
        self.at += copied;
        if copied == count { Ok(()) } else { Err(format!("ends at {}, inside a record", self.at)) }
    }

    fn size_of(&self, kind: u8) -> Result<u64, String> {
        match kind {
            2 => Ok(self.id),
            4 | 8 => Ok(1),
            5 | 9 => Ok(2),
            6 | 10 => Ok(4),
            7 | 11 => Ok(8),
            other => Err(format!("unknown type {other} at {}", self.at)),
        }
    }
}
