//! The ladder: what is asked of the JVM, in which order, and what is left out.
//!
//! Cheap and certain first, the heap last. Before each step the budget says what
//! still fits; a JVM that does not answer is asked nothing more, and what needs
//! nobody's answer takes its place.

use super::artifact::{
    GcLog, HeapDump, Origin, Remote, VM_COMMANDS, ask_by_quit, capture_answers, capture_files,
    capture_gc_log, capture_histogram, capture_os, capture_program, capture_recording, capture_threads,
    capture_virtual_threads, send_heap, stop_recording,
};
use super::budget::{Kind, Rates, Size, fitting};
use super::event::Occasion;
use super::last_resort;
use super::storing::{Tail, labels};
use crate::config::{Capture, LastResort, Recording};
use crate::evidence::{ArtifactRecord, Bundle, Manifest, Status};
use crate::facts::processes::{self, Process};
use crate::jvm::{Counters, Session};
use crate::output::Ring;
use crate::plan::{Plan, Variables};
use crate::store::Store;
use crate::sys::process::Pid;
use crate::sys::signals::Inherited;
use crate::units::{ByteSize, format_duration};
use std::time::Duration;
use tokio::time::Instant;
use tracing::{debug, info, warn};

/// A step gets at most this share of the time that is left, but for the last.
const STEP_SHARE: u32 = 2;
/// Where time is plenty: so many times what is expected, and at least that long.
const STEP_FACTOR: u32 = 10;
const STEP_LEAST: Duration = Duration::from_secs(5);
/// A gap between two thread dumps that must shrink still takes this share of the time.
const GAP_SHARE: u32 = 20;
/// Whether the JVM answers at all, after a step that failed.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// The same, where it is killed in a moment.
const LAST_SIGN: Duration = Duration::from_millis(150);
/// How long a thread dump on SIGQUIT may take.
const QUIT_PATIENCE: Duration = Duration::from_secs(3);

/// What an event is captured with.
pub(super) struct Ladder<'a> {
    pub(super) plan: &'a Plan,
    pub(super) exported: &'a Variables,
    pub(super) session: Option<&'a Session>,
    pub(super) jvm: Option<Pid>,
    pub(super) ring: Option<&'a Ring>,
    pub(super) inherited: Inherited,
    pub(super) bundle: &'a Bundle,
    pub(super) occasion: &'a Occasion,
    pub(super) rates: &'a mut Rates,
    pub(super) manifest: &'a mut Manifest,
    pub(super) store: Option<&'a Store>,
    pub(super) tails: &'a mut Vec<Tail>,
}

/// One thing to do.
#[derive(Clone, Debug)]
struct Step {
    work: Work,
    kind: Kind,
    /// At least so long, whatever is expected.
    own_time: Duration,
    name: &'static str,
}

#[derive(Clone, Debug)]
enum Work {
    Answers,
    Threads { number: u32, interval: Duration },
    VirtualThreads,
    Histogram { live: bool },
    GcLog { last: ByteSize },
    Command { line: String, number: usize },
    Files { pattern: String, last: ByteSize, number: usize },
    Program { command: Vec<String>, timeout: Duration, number: usize },
    Recording(Recording),
    Heap { live: bool },
}

impl Step {
    fn needs_jvm(&self) -> bool {
        !matches!(self.work, Work::Files { .. } | Work::Program { .. })
    }

    /// The file that it leaves if it is cut off.
    fn file(&self) -> Option<String> {
        Some(match &self.work {
            Work::Threads { number, .. } => format!("threads-{number}.txt"),
            Work::VirtualThreads => "threads.json".to_owned(),
            Work::Recording(_) => "recording.jfr".to_owned(),
            _ => return None,
        })
    }
}

