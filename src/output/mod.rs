//! The main process's output on its way out: passed on unchanged, its end kept.
//!
//! Owns the carrier, a process of its own between the service's two pipes and our
//! standard streams, and the ring in which it leaves what passed last. The pipes'
//! reading ends stay with the supervisor: a carrier that is killed is started anew
//! and goes on where the dead one was. Understands nothing of what it carries, but the ends of
//! lines where they are labelled.

mod carrier;
mod labels;
mod ring;

pub use carrier::{Stream, carry};
pub use labels::Labelled;
pub use ring::{Ring, create};
