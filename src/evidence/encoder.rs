//! Makes a heap dump smaller while it passes.

use super::adaptive::Adaptive;
use crate::units::Compression;
use flate2::GzBuilder;
use std::io::{self, Write};
use zstd::zstd_safe::CParameter;

/// Measured on dumps of a service full of orders (1.5 GB) and of a compiler (0.8 GB): 1 is slower
/// and gives 257 and 112 MB, 2 gives 169 and 112, 3 takes a quarter to two thirds longer for 145
/// and 156.
pub(super) const ZSTD_LEVEL: i32 = 2;
/// What is the same in a heap stands far apart, and is long. With these the first of the dumps (720 MB
/// of it) takes 0.84 s in place of 1.12 and 53 MB in place of 79; one of jshell (74 MB) the same
/// time and room as without.
const WINDOW_LOG: u32 = 22;
const HASH_LOG: u32 = 17;
const SHORTEST_MATCH: u32 = 7;
/// Each thread has one: four windows, if nobody says otherwise, are more than the agent may have.
/// Bytes.
const JOB: u32 = 4 << 20;
/// Each level above it takes many times as long for a few percent.
const GZIP_LEVEL: u32 = 1;
/// More threads than that outrun every JVM.
const THREADS: usize = 4;
/// What the JDK's own `jcmd GC.heap_dump -gz` puts into a gzip member. Bytes.
const GZIP_BLOCK: usize = 1 << 20;

/// Appends to a piece what still fits in; how many bytes that are.
pub fn fill(piece: &mut Vec<u8>, size: usize, bytes: &[u8]) -> usize {
    let room = size.saturating_sub(piece.len());
    let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
    piece.extend_from_slice(taken);
    taken.len()
}

/// Which of the two parts of a file it makes: they are put one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    First,
    Later,
}

/// Compresses what is written to it, or passes it on.
pub(super) enum Encoder<W: Write> {
    Plain(W),
    Zstd(zstd::Encoder<'static, W>),
    Auto(Adaptive<W>),
    Gzip(GzipBlocks<W>),
}

impl<W: Write> Encoder<W> {
    /// `threads` beside the one that writes, where the format has a use for them.
    ///
    /// # Errors
    /// That there is no memory for it.
    pub(super) fn new(compression: Compression, part: Part, threads: u32, to: W) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::Plain(to),
            Compression::Zstd => Self::Zstd(zstd(ZSTD_LEVEL, threads, to)?),
            Compression::Auto => Self::Auto(Adaptive::new(threads, to)?),
            Compression::Gzip => Self::Gzip(GzipBlocks::new(part, to)),
        })
    }

    /// Writes what is left. What it was written to.
    ///
    /// # Errors
    /// As writing does.
    pub(super) fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(to) => Ok(to),
            Self::Zstd(encoder) => encoder.finish(),
            Self::Auto(encoder) => encoder.finish(),
            Self::Gzip(blocks) => blocks.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(to) => to.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
            Self::Auto(encoder) => encoder.write(bytes),
            Self::Gzip(blocks) => blocks.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As many as there are processors for it.
pub(super) fn threads() -> u32 {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // One is the JVM's, one is the reader's.
    let threads = if processors > 2 { (processors - 1).min(THREADS) } else { 0 };
    u32::try_from(threads).unwrap_or(0)
}

/// `threads` beside the one that writes.
pub(super) fn zstd<W: Write>(level: i32, threads: u32, to: W) -> io::Result<zstd::Encoder<'static, W>> {
    let mut encoder = zstd::Encoder::new(to, level)?;
    encoder.include_checksum(true)?;
    if level == ZSTD_LEVEL {
        encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
        encoder.set_parameter(CParameter::HashLog(HASH_LOG))?;
        encoder.set_parameter(CParameter::MinMatch(SHORTEST_MATCH))?;
    }
    if threads > 0 {
        // Where no more threads are allowed, one does.
        drop(encoder.multithread(threads));
        drop(encoder.set_parameter(CParameter::JobSize(JOB)));
    }
    Ok(encoder)
}

/// A gzip member for every megabyte, each of which can be read without those before it. The
/// first says so in its comment: `HPROF BLOCKSIZE=1048576` (`heapDumperCompression.cpp`). Eclipse
/// MAT opens such a file as it is (`ChunkedGZIPRandomAccessFile`: no member holds more than that;
/// one may hold less).
pub(super) struct GzipBlocks<W> {
    to: W,
    block: Vec<u8>,
    part: Part,
}

impl<W: Write> GzipBlocks<W> {
    fn new(part: Part, to: W) -> Self {
        Self { to, block: Vec::with_capacity(GZIP_BLOCK), part }
    }

    fn end_block(&mut self) -> io::Result<()> {
        let mut header = GzBuilder::new();
        if self.part == Part::First {
            header = header.comment(format!("HPROF BLOCKSIZE={GZIP_BLOCK}"));
        }
        self.part = Part::Later;
        let mut member = header.write(&mut self.to, flate2::Compression::new(GZIP_LEVEL));
        member.write_all(&self.block)?;
        member.finish()?;
        self.block.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<W> {
        // An empty file is one member too.
        if !self.block.is_empty() || self.part == Part::First {
            self.end_block()?;
        }
        Ok(self.to)
    }
}

impl<W: Write> Write for GzipBlocks<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = fill(&mut self.block, GZIP_BLOCK, bytes);
        if self.block.len() == GZIP_BLOCK {
            self.end_block()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn two_parts_are_one_file_whose_first_member_tells_the_block_size() {
        let plain: Vec<u8> = (0..251u8).cycle().take(GZIP_BLOCK * 5 / 2).collect();
        let (names, objects) = plain.split_at(1000);
        let mut file = Vec::new();
        for (part, bytes) in [(Part::First, names), (Part::Later, objects)] {
            let mut encoder = Encoder::new(Compression::Gzip, part, 0, Vec::new()).expect("made");
            encoder.write_all(bytes).expect("written");
            file.extend(encoder.finish().expect("finished"));
        }
        assert_eq!(file.get(..4), Some(&[0x1f, 0x8b, 8, 0x10][..]));
        assert_eq!(file.get(10..34), Some(&b"HPROF BLOCKSIZE=1048576\0"[..]));
        let mut members = 0;
        let mut rest = file.as_slice();
        let mut read = Vec::new();
        while !rest.is_empty() {
            let mut decoder = flate2::bufread::GzDecoder::new(rest);
            let count = decoder.read_to_end(&mut read).expect("sound");
            assert!(count <= GZIP_BLOCK);
            rest = decoder.into_inner();
            members += 1;
        }
        assert_eq!(members, 4);
        assert!(read == plain);
    }
}
