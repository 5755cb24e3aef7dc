//! `bookend dump threads|heap`: evidence by hand.

use super::arguments::{Dump, DumpArtifact};
use super::{client, output};
use crate::agent::{capture_heap, capture_threads};
use crate::evidence::{Bundle, Status};
use crate::units::{ByteSize, format_duration};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, interval};

/// What takes longer than this shows that it goes on.
const PROGRESS_AFTER: Duration = Duration::from_secs(2);

pub(super) fn dump(arguments: &Dump) -> u8 {
    let begun = client::Begun::default();
    client::block_on(&begun, take(arguments, &begun))
}

async fn take(arguments: &Dump, begun: &client::Begun) -> Result<(), String> {
    let deadline = Instant::now() + arguments.timeout;
    let target = client::target(arguments.pid)?;
    let session = client::session(target, deadline).await?;
    if arguments.to == Path::new("-") {
        return match arguments.artifact {
            DumpArtifact::Heap => {
                Err("a heap dump cannot go to standard output: name a folder with --to".to_owned())
            }
            DumpArtifact::Threads => print_threads(&session, deadline).await,
        };
    }
    // The JVM writes its heap dump itself: into a folder that can be lent to its user.
    let bundle = Bundle::create(&arguments.to, ".bookend-dump")?;
    if let Ok(mut paths) = begun.lock() {
        paths.push(bundle.folder().to_owned());
    }
    let (name, work): (_, std::pin::Pin<Box<dyn Future<Output = _>>>) = match arguments.artifact {
        DumpArtifact::Threads => {
            ("threads-1.txt", Box::pin(capture_threads(&session, &bundle, "threads-1.txt", deadline)))
        }
        DumpArtifact::Heap => {
            ("heap.hprof", Box::pin(capture_heap(&session, &bundle, "heap.hprof", false, deadline)))
        }
    };
    let started = Instant::now();
    let record = with_progress(work, &bundle.unfinished(name)).await;
    let outcome = match (&record.file, record.status) {
        (Some(file), Status::Complete) => keep(&bundle.folder().join(file), &arguments.to, file),
        (Some(file), _) => keep(&bundle.folder().join(file), &arguments.to, file).and_then(|path| {
            Err(format!("{}; what there is: {}", record.reason.unwrap_or_default(), path.display()))
        }),
        (None, _) => Err(record.reason.unwrap_or_default()),
    };
    bundle.remove();
    let path = outcome?;
    let bytes = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
    let took = format_duration(started.elapsed());
    output::say(&format!("{}  ({}, {took})\n", path.display(), ByteSize(bytes)));
    Ok(())
}

async fn print_threads(session: &crate::jvm::Session, deadline: Instant) -> Result<(), String> {
    let mut reply = session.command("Thread.print -l", deadline).await.map_err(|error| error.to_string())?;
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

/// Shows on standard error, after two seconds and then each second, how far it is.
async fn with_progress<T>(work: impl Future<Output = T>, path: &Path) -> T {
    tokio::pin!(work);
    let begun = Instant::now();
    let mut tick = interval(Duration::from_secs(1));
    let mut shown = false;
    loop {
        tokio::select! {
            done = &mut work => {
                if shown {
                    output::complain("\n");
                }
                return done;
            }
            _ = tick.tick() => {
                if begun.elapsed() >= PROGRESS_AFTER {
                    let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
                    let line = format!("\r{} written, {}s ", ByteSize(bytes), begun.elapsed().as_secs());
                    output::complain(&line);
                    shown = true;
                }
            }
        }
    }
}
