//! Answering to the names of other inits.
//!
//! Called as `tini`, `docker-init` or `dumb-init` (a link or a copy), bookend
//! takes their options and variables and behaves as they promise: an existing
//! `ENTRYPOINT ["/tini", "-g", "--"]` only changes its COPY line. Nothing of
//! bookend's own is read or started. Their bugs are left out: no signal is lost
//! before the child is there, closed standard input is no error, option parsing
//! ends at the command, a main process stopped by Ctrl-Z is continued.

mod dumb_init;
mod init;
mod tini;

use crate::sys::descriptors;
use crate::sys::signals::Inherited;
use crate::sys::spawn::exit_now;
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// Whom we were called as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    Tini,
    DumbInit,
}

impl Name {
    /// From the first word of the command line.
    pub fn of(argument: &OsStr) -> Option<Self> {
        match Path::new(argument).file_name()?.to_str()? {
            "tini" | "tini-static" | "docker-init" => Some(Self::Tini),
            "dumb-init" => Some(Self::DumbInit),
            _ => None,
        }
    }
}

/// Plays that init to the end; its exit code.
pub fn run(
    name: Name,
    inherited: &Inherited,
    arguments: &[OsString],
    environment: &[(OsString, OsString)],
) -> ! {
    let code = match name {
        Name::Tini => tini::run(inherited, arguments, environment),
        Name::DumbInit => dumb_init::run(inherited, arguments, environment),
    };
    // All output is flushed; the kernel frees faster than we would.
    exit_now(code)
}

/// One variable of the environment.
fn variable<'e>(environment: &'e [(OsString, OsString)], name: &str) -> Option<&'e OsStr> {
    environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_os_str())
}

/// Writes to standard error, or not: nobody may be there, or nobody may read, and
/// an init waits for neither.
fn complain(text: &str) {
    let _unread = descriptors::write_without_waiting(descriptors::standard_error(), text.as_bytes());
}

/// Writes to standard output.
fn say(text: &str) {
    let mut output = std::io::stdout();
    drop(std::io::Write::write_all(&mut output, text.as_bytes()));
    drop(std::io::Write::flush(&mut output));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_by_the_last_part_of_the_path() {
        for (argument, name) in [
            ("/sbin/docker-init", Some(Name::Tini)),
            ("tini", Some(Name::Tini)),
            ("/usr/bin/dumb-init", Some(Name::DumbInit)),
            ("/bookend", None),
            ("/tini/bookend", None),
            ("", None),
        ] {
            assert_eq!(Name::of(OsStr::new(argument)), name, "{argument}");
        }
    }
}
