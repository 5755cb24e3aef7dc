//! From artifacts to a bundle: names, digests, the manifest.
//!
//! Owns what a bundle looks like. A file appears under its final name only
//! when it is whole, and `manifest.json` last of all: its presence means that
//! everything else is there, or named as missing with the reason.

mod adaptive;
mod bundle;
mod digest;
mod encoder;
mod manifest;
mod mask;
mod overwrite;
mod pipeline;
mod seal;
mod spool;

pub use bundle::{Bundle, NotedUpload, PRIVATE_FILE, PRIVATE_FOLDER, note_part, note_upload};
pub use digest::{Digest, Digested, Hasher, digest_file};
pub use encoder::fill;
pub use manifest::{ArtifactRecord, Content, Event, Jvm, Lost, Manifest, Service, Status, Stop, Tool};
pub use mask::{KnownMasked, MASKED, mask, mask_known, remember_secrets, secrets_with};
pub use overwrite::overwrite_secrets;
pub use pipeline::{Piped, Sink, pipe};
pub use spool::{Waiting, clear_unfinished, forget, trim, waiting, waiting_bytes};
