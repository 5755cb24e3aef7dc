//! A directory as a store: `file:///var/lib/bookend`.

use crate::evidence::{PRIVATE_FILE, PRIVATE_FOLDER};
use nix::unistd::{AccessFlags, access};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// The store's root.
#[derive(Clone, Debug)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where `key` ends up.
    pub fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// Moves a finished file to `key`; it appears there whole or not at all.
    ///
    /// # Errors
    /// Which path, and why.
    pub fn put(&self, from: &Path, key: &str) -> Result<(), String> {
        let to = self.path(key);
        self.make_parent(&to)?;
        match fs::rename(from, &to) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                copy_whole(from, &to).map_err(|error| refused(&to, &error))
            }
            Err(error) => Err(refused(&to, &error)),
        }
    }

    /// Writes `bytes` to `key`; it appears there whole or not at all.
    ///
    /// # Errors
    /// Which path, and why.
    pub fn put_bytes(&self, bytes: &[u8], key: &str) -> Result<(), String> {
        let to = self.path(key);
        self.make_parent(&to)?;
        write_whole(&to, |file| io::Write::write_all(file, bytes)).map_err(|error| refused(&to, &error))
    }

    fn make_parent(&self, path: &Path) -> Result<(), String> {
        let parent = path.parent().unwrap_or(&self.root);
        DirBuilder::new()
            .recursive(true)
            .mode(PRIVATE_FOLDER)
            .create(parent)
            .map_err(|error| format!("cannot make the folder {}: {error}", parent.display()))
    }
}

/// Makes a directory for that user if it is not there; whether it did.
///
/// # Errors
/// As making it does.
pub fn make_for(folder: &Path, user: u32, group: u32) -> io::Result<bool> {
    if folder.try_exists()? {
        return Ok(false);
    }
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent)?;
    }
    DirBuilder::new().mode(PRIVATE_FOLDER).create(folder)?;
    // Not through a name that somebody may have replaced meanwhile.
    let made =
        OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(folder)?;
    fchown(&made, Some(user), Some(group))?;
    Ok(true)
}

/// Can the spool be written?
///
/// # Errors
/// Which folder cannot be made or written, and why.
pub fn look(spool: &Path) -> Result<(), String> {
    // Root's JVM may be somebody else, who has to get to the folder that it
    // is lent; names in there tell nothing.
    let mode = if nix::unistd::geteuid().is_root() { 0o711 } else { PRIVATE_FOLDER };
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(spool)
        .map_err(|error| format!("cannot make the folder {}: {error}", spool.display()))?;
    let owner = fs::symlink_metadata(spool).map_err(|error| refused(spool, &error))?;
    if !owner.is_dir() || ![0, nix::unistd::geteuid().as_raw()].contains(&owner.uid()) {
        return Err(format!(
            "{} is not a folder of ours (its owner is user {})",
            spool.display(),
            owner.uid()
        ));
    }
    access(spool, AccessFlags::W_OK)
        .map_err(|error| format!("cannot write to {}: {}", spool.display(), error.desc()))
}

fn copy_whole(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    write_whole(to, |file| io::copy(&mut source, file).map(drop))?;
    fs::remove_file(from)
}

fn write_whole(to: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = to.with_file_name(format!(".{name}.unfinished"));
    // One left over from a life that was cut short.
    drop(fs::remove_file(&unfinished));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE_FILE).open(&unfinished)?;
    let written = fill(&mut file).and_then(|()| fs::rename(&unfinished, to));
    if written.is_err() {
        drop(fs::remove_file(&unfinished));
    } else {
        // Against a power cut, as far as there is time: it is in its place already.
        drop(file.sync_all());
    }
    written
}

fn refused(path: &Path, error: &io::Error) -> String {
    format!("cannot write {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_and_writes_under_folders_that_it_makes() {
        let root = std::env::temp_dir().join(format!("bookend-store-{}", std::process::id()));
        let store = Directory::new(root.clone());
        store.put_bytes(b"one", "a/b/one").expect("written");
        let moved = root.join("moved");
        fs::write(&moved, b"two").expect("written");
        store.put(&moved, "a/b/two").expect("moved");
        assert_eq!(fs::read(store.path("a/b/one")).expect("there"), b"one");
        assert_eq!(fs::read(store.path("a/b/two")).expect("there"), b"two");
        assert!(!moved.exists());
        let error = store.put(&moved, "a/b/three").expect_err("gone");
        assert!(error.contains("three"), "{error}");
        fs::remove_dir_all(&root).expect("removed");
    }
}
