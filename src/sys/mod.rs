//! The only unsafe code of the crate: one family of system calls a file.
//!
//! Every function here is a thin, safe door to the kernel: it allocates
//! little, decides nothing and knows nothing of hooks, plans or JVMs. What
//! `nix` offers as a safe function is used from there.

pub mod attributes;
pub mod clock;
pub mod descriptors;
pub mod entry;
pub mod memory;
pub mod process;
pub mod signals;
pub mod socket;
pub mod spawn;
pub mod terminal;
