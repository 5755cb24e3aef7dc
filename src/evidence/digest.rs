//! SHA-256 of what is stored.

use ring::digest::{Context, SHA256};
use serde::Serialize;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Size in bytes and SHA-256 in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Digest {
    pub bytes: u64,
    pub sha256: String,
}

/// What a digest is of.
#[derive(Clone, Debug)]
pub enum Digested {
    /// Of all of it.
    Whole(Digest),
    /// Names, classes and stacks, and behind them the objects, which came earlier.
    Halves([Digest; 2]),
}

impl Digested {
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Whole(whole) => whole.bytes,
            Self::Halves(halves) => halves.iter().map(|half| half.bytes).sum(),
        }
    }

    pub fn of(names: Option<Digest>, rest: Digest) -> Self {
        match names {
            Some(names) => Self::Halves([names, rest]),
            None => Self::Whole(rest),
        }
    }
}

/// A digest in the making.
#[derive(Clone)]
pub struct Hasher {
    hash: Context,
    bytes: u64,
}

impl fmt::Debug for Hasher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Hasher({} bytes)", self.bytes)
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self { hash: Context::new(&SHA256), bytes: 0 }
    }
}

impl Hasher {
    pub fn update(&mut self, chunk: &[u8]) {
        self.hash.update(chunk);
        self.bytes = self.bytes.saturating_add(chunk.len() as u64);
    }

    pub fn finish(self) -> Digest {
        let sha256 = self.hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Digest { bytes: self.bytes, sha256 }
    }
}

/// Reads a whole file, in constant memory; `None` if `is_late` says so on the way.
///
/// # Errors
/// As reading it does.
pub fn digest_file(path: &Path, is_late: impl Fn() -> bool) -> io::Result<Option<Digest>> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 1 << 20];
    loop {
        if is_late() {
            return Ok(None);
        }
        match file.read(&mut buffer)? {
            0 => return Ok(Some(hasher.finish())),
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_answer() {
        let mut hasher = Hasher::default();
        hasher.update(b"a");
        hasher.update(b"bc");
        let digest = hasher.finish();
        assert_eq!(digest.bytes, 3);
        // FIPS 180-2, appendix B.1.
        assert_eq!(digest.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
