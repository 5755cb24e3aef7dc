//! `[release]`: which image, or version, is meant to run.

use super::reader::{Context, Reader};
use super::values::Setting;
use std::path::PathBuf;

/// What another release than the expected one means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMismatch {
    /// The container ends before anything starts.
    Stop,
    /// It is told.
    Warn,
}

/// The section.
#[derive(Clone, Debug)]
pub struct Release {
    pub expect: Option<Setting<String>>,
    /// Holds the version; else it is the image's digest.
    pub file: Option<Setting<PathBuf>>,
    pub on_mismatch: Setting<OnMismatch>,
}

impl Release {
    pub(super) fn read(mut reader: Reader<'_>, context: &mut Context) -> Self {
        let section = Self {
            expect: reader.optional("expect", context),
            file: reader.optional("file", context),
            on_mismatch: reader.or("on_mismatch", OnMismatch::Stop, context),
        };
        reader.finish(context);
        section
    }
}
