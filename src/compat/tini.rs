//! `tini`, also by the name `docker-init`: the options of version 0.19
//! (`tini.c`, its README), and what scripts and the Docker engine read of it.

use super::init::{self, Behaviour, Trouble};
use super::{complain, say, variable};
use crate::sys::process::Status;
use crate::sys::signals::Inherited;
use crate::sys::spawn::Session;
use crate::units::Signal;
use nix::errno::Errno;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The Docker engine runs `docker-init --version` and reads "tini version X - git.Y".
const VERSION: &str = concat!("tini version 0.19.0 - git.bookend-", env!("CARGO_PKG_VERSION"), "\n");

const USAGE: &str = "\
tini (bookend)
Usage: tini [OPTIONS] PROGRAM -- [ARGS] | --version

Execute a program under the supervision of a valid init process

Command line options:

  --version: Show version and exit.
  -h: Show this help message and exit.
  -s: Register as a process subreaper.
  -p SIGNAL: Trigger SIGNAL when parent dies, e.g. \"-p SIGKILL\".
  -v: Generate more verbose output. Repeat up to 3 times.
  -w: Print a warning when processes are getting reaped.
  -g: Send signals to the child's process group.
  -e EXIT_CODE: Remap EXIT_CODE (from 0 to 255) to 0 (can be repeated).
  -l: Show license and exit.

Environment variables:

  TINI_SUBREAPER: Register as a process subreaper.
  TINI_VERBOSITY: Set the verbosity level (default: 1).
  TINI_KILL_PROCESS_GROUP: Send signals to the child's process group.
";

/// What the command line and the variables ask for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    is_subreaper: bool,
    to_group: bool,
    parent_death: Option<Signal>,
    verbosity: u8,
    remapped: Vec<u8>,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    Run(Options, Vec<OsString>),
    Say(String),
    Wrong(String),
}

pub(super) fn run(inherited: &Inherited, arguments: &[OsString], environment: &[(OsString, OsString)]) -> u8 {
    let (options, command) = match parse(arguments.get(1..).unwrap_or_default()) {
        Parsed::Run(options, command) => (options, command),
        Parsed::Say(text) => {
            say(&text);
            return 0;
        }
        Parsed::Wrong(text) => {
            complain(&text);
            return 1;
        }
    };
    let set = |name: &str| variable(environment, name).is_some();
    if let Some(signal) = options.parent_death
        && let Err(reason) = die_with_parent(signal)
    {
        complain(&format!("[FATAL tini ({})] {reason}\n", std::process::id()));
        return 1;
    }
    let is_pid_one = std::process::id() == 1;
    if options.is_subreaper || set("TINI_SUBREAPER") {
        if let Err(error) = nix::sys::prctl::set_child_subreaper(true) {
            complain(&format!(
                "[FATAL tini ({})] Failed to register as child subreaper: {}\n",
                std::process::id(),
                error.desc()
            ));
            return 1;
        }
    } else if !is_pid_one && verbosity(&options, environment) >= 1 {
        complain(&format!(
            "[WARN  tini ({})] Tini is not running as PID 1 and isn't registered as a child subreaper.\n\
             Zombie processes will not be re-parented to Tini, so zombie reaping won't work.\n\
             To fix the problem, use the -s option or set the environment variable TINI_SUBREAPER to register Tini as a child subreaper, or run Tini as PID 1.\n",
            std::process::id()
        ));
    }
    let behaviour = Behaviour {
        session: Session::Group,
        to_group: options.to_group || set("TINI_KILL_PROCESS_GROUP"),
        terminate_group: false,
        // It ignores what its own terminal would stop it with.
        rewrite: vec![(Signal::TTIN, None), (Signal::TTOU, None)],
        is_verbose: false,
        prefix: "",
    };
    let code = match init::run(&behaviour, &command, environment, inherited) {
        Ok(Status::Exited(code)) => code,
        Ok(status) => status.code(),
        Err(trouble) => return explain(&trouble, &command),
    };
    if options.remapped.contains(&code) { 0 } else { code }
}

fn verbosity(options: &Options, environment: &[(OsString, OsString)]) -> u8 {
    let base =
        variable(environment, "TINI_VERBOSITY").and_then(|text| text.to_str()?.parse().ok()).unwrap_or(1);
    options.verbosity.saturating_add(base)
}

fn explain(trouble: &Trouble, command: &[OsString]) -> u8 {
    let own = std::process::id();
    let name = command.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match trouble {
        Trouble::Signals(error) => {
            complain(&format!("[FATAL tini ({own})] Failed to receive signals: {}\n", error.desc()));
            1
        }
        Trouble::Spawn(failure) => {
            complain(&format!("[FATAL tini ({own})] exec {name} failed: {}\n", failure.error.desc()));
            match failure.error {
                Errno::ENOENT => 127,
                Errno::EACCES | Errno::ENOEXEC => 126,
                _ => 1,
            }
        }
    }
}

