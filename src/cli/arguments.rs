//! What can be said on the command line.

use crate::config::{Format, Level};
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

const VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("BOOKEND_COMMIT"), ", ", env!("BOOKEND_TARGET"), ")");

const EXIT_CODES: &str = "\
Exit codes of `run`:
  the main process's own code, or 128 + the signal it died of
  126  a command cannot be run        240  command line or configuration is wrong
  127  a command was not found        241  preflight failed
  a failed hook's own code            242  a hook timed out
                                      243  the kernel refused what bookend needs
                                      244  a fault of bookend itself
                                      245  a helper process could not be kept";

/// The ENTRYPOINT of JVM containers: ordered hooks before the service,
/// supervision as PID 1, evidence and a clean stop after it.
#[derive(Debug, Parser)]
#[command(name = "bookend", version = VERSION, max_term_width = 100, disable_help_subcommand = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Run hooks, then COMMAND as the container's main process
    Run(Run),
    /// Validate a configuration; show every value and where it comes from
    Check(Check),
    /// Take threads, a histogram, the heap, a flight recording or all of it of a running JVM
    #[cfg(feature = "agent")]
    Dump(Dump),
    /// Send a running JVM any diagnostic command, without a JDK
    #[cfg(feature = "agent")]
    Jcmd(Jcmd),
    /// Redact a heap dump, or show what it amounts to
    #[cfg(feature = "agent")]
    Hprof(Hprof),
    /// Say whether the service is healthy: for HEALTHCHECK, ECS and exec probes
    #[cfg(feature = "agent")]
    Healthcheck(Healthcheck),
    /// Show phase, health, JVM, processes, rules, store and events of this container
    #[cfg(feature = "agent")]
    Status(Status),
    /// Show what happened in this container: health, captures, stops
    #[cfg(feature = "agent")]
    Events(EventsArguments),
    /// Keep this container for investigation: after a crash, or at a stop as long as it allows
    #[cfg(feature = "agent")]
    Hold(Hold),
    /// Take a stop's evidence now: for Kubernetes' preStop hook
    #[cfg(feature = "agent")]
    Prestop(Prestop),
    /// Stop a helper process and start it again
    #[cfg(feature = "agent")]
    Restart(Helper),
    /// Stop a helper process; it is not started again by itself
    #[cfg(feature = "agent")]
    Stop(Helper),
    /// Start a helper process that was stopped, or that is waited for
    #[cfg(feature = "agent")]
    Start(Helper),
    /// Convert supervisord.conf: the configuration on standard output, remarks on standard error
    Import(Import),
    /// End a hold
    #[cfg(feature = "agent")]
    Release,
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Run {
    #[command(flatten)]
    pub(super) source: Source,
    /// Form of log lines: human, json, auto (json unless on a terminal)
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    pub(super) log_format: Option<Format>,
    /// Least important line that is logged: error, warn, info, debug
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    pub(super) log_level: Option<Level>,
    /// The main process; wins over `main.command`
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

impl Run {
    /// Without any option.
    pub(super) fn plain(command: &[OsString]) -> Self {
        let source = Source { config: None, set: Vec::new() };
        Self { source, log_format: None, log_level: None, command: command.to_vec() }
    }
}

/// Where configuration comes from.
#[derive(Debug, Args)]
pub(super) struct Source {
    /// Configuration file [default: /etc/bookend.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Set one key over file and environment, e.g. --set stop.grace=45s
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes:\n  0    the configuration is good\n  240  it is not; every error is shown in its place"
)]
pub(super) struct Check {
    /// The file to check [default: what `run` would read]
    #[arg(value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// This is not the image that it is for: its users, platform and secrets are not looked for
    #[arg(long)]
    pub(super) elsewhere: bool,
    #[command(flatten)]
    pub(super) source: Source,
}

