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

    /// Back from [`Self::word`].
    pub fn parse(word: &str) -> Option<Self> {
        [Self::None, Self::Strings, Self::Primitives].into_iter().find(|how| how.word() == word)
    }
}

/// How it is made smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Zstd,
    /// The same, as hard as there is time for: the JVM stands still meanwhile.
    Auto,
    /// In blocks, as the JDK's own: for tools that know nothing else.
    Gzip,
}

impl Compression {
    /// What a file's name ends with.
    pub fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Zstd | Self::Auto => ".zst",
            Self::Gzip => ".gz",
        }
    }
}

/// Whoever may read it: an age recipient, `age1...` (<https://age-encryption.org/v1>, X25519).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient(String);

impl Recipient {
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        #[cfg(feature = "agent")]
        text.parse::<age::x25519::Recipient>().map_err(|reason| format!("`{text}`: {reason}"))?;
        if !text.starts_with("age1") {
            return Err(format!("`{text}` is no age recipient"));
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// All that is done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    pub redaction: Redaction,
    pub compression: Compression,
    /// Only these can read it; anybody can where there are none.
    pub encrypt_to: Vec<Recipient>,
}

impl Recipe {
    /// As the JVM gives it.
    pub const PLAIN: Self =
        Self { redaction: Redaction::None, compression: Compression::None, encrypt_to: Vec::new() };

    /// What a file's name ends with.
    pub fn extension(&self) -> String {
        let encryption = if self.encrypt_to.is_empty() { "" } else { ".age" };
        format!("{}{encryption}", self.compression.extension())
    }
}
