//! The messages between supervisor and agent, over one socket pair.
//!
//! The supervisor tells facts, the agent asks for deeds. Messages are small,
//! fixed and counted; neither side ever waits for the other.

mod message;

pub use message::{Deed, Fact, MAXIMUM_SIZE, Order};
