//! One event, from its trigger to its manifest.

use super::artifact::{HeapDump, Origin, capture_logs, capture_os, collect_crash};
use super::budget::Rates;
use super::ladder::{Ladder, push};
use super::storing::{Tail, rfc3339};
use super::who::Who;
use crate::config::Capture;
use crate::evidence::{self, ArtifactRecord, Bundle, Jvm, Lost, Manifest, Status};
use crate::facts::processes::Process;
use crate::jvm::{self, Counters, CrashFiles, Session};
use crate::output::Ring;
use crate::plan::{Evidence, Plan, Variables};
use crate::store::Store;
use crate::sys::process::{self, Pid};
use crate::sys::signals::Inherited;
use crate::units::Signal;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

/// A first attach gets at most this share of the time.
const FIRST_STEP_SHARE: u32 = 2;

/// What set an event off, and how long it may take.
#[derive(Clone, Debug)]
pub(super) struct Occasion {
    /// Counted from the agent's start.
    pub(super) number: u64,
    pub(super) trigger: &'static str,
    /// Indices of the rules that act: two rules, one event.
    pub(super) rules: Vec<usize>,
    /// The JVM is needed no longer than until then: a stop may come and shorten it.
    pub(super) capture_until: watch::Receiver<Instant>,
    /// Everything is stored by then: a stop shortens this too.
    pub(super) store_until: watch::Receiver<Instant>,
    pub(super) stop: Option<evidence::Stop>,
    pub(super) main_ended: Option<String>,
    /// Where the JVM writes when it dies.
    pub(super) crash_files: Option<CrashFiles>,
    /// It did not end when it was asked to, and is killed when this is over.
    pub(super) is_last: bool,
    /// Artifacts that an event just before has taken.
    pub(super) without: Vec<&'static str>,
}

impl Occasion {
    pub(super) fn until(&self) -> Instant {
        *self.capture_until.borrow()
    }

    pub(super) fn left(&self) -> Duration {
        self.until().saturating_duration_since(Instant::now())
    }

    /// Returns when the time is up, also if it was shortened meanwhile.
    pub(super) async fn is_over(&self) {
        let mut limit = self.capture_until.clone();
        loop {
            let until = *limit.borrow_and_update();
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                changed = limit.changed() => {
                    if changed.is_err() {
                        return tokio::time::sleep_until(until).await;
                    }
                }
            }
        }
    }
}

/// An event whose evidence is captured and not yet stored.
#[derive(Debug)]
pub(super) struct Captured {
    pub(super) number: u64,
    pub(super) store_until: watch::Receiver<Instant>,
    pub(super) bundle: Bundle,
    pub(super) manifest: Manifest,
    /// What was learnt of this machine.
    pub(super) rates: Rates,
    /// What is on its way to the store already.
    pub(super) tails: Vec<Tail>,
}

impl Captured {
    /// The artifacts that are whole, and those of which there is nothing: once more gives no more.
    pub(super) fn settled(&self) -> Vec<&'static str> {
        let is_settled =
            |record: &&ArtifactRecord| matches!(record.status, Status::Complete | Status::Absent);
        self.manifest.artifacts.iter().filter(is_settled).map(|record| record.artifact).collect()
    }
}

/// What an event is captured with.
#[derive(Clone, Debug)]
pub(super) struct Means<'a> {
    pub(super) plan: &'a Plan,
    pub(super) who: Who,
    /// By hooks.
    pub(super) exported: &'a Variables,
    pub(super) evidence: &'a Evidence,
    pub(super) store: Option<&'a Store>,
    pub(super) main: Option<Pid>,
    pub(super) session: Option<Session>,
    pub(super) ring: Option<&'a Ring>,
    pub(super) inherited: Inherited,
    pub(super) rates: Rates,
    /// Events of earlier lives that were cut short.
    pub(super) lost: Vec<Lost>,
}

