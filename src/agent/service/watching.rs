//! What the agent looks at, and when: probes, measures, the JVM, the log, the clock.

use super::{Agent, Pending, Stage, due, pending, say};
use crate::agent::artifact::has_deadlock;
use crate::agent::health::{Health, State};
use crate::agent::journal::What;
use crate::agent::platform::Metadata;
use crate::agent::prober::Prober;
use crate::agent::rules::{Rules, Situation, Verdict};
use crate::agent::sampler::{Sampler, heap_from};
use crate::agent::warm;
use crate::config::{Measure, Trigger};
use crate::jvm::{CrashFiles, Session};
use crate::link::Deed;
use crate::output::Ring;
use crate::plan::{HealthPlan, Plan};
use crate::sys::clock;
use crate::units::{Moment, format_duration};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use tracing::{debug, info, warn};

/// How often rules on bounds, on the log and on the clock are looked at.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(2);
/// How often a JVM without counters is asked for its heap.
const HEAP_INTERVAL: Duration = Duration::from_secs(10);
/// For one such question, and for a look for deadlocks.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the platform is asked what it thinks of our health. ECS itself allows
/// 40 requests a second and task (task metadata endpoint, throttling).
const PLATFORM_INTERVAL: Duration = Duration::from_secs(10);

/// One answer of the probe.
pub(super) struct Probed {
    answer: Result<(), String>,
    took: Duration,
}

/// What was seen, or is due.
pub(super) enum Seen {
    JvmGone,
    ProbeDue,
    Probed(Probed),
    SampleDue,
    Heap(Option<(u64, u64)>),
    DeadlockDue,
    Deadlock(bool),
    PlatformDue,
    /// Whether it takes us for healthy, and its words; nothing if it does not say.
    Platform(Option<(bool, String)>),
}

/// What is looked at, and what is under way.
pub(super) struct Watch<'a> {
    plan: Option<&'a HealthPlan>,
    prober: Option<&'a Prober>,
    /// What the probe, or the platform, said last when it was not content.
    pub(super) last_failure: Option<String>,
    pub(super) health: Option<Health>,
    next_probe: Option<Instant>,
    probing: Option<Pending<'a, Probed>>,
    /// A capture ran when the probe that is under way began.
    is_probe_disturbed: bool,
    sampler: Sampler,
    measures: Vec<Measure>,
    samples: bool,
    next_sample: Option<Instant>,
    asking: Option<Pending<'a, Option<(u64, u64)>>>,
    next_ask: Option<Instant>,
    deadlock_interval: Option<Duration>,
    next_deadlock: Option<Instant>,
    looking: Option<Pending<'a, bool>>,
    jvm: Option<Pending<'a, ()>>,
    metadata: Option<Metadata>,
    next_platform: Option<Instant>,
    asking_platform: Option<Pending<'a, Option<(bool, String)>>>,
    ring: Option<&'a Ring>,
    /// How far the log was read.
    read_to: u64,
    minute: u64,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        prober: Option<&'a Prober>,
        rules: &Rules<'_>,
        ring: Option<&'a Ring>,
    ) -> Self {
        let measures = rules.measures();
        let samples = !measures.is_empty()
            || rules.has(|on| matches!(on, Trigger::OutOfMemory | Trigger::Log(_) | Trigger::Schedule(_)));
        Self {
            plan: plan.health.as_ref(),
            prober,
            last_failure: None,
            health: None,
            next_probe: None,
            probing: None,
            is_probe_disturbed: false,
            sampler: Sampler::default(),
            measures,
            samples,
            next_sample: None,
            asking: None,
            next_ask: None,
            deadlock_interval: rules.deadlock_interval(),
            next_deadlock: None,
            looking: None,
            jvm: None,
            metadata: Metadata::of(plan),
            next_platform: None,
            asking_platform: None,
            ring,
            read_to: ring.map_or(0, Ring::end),
            minute: minute(),
        }
    }

    /// The main process runs, since `since`.
    pub(super) fn begin(&mut self, since: Moment) {
        let now = Instant::now();
        if self.prober.is_some() || self.metadata.is_some() {
            self.health = Some(Health::new(self.plan.map(|plan| plan.thresholds).unwrap_or_default(), since));
        }
        self.next_probe = self.prober.map(|_| now);
        self.next_sample = self.samples.then(|| now + SAMPLE_INTERVAL);
        self.next_platform = self.metadata.as_ref().map(|_| now + PLATFORM_INTERVAL);
    }

    /// Nothing more is watched.
    pub(super) fn end(&mut self) {
        self.jvm = None;
        self.probing = None;
        self.asking = None;
        self.looking = None;
        self.asking_platform = None;
        self.next_probe = None;
        self.next_sample = None;
        self.next_ask = None;
        self.next_deadlock = None;
        self.next_platform = None;
    }

    pub(super) fn jvm_is_there(&mut self, session: &Session) {
        self.jvm = Some(Box::pin(warm::until_gone(session.target.clone())));
        self.sampler.renew();
        self.next_ask = Sampler::must_ask(&session.target, &self.measures).then(Instant::now);
        self.next_deadlock = self.deadlock_interval.map(|interval| Instant::now() + interval);
    }

    /// The next thing that is seen or due.
    pub(super) async fn next(&mut self) -> Seen {
        tokio::select! {
            () = pending(&mut self.jvm) => { self.jvm = None; Seen::JvmGone }
            probed = pending(&mut self.probing) => { self.probing = None; Seen::Probed(probed) }
            heap = pending(&mut self.asking) => { self.asking = None; Seen::Heap(heap) }
            found = pending(&mut self.looking) => { self.looking = None; Seen::Deadlock(found) }
            said = pending(&mut self.asking_platform) => { self.asking_platform = None; Seen::Platform(said) }
            () = due(self.next_probe) => Seen::ProbeDue,
            () = due(self.next_sample.into_iter().chain(self.next_ask).min()) => Seen::SampleDue,
            () = due(self.next_deadlock) => Seen::DeadlockDue,
            () = due(self.next_platform) => Seen::PlatformDue,
        }
    }

    fn probe(&mut self, is_disturbed: bool) {
        self.next_probe = None;
        let (Some(prober), Some(plan)) = (self.prober, self.plan) else { return };
        let limit = plan.timeout;
        self.is_probe_disturbed = is_disturbed;
        self.probing = Some(Box::pin(async move {
            let begun = Instant::now();
            Probed { answer: prober.ask(limit).await, took: begun.elapsed() }
        }));
    }

    /// What the service has printed since the last look, in whole lines.
    fn new_lines(&mut self) -> String {
        let Some(ring) = self.ring else { return String::new() };
        let Ok((first, bytes)) = ring.read_from(self.read_to) else { return String::new() };
        let Some(last) = bytes.iter().rposition(|byte| *byte == b'\n') else { return String::new() };
        self.read_to = first.saturating_add(last as u64 + 1);
        String::from_utf8_lossy(bytes.get(..last).unwrap_or_default()).into_owned()
    }
}

