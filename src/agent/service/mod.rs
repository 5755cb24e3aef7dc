//! The agent's event loop: facts in, deeds out, one event at a time.

mod operator;

use super::control;
use super::event::{self, Captured, Occasion, Stored};
use super::health::{Health, State};
use super::prober::Prober;
use super::rules::{Rules, Situation, Verdict};
use super::sampler::Sampler;
use super::status::EventStatus;
use super::warm;
use crate::config::{Measure, Trigger};
use crate::evidence;
use crate::facts::cgroup;
use crate::jvm::{CrashFiles, Session};
use crate::link::{Deed, Fact, MAXIMUM_SIZE};
use crate::plan::Plan;
use crate::sys::process::{self, Pid};
use crate::sys::signals::Inherited;
use crate::sys::{clock, socket};
use crate::units::{Moment, Signal, format_duration};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::time::{Duration, SystemTime};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// How often rules on bounds look at their measures.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(2);
/// An event that no stop cuts short may store for so long after its capture.
const STORE_TIME: Duration = Duration::from_mins(10);

/// How often the supervisor hears that the agent is not stuck.
const BEAT: Duration = Duration::from_secs(30);
/// `bookend status` shows so many.
const EVENTS_KEPT: usize = 20;

/// What is going on, and what is known.
struct Agent<'a> {
    plan: &'a Plan,
    link: &'a UnixStream,
    rules: Rules<'a>,
    prober: Option<&'a Prober>,
    health: Option<Health>,
    sampler: Sampler,
    measures: Vec<Measure>,
    main: Option<Pid>,
    main_started: SystemTime,
    /// Kills for want of memory before this main process.
    oom_kills: u64,
    crash_files: Option<CrashFiles>,
    session: Option<Session>,
    warming: Option<Pending<'a, Option<Session>>>,
    watching: Option<Pending<'a, ()>>,
    probing: Option<Pending<'a, Probed>>,
    next_probe: Option<Instant>,
    next_sample: Option<Instant>,
    capturing: Option<Pending<'a, Option<Captured>>>,
    /// Since when, and what set it off.
    captures: Option<(&'static str, Instant)>,
    storing: JoinSet<Stored>,
    /// The supervisor wants no more than what is under way.
    is_finishing: bool,
    events: VecDeque<EventStatus>,
    health_since: Instant,
    last_failure: Option<String>,
    held_until: Option<Instant>,
    stage: Stage,
    next_beat: Instant,
    /// When the running event must be done with the JVM.
    limit: watch::Sender<Instant>,
    /// When everything that is being stored must be.
    store_limit: watch::Sender<Instant>,
    /// How the main process ended, while an event ran.
    pending_end: Option<process::Status>,
    /// A capture ran when the probe that is under way began.
    is_probe_disturbed: bool,
    is_armed: bool,
}

/// How far the main process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Starting,
    Running,
    Stopping,
    Ended,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Ended => "ended",
        }
    }
}

/// One answer of the probe.
struct Probed {
    answer: Result<(), String>,
    took: Duration,
}

/// Serves until told to finish, or until the supervisor is gone.
pub(super) async fn serve(plan: &Plan, link: OwnedFd, for_children: Inherited) -> u8 {
    let link = match UnixStream::from_std(link.into()) {
        Ok(link) => link,
        Err(error) => {
            error!("the agent cannot listen to the supervisor: {error}");
            return crate::exit::KERNEL;
        }
    };
    if let Some(evidence) = &plan.evidence {
        event::look_at_store(evidence);
    }
    let prober = plan.health.as_ref().and_then(|health| match Prober::new(plan, health, for_children) {
        Ok(prober) => Some(prober),
        Err(reason) => {
            error!("the service cannot be probed: {reason}");
            None
        }
    });
    let mut requests = control::requests();
    say(&link, Deed::Ready);
    let rules = Rules::new(plan.evidence.as_ref().map_or(&[], |evidence| &evidence.rules));
    let mut agent = Agent {
        plan,
        link: &link,
        measures: rules.measures(),
        rules,
        prober: prober.as_ref(),
        health: None,
        sampler: Sampler::default(),
        main: None,
        main_started: SystemTime::now(),
        oom_kills: cgroup::oom_kills(),
        crash_files: None,
        session: None,
        warming: None,
        watching: None,
        probing: None,
        next_probe: None,
        next_sample: None,
        capturing: None,
        captures: None,
        storing: JoinSet::new(),
        is_finishing: false,
        events: VecDeque::new(),
        health_since: Instant::now(),
        last_failure: None,
        held_until: None,
        stage: Stage::Starting,
        next_beat: Instant::now() + BEAT,
        limit: watch::Sender::new(Instant::now()),
        store_limit: watch::Sender::new(Instant::now()),
        pending_end: None,
        is_probe_disturbed: false,
        is_armed: false,
    };
    loop {
        tokio::select! {
            fact = receive(&link) => match fact {
                None => return crate::exit::SUCCESS,
                Some(fact) => agent.learn(fact),
            },
            session = pending(&mut agent.warming) => agent.attached(session),
            () = pending(&mut agent.watching) => agent.lost(),
            probed = pending(&mut agent.probing) => agent.probed(&probed),
            () = due(agent.next_probe) => agent.probe(),
            () = due(agent.next_sample) => agent.sample(),
            captured = pending(&mut agent.capturing) => agent.captured(captured),
            Some(stored) = agent.storing.join_next() => agent.stored(stored.ok()),
            () = due(Some(agent.next_beat)) => agent.beat(),
            Some((stream, request)) = requests.recv() => {
                let text = agent.answer(request);
                // Its reader may be slow: not in this loop.
                tokio::spawn(control::answer(stream, text));
            }
        }
        // Half a manifest helps nobody: the supervisor ends us where it has no more time.
        if agent.is_finishing && agent.is_done() {
            return crate::exit::SUCCESS;
        }
    }
}

