//! What is done to a heap dump before it is stored.

/// What is taken out of it. Structure, classes, references and sizes stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redaction {
    None,
    /// Byte and character arrays: all text.
    Strings,
    /// All arrays of primitives, and all fields that are no references.
    Primitives,
}

impl Redaction {
    /// As the configuration and the manifest call it.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Strings => "strings",
            Self::Primitives => "primitives",
        }
    }
}

/// How it is made smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Zstd,
    /// In blocks, as the JDK's own: for tools that know nothing else.
    Gzip,
}

impl Compression {
    /// What a file's name ends with.
    pub fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }
}

/// All that is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    pub redaction: Redaction,
    pub compression: Compression,
}

impl Recipe {
    /// As the JVM gives it.
    pub const PLAIN: Self = Self { redaction: Redaction::None, compression: Compression::None };
}
