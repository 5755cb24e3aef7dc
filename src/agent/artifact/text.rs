//! Texts: written whole.

use crate::evidence::{ArtifactRecord, Bundle, Hasher};
use tokio::time::Instant;

/// Writes a text into `name`.
pub(in crate::agent) fn write_text(
    bundle: &Bundle,
    artifact: &'static str,
    name: &str,
    text: &[u8],
    begun: Instant,
) -> ArtifactRecord {
    let mut hasher = Hasher::default();
    hasher.update(text);
    let written = bundle.open(name).and_then(|(_, mut file)| {
        std::io::Write::write_all(&mut file, text)?;
        bundle.finish(name, name)
    });
    match written {
        Ok(_) => ArtifactRecord::complete(artifact, name, begun.elapsed()).with_digest(hasher.finish()),
        Err(error) => {
            bundle.discard(name);
            ArtifactRecord::failed(artifact, format!("cannot write {name}: {error}"), begun.elapsed())
        }
    }
}