impl Agent<'_> {
    fn learn(&mut self, fact: Fact) {
        match fact {
            Fact::MainStarted { pid } => self.main_started(pid),
            Fact::StopRequested { signal, begun, evidence_until, deadline } => {
                self.stop(signal, begun.until(evidence_until), instant(evidence_until), instant(deadline));
            }
            Fact::MainEnded { status, asked } => {
                self.stage = Stage::Ended;
                self.rest();
                self.main_has_ended(status, asked);
                self.everything_is_stored();
            }
            Fact::Finish { by } => {
                self.is_finishing = true;
                self.shorten_store(instant(by));
            }
        }
    }

    fn main_started(&mut self, pid: Pid) {
        self.main = Some(pid);
        self.stage = Stage::Running;
        // File systems count time more coarsely than we do.
        self.main_started = SystemTime::now() - Duration::from_secs(2);
        if self.plan.evidence.is_some() {
            self.warming = Some(Box::pin(warm::attach(pid)));
        }
        if let Some(health) = self.plan.health.as_ref().filter(|_| self.prober.is_some()) {
            self.health = Some(Health::new(health.thresholds, clock::now()));
            self.next_probe = Some(Instant::now());
        }
        if !self.measures.is_empty() || self.rules.has(Trigger::OutOfMemory) {
            self.next_sample = Some(Instant::now() + SAMPLE_INTERVAL);
        }
    }

    /// Nothing more is watched.
    fn rest(&mut self) {
        self.warming = None;
        self.watching = None;
        self.probing = None;
        self.next_probe = None;
        self.next_sample = None;
    }

    fn attached(&mut self, session: Option<Session>) {
        self.warming = None;
        if let Some(session) = &session {
            self.crash_files = Some(CrashFiles::of(&session.target, self.main_started));
        }
        self.watching = session
            .as_ref()
            .map(|session| -> Pending<'_, ()> { Box::pin(warm::until_gone(session.target.clone())) });
        self.session = session;
    }

    /// The JVM is gone; another one may follow.
    fn lost(&mut self) {
        self.watching = None;
        self.session = None;
        self.warming = self.main.map(|main| -> Pending<'_, _> { Box::pin(warm::attach(main)) });
    }

    // ---- health ---------------------------------------------------------------------

    fn probe(&mut self) {
        let (Some(prober), Some(health)) = (self.prober, &self.plan.health) else { return };
        self.next_probe = None;
        let limit = health.timeout;
        self.is_probe_disturbed = self.capturing.is_some();
        self.probing = Some(Box::pin(async move {
            let begun = Instant::now();
            Probed { answer: prober.ask(limit).await, took: begun.elapsed() }
        }));
    }

    fn probed(&mut self, probed: &Probed) {
        self.probing = None;
        let interval = self.plan.health.as_ref().map_or(Duration::MAX, |health| health.interval);
        self.next_probe = Some(Instant::now() + interval.saturating_sub(probed.took));
        // A heap dump stops the world: what fails meanwhile is our own doing.
        if probed.answer.is_err() && (self.capturing.is_some() || self.is_probe_disturbed) {
            debug!("a probe failed while evidence is captured: it does not count");
            return;
        }
        let Some(health) = &mut self.health else { return };
        if let Err(reason) = &probed.answer {
            debug!("probe failed: {reason}");
            self.last_failure = Some(reason.clone());
        }
        let Some(state) = health.observe(probed.answer.is_ok(), clock::now()) else { return };
        self.health_since = Instant::now();
        let latency = format_duration(round(probed.took));
        match (state, &probed.answer) {
            (State::Healthy | State::Starting, _) => info!(latency, "health: {}", state.name()),
            (_, Err(reason)) => warn!(latency, "health: {}: {reason}", state.name()),
            (_, Ok(())) => warn!(latency, "health: {}", state.name()),
        }
        let trigger = match state {
            State::Failing => Some(Trigger::Failing),
            State::Unhealthy => Some(Trigger::Unhealthy),
            State::Starting | State::Healthy => None,
        };
        self.arm();
        if let Some(trigger) = trigger {
            let verdict = self.rules.happened(trigger, self.situation(), clock::now());
            self.act(trigger.name(), verdict);
        }
    }

    fn situation(&self) -> Situation {
        Situation {
            state: self.health.as_ref().map(|health| health.state),
            was_ready: self.health.as_ref().is_some_and(|health| health.was_ready),
        }
    }

    /// Tells the supervisor, when it changes, whether a stop has evidence to wait for.
    fn arm(&mut self) {
        let armed = !self.is_done() || self.rules.would_act_at_stop(self.situation());
        if armed != self.is_armed {
            self.is_armed = armed;
            say(self.link, if armed { Deed::Armed } else { Deed::Disarmed });
        }
    }

    fn sample(&mut self) {
        self.next_sample = Some(Instant::now() + SAMPLE_INTERVAL);
        if self.capturing.is_some() {
            return;
        }
        let now = clock::now();
        if self.crash_files.as_ref().and_then(CrashFiles::finished_heap_dump).is_some() {
            let verdict = self.rules.once(Trigger::OutOfMemory, self.situation(), now);
            self.act(Trigger::OutOfMemory.name(), verdict);
        }
        let target = self.session.as_ref().map(|session| &session.target);
        for (measure, value) in self.sampler.sample(&self.measures, target, now) {
            let verdict = self.rules.measured(measure, value, self.situation(), now);
            if !verdict.act.is_empty() {
                warn!("{} is at {value:.0}, above its bound", measure.name());
            }
            self.act(measure.name(), verdict);
        }
    }

    // ---- events ---------------------------------------------------------------------

    /// A trigger outside a stop: the rules that act make one event.
    fn act(&mut self, trigger: &'static str, verdict: Verdict) {
        for name in verdict.limited {
            info!("rule `{name}` does not act on \"{trigger}\": its limit is reached");
        }
        let Some(evidence) = self.plan.evidence.as_ref().filter(|_| !verdict.act.is_empty()) else { return };
        let rules = verdict.act.iter().filter_map(|index| evidence.rules.get(*index));
        let longest = rules.map(|rule| rule.deadline).max().unwrap_or_default();
        let until = Instant::now() + longest;
        self.begin(trigger, verdict.act, until, until + STORE_TIME, None, None);
    }

    fn stop(&mut self, signal: Signal, budget: Duration, until: Instant, deadline: Instant) {
        self.stage = Stage::Stopping;
        self.shorten_store(deadline);
        // Attaching goes on as part of the event, within its time.
        self.rest();
        if self.capturing.is_some() {
            // The running event is this stop's evidence, as far as there is time.
            self.limit.send_if_modified(|limit| {
                let shorter = until < *limit;
                *limit = until.min(*limit);
                shorter
            });
            return;
        }
        let verdict = self.rules.happened(Trigger::Stop, self.situation(), clock::now());
        if verdict.act.is_empty() {
            // What is being stored is this stop's evidence; it is waited for at the end.
            if !self.storing.is_empty() {
                return say(self.link, Deed::Captured);
            }
            // Healed in this very moment.
            self.is_armed = false;
            return say(self.link, Deed::Disarmed);
        }
        let stop = evidence::Stop {
            signal: signal.to_string(),
            grace: format_duration(self.plan.stop.grace),
            grace_source: self.plan.stop.grace_source.clone(),
            evidence_budget: format_duration(budget),
        };
        self.begin(Trigger::Stop.name(), verdict.act, until, deadline, Some(stop), None);
    }

    fn main_has_ended(&mut self, status: process::Status, asked: bool) {
        if asked || status.is_success() {
            return;
        }
        if self.capturing.is_some() {
            // Judged once that event is captured.
            self.pending_end = Some(status);
            return;
        }
        let now = clock::now();
        let mut verdict = self.rules.happened(Trigger::Exit, self.situation(), now);
        let mut trigger = Trigger::Exit;
        let mut ended = status.to_string();
        if let Some(reason) = self.out_of_memory(status) {
            trigger = Trigger::OutOfMemory;
            ended = format!("{ended}: out of memory ({reason})");
            warn!("the main process ended for want of memory: {reason}");
            verdict.act.extend(self.rules.happened(trigger, self.situation(), now).act);
        }
        let Some(evidence) = self.plan.evidence.as_ref().filter(|_| !verdict.act.is_empty()) else { return };
        let rules = verdict.act.iter().filter_map(|index| evidence.rules.get(*index));
        let until = Instant::now() + rules.map(|rule| rule.deadline).max().unwrap_or_default();
        self.begin(trigger.name(), verdict.act, until, until, None, Some(ended));
    }

    /// Whether that is why it ended, and who says so.
    fn out_of_memory(&self, status: process::Status) -> Option<&'static str> {
        if cgroup::oom_kills() > self.oom_kills && status.code() == crate::exit::of_signal(Signal::KILL) {
            return Some("the kernel killed it");
        }
        let files = self.crash_files.as_ref()?;
        if files.means_out_of_memory(status.code()) {
            return Some("-XX:+ExitOnOutOfMemoryError");
        }
        files.report_tells_of_memory().then_some("the JVM's own report")
    }

    fn begin(
        &mut self,
        trigger: &'static str,
        rules: Vec<usize>,
        until: Instant,
        store_until: Instant,
        stop: Option<evidence::Stop>,
        main_ended: Option<String>,
    ) {
        let Some(evidence) = &self.plan.evidence else { return };
        if self.capturing.is_some() {
            info!("{trigger}: an event is being captured already, and this is part of it");
            return;
        }
        self.limit.send_replace(until);
        let capture_until = self.limit.subscribe();
        self.store_limit.send_modify(|limit| *limit = store_until.max(*limit));
        if self.stage == Stage::Stopping {
            self.shorten_store(store_until);
        }
        let store_until = self.store_limit.subscribe();
        let crash_files = self.crash_files.clone();
        let occasion = Occasion { trigger, rules, capture_until, store_until, stop, main_ended, crash_files };
        info!(trigger, "capturing evidence");
        self.captures = Some((trigger, Instant::now()));
        if let Some(hold) = occasion.rules.iter().filter_map(|index| evidence.rules.get(*index)?.hold).max() {
            self.hold(hold);
        }
        let (plan, main, session) = (self.plan, self.main, self.session.clone());
        self.capturing = Some(Box::pin(event::capture(plan, evidence, main, session, occasion)));
        self.arm();
    }

    fn shorten_store(&self, until: Instant) {
        self.store_limit.send_modify(|limit| *limit = until.min(*limit));
    }

    fn captured(&mut self, captured: Option<Captured>) {
        self.capturing = None;
        self.captures = None;
        say(self.link, if captured.is_some() { Deed::Captured } else { Deed::NotCaptured });
        if let (Some(captured), Some(evidence)) = (captured, &self.plan.evidence) {
            let store = event::store(evidence);
            self.storing.spawn_blocking(move || event::store_all(&store, captured));
        }
        if let Some(status) = self.pending_end.take() {
            self.main_has_ended(status, false);
        }
        self.arm();
        self.everything_is_stored();
    }

    fn stored(&mut self, stored: Option<Stored>) {
        if let Some(stored) = stored {
            self.events.push_back(EventStatus {
                trigger: stored.trigger.to_owned(),
                path: stored.path.map(|path| path.display().to_string()),
                artifacts: stored.artifacts,
            });
            if self.events.len() > EVENTS_KEPT {
                self.events.pop_front();
            }
        }
        self.arm();
        self.everything_is_stored();
    }

    /// Once the main process is gone, the supervisor waits for this.
    fn everything_is_stored(&self) {
        if self.stage == Stage::Ended && self.is_done() {
            say(self.link, Deed::Stored);
        }
    }

    fn is_done(&self) -> bool {
        self.capturing.is_none() && self.storing.is_empty()
    }
}

