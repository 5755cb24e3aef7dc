//! What a JVM leaves behind when it dies: its own report, and the heap dump of an
//! OutOfMemoryError.
//!
//! Where: `vmError.cpp` (`VMError::prepare_log_file`: `-XX:ErrorFile`, else the
//! working directory, else `/tmp`) and `heapDumper.cpp` (`HeapDumper::dump_heap`:
//! `-XX:HeapDumpPath`, a file or a folder, else the working directory).

use super::options::options;
use super::{Session, Target, Version};
use crate::facts::processes;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where one JVM's would be: known while it lives, looked for when it is gone.
#[derive(Clone, Debug)]
pub struct CrashFiles {
    target: Target,
    version: Version,
    pid: i32,
    user: u32,
    folder: PathBuf,
    error_file: Option<String>,
    heap_dump_path: Option<PathBuf>,
    exits_on_oom: bool,
    /// Older files are another life's, with the same pid.
    since: SystemTime,
}

impl CrashFiles {
    /// Those of a JVM that must still be there; `since` is not after its start.
    pub fn of(session: &Session, since: SystemTime) -> Self {
        let target = &session.target;
        let options = options(target);
        let value = |name: &str| {
            let prefix = format!("-XX:{name}=");
            options.iter().rev().find_map(|option| option.strip_prefix(prefix.as_str())).map(str::to_owned)
        };
        Self {
            target: target.clone(),
            version: session.version.clone(),
            pid: target.inner_pid(),
            user: target.user,
            folder: processes::working_directory(target.pid),
            error_file: value("ErrorFile"),
            heap_dump_path: value("HeapDumpPath").map(PathBuf::from),
            exits_on_oom: options.iter().any(|option| option == "-XX:+ExitOnOutOfMemoryError"),
            since,
        }
    }

    /// It was told another path while it ran.
    pub fn dump_heap_to(&mut self, path: PathBuf) {
        self.heap_dump_path = Some(path);
    }

    /// The report of a crash (`hs_err_pidN.log`).
    pub fn report(&self) -> Option<PathBuf> {
        let name = format!("hs_err_pid{}.log", self.pid);
        let asked = self.error_file.as_ref().map(|pattern| {
            // `%p` is the pid, `%%` a percent sign (`vmError.cpp`, `expand_and_open`).
            let path = pattern.replace("%%", "\0").replace("%p", &self.pid.to_string()).replace('\0', "%");
            self.folder.join(path)
        });
        asked
            .into_iter()
            .chain([self.folder.join(&name), Path::new("/tmp").join(&name)])
            .find(|path| self.is_its(path))
    }

    /// The heap dump of an OutOfMemoryError.
    pub fn heap_dump(&self) -> Option<PathBuf> {
        let name = format!("java_pid{}.hprof", self.pid);
        let path = match &self.heap_dump_path {
            None => self.folder.join(name),
            Some(path) => {
                let path = self.folder.join(path);
                if path.is_dir() { path.join(name) } else { path }
            }
        };
        self.is_its(&path).then_some(path)
    }

    /// The core file, where the kernel writes one to a file system that is seen from here
    /// (`core(5)`): by a pattern with a pipe it is somebody else's.
    pub fn core(&self) -> Option<PathBuf> {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok();
        let pattern = read("core_pattern")?;
        let uses_pid = read("core_uses_pid").is_some_and(|flag| flag.trim() == "1");
        let name = core_glob(pattern.trim_end(), uses_pid, self.pid)?;
        let path = self.folder.join(name);
        glob::glob(path.to_str()?).ok()?.flatten().find(|path| self.is_its(path))
    }

    /// The JVM is there, and may write.
    pub fn is_alive(&self) -> bool {
        self.target.is_there()
    }

    pub fn version(&self) -> &Version {
        &self.version
    }

    /// That exit code would mean an OutOfMemoryError (`-XX:+ExitOnOutOfMemoryError`).
    pub fn means_out_of_memory(&self, exit_code: u8) -> bool {
        self.exits_on_oom && exit_code == 3
    }

