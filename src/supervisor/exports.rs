//! `$BOOKEND_ENV`: the file in which a hook leaves variables for what follows.
//!
//! The one thing of others' that the supervisor reads: bounded, line by line,
//! and a line that is not `NAME=value` is reported, not guessed at.

use crate::facts::users::Identity;
use crate::plan::Variables;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// No file may be longer. The kernel takes 128 KiB for one variable and a few
/// MiB for all (`execve(2)`).
const MAXIMUM_SIZE: u64 = 256 * 1024;

/// An empty file that one hook may write to. Removed when dropped.
#[derive(Debug)]
pub(super) struct ExportFile {
    path: PathBuf,
}

impl ExportFile {
    /// Makes it, owned by `identity`, in the first folder that can be written.
    ///
    /// # Errors
    /// The last folder's error, if none can.
    pub(super) fn create(base: &[(OsString, OsString)], identity: Option<&Identity>) -> io::Result<Self> {
        let temporary =
            base.iter().find(|(name, value)| name == "TMPDIR" && value.as_bytes().starts_with(b"/"));
        let folders = temporary
            .map(|(_, value)| PathBuf::from(value))
            .into_iter()
            .chain(["/tmp", "/dev/shm", "/run"].map(PathBuf::from));
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for folder in folders {
            for number in 0..100_u8 {
                let path = folder.join(format!(".bookend-env-{}-{number}", std::process::id()));
                let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
                match made {
                    Ok(file) => {
                        let this = Self { path };
                        if let Some(identity) = identity {
                            fchown(&file, Some(identity.user), Some(identity.group))?;
                        }
                        return Ok(this);
                    }
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
                    Err(error) => {
                        last = error;
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What the hook wrote, and what was wrong with it.
    pub(super) fn read(&self) -> (Variables, Vec<String>) {
        let mut bytes = Vec::new();
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&self.path)
            .and_then(|file: File| {
                if !file.metadata()?.is_file() {
                    return Err(io::Error::other("it is not a regular file any more"));
                }
                file.take(MAXIMUM_SIZE + 1).read_to_end(&mut bytes)
            });
        match opened {
            Err(error) => (Variables::new(), vec![format!("cannot read {}: {error}", self.path.display())]),
            Ok(size) if size as u64 > MAXIMUM_SIZE => (
                Variables::new(),
                vec![format!("more than {} KiB: nothing is exported", MAXIMUM_SIZE / 1024)],
            ),
            Ok(_) => parse(&bytes),
        }
    }
}

impl Drop for ExportFile {
    fn drop(&mut self) {
        // It may be gone already; nothing depends on it.
        drop(std::fs::remove_file(&self.path));
    }
}

fn parse(bytes: &[u8]) -> (Variables, Vec<String>) {
    let mut variables = Variables::new();
    let mut problems = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let mut parts = line.splitn(2, |byte| *byte == b'=');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next());
        let is_name = name.first().is_some_and(|first| first.is_ascii_alphabetic() || *first == b'_')
            && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        match value {
            Some(value) if is_name && !value.contains(&0) => {
                variables.insert(OsStr::from_bytes(name).to_owned(), OsString::from_vec(value.to_vec()));
            }
            // The value may be a secret: only the place is told.
            _ => problems.push(format!("line {} is not NAME=value", index + 1)),
        }
    }
    (variables, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lines_and_reports_the_others() {
        let (variables, problems) =
            parse(b"A=1\nB=x=y \xff\n\n# comment\nexport C=3\nno line\n=x\n1A=x\r\nD=\r\n");
        let names: Vec<&OsStr> = variables.keys().map(OsString::as_os_str).collect();
        assert_eq!(names, ["A", "B", "D"]);
        assert_eq!(variables.get(OsStr::new("B")).map(|value| value.as_bytes()), Some(&b"x=y \xff"[..]));
        assert_eq!(variables.get(OsStr::new("D")).map(|value| value.as_bytes()), Some(&b""[..]));
        assert_eq!(problems.len(), 4, "{problems:?}");
    }
}
