//! `bookend hprof ...`: heap dumps by hand, of any JVM, anywhere.

use super::arguments::{Hprof, HprofVerb};
use super::output;
use crate::exit;
use crate::hprof::{self, Structure, Unpacked};
use crate::units::{ByteSize, Redaction, Signal};
use signal_hook::flag::{register, register_conditional_shutdown};
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A dump in a file is as secret as the heap was.
const PRIVATE: u32 = 0o600;
/// Progress is told so often, on a terminal.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

pub(super) fn hprof(arguments: &Hprof) -> u8 {
    let is_interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The second one ends us at once, if the first cannot be noticed.
        let code = i32::from(exit::of_signal(Signal::INT));
        let now = register_conditional_shutdown(signal, code, Arc::clone(&is_interrupted));
        drop(now.and_then(|_| register(signal, Arc::clone(&is_interrupted))));
    }
    let open = |path: &Path| open(path, &is_interrupted);
    let done = match &arguments.verb {
        HprofVerb::Summary { dump, json } => summary(&open, dump, *json),
        HprofVerb::Redact { input, output, only_strings } => redact(&open, input, output, *only_strings),
        HprofVerb::Unpack { input, output } => unpack(&open, input, output),
    };
    match done {
        Ok(()) => exit::SUCCESS,
        Err(reason) => {
            output::error(&reason);
            exit::FAILURE
        }
    }
}

/// How a dump is opened.
type Open<'a> = &'a dyn Fn(&Path) -> Result<Unpacked<Dump>, String>;

fn summary(open: Open<'_>, dump: &Path, json: bool) -> Result<(), String> {
    let (structure, summary) = hprof::summarize(open(dump)?);
    if summary.objects == 0 && structure.is_err() {
        // No dump at all: there is nothing to show.
    } else if json {
        let text = serde_json::to_string_pretty(&summary).map_err(|error| error.to_string())?;
        output::say(&format!("{text}\n"));
    } else {
        output::say(&summary.to_string());
    }
    // What was counted before is shown all the same.
    whole(structure.map_err(|error| format!("{}: {error}", dump.display()))?, dump)
}

fn redact(open: Open<'_>, input: &Path, to: &Path, only_strings: bool) -> Result<(), String> {
    let how = if only_strings { Redaction::Strings } else { Redaction::Primitives };
    let from = open(input)?;
    if is_standard(to) {
        let structure = hprof::redact(from, io::stdout().lock(), how);
        return whole(structure.map_err(|error| format!("{}: {error}", input.display()))?, input);
    }
    let file = create(to)?;
    let structure = hprof::redact(from, file, how).map_err(|error| {
        drop(std::fs::remove_file(to));
        format!("{}: {error}", input.display())
    })?;
    output::complain(&format!(
        "{}: {} objects in {}\n",
        to.display(),
        structure.instances + structure.object_arrays + structure.primitive_arrays,
        ByteSize(structure.bytes)
    ));
    whole(structure, input)
}

fn unpack(open: Open<'_>, input: &Path, to: &Path) -> Result<(), String> {
    let mut from = open(input)?;
    if !from.is_packed() {
        return Err(format!("{} is neither zstd nor gzip: there is nothing to unpack", input.display()));
    }
    let broken = |error: io::Error| format!("{}: {error}", input.display());
    if is_standard(to) {
        return io::copy(&mut from, &mut io::stdout().lock()).map(drop).map_err(broken);
    }
    let mut file = create(to)?;
    let copied = copy(&mut from, &mut file);
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    match copied {
        Ok(()) => {
            output::complain(&format!("{}: {}\n", to.display(), ByteSize(size)));
            Ok(())
        }
        Err(Copying::Write(error)) => {
            drop(std::fs::remove_file(to));
            Err(format!("cannot write {}: {error}", to.display()))
        }
        Err(Copying::Read(error)) if size == 0 => {
            drop(std::fs::remove_file(to));
            Err(broken(error))
        }
        Err(Copying::Read(error)) => {
            Err(format!("{}; {} holds what comes before: {}", broken(error), to.display(), ByteSize(size)))
        }
    }
}

enum Copying {
    Read(io::Error),
    Write(io::Error),
}

fn copy(from: &mut impl Read, to: &mut File) -> Result<(), Copying> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                to.write_all(buffer.get(..count).unwrap_or_default()).map_err(Copying::Write)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Copying::Read(error)),
        }
    }
}

/// Never over what is there.
fn create(path: &Path) -> Result<File, String> {
    let file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(path);
    file.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => format!("{} is there already: name another file", path.display()),
        _ => format!("cannot make {}: {error}", path.display()),
    })
}

fn whole(structure: Structure, dump: &Path) -> Result<(), String> {
    if structure.has_end {
        return Ok(());
    }
    let (dump, bytes) = (dump.display(), structure.bytes);
    Err(format!("{dump} was broken off: it stops at byte {bytes}, between two records, without an end"))
}

fn is_standard(path: &Path) -> bool {
    path == Path::new("-")
}

fn open(path: &Path, is_interrupted: &Arc<AtomicBool>) -> Result<Unpacked<Dump>, String> {
    let refused = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let (input, size): (Box<dyn Read>, _) = if is_standard(path) {
        (Box::new(io::stdin().lock()), None)
    } else {
        let file = File::open(path).map_err(refused)?;
        let size = file.metadata().map_err(refused)?.len();
        (Box::new(file), Some(size))
    };
    let shows = io::stderr().is_terminal();
    let is_interrupted = Arc::clone(is_interrupted);
    let dump = Dump { input, size, read: 0, told: Instant::now(), shows, is_interrupted };
    Unpacked::new(dump).map_err(refused)
}

/// A dump that tells on a terminal how far it is, and ends at Ctrl-C.
struct Dump {
    input: Box<dyn Read>,
    size: Option<u64>,
    read: u64,
    told: Instant,
    shows: bool,
    is_interrupted: Arc<AtomicBool>,
}

impl Read for Dump {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_interrupted.load(Ordering::Relaxed) {
            return Err(io::Error::other("interrupted"));
        }
        let count = self.input.read(buffer)?;
        self.read = self.read.saturating_add(count as u64);
        if self.shows && self.told.elapsed() > PROGRESS_EVERY {
            self.told = Instant::now();
            let whole = self.size.map_or_else(String::new, |size| format!(" of {}", ByteSize(size)));
            output::complain(&format!("{}{whole}\n", ByteSize(self.read)));
        }
        Ok(count)
    }
}