/// When `moment` comes; never where there is none.
async fn due(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// To what a person wants to know.
fn round(span: Duration) -> Duration {
    Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

/// Waits for what is under way; for ever where nothing is.
async fn pending<T>(slot: &mut Option<Pending<'_, T>>) -> T {
    match slot {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

fn say(link: &UnixStream, deed: Deed) {
    if let Err(error) = socket::send_message(link, deed.encode(&mut [0; MAXIMUM_SIZE])) {
        debug!("cannot reach the supervisor: {}", error.desc());
    }
}

/// The next fact; `None` once the supervisor is gone.
async fn receive(link: &UnixStream) -> Option<Fact> {
    loop {
        link.readable().await.ok()?;
        let mut buffer = [0; MAXIMUM_SIZE];
        // A socket that keeps message borders: read by recv(2), not as a stream.
        let received = link.try_io(Interest::READABLE, || {
            socket::receive_message(link, &mut buffer).map_err(io::Error::from)
        });
        match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) | Ok(0) => return None,
            Ok(size) => {
                if let Some(fact) = buffer.get(..size).and_then(Fact::decode) {
                    return Some(fact);
                }
                error!("the supervisor said something that is no message");
            }
        }
    }
}

/// A moment of the common clock on the runtime's.
fn instant(moment: Moment) -> Instant {
    Instant::now() + clock::now().until(moment)
}
