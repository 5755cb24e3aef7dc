//! Values with a unit: parsed from what people write, printed the way they
//! would write it.
//!
//! Owns the text forms. Imports nothing from the rest of the crate, does no I/O.

mod attributes;
mod bucket;
mod byte_size;
mod duration;
mod moment;
mod recipe;
mod schedule;
mod signal;
mod template;
mod web_folder;

pub use attributes::{Attributes, Capability, Limit, Resource};
pub use bucket::{BucketOptions, BucketUrl, Cloud};
pub use byte_size::ByteSize;
pub use duration::{format_duration, parse_duration};
pub use moment::Moment;
pub use recipe::{Compression, Recipe, Recipient, Redaction};
pub use schedule::Schedule;
pub use signal::Signal;
pub use template::{MessageForm, Template};
pub use web_folder::WebFolder;
