//! `bookend dump threads|histogram|heap|jfr|all`: evidence by hand.

use super::arguments::{Dump, DumpArtifact, Prestop};
use super::{client, operator, output, recipe};
use crate::agent::{
    ERROR, HEAP_SUMMARY, HeapDump, NOTHING, Origin, Rates, Request, capture_heap, capture_histogram,
    capture_recording, capture_threads,
};
use crate::config::Recording;
use crate::evidence::{ArtifactRecord, Bundle, Status};
use crate::exit;
use crate::jvm::Session;
use crate::units::{ByteSize, Recipe, format_duration};
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;
use tokio::time::{Instant, interval, sleep};

/// What takes longer than this shows that it goes on.
const PROGRESS_AFTER: Duration = Duration::from_secs(2);
/// Where each line stays.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// How often the agent is asked how far it is.
const LOOK: Duration = Duration::from_millis(50);

pub(super) fn dump(environment: Vec<(OsString, OsString)>, arguments: &Dump) -> u8 {
    let begun = client::Begun::default();
    match (&arguments.to, arguments.artifact) {
        (None, DumpArtifact::All)
            if arguments.redact
                || arguments.plain
                || arguments.compress.is_some()
                || arguments.pid.is_some() =>
        {
            output::error(
                "what goes to the store is as [heap] says, and of the service's own JVM: with --redact, \
                 --plain, --compress or --pid, name a folder too: --to /tmp",
            );
            exit::FAILURE
        }
        (None, DumpArtifact::All) => client::block_on(&begun, by_the_agent(Request::Dump, arguments.timeout)),
        (to, _) => {
            let to = to.clone().unwrap_or_else(|| PathBuf::from("."));
            client::block_on(&begun, take(environment, arguments, &to, &begun))
        }
    }
}

/// What a stop would capture, now; nothing where no rule asks for it. It never fails for want of
/// evidence: the kubelet would tell of a failed hook, and go on all the same.
pub(super) fn prestop(arguments: &Prestop) -> u8 {
    let begun = client::Begun::default();
    client::block_on(&begun, by_the_agent(Request::Prestop, arguments.timeout))
}

/// An event as a rule would set it off: to the store, without secrets, with a manifest.
async fn by_the_agent(request: Request, limit: Duration) -> Result<(), String> {
    let answer = operator::ask(&request)?;
    if answer == NOTHING {
        output::say("no rule asks for evidence at a stop like this\n");
        return Ok(());
    }
    if let Some(reason) = answer.strip_prefix(ERROR) {
        return Err(reason.trim_end().to_owned());
    }
    let number: u64 = answer.trim().parse().map_err(|_| format!("the agent's answer is none: {answer}"))?;
    let begun = Instant::now();
    let mut shown = Shown::default();
    loop {
        sleep(LOOK).await;
        let status = operator::fetch()?;
        if let Some(event) = status.events.iter().find(|event| event.number == number) {
            shown.end();
            let Some(path) = event.path.as_deref() else {
                let reason = event.trouble.as_deref().unwrap_or("the container's log says why");
                return Err(format!("{} artifacts, not stored: {reason}", event.artifacts));
            };
            output::say(&format!("{path}  ({} artifacts, {})\n", event.artifacts, took(begun)));
            return Ok(());
        }
        if begun.elapsed() > limit {
            shown.end();
            return Err("it goes on; `bookend status` tells when it is done".to_owned());
        }
        shown.at(begun, "capturing");
    }
}

async fn take(
    environment: Vec<(OsString, OsString)>,
    arguments: &Dump,
    to: &Path,
    begun: &client::Begun,
) -> Result<(), String> {
    let deadline = Instant::now() + arguments.timeout;
    let target = client::target(arguments.pid)?;
    let session = client::session(target, deadline).await?;
    if to == Path::new("-") {
        let command = match arguments.artifact {
            DumpArtifact::Threads => "Thread.print -l",
            DumpArtifact::Histogram => "GC.class_histogram -all",
            _ => return Err("only text can go to standard output: name a folder with --to".to_owned()),
        };
        return print(&session, command, deadline).await;
    }
    let takes_heap = matches!(arguments.artifact, DumpArtifact::Heap | DumpArtifact::All);
    let recipe =
        if takes_heap { recipe::of(environment, arguments, session.target.pid)? } else { Recipe::PLAIN };
    // The JVM writes its heap dump itself: into a folder that can be lent to its user.
    let bundle = Bundle::create(to, ".bookend-dump")?;
    if let Ok(mut paths) = begun.lock() {
        paths.push(bundle.folder().to_owned());
    }
    let every = [DumpArtifact::Threads, DumpArtifact::Histogram, DumpArtifact::Jfr, DumpArtifact::Heap];
    let wanted = match &arguments.artifact {
        DumpArtifact::All => &every[..],
        only => std::slice::from_ref(only),
    };
    let mut trouble = None;
    for artifact in wanted {
        let started = Instant::now();
        let (name, work) = begin(*artifact, &session, &bundle, recipe.clone(), deadline);
        let records = with_progress(work, &bundle.unfinished(&name)).await;
        for record in records {
            match finish(&record, &bundle, to) {
                Ok(path) => {
                    let bytes = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
                    let note = record.reason.map_or_else(String::new, |note| format!("; {note}"));
                    let (path, bytes, took) = (path.display(), ByteSize(bytes), took(started));
                    output::say(&format!("{path}  ({bytes}, {took}{note})\n"));
                }
                // One that is not there is no failure where everything is asked for.
                Err(reason) if wanted.len() > 1 && record.status == Status::Absent => {
                    output::complain(&format!("{}: left out: {reason}\n", record.artifact));
                }
                Err(reason) => {
                    let hint = if reason.contains("Permission denied") {
                        format!(
                            "; the JVM writes it as user {}, who must get to {}: try --to /tmp",
                            session.target.user,
                            to.display()
                        )
                    } else {
                        String::new()
                    };
                    trouble = Some(format!("{}: {reason}{hint}", record.artifact));
                }
            }
        }
    }
    bundle.remove();
    trouble.map_or(Ok(()), Err)
}