    /// Opens one of them: `/tmp` is everybody's, so no link is followed, nothing waited
    /// for, and whose it is is looked at again.
    ///
    /// # Errors
    /// As opening it does, or that it is not the JVM's own plain file.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        self.open_with(path, OpenOptions::new().read(true))
    }

    /// The same, to give its blocks back behind the reader.
    ///
    /// # Errors
    /// As [`CrashFiles::open`].
    pub fn open_to_punch(&self, path: &Path) -> io::Result<File> {
        self.open_with(path, OpenOptions::new().read(true).write(true))
    }

    fn open_with(&self, path: &Path, options: &mut OpenOptions) -> io::Result<File> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = options.custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_file() && metadata.uid() == self.user {
            Ok(file)
        } else {
            Err(io::Error::other("it is not a plain file of the JVM's own"))
        }
    }

    /// The report tells of an OutOfMemoryError.
    pub fn report_tells_of_memory(&self) -> bool {
        let mut head = Vec::new();
        let read =
            self.report().and_then(|path| self.open(&path).ok()?.take(4096).read_to_end(&mut head).ok());
        read.is_some() && head.windows(11).any(|window| window == b"OutOfMemory")
    }

    /// A plain file of this life.
    fn is_its(&self, path: &Path) -> bool {
        std::fs::symlink_metadata(path).is_ok_and(|metadata| {
            metadata.is_file()
                && metadata.uid() == self.user
                && metadata.nlink() == 1
                && metadata.modified().is_ok_and(|modified| modified >= self.since)
        })
    }
}

/// The pattern as a glob: what is not known of the process may be anything.
fn core_glob(pattern: &str, uses_pid: bool, pid: i32) -> Option<String> {
    if pattern.starts_with('|') || pattern.is_empty() {
        return None;
    }
    let mut glob = String::new();
    let mut has_pid = false;
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '%' => match characters.next() {
                Some('%') => glob.push('%'),
                Some('p') => {
                    has_pid = true;
                    glob.push_str(&pid.to_string());
                }
                Some(_) => glob.push('*'),
                None => {}
            },
            '*' | '?' | '[' | ']' => glob.push_str(&glob::Pattern::escape(&character.to_string())),
            other => glob.push(other),
        }
    }
    if uses_pid && !has_pid {
        glob.push_str(&format!(".{pid}"));
    }
    Some(glob)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn core_files_by_the_kernels_pattern() {
        for (pattern, uses_pid, glob) in [
            ("core", false, Some("core")),
            ("core", true, Some("core.7")),
            ("/var/cores/%e-%p.core", true, Some("/var/cores/*-7.core")),
            ("100%%-[%t", false, Some("100%-[[]*")),
            ("|/usr/lib/systemd/systemd-coredump %P", false, None),
            ("", true, None),
        ] {
            assert_eq!(core_glob(pattern, uses_pid, 7).as_deref(), glob, "{pattern}");
        }
    }

    #[test]
    fn looks_where_the_jvm_was_told_to_write() {
        let folder = std::env::temp_dir().join(format!("bookend-crash-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("dumps")).expect("made");
        let own = i32::try_from(std::process::id())
            .ok()
            .and_then(crate::sys::process::Pid::from_number)
            .expect("a pid");
        let mut files = CrashFiles {
            target: Target::of(own).expect("a process"),
            version: Version { feature: 17, full: "17".to_owned(), name: String::new() },
            pid: 7,
            user: nix::unistd::geteuid().as_raw(),
            folder: folder.clone(),
            error_file: Some("report-%p-%%.log".to_owned()),
            heap_dump_path: Some("dumps".into()),
            exits_on_oom: true,
            since: SystemTime::now() - Duration::from_secs(5),
        };
        assert_eq!((files.report(), files.heap_dump()), (None, None));
        for name in ["report-7-%.log", "dumps/java_pid7.hprof", "hs_err_pid7.log"] {
            std::fs::write(folder.join(name), "x").expect("written");
        }
        assert_eq!(files.report(), Some(folder.join("report-7-%.log")));
        assert_eq!(files.heap_dump(), Some(folder.join("dumps/java_pid7.hprof")));
        files.error_file = None;
        assert_eq!(files.report(), Some(folder.join("hs_err_pid7.log")));
        files.since = SystemTime::now() + Duration::from_mins(1);
        assert_eq!(files.report(), None, "another life's");
        assert!(files.means_out_of_memory(3) && !files.means_out_of_memory(1));
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
