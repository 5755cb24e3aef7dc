//! What earlier lives left in the spool: half files go, whole ones are sent.

use super::bundle::{NotedUpload, PROGRESS, WAITING, is_record, noted_uploads, upload_note, write_record};
use super::manifest::Lost;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// `flock(2)` on a bundle's folder; `None` if somebody alive has it.
pub(super) fn lock(folder: &Path) -> Option<Flock<File>> {
    let folder =
        OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(folder).ok()?;
    Flock::lock(folder, FlockArg::LockExclusiveNonblock).ok()
}

/// Clears what lives that were cut short have left in `spool`: half files are
/// removed, whole ones stay. What is known of each.
pub fn clear_unfinished(spool: &Path) -> Vec<Lost> {
    let Ok(entries) = fs::read_dir(spool) else { return Vec::new() };
    let mut lost = Vec::new();
    for folder in entries.flatten().map(|entry| entry.path()) {
        // Another bookend's, on the same volume.
        let Some(_lock) = lock(&folder) else { continue };
        let mut kept = Vec::new();
        for file in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                drop(fs::remove_file(file.path()));
            } else if !is_record(&name) {
                kept.push(name);
            }
        }
        // Captured to its end, it only waits.
        if !folder.join(WAITING).exists() && fs::remove_dir(&folder).is_err() {
            kept.sort();
            let id = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let trigger = trigger_of(&folder).unwrap_or_else(|| "unknown".to_owned());
            lost.push(Lost { id, trigger, kept });
        }
    }
    lost
}

/// From what the dead life noted.
fn trigger_of(folder: &Path) -> Option<String> {
    let bytes = fs::read(folder.join(PROGRESS)).ok()?;
    let value: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    Some(value.get("event")?.get("trigger")?.as_str()?.chars().take(100).collect())
}

/// Removes an event of which nothing is left but that it was.
pub fn forget(folder: &Path) {
    drop(fs::remove_file(folder.join(PROGRESS)));
    drop(fs::remove_dir(folder));
}

/// An event that waits for its store. Nobody else sends it as long as this lives.
#[derive(Debug)]
pub struct Waiting {
    pub folder: PathBuf,
    /// What is known of it: its manifest, or how far it was when its life ended.
    pub manifest: serde_json::Value,
    /// It was captured to its end.
    pub is_whole: bool,
    _lock: Flock<File>,
}

impl Waiting {
    /// Files that are there, the smallest first.
    pub fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        for file in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            if !is_record(&name) && !name.starts_with('.') {
                files.push((file.metadata().map_or(0, |metadata| metadata.len()), name));
            }
        }
        files.sort();
        files.into_iter().map(|(_, name)| name).collect()
    }

    /// Uploads that their life did not end.
    pub fn uploads(&self) -> Vec<NotedUpload> {
        noted_uploads(&self.folder)
    }

    /// Where the upload of `file` is noted while it is under way.
    pub fn upload_note(&self, file: &str) -> PathBuf {
        upload_note(&self.folder, file)
    }

    /// Notes what is sent by now, should this life end before all is.
    ///
    /// # Errors
    /// As writing a file does.
    pub fn note(&self, manifest: &serde_json::Value) -> Result<(), String> {
        let name = if self.is_whole { WAITING } else { PROGRESS };
        let bytes = serde_json::to_vec_pretty(manifest).map_err(|error| error.to_string())?;
        write_record(&self.folder, name, &bytes)
            .map_err(|error| format!("cannot write {name} in {}: {error}", self.folder.display()))
    }

    /// Once everything is sent.
    pub fn remove(self) {
        drop(fs::remove_file(self.folder.join(WAITING)));
        forget(&self.folder);
    }
}

/// The oldest event of a dead life.
pub fn waiting(spool: &Path) -> Option<Waiting> {
    let mut folders: Vec<PathBuf> = fs::read_dir(spool).ok()?.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    folders.into_iter().find_map(|folder| {
        // Whoever lives holds it.
        let lock = lock(&folder)?;
        let read = |name| serde_json::from_slice(&fs::read(folder.join(name)).ok()?).ok();
        let (manifest, is_whole) = match read(WAITING) {
            Some(manifest) => (manifest, true),
            None => (read(PROGRESS)?, false),
        };
        Some(Waiting { folder, manifest, is_whole, _lock: lock })
    })
}