/// Asks for `signal` when the parent dies, and looks whether it already has.
fn die_with_parent(signal: Signal) -> Result<(), String> {
    let parent = nix::unistd::getppid();
    let named =
        nix::sys::signal::Signal::try_from(signal.number()).map_err(|error| error.desc().to_owned())?;
    nix::sys::prctl::set_pdeathsig(Some(named))
        .map_err(|error| format!("Failed to set up parent death signal: {}", error.desc()))?;
    if nix::unistd::getppid() == parent { Ok(()) } else { Err("Parent died already".to_owned()) }
}

/// Options end at the first word that is none, or at `--`.
fn parse(arguments: &[OsString]) -> Parsed {
    let mut options = Options::default();
    if arguments.len() == 1 && arguments.first().is_some_and(|only| only == "--version") {
        return Parsed::Say(VERSION.to_owned());
    }
    let mut words = arguments.iter();
    let mut command: Vec<OsString> = Vec::new();
    while let Some(word) = words.next() {
        if word == "--" {
            break;
        }
        let Some(letters) = word.as_bytes().strip_prefix(b"-").filter(|letters| !letters.is_empty()) else {
            command.push(word.clone());
            break;
        };
        let mut letters = letters.iter().copied();
        while let Some(letter) = letters.next() {
            match letter {
                b's' => options.is_subreaper = true,
                b'g' => options.to_group = true,
                b'v' => options.verbosity = options.verbosity.saturating_add(1),
                // Whom we reap is nobody's trouble; the warning has no text to rely on.
                b'w' => {}
                b'h' => return Parsed::Say(USAGE.to_owned()),
                b'l' => return Parsed::Say("Apache-2.0 (bookend)\n".to_owned()),
                b'p' | b'e' => {
                    let rest: Vec<u8> = letters.by_ref().collect();
                    let value =
                        if rest.is_empty() { words.next().cloned() } else { Some(OsString::from_vec(rest)) };
                    let Some(value) = value else {
                        return wrong(&format!("option requires an argument -- '{}'", char::from(letter)));
                    };
                    if let Err(text) = options.take(letter, &value) {
                        return Parsed::Wrong(text);
                    }
                }
                other => return wrong(&format!("invalid option -- '{}'", char::from(other))),
            }
        }
    }
    command.extend(words.cloned());
    // `tini -g -- -- command` and `tini program -- args` are both said.
    if command.is_empty() {
        return Parsed::Wrong(USAGE.to_owned());
    }
    Parsed::Run(options, command)
}

fn wrong(text: &str) -> Parsed {
    Parsed::Wrong(format!("tini: {text}\n{USAGE}"))
}

impl Options {
    fn take(&mut self, letter: u8, value: &OsStr) -> Result<(), String> {
        let text = value.to_string_lossy();
        let own = std::process::id();
        if letter == b'p' {
            let signal = Signal::parse(&text)
                .map_err(|_| format!("[FATAL tini ({own})] Not a valid option for -p: {text}\n"))?;
            self.parent_death = Some(signal);
        } else {
            let code = text
                .parse()
                .map_err(|_| format!("[FATAL tini ({own})] Not a valid option for -e: {text}\n"))?;
            self.remapped.push(code);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Parsed {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        parse(&words)
    }

    #[test]
    fn options_as_tini_takes_them() {
        let run = |line: &str| match parsed(line) {
            Parsed::Run(options, command) => {
                (options, command.join(OsStr::new(" ")).into_string().expect("text"))
            }
            other => panic!("{line}: {other:?}"),
        };
        let none = Options::default;
        assert_eq!(run("-- java -g"), (none(), "java -g".to_owned()));
        assert_eq!(run("java -c x"), (none(), "java -c x".to_owned()));
        assert_eq!(run("-g -- x"), (Options { to_group: true, ..none() }, "x".to_owned()));
        assert_eq!(
            run("-sgvv x"),
            (Options { is_subreaper: true, to_group: true, verbosity: 2, ..none() }, "x".to_owned())
        );
        let remapped = Options { remapped: vec![143, 3], ..none() };
        assert_eq!(run("-e 143 -e3 x"), (remapped, "x".to_owned()));
        let parent = Options { parent_death: Some(Signal::KILL), ..none() };
        assert_eq!(run("-p SIGKILL x"), (parent, "x".to_owned()));
        for line in ["", "--", "-g", "-q x", "-e 300 x", "-e", "-p NOPE x"] {
            assert!(matches!(parsed(line), Parsed::Wrong(_)), "{line}");
        }
        assert!(matches!(parsed("--version"), Parsed::Say(text) if text.starts_with("tini version ")));
    }
}