/// Minutes since 1970.
fn minute() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 60)
}

impl Agent<'_> {
    pub(super) fn seen(&mut self, seen: Seen) {
        match seen {
            Seen::JvmGone => self.lost(),
            Seen::ProbeDue => self.watch.probe(self.capturing.is_some()),
            Seen::Probed(probed) => self.probed(&probed),
            Seen::SampleDue => self.sample(),
            Seen::Heap(heap) => self.watch.sampler.asked_heap = heap,
            Seen::DeadlockDue => self.look_for_deadlock(),
            Seen::Deadlock(found) => self.looked_for_deadlock(found),
            Seen::PlatformDue => self.ask_platform(),
            Seen::Platform(said) => self.platform_said(said),
        }
    }

    // ---- health ---------------------------------------------------------------------

    fn probed(&mut self, probed: &Probed) {
        let interval = self.watch.plan.map(|plan| plan.interval);
        self.watch.next_probe =
            interval.map(|interval| Instant::now() + interval.saturating_sub(probed.took));
        // A heap dump stops the world: what fails meanwhile is our own doing.
        if probed.answer.is_err() && (self.capturing.is_some() || self.watch.is_probe_disturbed) {
            debug!("a probe failed while evidence is captured: it does not count");
            return;
        }
        let Some(health) = &mut self.watch.health else { return };
        if let Err(reason) = &probed.answer {
            debug!("probe failed: {reason}");
        }
        let changed = health.observe(probed.answer.is_ok(), clock::now());
        let latency = format_duration(probed.took);
        self.health_is(changed, probed.answer.as_ref().err().map(String::as_str), &latency);
    }

    fn ask_platform(&mut self) {
        self.watch.next_platform = None;
        if let Some(metadata) = self.watch.metadata.clone() {
            self.watch.asking_platform = Some(Box::pin(async move { metadata.health(PATIENCE).await }));
        }
    }

    fn platform_said(&mut self, said: Option<(bool, String)>) {
        self.watch.next_platform = Some(Instant::now() + PLATFORM_INTERVAL);
        let (Some((is_well, words)), Some(health)) = (said, &mut self.watch.health) else { return };
        if self.capturing.is_some() && !is_well {
            return;
        }
        let changed = health.told(is_well, clock::now());
        self.health_is(changed, (!is_well).then_some(&words), "none");
    }

    /// Health was looked at; `changed` is its new state, if it is another one.
    fn health_is(&mut self, changed: Option<State>, failure: Option<&str>, latency: &str) {
        if let Some(reason) = failure {
            self.watch.last_failure = Some(reason.to_owned());
        }
        let Some(state) = changed else { return };
        // The supervisor first: a stop may be as quick as whoever reads the log.
        self.arm();
        match (state, failure) {
            (State::Healthy | State::Starting, _) => info!(latency, "health: {}", state.name()),
            (_, Some(reason)) => warn!(latency, "health: {}: {reason}", state.name()),
            (_, None) => warn!(latency, "health: {}", state.name()),
        }
        self.journal.note(What::Health, state.name(), failure.unwrap_or_default());
        let trigger = match state {
            State::Failing => Some(Trigger::Failing),
            State::Unhealthy => Some(Trigger::Unhealthy),
            State::Starting | State::Healthy => None,
        };
        if let Some(trigger) = trigger {
            let verdict = self.rules.happened(&trigger, self.situation(), clock::now());
            self.act(trigger.name(), verdict, None);
        }
        if state == State::Healthy {
            say(self.link, Deed::Healthy);
        }
        self.wants_restart = state == State::Unhealthy && self.plan.main_restart.is_ever();
        self.restart_if_sick();
    }

    /// Once its evidence is captured.
    pub(super) fn restart_if_sick(&mut self) {
        if self.wants_restart && self.capturing.is_none() && self.stage == Stage::Running {
            self.wants_restart = false;
            say(self.link, Deed::RestartMain);
        }
    }

    pub(super) fn situation(&self) -> Situation {
        let health = self.watch.health.as_ref();
        Situation {
            state: health.map(|health| health.state),
            was_ready: health.is_some_and(|health| health.was_ready),
            exit_code: None,
        }
    }

    /// Tells the supervisor, when it changes, whether a stop has evidence to wait for.
    pub(super) fn arm(&mut self) {
        let would_act = !self.is_prestopped && self.rules.would_act_at_stop(self.situation());
        let armed = !self.is_done() || would_act;
        if armed != self.is_armed {
            self.is_armed = armed;
            say(self.link, if armed { Deed::Armed } else { Deed::Disarmed });
        }
    }

    // ---- measures, the log, the clock ---------------------------------------------------

    fn sample(&mut self) {
        let now = Instant::now();
        if self.watch.next_ask.is_some_and(|ask| ask <= now) {
            self.ask_heap();
        }
        if self.watch.next_sample.is_none_or(|sample| sample > now) {
            return;
        }
        self.watch.next_sample = Some(now + SAMPLE_INTERVAL);
        if self.capturing.is_some() {
            return;
        }
        let lines = self.watch.new_lines();
        let now = clock::now();
        let situation = self.situation();
        // Whatever comes together is one event, named by its first trigger.
        let mut found: Option<(&'static str, Verdict)> = None;
        let mut add = |name: &'static str, verdict: Verdict| {
            if verdict == Verdict::default() {
                return;
            }
            match &mut found {
                Some((_, known)) => known.join(verdict),
                None => found = Some((name, verdict)),
            }
        };
        if self.crash_files.as_ref().and_then(CrashFiles::heap_dump).is_some() {
            let verdict = self.rules.once(|on| *on == Trigger::OutOfMemory, situation, now);
            self.is_out_of_memory |= !verdict.act.is_empty();
            add(Trigger::OutOfMemory.name(), verdict);
        }
        let target = self.session.as_ref().map(|session| &session.target);
        let mut deadline = None;
        for (measure, value) in self.watch.sampler.sample(&self.watch.measures, target, now) {
            let verdict = self.rules.measured(measure, value, situation, now);
            if !verdict.act.is_empty() {
                warn!("{} is at {value:.0}, above its bound", measure.name());
                if measure == Measure::Memory {
                    deadline = self.watch.sampler.time_to_memory_limit();
                }
            }
            add(measure.name(), verdict);
        }
        let verdict = self.rules.printed(&lines, situation, now);
        if !verdict.act.is_empty() {
            info!("a line of the log matches");
        }
        add("log", verdict);
        let minute = minute();
        if minute > self.watch.minute {
            // Also those that an event has covered; no more than a day of a clock that was set.
            let first = (self.watch.minute + 1).max(minute.saturating_sub(24 * 60));
            self.watch.minute = minute;
            add("schedule", self.rules.minutes(&(first..=minute), situation, now));
        }
        if let Some((trigger, verdict)) = found {
            self.act(trigger, verdict, deadline);
        }
    }

    fn ask_heap(&mut self) {
        self.watch.next_ask = Some(Instant::now() + HEAP_INTERVAL);
        if self.capturing.is_some() {
            return;
        }
        let Some(session) = self.session.clone() else { return };
        self.watch.asking = Some(Box::pin(async move {
            let until = Instant::now() + PATIENCE;
            let info = session.text("GC.heap_info", until).await.ok()?;
            let flags = session.text("VM.flags", until).await.ok()?;
            heap_from(&info, &flags)
        }));
    }

    fn look_for_deadlock(&mut self) {
        self.watch.next_deadlock = None;
        if self.capturing.is_some() {
            return self.looked_for_deadlock(false);
        }
        let Some(session) = self.session.clone() else { return };
        self.watch.looking =
            Some(Box::pin(async move { has_deadlock(&session, Instant::now() + PATIENCE).await }));
    }

    fn looked_for_deadlock(&mut self, found: bool) {
        self.watch.next_deadlock = self.watch.deadlock_interval.map(|interval| Instant::now() + interval);
        if !found || self.capturing.is_some() {
            return;
        }
        let is = |on: &Trigger| matches!(on, Trigger::Deadlock { .. });
        let verdict = self.rules.once(is, self.situation(), clock::now());
        if !verdict.act.is_empty() {
            warn!("Java threads are deadlocked");
        }
        self.act("deadlock", verdict, None);
    }
}
