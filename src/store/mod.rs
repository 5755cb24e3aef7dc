//! Egress: where finished artifacts go.
//!
//! Knows files and keys, nothing of rules or JVMs. One kind so far: a
//! directory, given as `file://`.

mod directory;

pub use directory::Directory;
