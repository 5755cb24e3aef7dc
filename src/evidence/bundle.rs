//! One event's folder while it is made: in the spool, private, unfinished.

use super::manifest::{ArtifactRecord, Manifest};
use super::spool::lock;
use nix::fcntl::Flock;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// What is known of an event while it is captured: read by whoever comes after a
/// life that was cut short.
pub(super) const PROGRESS: &str = "event.json";

/// The manifest of an event whose files wait for their store.
pub(super) const WAITING: &str = "manifest.json";

/// Behind a file's name: what its upload is called while it is under way.
const UPLOAD: &str = ".upload";

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
        unfinished(&self.folder, name)
    }

    /// Opens the unfinished `name`; it must not be there.
    ///
    /// # Errors
    /// As opening it does.
    pub fn open(&self, name: &str) -> io::Result<(PathBuf, File)> {
        let path = self.unfinished(name);
        let file = create(&path)?;
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
        let written = write_record(&self.folder, PROGRESS, &manifest.to_bytes()?);
        written.map_err(|error| format!("cannot write {PROGRESS}: {error}"))
    }

    /// Where the upload of `file` is noted while it is under way: see [`note_upload`].
    pub fn upload_note(&self, file: &str) -> PathBuf {
        upload_note(&self.folder, file)
    }

    /// Uploads that were neither ended nor given up.
    pub fn uploads(&self) -> Vec<NotedUpload> {
        noted_uploads(&self.folder)
    }

    /// Leaves the folder with what did not get to its store, for a later life to send.
    ///
    /// # Errors
    /// As writing a file does.
    pub fn keep(self, manifest: &Manifest) -> Result<(), String> {
        let written = write_record(&self.folder, WAITING, &manifest.to_bytes()?);
        if written.is_ok() {
            // Not before it is written down that they were sent.
            self.remove_sent(manifest);
        }
        drop(fs::remove_file(self.folder.join(PROGRESS)));
        drop(self.lock);
        written.map_err(|error| format!("cannot write {WAITING}: {error}"))
    }

    /// Removes the files that are with the store.
    pub fn remove_sent(&self, manifest: &Manifest) {
        self.remove_files(manifest.artifacts.iter().filter(|record| record.is_stored));
    }

    /// Removes what these records name.
    pub fn remove_files<'a>(&self, records: impl IntoIterator<Item = &'a ArtifactRecord>) {
        for file in records.into_iter().filter_map(|record| record.file.as_ref()) {
            drop(fs::remove_file(self.folder.join(file)));
        }
    }

    /// Removes the folder once it is empty.
    pub fn remove(self) {
        drop(fs::remove_file(self.folder.join(PROGRESS)));
        for upload in self.uploads() {
            drop(fs::remove_file(upload.note));
        }
        drop(fs::remove_dir(&self.folder));
        drop(self.lock);
    }
}

fn unfinished(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!(".{name}.unfinished"))
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(PRIVATE_FILE).open(path)
}

/// Writes what is known of an event to `name`, over what was known before: whole or not at all.
pub(super) fn write_record(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let unfinished = unfinished(folder, name);
    // One left over from a life that was cut short.
    drop(fs::remove_file(&unfinished));
    create(&unfinished)?.write_all(bytes)?;
    fs::rename(&unfinished, folder.join(name))
}

/// Notes an upload under way: should we be killed, a later life goes on with it, or gives it up.
/// Whoever ends it removes the note.
///
/// `of`: the file that is sent, by its size, and the size of its parts; none of what comes as a
/// stream, with which nobody can go on.
pub fn note_upload(note: &Path, key: &str, id: &str, of: Option<(u64, usize)>) {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(PRIVATE_FILE).open(note);
    // Where it cannot be noted the store's own rules for unfinished uploads must do.
    let of = of.map(|(size, part)| format!("{size} {part}")).unwrap_or_default();
    drop(file.and_then(|mut file| writeln!(file, "{key}\n{id}\n{of}")));
}

/// Notes that a part has arrived, and what the store calls it.
pub fn note_part(note: &Path, index: usize, name: &str) {
    // One that is not noted is sent once more.
    let file = OpenOptions::new().append(true).open(note);
    drop(file.and_then(|mut file| file.write_all(format!("{index} {name}\n").as_bytes())));
}

/// An upload that somebody must go on with or give up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotedUpload {
    /// Where it is noted.
    pub note: PathBuf,
    pub key: String,
    /// What the store calls it.
    pub id: String,
    /// The size of the file that is sent, and of its parts. Bytes.
    pub of: Option<(u64, usize)>,
    /// Those that have arrived.
    pub parts: Vec<(usize, String)>,
}

impl NotedUpload {
    /// # Errors
    /// As reading it does.
    pub fn read(note: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(note)?;
        let mut lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        let (Some(key), Some(id)) = (lines.next(), lines.next()) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let of = lines.next().and_then(|sizes| sizes.split_once(' '));
        let of = of.and_then(|(size, part)| Some((size.parse().ok()?, part.parse().ok()?)));
        // Killed in the middle of a line: that part is sent once more.
        let parts = lines
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(index, name)| Some((index.parse().ok()?, name.to_owned())))
            .collect();
        Ok(Self { note: note.to_owned(), key: key.to_owned(), id: id.to_owned(), of, parts })
    }

    /// The file that is sent.
    pub fn file(&self) -> Option<PathBuf> {
        let name = self.note.file_name()?.to_str()?.strip_suffix(UPLOAD)?;
        Some(self.note.with_file_name(name))
    }
}

pub(super) fn noted_uploads(folder: &Path) -> Vec<NotedUpload> {
    let notes = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let notes = notes.filter(|note| note.to_string_lossy().ends_with(UPLOAD));
    notes.filter_map(|note| NotedUpload::read(&note).ok()).collect()
}

pub(super) fn upload_note(folder: &Path, file: &str) -> PathBuf {
    folder.join(format!("{file}{UPLOAD}"))
}

/// Whether it is ours, and no artifact.
pub(super) fn is_record(name: &str) -> bool {
    name == PROGRESS || name == WAITING || name.ends_with(UPLOAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_known_by_its_note() {
        let note = std::env::temp_dir().join(format!("bookend-{}.zst.upload", std::process::id()));
        note_upload(&note, "a/b.zst", "id", Some((15, 6)));
        note_part(&note, 0, "\"etag\"");
        note_part(&note, 2, "\"other\"");
        let mut file = OpenOptions::new().append(true).open(&note).expect("there");
        file.write_all(b"3 \"half").expect("written");
        let upload = NotedUpload::read(&note).expect("read");
        let parts = vec![(0, "\"etag\"".to_owned()), (2, "\"other\"".to_owned())];
        assert_eq!(upload.file(), Some(note.with_extension("")));
        assert_eq!(
            upload,
            NotedUpload {
                note: note.clone(),
                key: "a/b.zst".to_owned(),
                id: "id".to_owned(),
                of: Some((15, 6)),
                parts
            }
        );
        fs::remove_file(note).expect("removed");
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
