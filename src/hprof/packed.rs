//! Compressed dumps, read as if they were not.

use std::io::{self, Chain, Cursor, Read};

/// RFC 8878, 3.1.1.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// RFC 1952, 2.3.1.
const GZIP: [u8; 2] = [0x1f, 0x8b];

type Whole<R> = Chain<Cursor<Vec<u8>>, R>;

/// A dump, unpacked while it is read, however it is packed.
pub enum Unpacked<R: Read> {
    Plain(Whole<R>),
    Zstd(zstd::Decoder<'static, io::BufReader<Whole<R>>>),
    Gzip(Box<flate2::read::MultiGzDecoder<Whole<R>>>),
}

impl<R: Read> Unpacked<R> {
    /// Looks at the first bytes.
    ///
    /// # Errors
    /// As reading them does.
    pub fn new(mut packed: R) -> io::Result<Self> {
        let mut first = Vec::new();
        (&mut packed).take(ZSTD.len() as u64).read_to_end(&mut first)?;
        let (is_zstd, is_gzip) = (first == ZSTD, first.starts_with(&GZIP));
        let whole = Cursor::new(first).chain(packed);
        Ok(if is_zstd {
            Self::Zstd(zstd::Decoder::new(whole)?)
        } else if is_gzip {
            Self::Gzip(Box::new(flate2::read::MultiGzDecoder::new(whole)))
        } else {
            Self::Plain(whole)
        })
    }

    /// Whether it is compressed at all.
    pub fn is_packed(&self) -> bool {
        !matches!(self, Self::Plain(_))
    }
}

impl<R: Read> std::fmt::Debug for Unpacked<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Zstd(_) => "Zstd",
            Self::Gzip(_) => "Gzip",
        })
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) => source.read(buffer),
            Self::Zstd(source) => source.read(buffer),
            Self::Gzip(source) => source.read(buffer),
        }
    }
}
