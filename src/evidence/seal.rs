//! Encrypts what passes to age recipients, or lets it be.

use crate::units::Recipient;
use age::Encryptor;
use age::stream::StreamWriter;
use std::io::{self, Write};

/// What is written goes on, encrypted if there is somebody to encrypt to.
pub(super) enum Sealed<W: Write> {
    Open(W),
    /// In chunks of 64 KiB (<https://age-encryption.org/v1>, "Payload").
    Age(StreamWriter<W>),
}

impl<W: Write> Sealed<W> {
    /// # Errors
    /// As writing does: a header comes first.
    pub(super) fn new(recipients: &[Recipient], to: W) -> io::Result<Self> {
        if recipients.is_empty() {
            return Ok(Self::Open(to));
        }
        let mut keys = Vec::new();
        for recipient in recipients {
            keys.push(recipient.as_str().parse::<age::x25519::Recipient>().map_err(io::Error::other)?);
        }
        let keys = keys.iter().map(|key| key as &dyn age::Recipient);
        let encryptor = Encryptor::with_recipients(keys).map_err(io::Error::other)?;
        encryptor.wrap_output(to).map(Self::Age)
    }

    /// Ends it; without that nobody can tell whether it is whole.
    ///
    /// # Errors
    /// As writing does.
    pub(super) fn finish(self) -> io::Result<W> {
        match self {
            Self::Open(to) => Ok(to),
            Self::Age(stream) => stream.finish(),
        }
    }
}

impl<W: Write> Write for Sealed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Open(to) => to.write(bytes),
            Self::Age(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