/// The captures as single steps, in the ladder's order.
fn steps(wanted: &[Capture], feature: Option<u32>) -> Vec<Step> {
    let mut steps = Vec::new();
    for (index, capture) in wanted.iter().enumerate() {
        // Of those that a rule may name more than once.
        let same = |other: &&Capture| other.rung() == capture.rung();
        let number = wanted.iter().take(index).filter(same).count() + 1;
        let mut add = |work, kind, own_time| steps.push(Step { work, kind, own_time, name: capture.name() });
        match capture {
            // Taken before anybody is asked.
            Capture::Os | Capture::Logs | Capture::Crash => {}
            Capture::Vm => add(Work::Answers, Kind::Answers, Duration::ZERO),
            Capture::Threads { times, interval } => {
                for number in 1..=*times {
                    let kind = if number == 1 { Kind::FirstThreads } else { Kind::MoreThreads };
                    add(Work::Threads { number, interval: *interval }, kind, Duration::ZERO);
                }
                if feature.is_some_and(|feature| feature >= 21) {
                    add(Work::VirtualThreads, Kind::VirtualThreads, Duration::ZERO);
                }
            }
            Capture::Histogram { live } => {
                let kind = if *live { Kind::LiveHistogram } else { Kind::Histogram };
                add(Work::Histogram { live: *live }, kind, Duration::ZERO);
            }
            Capture::GcLog { last } => add(Work::GcLog { last: *last }, Kind::GcLog, Duration::ZERO),
            Capture::DiagnosticCommand(line) => {
                add(Work::Command { line: line.clone(), number }, Kind::Command, Duration::ZERO);
            }
            Capture::Files { pattern, last } => {
                let work = Work::Files { pattern: pattern.clone(), last: *last, number };
                add(work, Kind::Files, Duration::ZERO);
            }
            Capture::Program { command, timeout } => {
                let work = Work::Program { command: command.clone(), timeout: *timeout, number };
                add(work, Kind::Program, Duration::ZERO);
            }
            Capture::Recording(recording) => {
                let own_time = recording.start.as_ref().map_or(Duration::ZERO, |(_, time)| *time);
                add(Work::Recording(recording.clone()), Kind::Recording, own_time);
            }
            Capture::Heap { live } => {
                let kind = if *live { Kind::LiveHeap } else { Kind::Heap };
                add(Work::Heap { live: *live }, kind, Duration::ZERO);
            }
        }
    }
    steps
}

