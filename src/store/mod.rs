//! Egress: where finished artifacts go.
//!
//! Knows files and keys, nothing of rules or JVMs. A directory, given as `file://`, or a
//! bucket of an object store, or a place that takes files by PUT.

mod bucket;
mod client;
mod directory;
mod profile;
mod region;
mod trouble;
mod upload;
mod web;

pub use bucket::{Bucket, Labels};
pub use directory::{Directory, look, make_for};
pub use upload::{PART, Upload};

/// A place for finished artifacts.
#[derive(Clone, Debug)]
pub enum Store {
    Directory(Directory),
    Bucket(Bucket),
}

impl Store {
    /// Where `key` is, for people.
    pub fn url(&self, key: &str) -> String {
        match self {
            Self::Directory(directory) => directory.path(key).display().to_string(),
            Self::Bucket(bucket) => bucket.url(key),
        }
    }
}
