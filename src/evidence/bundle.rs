//! One event's folder while it is made: in the spool, private, unfinished.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Dumps hold passwords: nobody else reads them.
pub const PRIVATE_FILE: u32 = 0o600;
/// The folder of such files.
pub const PRIVATE_FOLDER: u32 = 0o700;

/// A folder in the spool that one event fills.
#[derive(Debug)]
pub struct Bundle {
    folder: PathBuf,
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
                Ok(()) => return Ok(Self { folder }),
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

    /// Opens the unfinished `name` for writing; it must not be there.
    ///
    /// # Errors
    /// As opening it does.
    pub fn open(&self, name: &str) -> io::Result<(PathBuf, File)> {
        let path = self.unfinished(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE_FILE).open(&path)?;
        Ok((path, file))
    }

    /// Gives the unfinished `name` its final name, `as_name`, readable for its owner only.
    ///
    /// # Errors
    /// As renaming it does.
    pub fn finish(&self, name: &str, as_name: &str) -> io::Result<PathBuf> {
        let unfinished = self.unfinished(name);
        let path = self.folder.join(as_name);
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(PRIVATE_FILE))?;
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

    /// Removes the folder once it is empty.
    pub fn remove(self) {
        drop(fs::remove_dir(&self.folder));
    }
}