/// What waits there. Bytes.
pub fn waiting_bytes(spool: &Path) -> u64 {
    files_in(spool).iter().map(|(.., size, _)| size).sum()
}

/// Whether it is no heap dump, when it was changed, its size, its path.
type SpoolFile = (bool, SystemTime, u64, PathBuf);

fn files_in(spool: &Path) -> Vec<SpoolFile> {
    let mut files = Vec::new();
    for folder in fs::read_dir(spool).into_iter().flatten().flatten() {
        for file in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            let Ok(metadata) = file.metadata() else { continue };
            let is_heap = is_dump(&file.file_name().to_string_lossy());
            let changed = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            // Heap dumps first, and of these the oldest.
            files.push((!is_heap, changed, metadata.len(), file.path()));
        }
    }
    files
}

/// Names that belong in front of a dump are small, and it is nothing without them.
fn is_dump(name: &str) -> bool {
    name.starts_with("heap") && name.contains(".hprof") && !name.contains("-names.")
}

/// Removes what is oldest and largest until no more than `limit` bytes wait; what went.
pub fn trim(spool: &Path, limit: u64) -> Vec<PathBuf> {
    let mut files = files_in(spool);
    files.sort();
    let mut total: u64 = files.iter().map(|(.., size, _)| size).sum();
    let mut gone = Vec::new();
    for (_, _, size, path) in files {
        if total <= limit {
            break;
        }
        let is_ours = path.file_name().is_some_and(|name| is_record(&name.to_string_lossy()));
        if !is_ours && fs::remove_file(&path).is_ok() {
            total = total.saturating_sub(size);
            gone.push(path);
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::super::Bundle;
    use super::*;

    #[test]
    fn what_a_dead_life_left_is_cleared_and_what_a_live_one_has_is_not() {
        let spool = std::env::temp_dir().join(format!("bookend-spool-{}", std::process::id()));
        let alive = Bundle::create(&spool, "alive").expect("made");
        let half = alive.open("half").expect("made").0;
        for name in ["dead", "dead-but-whole"] {
            let dead = Bundle::create(&spool, name).expect("made");
            drop(dead.open("half").expect("made"));
            if name == "dead-but-whole" {
                drop(dead.open("whole").expect("made"));
                dead.finish("whole", "whole").expect("finished");
            }
        }
        let lost = clear_unfinished(&spool);
        let [event] = lost.as_slice() else { panic!("{lost:?}") };
        assert_eq!((event.id.as_str(), event.kept.as_slice()), ("dead-but-whole", &["whole".to_owned()][..]));
        assert!(half.exists() && !spool.join("dead").exists());
        assert!(!spool.join("dead-but-whole/.half.unfinished").exists());
        fs::remove_dir_all(&spool).expect("removed");
    }

    #[test]
    fn the_oldest_heap_goes_first() {
        let spool = std::env::temp_dir().join(format!("bookend-trim-{}", std::process::id()));
        for (number, name) in ["a", "b"].iter().enumerate() {
            let folder = spool.join(name);
            fs::create_dir_all(&folder).expect("made");
            for (file, size) in [("threads-1.txt", 10), ("heap.hprof.zst", 1000), ("event.json", 5)] {
                fs::write(folder.join(file), vec![0; size]).expect("written");
                let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000 + number as u64);
                File::options()
                    .write(true)
                    .open(folder.join(file))
                    .expect("there")
                    .set_modified(time)
                    .expect("set");
            }
        }
        assert!(trim(&spool, 3000).is_empty());
        assert_eq!(trim(&spool, 1100), [spool.join("a/heap.hprof.zst")]);
        assert_eq!(trim(&spool, 100), [spool.join("b/heap.hprof.zst")]);
        assert!(spool.join("a/event.json").exists());
        fs::remove_dir_all(&spool).expect("removed");
    }
}
