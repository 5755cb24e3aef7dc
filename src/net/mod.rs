//! The network, for probes and stores: names and HTTP clients.
//!
//! Knows neither plan nor roles.

mod client;
mod refusal;
mod resolve;

pub use client::{Trust, client, in_words};
pub use refusal::{Refusal, granted};
pub use resolve::resolve;