#[cfg(feature = "agent")]
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  bookend dump threads --to -\n  bookend dump heap --pid 42 --to /tmp\n  bookend dump heap --redact --compress\n  bookend dump all              to the store, as a rule would\n\nExit codes: 0 the dump is whole, 1 it is not"
)]
pub(super) struct Dump {
    /// What to take
    #[arg(value_enum)]
    pub(super) artifact: DumpArtifact,
    /// The JVM's process id [default: the only JVM there is]
    #[arg(long, value_name = "N")]
    pub(super) pid: Option<i32>,
    /// The folder to write to; `-` prints text to standard output [default: the current one; for `all`, the store]
    #[arg(long, value_name = "DIR")]
    pub(super) to: Option<PathBuf>,
    /// Take all values out of a heap dump: classes, references and sizes stay [default: as `[heap]` says]
    #[arg(long)]
    pub(super) redact: bool,
    /// A heap dump with all values and not encrypted, whatever `[heap]` says
    #[arg(long, conflicts_with = "redact")]
    pub(super) plain: bool,
    /// Compress a heap dump, with zstd if no FORMAT is given; Eclipse MAT opens gzip as it is [default: not at all]
    #[arg(long, value_enum, value_name = "FORMAT", num_args = 0..=1, require_equals = true, default_missing_value = "zstd")]
    pub(super) compress: Option<DumpFormat>,
    /// Where `[heap]` is, if no agent tells
    #[command(flatten)]
    pub(super) source: Source,
    /// Give up after this long
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub(super) timeout: std::time::Duration,
}

#[cfg(feature = "agent")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum DumpFormat {
    Zstd,
    Gzip,
}

#[cfg(feature = "agent")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum DumpArtifact {
    /// Stacks and locks of all threads
    Threads,
    /// Objects and bytes by class
    Histogram,
    /// Every object; the JVM stands still meanwhile
    Heap,
    /// What the running flight recording holds
    Jfr,
    /// All that rules would take
    All,
}

#[cfg(feature = "agent")]
#[derive(Debug, Args)]
#[command(
    override_usage = "bookend jcmd [OPTIONS] [PID] COMMAND [ARGUMENT]...",
    after_help = "Examples:\n  bookend jcmd help\n  bookend jcmd GC.class_histogram -all\n  bookend jcmd 42 Thread.print -l\n\nExit codes: 0 the JVM answered, 1 it did not, or does not know the command"
)]
pub(super) struct Jcmd {
    /// The diagnostic command and its arguments, behind the JVM's process id if there are several JVMs
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(super) words: Vec<String>,
    /// Give up after this long
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub(super) timeout: std::time::Duration,
}

#[cfg(feature = "agent")]
#[derive(Debug, Args)]
pub(super) struct Hprof {
    #[command(subcommand)]
    pub(super) verb: HprofVerb,
}

#[cfg(feature = "agent")]
#[derive(Debug, Subcommand)]
pub(super) enum HprofVerb {
    /// Show classes, arrays, duplicate texts, class loaders and stacks of a heap dump
    #[command(
        after_help = "Examples:\n  bookend hprof summary heap.hprof\n  bookend hprof summary heap.hprof.zst\n  aws s3 cp s3://evidence/heap.hprof.zst - | bookend hprof summary -\n\nExit codes: 0 the dump is whole, 1 it is broken or broken off; what was counted until there is shown"
    )]
    Summary {
        /// The dump; `-` is standard input
        #[arg(value_name = "FILE")]
        dump: PathBuf,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Take all values out of a heap dump: classes, references and sizes stay
    #[command(
        after_help = "Examples:\n  bookend hprof redact heap.hprof.zst safe.hprof\n  bookend hprof redact - - < heap.hprof | zstd > safe.hprof.zst\n\nExit codes: 0 done, 1 the dump is broken or broken off"
    )]
    Redact {
        /// The dump; `-` is standard input
        #[arg(value_name = "IN")]
        input: PathBuf,
        /// The new file; `-` is standard output
        #[arg(value_name = "OUT")]
        output: PathBuf,
        /// Only bytes and characters: numbers and flags stay
        #[arg(long)]
        only_strings: bool,
    },
    /// Make `heap.hprof` of `heap.hprof.zst` or `heap.hprof.gz`
    #[command(
        after_help = "Examples:\n  bookend hprof unpack heap.hprof.zst heap.hprof\n  aws s3 cp s3://evidence/heap.hprof.zst - | bookend hprof unpack - heap.hprof\n\nExit codes: 0 done, 1 the file is broken or broken off; what was unpacked until there is kept"
    )]
    Unpack {
        /// The compressed dump; `-` is standard input
        #[arg(value_name = "IN")]
        input: PathBuf,
        /// The new file; `-` is standard output
        #[arg(value_name = "OUT")]
        output: PathBuf,
    },
}