/// Captures what the rules ask for.
///
/// # Errors
/// Why nothing could be captured at all.
pub(super) async fn capture(means: Means<'_>, occasion: Occasion) -> Result<Captured, String> {
    let Means { plan, who, exported, evidence, store, main, session, ring, inherited, mut rates, lost } =
        means;
    let began = SystemTime::now();
    let rules: Vec<_> = occasion.rules.iter().filter_map(|index| evidence.rules.get(*index)).collect();
    let wanted = if occasion.is_last {
        // Little time: what it does instead of ending.
        vec![Capture::Threads { times: 1, interval: Duration::ZERO }]
    } else {
        let wanted = union(rules.iter().flat_map(|rule| &rule.capture)).into_iter();
        wanted.filter(|capture| !occasion.without.contains(&capture.name())).collect()
    };
    let mut tails = Vec::new();
    let bundle = Bundle::create(&evidence.spool, &format!("{}-{}", compact(began), occasion.trigger))?;
    let service = evidence::Service {
        name: who.service.clone(),
        task: who.task.clone(),
        platform: plan.platform.name(),
        image_digest: who.image_digest.clone(),
        details: who.details.iter().cloned().collect(),
    };
    let event = evidence::Event {
        id: bundle.id(),
        trigger: occasion.trigger,
        rules: rules.iter().map(|rule| rule.name.clone()).collect(),
        began: rfc3339(began),
        captured: String::new(),
        stored: String::new(),
        main_ended: occasion.main_ended.clone(),
    };
    let mut manifest = Manifest::new(service, event);
    manifest.stop.clone_from(&occasion.stop);
    manifest.lost = lost;
    if let Err(error) = bundle.note_progress(&manifest) {
        warn!("{error}: if this event is cut short, nobody will know of it");
    }
    without_the_jvm(&wanted, plan, main, session.as_ref(), ring, &bundle, &occasion, &mut manifest).await;
    let first_for_jvm = Capture::Vm.rung();
    let asked: Vec<Capture> = wanted.into_iter().filter(|capture| capture.rung() >= first_for_jvm).collect();
    if !asked.is_empty() {
        let reached = tokio::select! {
            reached = reach(main, session, &occasion, &mut manifest) => reached,
            () = occasion.is_over() => Err("the time was up before it was attached to".to_owned()),
        };
        let (session, silence) = match reached {
            Ok(session) => (Some(session), None),
            Err(reason) => (None, Some(reason)),
        };
        match (&session, &silence) {
            (Some(session), _) => {
                manifest.jvm = Some(Jvm {
                    pid: session.target.pid.number(),
                    version: session.version.full.clone(),
                    name: session.version.name.clone(),
                });
            }
            (None, reason) => {
                let reason = reason.clone().unwrap_or_default();
                warn!("no evidence from the JVM: {reason}");
                manifest.jvm_missing = Some(reason);
            }
        }
        let alive = main.filter(|_| occasion.main_ended.is_none());
        let found = || alive.and_then(jvm::find).map(|target| target.pid);
        let jvm = session.as_ref().map(|session| session.target.pid).or_else(found);
        let mut ladder = Ladder {
            plan,
            exported,
            session: session.as_ref(),
            jvm,
            ring,
            inherited,
            bundle: &bundle,
            occasion: &occasion,
            rates: &mut rates,
            manifest: &mut manifest,
            store,
            tails: &mut tails,
        };
        ladder.climb(&asked, silence).await;
    }
    manifest.event.captured = rfc3339(SystemTime::now());
    Ok(Captured {
        number: occasion.number,
        store_until: occasion.store_until.clone(),
        bundle,
        manifest,
        rates,
        tails,
    })
}

/// Each artifact once, as the most demanding rule wants it, in the ladder's order.
fn union<'c>(captures: impl Iterator<Item = &'c Capture>) -> Vec<Capture> {
    let mut wanted: Vec<Capture> = Vec::new();
    for capture in captures {
        let known = wanted.iter_mut().find_map(|known| known.united(capture).map(|united| (known, united)));
        match known {
            Some((known, united)) => *known = united,
            None => wanted.push(capture.clone()),
        }
    }
    wanted.sort_by_key(Capture::rung);
    wanted
}

/// What needs nobody's cooperation, before the first word to the JVM.
#[expect(clippy::too_many_arguments, reason = "all that an event has, and the JVM has no part in")]
async fn without_the_jvm(
    wanted: &[Capture],
    plan: &Plan,
    main: Option<Pid>,
    session: Option<&Session>,
    ring: Option<&Ring>,
    bundle: &Bundle,
    occasion: &Occasion,
    manifest: &mut Manifest,
) {
    for capture in wanted {
        match capture {
            Capture::Os => {
                let found = || main.and_then(jvm::find).map(|target| target.pid);
                let pid = session.map(|session| session.target.pid).or_else(found).or(main);
                let pid = pid.filter(|_| occasion.main_ended.is_none());
                let counters = session.and_then(|session| Counters::read(&session.target));
                push(manifest, bundle, capture_os(pid, counters, bundle, "os.txt").await);
            }
            Capture::Logs => {
                let has_ended = occasion.main_ended.is_some();
                push(manifest, bundle, capture_logs(ring, has_ended, bundle).await);
            }
            Capture::Crash => {
                let is_dead = occasion.main_ended.is_some();
                let dump = HeapDump::of(plan, false, Origin::OutOfMemory);
                let files = occasion.crash_files.as_ref();
                let records = collect_crash(files, is_dead, &dump, bundle, occasion.is_over()).await;
                for record in records {
                    push(manifest, bundle, record);
                }
            }
            _ => {}
        }
    }
}

/// The session that is there, or a new one; else why there is none.
async fn reach(
    main: Option<Pid>,
    session: Option<Session>,
    occasion: &Occasion,
    manifest: &mut Manifest,
) -> Result<Session, String> {
    if let Some(ended) = &occasion.main_ended {
        return Err(format!("the JVM is gone: the main process ended ({ended})"));
    }
    let session = session.filter(|session| session.target.is_there());
    let target = match &session {
        Some(session) => session.target.clone(),
        None => {
            let main = main.ok_or("there is no main process")?;
            jvm::find(main).ok_or("there is no JVM under the main process")?
        }
    };
    match Process::read(target.pid).map(|process| process.state) {
        Some('T') if occasion.stop.is_some() => {
            let text = "the JVM was stopped (SIGSTOP): continued, since it is to end in any case";
            warn!("{text}");
            manifest.notes.push(text.to_owned());
            if let Err(error) = process::signal(target.pid, Signal::CONT) {
                return Err(format!("the JVM is stopped, and cannot be continued: {}", error.desc()));
            }
        }
        Some('T') => return Err("the JVM is stopped (SIGSTOP)".to_owned()),
        Some('t') => return Err("a debugger has stopped the JVM".to_owned()),
        _ => {}
    }
    if let Some(session) = session {
        return Ok(session);
    }
    let until = Instant::now() + occasion.left() / FIRST_STEP_SHARE;
    Session::open(target, until).await.map_err(|error| error.to_string())
}

/// `20261123T120311Z`: sorts by time, fits any file system.
fn compact(time: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.chars().filter(|c| !matches!(c, '-' | ':')).collect()
}
