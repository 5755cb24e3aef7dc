//! `dumb-init`: the options of version 1.2.5 (`dumb-init.c`, its README).

use super::init::{self, Behaviour, Trouble};
use super::{complain, say, variable};
use crate::sys::signals::Inherited;
use crate::sys::spawn::Session;
use crate::units::Signal;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

const VERSION: &str = concat!("dumb-init v1.2.5 (bookend ", env!("CARGO_PKG_VERSION"), ")\n");

const USAGE: &str = "\
dumb-init (bookend)
Usage: dumb-init [option] command [[arg] ...]

dumb-init is a simple process supervisor that forwards signals to children.
It is designed to run as PID1 in minimal container environments.

Optional arguments:
   -c, --single-child   Run in single-child mode.
                        In this mode, signals are only proxied to the
                        direct child and not any of its descendants.
   -r, --rewrite s:r    Rewrite received signal s to new signal r before proxying.
                        To ignore (not proxy) a signal, rewrite it to 0.
                        This option can be specified multiple times.
   -v, --verbose        Print debugging information to stderr.
   -h, --help           Print this help message and exit.
   -V, --version        Print the current version and exit.
";

#[derive(Debug, PartialEq, Eq)]
struct Options {
    single_child: bool,
    is_verbose: bool,
    rewrite: Vec<(Signal, Option<Signal>)>,
    command: Vec<OsString>,
}

/// What to say, and the code to end with.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    text: String,
    code: u8,
}

pub(super) fn run(inherited: &Inherited, arguments: &[OsString], environment: &[(OsString, OsString)]) -> u8 {
    let mut options = match parse(arguments.get(1..).unwrap_or_default()) {
        Ok(options) => options,
        Err(Answer { text, code: 0 }) => {
            // Its version goes to standard error, its help to standard output.
            let tell = if text == USAGE { say } else { complain };
            tell(&text);
            return 0;
        }
        Err(Answer { text, code }) => {
            complain(&text);
            return code;
        }
    };
    options.is_verbose |= variable(environment, "DUMB_INIT_DEBUG").is_some_and(|value| value == "1");
    options.single_child |= variable(environment, "DUMB_INIT_SETSID").is_some_and(|value| value == "0");
    let mut rewrite = options.rewrite;
    if !options.single_child {
        // The group of a session of its own is orphaned: the kernel drops what a
        // terminal would stop it with (`setpgid(2)`), but not SIGSTOP.
        for signal in [Signal::TSTP, Signal::TTIN, Signal::TTOU] {
            if !rewrite.iter().any(|(from, _)| *from == signal) {
                rewrite.push((signal, Some(Signal::STOP)));
            }
        }
    }
    let behaviour = Behaviour {
        session: if options.single_child { Session::Shared } else { Session::Own },
        to_group: !options.single_child,
        terminate_group: !options.single_child,
        rewrite,
        is_verbose: options.is_verbose,
        prefix: "[dumb-init] ",
    };
    match init::run(&behaviour, &options.command, environment, inherited) {
        Ok(status) => status.code(),
        Err(trouble) => {
            let name =
                options.command.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let reason = match trouble {
                Trouble::Signals(error) => error.desc(),
                Trouble::Spawn(failure) => failure.error.desc(),
            };
            complain(&format!("[dumb-init] {name}: {reason}\n"));
            2
        }
    }
}

fn parse(arguments: &[OsString]) -> Result<Options, Answer> {
    let mut options =
        Options { single_child: false, is_verbose: false, rewrite: Vec::new(), command: Vec::new() };
    let mut words = arguments.iter();
    let wrong = |text: String| Answer { text, code: 1 };
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        if text == "--" {
            break;
        }
        if !word.as_bytes().starts_with(b"-") || text == "-" {
            options.command.push(word.clone());
            break;
        }
        let (name, mut value) = match text.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
            _ => (text.as_ref(), None),
        };
        match name {
            "--single-child" => options.single_child = true,
            "--verbose" => options.is_verbose = true,
            "--help" => return Err(Answer { text: USAGE.to_owned(), code: 0 }),
            "--version" => return Err(Answer { text: VERSION.to_owned(), code: 0 }),
            "--rewrite" => {
                value = value.or_else(|| words.next().map(|word| word.to_string_lossy().into_owned()));
                options.rewrite.push(rewriting(value.as_deref()).map_err(wrong)?);
            }
            name if name.starts_with("--") => {
                return Err(wrong(format!("dumb-init: unrecognized option '{name}'\n")));
            }
            letters => {
                let mut rest = letters.get(1..).unwrap_or_default();
                while let Some(letter) = rest.chars().next() {
                    rest = rest.get(letter.len_utf8()..).unwrap_or_default();
                    match letter {
                        'c' => options.single_child = true,
                        'v' => options.is_verbose = true,
                        'h' => return Err(Answer { text: USAGE.to_owned(), code: 0 }),
                        'V' => return Err(Answer { text: VERSION.to_owned(), code: 0 }),
                        'r' => {
                            let value = if rest.is_empty() {
                                words.next().map(|word| word.to_string_lossy().into_owned())
                            } else {
                                Some(rest.to_owned())
                            };
                            options.rewrite.push(rewriting(value.as_deref()).map_err(wrong)?);
                            break;
                        }
                        other => return Err(wrong(format!("dumb-init: invalid option -- '{other}'\n"))),
                    }
                }
            }
        }
    }
    options.command.extend(words.cloned());
    if options.command.is_empty() {
        let text = "Usage: dumb-init [option] program [args]\nTry dumb-init --help for full usage.\n";
        return Err(wrong(text.to_owned()));
    }
    Ok(options)
}

/// `15:3`, `15:0` (drop); numbers only, as there.
fn rewriting(text: Option<&str>) -> Result<(Signal, Option<Signal>), String> {
    let usage = || {
        "Usage: -r option takes <signum>:<signum>, where <signum> is between 1 and 31.\n\
         This option can be specified multiple times.\nUse --help for full usage.\n"
            .to_owned()
    };
    let (from, to) = text.and_then(|text| text.split_once(':')).ok_or_else(usage)?;
    let number = |text: &str| text.parse::<i32>().ok().filter(|number| (0..=31).contains(number));
    let (from, to) = (number(from).ok_or_else(usage)?, number(to).ok_or_else(usage)?);
    Ok((Signal::from_number(from).ok_or_else(usage)?, Signal::from_number(to)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, Answer> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        parse(&words)
    }

    #[test]
    fn options_as_dumb_init_takes_them() {
        let options = parsed("-cv -r 15:3 --rewrite 1:0 -r10:12 -- java -c x").expect("right");
        assert!(options.single_child && options.is_verbose);
        assert_eq!(
            options.rewrite,
            [(Signal::TERM, Some(Signal::QUIT)), (Signal::HUP, None), (Signal::USR1, Some(Signal::USR2))]
        );
        assert_eq!(options.command, ["java", "-c", "x"]);
        assert_eq!(parsed("sh -c x").expect("right").command, ["sh", "-c", "x"]);
        for line in ["", "-c", "-r", "-r 15 x", "-r TERM:3 x", "-r 15:32 x", "-q x", "--quiet x"] {
            assert_eq!(parsed(line).expect_err(line).code, 1, "{line}");
        }
        assert!(parsed("--version").expect_err("an answer").text.starts_with("dumb-init v"));
    }
}
