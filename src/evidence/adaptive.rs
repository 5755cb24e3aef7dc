//! Zstandard as hard as there is time for.
//!
//! The JVM stands still while its heap is dumped, and what is slowest decides for how long: the
//! JVM, the compression, or whoever takes what comes out of it. Where that is the compression, it
//! goes easier on the bytes; where another is, there is time to make them fewer, as `zstd
//! --adapt` does.

use super::encoder::{ZSTD_LEVEL, zstd};
use nix::time::{ClockId, clock_gettime};
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// From the fastest to the smallest. Measured as [`ZSTD_LEVEL`] was, in seconds and MB of the two
/// dumps: -10: 1.2 and 598, 0.9 and 286; 2: 2.2 and 169, 1.6 and 112; of 300 MB of each, 2: 0.5 and
/// 33, 0.6 and 43; 9: 2.1 and 18, 6.2 and 42. What lies in between is hardly faster, or no
/// smaller, than the one before it. With each, how much longer it takes than another, at worst.
const LEVELS: [(i32, u32); 3] = [(-10, 6), (ZSTD_LEVEL, 8), (9, 100)];
/// Where it begins.
const FIRST: usize = 1;
/// A frame of the file: all of it is made at one level. Bytes of the dump.
const FRAME: u64 = 32 << 20;

/// Of this thread, on a processor: where others want that too, compression looks slower than it is.
fn processor_time() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).ok().map(Duration::from)
}

/// Every reader takes frames one behind the other for one file (RFC 8878, section 3).
pub(super) struct Adaptive<W: Write> {
    /// None only after an error.
    frame: Option<zstd::Encoder<'static, Timed<W>>>,
    threads: u32,
    level: usize,
    /// Of this frame.
    taken: u64,
    begun: Instant,
    /// [`processor_time`] then.
    begun_own: Option<Duration>,
    waited: Duration,
    /// When the last write ended.
    last: Instant,
}

impl<W: Write> Adaptive<W> {
    /// # Errors
    /// That there is no memory for it.
    pub(super) fn new(threads: u32, to: W) -> io::Result<Self> {
        let level = FIRST;
        let frame = Some(zstd(level_of(level), threads, Timed { to, took: Duration::ZERO })?);
        let now = Instant::now();
        let begun_own = processor_time();
        Ok(Self { frame, threads, level, taken: 0, begun: now, begun_own, waited: Duration::ZERO, last: now })
    }

    /// # Errors
    /// As writing does.
    pub(super) fn finish(self) -> io::Result<W> {
        let frame = self.frame.ok_or(io::ErrorKind::BrokenPipe)?;
        frame.finish().map(|timed| timed.to)
    }

    fn next_frame(&mut self) -> io::Result<()> {
        let frame = self.frame.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut timed = frame.finish()?;
        let all = self.begun.elapsed();
        let mut own = all.saturating_sub(self.waited + timed.took);
        if let (0, Some(now), Some(then)) = (self.threads, processor_time(), self.begun_own) {
            own = own.min(now.saturating_sub(then));
        }
        self.level = next_level(self.level, all, own);
        timed.took = Duration::ZERO;
        self.frame = Some(zstd(level_of(self.level), self.threads, timed)?);
        (self.taken, self.begun, self.waited) = (0, Instant::now(), Duration::ZERO);
        self.begun_own = processor_time();
        Ok(())
    }
}

fn level_of(index: usize) -> i32 {
    LEVELS.get(index).map_or(ZSTD_LEVEL, |(level, _)| *level)
}

fn cost_of(index: usize) -> u32 {
    LEVELS.get(index).map_or(u32::MAX, |(_, cost)| *cost)
}

/// `all` of a frame's time; `own`: what of it was spent on compressing.
fn next_level(level: usize, all: Duration, own: Duration) -> usize {
    let bound = all * 3 / 4;
    if own > bound {
        return level.saturating_sub(1);
    }
    match LEVELS.get(level + 1) {
        Some((_, cost)) if own.saturating_mul(*cost) / cost_of(level) < bound => level + 1,
        _ => level,
    }
}

impl<W: Write> Write for Adaptive<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waited += self.last.elapsed();
        let frame = self.frame.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        let count = frame.write(bytes)?;
        self.taken += count as u64;
        if self.taken >= FRAME {
            self.next_frame()?;
        }
        self.last = Instant::now();
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts the time that writing takes.
struct Timed<W> {
    to: W,
    took: Duration,
}

impl<W: Write> Write for Timed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let begun = Instant::now();
        let written = self.to.write(bytes);
        self.took += begun.elapsed();
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_decides() {
        let second = Duration::from_secs(1);
        assert_eq!(next_level(FIRST, second, second), FIRST - 1);
        assert_eq!(next_level(0, second, second), 0);
        assert_eq!(next_level(FIRST, second, second * 3 / 5), FIRST);
        assert_eq!(next_level(FIRST, second, second / 20), FIRST + 1);
        assert_eq!(next_level(0, second, second * 2 / 5), FIRST);
        assert_eq!(next_level(LEVELS.len() - 1, second, Duration::ZERO), LEVELS.len() - 1);
    }

    #[test]
    fn frames_are_one_file() {
        let plain: Vec<u8> =
            (0..251u8).cycle().take(usize::try_from(FRAME).expect("small") * 5 / 2).collect();
        let mut encoder = Adaptive::new(0, Vec::new()).expect("made");
        for piece in plain.chunks(1 << 20) {
            encoder.write_all(piece).expect("written");
        }
        let file = encoder.finish().expect("finished");
        assert!(zstd::decode_all(file.as_slice()).expect("sound") == plain);
    }
}
