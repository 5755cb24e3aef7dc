//! One event's folder while it is made: in the spool, private, unfinished.

use super::manifest::{Lost, Manifest};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// What is known of an event while it is captured: read by whoever comes after a
/// life that was cut short.
const PROGRESS: &str = "event.json";

/// Dumps hold passwords: nobody else reads them.
pub const PRIVATE_FILE: u32 = 0o600;
/// The folder of such files.
pub const PRIVATE_FOLDER: u32 = 0o700;

/// A folder in the spool that one event fills.
#[derive(Debug)]
pub struct Bundle {
    folder: PathBuf,
    /// Held as long as we live: tells others that the folder is in use.
    lock: Option<Flock<File>>,
}

impl Bundle {
    /// Makes the folder `name` below `spool`, and `spool` if need be; a number
    /// is added where the name is taken.
    ///
    /// # Errors
    /// The folder and why it cannot be made.
    pub fn create(spool: &Path, name: &str) -> Result<Self, String> {
        let refused =
            |path: &Path, error: io::Error| format!("cannot make the folder {}: {error}", path.display());
        DirBuilder::new()
            .recursive(true)
            .mode(PRIVATE_FOLDER)
            .create(spool)
            .map_err(|error| refused(spool, error))?;
        for number in 1..1000 {
            let name = if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
            let folder = spool.join(name);
            match DirBuilder::new().mode(PRIVATE_FOLDER).create(&folder) {
                Ok(()) => {
                    let lock = lock(&folder);
                    return Ok(Self { folder, lock });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(refused(&folder, error)),
            }
        }
        Err(format!("cannot make a folder for {name} in {}: a thousand are there", spool.display()))
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder's own name: the event's id.
    pub fn id(&self) -> String {
        self.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Where `name` is while it is not whole.
    pub fn unfinished(&self, name: &str) -> PathBuf {
        self.folder.join(format!(".{name}.unfinished"))
    }

    /// Opens the unfinished `name`; it must not be there.
    ///
    /// # Errors
    /// As opening it does.
    pub fn open(&self, name: &str) -> io::Result<(PathBuf, File)> {
        let path = self.unfinished(name);
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(PRIVATE_FILE).open(&path)?;
        Ok((path, file))
    }

    /// Lets the JVM's user write here: a JVM writes its heap dump itself. For
    /// root, whose JVM is often somebody else.
    ///
    /// # Errors
    /// As changing the owner does.
    pub fn lend(&self, user: u32, group: u32) -> io::Result<()> {
        self.own(user, group)
    }

    /// Takes the folder back, before anything in it is trusted.
    ///
    /// # Errors
    /// As changing the owner does.
    pub fn take_back(&self) -> io::Result<()> {
        self.own(nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
    }

    /// By descriptor: the name may be somebody else's by now.
    fn own(&self, user: u32, group: u32) -> io::Result<()> {
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let folder = OpenOptions::new().read(true).custom_flags(flags).open(&self.folder)?;
        fchown(&folder, Some(user), Some(group))
    }

    /// Gives the unfinished `name` its final name, `as_name`, readable for its owner only.
    ///
    /// # Errors
    /// As renaming it does, or that it is not a plain file.
    pub fn finish(&self, name: &str, as_name: &str) -> io::Result<PathBuf> {
        let unfinished = self.unfinished(name);
        let path = self.folder.join(as_name);
        // A JVM wrote it, as its own user: no link of its making is followed.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&unfinished)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.nlink() != 1 {
            return Err(io::Error::other("it is not a plain file"));
        }
        file.set_permissions(fs::Permissions::from_mode(PRIVATE_FILE))?;
        fs::rename(&unfinished, &path)?;
        Ok(path)
    }

    /// Removes the unfinished `name`, and the segments that JDK 22 and later
    /// write beside it (`name.p0`, `name.p1`, …).
    pub fn discard(&self, name: &str) {
        let unfinished = self.unfinished(name);
        let Some(stem) = unfinished.file_name().map(|name| name.to_string_lossy().into_owned()) else {
            return;
        };
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&stem) {
                // What cannot be removed now is removed with the folder.
                drop(fs::remove_file(entry.path()));
            }
        }
    }

    /// Notes how far the event is, so that it is known if we are killed.
    ///
    /// # Errors
    /// As writing a file does.
    pub fn note_progress(&self, manifest: &Manifest) -> Result<(), String> {
        let unfinished = self.unfinished(PROGRESS);
        let bytes = manifest.to_bytes()?;
        drop(fs::remove_file(&unfinished));
        let written = self.open(PROGRESS).and_then(|(_, mut file)| {
            file.write_all(&bytes)?;
            fs::rename(&unfinished, self.folder.join(PROGRESS))
        });
        written.map_err(|error| format!("cannot write {PROGRESS}: {error}"))
    }

    /// Removes the folder once it is empty.
    pub fn remove(self) {
        drop(fs::remove_file(self.folder.join(PROGRESS)));
        drop(fs::remove_dir(&self.folder));
        drop(self.lock);
    }
}

/// `flock(2)` on a bundle's folder; `None` if somebody alive has it.
fn lock(folder: &Path) -> Option<Flock<File>> {
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
            } else if name != PROGRESS {
                kept.push(name);
            }
        }
        if fs::remove_dir(&folder).is_err() {
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

#[cfg(test)]
mod tests {
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
    fn a_link_is_not_finished() {
        let spool = std::env::temp_dir().join(format!("bookend-link-{}", std::process::id()));
        let bundle = Bundle::create(&spool, "x").expect("made");
        std::os::unix::fs::symlink("/etc/passwd", bundle.unfinished("heap")).expect("made");
        assert!(bundle.finish("heap", "heap").is_err());
        fs::remove_dir_all(&spool).expect("removed");
    }
}
