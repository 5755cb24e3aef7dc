//! The first process: hooks, main process, signals, deadlines, exit code.
//!
//! Owns every child and the clock. A single-threaded loop over the signal
//! descriptor and the link; it does no HTTP, no TLS, no compression, and reads
//! nothing that others wrote but the variables that a hook exports. It never
//! panics and never waits without a deadline.

mod action;
mod carrying;
mod children;
mod exports;
mod farewell;
mod leftovers;
mod notes;
mod run;
pub mod state;

pub use action::{AgentRole, Roles};
pub use run::run;
