//! `file`: files of the container by a pattern, the end of each.

use crate::agent::elsewhere::elsewhere;
use crate::evidence::{ArtifactRecord, Bundle, mask};
use crate::units::ByteSize;
use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tokio::time::Instant;

const ARTIFACT: &str = "file";
/// A pattern may match more than anybody wants.
const FILES_LIMIT: usize = 20;

/// The files that match, the newest first; one record for each, or one that says why there is none.
///
/// Read as the agent's own user, one after the other. On a thread of its own: a file
/// system may hang.
pub(in crate::agent) async fn capture_files(
    bundle: &Bundle,
    pattern: &str,
    last: ByteSize,
    number: usize,
) -> Vec<ArtifactRecord> {
    let pattern = pattern.to_owned();
    let begun = Instant::now();
    let paths = match elsewhere(move || find(&pattern)).await.and_then(|found| found) {
        Ok(paths) => paths,
        Err(reason) => return vec![ArtifactRecord::failed(ARTIFACT, reason, begun.elapsed())],
    };
    let mut records = Vec::new();
    for (index, path) in paths.into_iter().enumerate() {
        let name =
            path.file_name().map(|name| name.to_string_lossy().replace(['/', '\0'], "_")).unwrap_or_default();
        let name = format!("file-{number}-{}-{name}", index + 1);
        let shown = path.display().to_string();
        let content = elsewhere(move || {
            read_end(&path, last.0).map(without_secrets).map_err(|error| error.to_string())
        });
        records.push(match content.await.and_then(|content| content) {
            Ok(bytes) => super::write_text(bundle, ARTIFACT, &name, &bytes, begun).with_note(&shown),
            Err(reason) => ArtifactRecord::failed(ARTIFACT, format!("{shown}: {reason}"), begun.elapsed()),
        });
    }
    records
}

fn find(pattern: &str) -> Result<Vec<PathBuf>, String> {
    let paths = glob::glob(pattern).map_err(|error| format!("{pattern} is no pattern: {error}"))?;
    let mut found: Vec<(SystemTime, PathBuf)> = paths
        .flatten()
        .filter_map(|path| {
            let metadata = std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file)?;
            Some((metadata.modified().ok()?, path))
        })
        .collect();
    if found.is_empty() {
        return Err(format!("no file matches {pattern}"));
    }
    found.sort_by_key(|(modified, _)| std::cmp::Reverse(*modified));
    found.truncate(FILES_LIMIT);
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// The last `size` bytes. A pipe that took the file's place is not waited for.
pub(super) fn read_end(path: &Path, size: u64) -> io::Result<Vec<u8>> {
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(size)))?;
    let mut bytes = Vec::new();
    file.take(size).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Text is masked; what is no text cannot be.
pub(super) fn without_secrets(bytes: Vec<u8>) -> Vec<u8> {
    // The first character may be cut in two.
    let is_text = |bytes: &[u8]| !bytes.contains(&0);
    if is_text(&bytes) { mask(&String::from_utf8_lossy(&bytes)).into_bytes() } else { bytes }
}