/// What came of it, in as many files as it has.
type Work<'a> = Pin<Box<dyn Future<Output = Vec<ArtifactRecord>> + 'a>>;

fn begin<'a>(
    artifact: DumpArtifact,
    session: &'a Session,
    bundle: &'a Bundle,
    recipe: Recipe,
    deadline: Instant,
) -> (String, Work<'a>) {
    let (name, work): (&str, Work<'a>) = match artifact {
        DumpArtifact::Threads | DumpArtifact::All => (
            "threads-1.txt",
            Box::pin(async move { vec![capture_threads(session, bundle, "threads-1.txt", deadline).await] }),
        ),
        DumpArtifact::Histogram => (
            "histogram.txt",
            Box::pin(async move { vec![capture_histogram(session, bundle, false, deadline).await] }),
        ),
        DumpArtifact::Jfr => (
            "recording.jfr",
            Box::pin(async move {
                vec![capture_recording(session, bundle, &Recording::default(), deadline).await]
            }),
        ),
        DumpArtifact::Heap => {
            let dump = HeapDump { live: false, recipe, keeps_partial: true, origin: Origin::Asked };
            let name = dump.file();
            let work = async move {
                let whole = std::future::pending();
                let records = capture_heap(session, bundle, &dump, &Rates::default(), deadline, whole).await;
                // Its summary is for stores: `bookend hprof summary` makes another.
                let (summaries, dumped): (Vec<_>, Vec<_>) =
                    records.into_iter().partition(|record| record.artifact == HEAP_SUMMARY);
                for file in summaries.iter().filter_map(|record| record.file.as_ref()) {
                    drop(std::fs::remove_file(bundle.folder().join(file)));
                }
                dumped
            };
            return (name, Box::pin(work));
        }
    };
    (name.to_owned(), work)
}

fn finish(record: &ArtifactRecord, bundle: &Bundle, to: &Path) -> Result<PathBuf, String> {
    let reason = || record.reason.clone().unwrap_or_default();
    match (&record.file, record.status) {
        (Some(file), Status::Complete) => keep(&bundle.folder().join(file), to, file),
        (Some(file), _) => keep(&bundle.folder().join(file), to, file)
            .and_then(|path| Err(format!("{}; what there is: {}", reason(), path.display()))),
        (None, _) => Err(reason()),
    }
}

async fn print(session: &Session, command: &str, deadline: Instant) -> Result<(), String> {
    let mut reply = session.command(command, deadline).await.map_err(|error| error.to_string())?;
    loop {
        let chunk = reply.chunk().await.map_err(|error| error.to_string())?;
        if chunk.is_empty() {
            return Ok(());
        }
        std::io::stdout().write_all(&chunk).map_err(|error| format!("cannot write it: {error}"))?;
    }
}

/// Moves the file out of the working folder, to a name that is not taken:
/// `heap.hprof`, `heap-2.hprof`; `threads-1.txt`, `threads-2.txt`.
fn keep(from: &Path, folder: &Path, name: &str) -> Result<PathBuf, String> {
    let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
    let stem = stem.strip_suffix("-1").unwrap_or(stem);
    let counted = name.contains("-1.");
    for number in 1..10_000 {
        let candidate = if number == 1 && !counted {
            format!("{stem}.{extension}")
        } else {
            format!("{stem}-{number}.{extension}")
        };
        let to = folder.join(candidate);
        // hard_link fails where the name is taken; rename would replace it.
        match std::fs::hard_link(from, &to) {
            Ok(()) => {
                drop(std::fs::remove_file(from));
                return Ok(to);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(format!("cannot move the dump to {}: {error}", to.display())),
        }
    }
    Err(format!("{} holds ten thousand of them", folder.display()))
}

fn took(begun: Instant) -> String {
    format_duration(begun.elapsed())
}

/// A line on standard error, after two seconds: on a terminal it is written over, elsewhere
/// there is another one now and then.
#[derive(Debug, Default)]
struct Shown(Option<Instant>);

impl Shown {
    fn at(&mut self, begun: Instant, text: &str) {
        let is_terminal = std::io::stderr().is_terminal();
        let every = if is_terminal { Duration::ZERO } else { LINE_EVERY };
        if begun.elapsed() < PROGRESS_AFTER || self.0.is_some_and(|last| last.elapsed() < every) {
            return;
        }
        self.0 = Some(Instant::now());
        let seconds = begun.elapsed().as_secs();
        output::complain(&if is_terminal {
            format!("\r{text}, {seconds}s ")
        } else {
            format!("{text}, {seconds}s\n")
        });
    }

    fn end(&self) {
        if self.0.is_some() && std::io::stderr().is_terminal() {
            output::complain("\n");
        }
    }
}

/// Shows how far it is.
async fn with_progress<T>(work: impl Future<Output = T>, path: &Path) -> T {
    tokio::pin!(work);
    let begun = Instant::now();
    let mut tick = interval(Duration::from_secs(1));
    let mut shown = Shown::default();
    loop {
        tokio::select! {
            done = &mut work => {
                shown.end();
                return done;
            }
            _ = tick.tick() => {
                let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
                shown.at(begun, &format!("{} written", ByteSize(bytes)));
            }
        }
    }
}