#[cfg(feature = "agent")]
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  HEALTHCHECK CMD [\"/bookend\", \"healthcheck\"]\n  bookend healthcheck tcp://127.0.0.1:8080\n\nExit codes: 0 healthy (or failing, and not yet unhealthy), 1 unhealthy or not ready"
)]
pub(super) struct Healthcheck {
    /// What must accept a connection [default: the configuration's own probe, as the agent sees it]
    #[arg(value_name = "tcp://HOST:PORT", value_parser = crate::config::Reachable::parse)]
    pub(super) address: Option<crate::config::Reachable>,
    #[command(flatten)]
    pub(super) source: Source,
    /// Answer healthy for at most that long while evidence of an unhealthy service is captured
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(super) hold_while_capturing: Option<std::time::Duration>,
    /// Give up after this long
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    pub(super) timeout: std::time::Duration,
}

#[cfg(feature = "agent")]
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 somebody answered, 1 nobody did")]
pub(super) struct Status {
    /// For programs
    #[arg(long)]
    pub(super) json: bool,
}

#[cfg(feature = "agent")]
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  bookend events --follow\n\nExit codes: 0 somebody answered, 1 nobody did"
)]
pub(super) struct EventsArguments {
    /// Go on with what happens from now on, until the container ends
    #[arg(long, short)]
    pub(super) follow: bool,
    /// For programs: a JSON object a line
    #[arg(long)]
    pub(super) json: bool,
}

#[cfg(feature = "agent")]
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  bookend hold 1h\n\nExit codes: 0 held, 1 nobody answered")]
pub(super) struct Hold {
    /// At most so long
    #[arg(value_name = "DURATION", default_value = "30m", value_parser = duration)]
    pub(super) duration: std::time::Duration,
}

#[cfg(feature = "agent")]
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 the supervisor was told, 1 it was not")]
pub(super) struct Helper {
    /// As `[[process]]` calls it
    #[arg(value_name = "NAME")]
    pub(super) name: String,
}

fn format(text: &str) -> Result<Format, String> {
    match text {
        "human" => Ok(Format::Human),
        "json" => Ok(Format::Json),
        "auto" => Ok(Format::Auto),
        _ => Err("write human, json or auto".to_owned()),
    }
}

fn level(text: &str) -> Result<Level, String> {
    match text {
        "error" => Ok(Level::Error),
        "warn" => Ok(Level::Warn),
        "info" => Ok(Level::Info),
        "debug" => Ok(Level::Debug),
        _ => Err("write error, warn, info or debug".to_owned()),
    }
}

#[cfg(feature = "agent")]
fn duration(text: &str) -> Result<std::time::Duration, String> {
    crate::units::parse_duration(text)
}

/// What `import` needs to know.
#[derive(Debug, Args)]
pub(super) struct Import {
    /// The program whose end is the container's, if it is not the only one or the only JVM
    #[arg(long, value_name = "NAME")]
    pub(super) main: Option<String>,
    /// supervisord.conf
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
}

/// What `prestop` needs to know.
#[cfg(feature = "agent")]
#[derive(Debug, Args)]
pub(super) struct Prestop {
    /// How long it may take; the grace period counts meanwhile
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = crate::units::parse_duration)]
    pub(super) timeout: std::time::Duration,
}