impl Ladder<'_> {
    /// Takes what fits of `wanted`. `silence` is why the JVM is not asked at all.
    pub(super) async fn climb(&mut self, wanted: &[Capture], mut silence: Option<String>) {
        let mut steps = steps(wanted, self.session.map(|session| session.version.feature));
        let size = self.size();
        let mut gc_log = self.begin_gc_log(&steps, silence.is_none()).await;
        let mut last_threads = None;
        while !steps.is_empty() {
            if let Some(reason) = &silence {
                self.skip_what_needs_the_jvm(&mut steps, reason);
            }
            let left = self.occasion.left();
            let costs: Vec<(Kind, Duration)> =
                steps.iter().map(|step| (step.kind, self.cost(step, size))).collect();
            let fits = fitting(&costs, left);
            let Some(next) = fits.iter().position(|fits| *fits) else {
                self.cut(&steps, size);
                break;
            };
            let step = steps.remove(next);
            if let Work::Threads { interval, .. } = step.work {
                let planned: Duration =
                    costs.iter().zip(&fits).filter(|(_, fits)| **fits).map(|((_, cost), _)| *cost).sum();
                let gaps = steps.iter().filter(|step| step.kind == Kind::MoreThreads).count() + 1;
                self.gap(last_threads, interval, left.saturating_sub(planned), gaps).await;
                last_threads = Some(Instant::now());
            }
            // Nothing is answered while the heap is dumped: not the end of a log either.
            if let Work::Heap { .. } = step.work {
                self.end_gc_log(&mut gc_log).await;
            }
            silence = self.take(step, size, gc_log.is_some()).await.or(silence);
        }
        self.end_gc_log(&mut gc_log).await;
        if let Some(reason) = silence {
            self.without_its_answer(&reason).await;
        }
    }

    /// Does one step; why the JVM answers nothing any more, if so.
    async fn take(&mut self, step: Step, size: Size, logs_gc: bool) -> Option<String> {
        let begun = Instant::now();
        let estimate = self.cost(&step, size);
        let patience = self.patience(estimate);
        let work = self.work(&step, patience, logs_gc);
        let mut is_cut = false;
        let ends_itself = matches!(step.work, Work::Heap { .. });
        let (records, tail) = tokio::select! {
            done = work => done,
            () = self.occasion.is_over(), if !ends_itself => {
                is_cut = true;
                // It may be lent to the JVM's user.
                drop(self.bundle.take_back());
                if let Some(file) = step.file() {
                    self.bundle.discard(&file);
                }
                let record = ArtifactRecord::failed(step.name, "cut off: the time was up", begun.elapsed());
                (vec![record.with_estimate(estimate)], None)
            }
        };
        self.tails.extend(tail);
        let is_complete = records.iter().all(|record| record.status == Status::Complete);
        let has_failed = records.iter().any(|record| record.status == Status::Failed);
        for record in records {
            self.push(record);
        }
        // What a dump ends with by itself at the end of the time has nothing to say of the JVM.
        is_cut |= ends_itself && self.occasion.left().is_zero();
        if is_complete {
            self.rates.learn(step.kind, size, begun.elapsed().saturating_sub(step.own_time));
        }
        if is_cut {
            // Out of time: nothing is known of whether it would answer.
            self.take_back_what_was_started(&step).await;
            return None;
        }
        // A text may be whole enough although the last question was not answered.
        let is_late = begun.elapsed() >= patience;
        if (has_failed || is_late) && step.needs_jvm() { self.silence().await } else { None }
    }

    /// A recording of ours would run on.
    async fn take_back_what_was_started(&self, step: &Step) {
        if let (Work::Recording(Recording { start: Some(_), .. }), Some(session)) = (&step.work, self.session)
        {
            stop_recording(session, Instant::now() + LAST_SIGN).await;
        }
    }

    /// How long a step may take before the JVM is taken to hang.
    fn patience(&self, estimate: Duration) -> Duration {
        (estimate * STEP_FACTOR).max(STEP_LEAST).min(self.occasion.left() / STEP_SHARE)
    }

    async fn work(
        &self,
        step: &Step,
        patience: Duration,
        logs_gc: bool,
    ) -> (Vec<ArtifactRecord>, Option<Tail>) {
        let (bundle, occasion) = (self.bundle, self.occasion);
        let until = Instant::now() + patience;
        let Some(session) = self.session else {
            return match &step.work {
                Work::Files { .. } | Work::Program { .. } => (self.local(step).await, None),
                _ => (Vec::new(), None),
            };
        };
        let record = match &step.work {
            Work::Answers => capture_answers(session, bundle, step.name, "vm.txt", VM_COMMANDS, until).await,
            Work::Threads { number, .. } => {
                capture_threads(session, bundle, &format!("threads-{number}.txt"), until).await
            }
            Work::VirtualThreads => capture_virtual_threads(session, bundle, until).await,
            Work::Histogram { live } => capture_histogram(session, bundle, *live, until).await,
            // It is being written.
            Work::GcLog { .. } if logs_gc => return (Vec::new(), None),
            Work::GcLog { last } => match capture_gc_log(session, bundle, *last) {
                Some(record) => record,
                None => return (Vec::new(), None),
            },
            Work::Command { line, number } => {
                let file = format!("jcmd-{number}.txt");
                capture_answers(session, bundle, step.name, &file, &[line.as_str()], until).await
            }
            Work::Files { .. } | Work::Program { .. } => return (self.local(step).await, None),
            Work::Recording(recording) => {
                let whole = until + recording.start.as_ref().map_or(Duration::ZERO, |(_, time)| *time);
                capture_recording(session, bundle, recording, whole.min(occasion.until())).await
            }
            Work::Heap { live } => {
                let dump = HeapDump::of(self.plan, *live, Origin::Asked);
                let (rates, until) = (&*self.rates, occasion.until());
                let remote = match self.store {
                    Some(Store::Bucket(bucket)) if bucket.takes_parts() => {
                        Some(Remote { bucket, folder: self.manifest.folder(), labels: labels(self.manifest) })
                    }
                    _ => None,
                };
                let over = occasion.is_over();
                return send_heap(session, bundle, &dump, remote.as_ref(), rates, until, over).await;
            }
        };
        (vec![record], None)
    }

    /// What needs no JVM.
    async fn local(&self, step: &Step) -> Vec<ArtifactRecord> {
        match &step.work {
            Work::Files { pattern, last, number } => {
                capture_files(self.bundle, pattern, *last, *number).await
            }
            Work::Program { command, timeout, number } => {
                let limit = (*timeout).min(self.occasion.left() / STEP_SHARE);
                let (plan, exported, jvm) = (self.plan, self.exported, self.jvm);
                let (inherited, bundle) = (self.inherited, self.bundle);
                vec![capture_program(plan, exported, jvm, inherited, bundle, command, limit, *number).await]
            }
            _ => Vec::new(),
        }
    }

    fn size(&self) -> Size {
        let counters = self.session.and_then(|session| Counters::read(&session.target));
        let process = self.jvm.and_then(Process::read);
        let heap = counters.as_ref().and_then(Counters::heap).map(|(used, _)| used);
        Size {
            heap: heap.filter(|used| *used > 0).or(process.as_ref().and_then(|process| process.resident)),
            threads: self.jvm.and_then(processes::thread_count),
        }
    }

    fn cost(&self, step: &Step, size: Size) -> Duration {
        self.rates.estimate(step.kind, size).saturating_add(step.own_time)
    }

    fn cut(&mut self, steps: &[Step], size: Size) {
        let left = self.occasion.left();
        for step in steps {
            let estimate = self.cost(step, size);
            let reason = format!(
                "it would take about {}, and there are {}",
                format_duration(estimate),
                format_duration(left)
            );
            self.push(ArtifactRecord::cut(step.name, reason, estimate, left));
        }
    }

    fn skip_what_needs_the_jvm(&mut self, steps: &mut Vec<Step>, reason: &str) {
        let (skipped, kept): (Vec<Step>, Vec<Step>) = steps.drain(..).partition(Step::needs_jvm);
        *steps = kept;
        let mut told = None;
        for step in skipped {
            // Three thread dumps that are not there are one line.
            if told.replace(step.name) != Some(step.name) {
                self.push(ArtifactRecord::skipped(step.name, reason));
            }
        }
    }

    /// Between two thread dumps: as long as the rule wants, as far as the rest of the plan leaves.
    async fn gap(&self, last: Option<Instant>, interval: Duration, slack: Duration, gaps: usize) {
        let Some(last) = last else { return };
        let share = slack / u32::try_from(gaps.max(1)).unwrap_or(1);
        let gap = interval.min(share.max(self.occasion.left() / GAP_SHARE));
        tokio::select! {
            () = tokio::time::sleep_until(last + gap) => {}
            () = self.occasion.is_over() => {}
        }
    }

    // ---- a JVM that does not answer --------------------------------------------------

    /// Why it answers nothing any more; `None` if it does.
    async fn silence(&self) -> Option<String> {
        let session = self.session?;
        if !session.target.is_there() {
            return Some("the JVM is gone".to_owned());
        }
        let patience = SIGN_OF_LIFE.min(self.occasion.left() / STEP_SHARE);
        let least = if self.occasion.is_last { LAST_SIGN } else { SIGN_OF_LIFE / 2 };
        if patience < least {
            // A question without time to answer it proves nothing.
            return None;
        }
        match session.text("VM.uptime", Instant::now() + patience).await {
            Ok(_) => None,
            Err(error) => {
                debug!("the JVM gives no sign of life: {error}");
                Some("the JVM did not answer before".to_owned())
            }
        }
    }

    /// What is left to do then: a SIGQUIT, a second look at its threads, and, where the
    /// rule wants it or it is killed in a moment anyway, its crash report.
    async fn without_its_answer(&mut self, reason: &str) {
        let Some(process) = self.jvm.and_then(Process::read).filter(|process| process.state != 'Z') else {
            return;
        };
        let is_last = self.occasion.is_last;
        if !is_last {
            self.look_from_outside(&process, reason).await;
        }
        // Whoever stopped it knows why; and it has to be the JVM still.
        let is_ours = self.session.is_none_or(|session| session.target.is_there());
        if !is_ours || (process.is_stopped() && !is_last) {
            return;
        }
        let rules = self.plan.evidence.iter().flat_map(|evidence| &evidence.rules).enumerate();
        let mut rules = rules.filter(|(index, _)| self.occasion.rules.contains(index));
        let is_asked = rules.any(|(_, rule)| rule.last_resort == Some(LastResort::CrashReport));
        if (is_asked || is_last)
            && let Some(files) = &self.occasion.crash_files
        {
            let until = self.occasion.until();
            let dump = HeapDump::of(self.plan, false, Origin::OutOfMemory);
            for record in last_resort::crash_report(process.pid, files, &dump, self.bundle, until).await {
                self.push(record);
            }
        }
    }

    async fn look_from_outside(&mut self, process: &Process, reason: &str) {
        let left = self.occasion.left();
        if !process.is_stopped() && !left.is_zero() {
            let until = Instant::now() + QUIT_PATIENCE.min(left / STEP_SHARE);
            let record = ask_by_quit(process.pid, self.ring, self.bundle, until).await;
            self.push(record);
        }
        let counters = self.session.and_then(|session| Counters::read(&session.target));
        let record = capture_os(Some(process.pid), counters, self.bundle, "os-without-answer.txt").await;
        self.push(record.with_note(&format!("its threads as the kernel sees them: {reason}")));
    }

    // ---- a GC log that runs beside the rest ------------------------------------------

    async fn begin_gc_log(&mut self, steps: &[Step], answers: bool) -> Option<GcLog> {
        let session = self.session.filter(|_| answers)?;
        let is_wanted = steps.iter().any(|step| matches!(step.work, Work::GcLog { .. }));
        if !is_wanted || !crate::jvm::gc_log_files(&session.target).is_empty() {
            return None;
        }
        match GcLog::begin(session, self.bundle).await {
            Ok(log) => Some(log),
            Err(record) => {
                self.push(record);
                None
            }
        }
    }

    async fn end_gc_log(&mut self, log: &mut Option<GcLog>) {
        if let (Some(log), Some(session)) = (log.take(), self.session) {
            let record = log.end(session, self.bundle).await;
            self.push(record);
        }
    }

    fn push(&mut self, record: ArtifactRecord) {
        push(self.manifest, self.bundle, record);
    }
}

/// Logs it, and notes it where it outlives us.
pub(super) fn push(manifest: &mut Manifest, bundle: &Bundle, record: ArtifactRecord) {
    let took = format_duration(Duration::from_millis(record.duration_ms));
    let artifact = record.artifact;
    let file = record.file.as_deref().unwrap_or_default();
    match (&record.reason, record.status) {
        (None, _) => info!(took, file, "{artifact} captured"),
        (Some(note), Status::Complete) => info!(took, file, note, "{artifact} captured"),
        (Some(reason), Status::Absent) => info!("{artifact}: nothing to take: {reason}"),
        (Some(reason), Status::Partial) => warn!(took, "{artifact} captured in part: {reason}"),
        (Some(reason), Status::Skipped) => warn!("{artifact} skipped: {reason}"),
        (Some(reason), Status::Failed) => warn!(took, "{artifact} not captured: {reason}"),
    }
    manifest.artifacts.push(record);
    if let Err(error) = bundle.note_progress(manifest) {
        debug!("{error}");
    }
}
