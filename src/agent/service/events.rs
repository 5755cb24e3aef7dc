//! Events: from a verdict to a capture, from a capture to the store.

use super::{Agent, EVENTS_KEPT, Stage, say};
use crate::agent::control;
use crate::agent::elsewhere::has_threads;
use crate::agent::event::{self, Captured, Means, Occasion};
use crate::agent::journal::What;
use crate::agent::notifying::{LAST_LIMIT, LIMIT, notify};
use crate::agent::rules::{Situation, Verdict};
use crate::agent::status::EventStatus;
use crate::agent::storing::{self, Spool, Stored};
use crate::config::{LastResort, Trigger};
use crate::evidence;
use crate::facts::cgroup;
use crate::link::Deed;
use crate::store::Store;
use crate::sys::{attributes, clock, process};
use crate::units::{Signal, format_duration};
use serde_json::json;
use std::os::unix::fs::FileExt;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

/// An event that no stop cuts short may store for so long after its capture.
const STORE_TIME: Duration = Duration::from_mins(10);
/// Even if the kernel is about to kill somebody: less makes no sense.
const SHORTEST: Duration = Duration::from_secs(2);
/// For a capture by hand: longer than one takes, and it ends by itself where nobody gives it back.
const MANUAL_PROTECTION: Duration = Duration::from_mins(30);
/// What the supervisor's last word has room for. Bytes.
const FAREWELL: usize = 3500;
/// A share of the time before the main process is killed is for storing.
const LAST_WORDS_SHARE: u32 = 2;

/// What an event is about, beside its rules.
#[derive(Default)]
struct About {
    stop: Option<evidence::Stop>,
    main_ended: Option<String>,
    is_last: bool,
    /// What a first event of the same stop has taken already.
    without: Vec<&'static str>,
}

/// A stop that came while an event ran.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingStop {
    signal: Signal,
    budget: Duration,
    until: Instant,
    deadline: Instant,
}

impl Agent<'_> {
    /// A trigger outside a stop: the rules that act make one event. `limit`: how long
    /// there is in any case, where that is known.
    pub(super) fn act(&mut self, trigger: &'static str, verdict: Verdict, limit: Option<Duration>) {
        for name in verdict.limited {
            info!("rule `{name}` does not act on \"{trigger}\": its limit is reached");
        }
        let Some(longest) = self.longest(&verdict.act) else { return };
        let time = limit.map_or(longest, |limit| longest.min(limit).max(SHORTEST));
        if time < longest {
            warn!(deadline = format_duration(time), "memory runs out: there is little time");
        }
        let until = Instant::now() + time;
        self.begin(trigger, verdict.act, until, until + STORE_TIME, About::default());
    }

    /// The longest deadline of these rules; none if none acts.
    fn longest(&self, rules: &[usize]) -> Option<Duration> {
        let evidence = self.plan.evidence.as_ref()?;
        rules.iter().filter_map(|index| Some(evidence.rules.get(*index)?.deadline)).max()
    }

    pub(super) fn stop(&mut self, signal: Signal, budget: Duration, until: Instant, deadline: Instant) {
        self.stop_deadline = Some(deadline);
        self.journal.note(What::Stop, "stop requested", &signal.to_string());
        self.shorten_store(deadline);
        if self.stage == Stage::Ended {
            // Its end came first: what is captured of that has less time now.
            return self.shorten_capture(deadline);
        }
        self.stage = Stage::Stopping;
        // Attaching goes on as part of the event, within its time.
        self.rest();
        if self.capturing.is_some() {
            // The running event is this stop's evidence, as far as there is time.
            self.shorten_capture(until);
            self.pending_stop = Some(PendingStop { signal, budget, until, deadline });
            return;
        }
        let verdict = if self.is_prestopped {
            Verdict::default()
        } else {
            self.rules.happened(&Trigger::Stop, self.situation(), clock::now())
        };
        if verdict.act.is_empty() {
            // What is being stored is this stop's evidence; it is waited for at the end.
            if !self.storing.is_empty() {
                return say(self.link, Deed::Captured);
            }
            // Healed in this very moment.
            self.is_armed = false;
            return say(self.link, Deed::Disarmed);
        }
        let about = About { stop: Some(self.stop_record(signal, budget)), ..About::default() };
        self.begin(Trigger::Stop.name(), verdict.act, until, deadline, about);
    }

    fn stop_record(&self, signal: Signal, budget: Duration) -> evidence::Stop {
        evidence::Stop {
            signal: signal.to_string(),
            grace: format_duration(self.plan.stop.grace),
            grace_source: self.plan.stop.grace_source.clone(),
            evidence_budget: format_duration(budget),
        }
    }

    /// A stop came while an event ran: what its own rules want beyond that is taken now, if
    /// there is time. Whether it is.
    fn rest_of_stop(&mut self, captured: Option<&Captured>) -> bool {
        let Some(PendingStop { signal, budget, until, deadline }) = self.pending_stop.take() else {
            return false;
        };
        if until < Instant::now() + SHORTEST || self.stage != Stage::Stopping {
            return false;
        }
        let verdict = self.rules.happened(&Trigger::Stop, self.situation(), clock::now());
        let taken = captured.map(Captured::settled).unwrap_or_default();
        let Some(evidence) = &self.plan.evidence else { return false };
        let rules = verdict.act.iter().filter_map(|index| evidence.rules.get(*index));
        if rules.flat_map(|rule| &rule.capture).all(|capture| taken.contains(&capture.name())) {
            return false;
        }
        let stop = Some(self.stop_record(signal, budget));
        let about = About { stop, without: taken, ..About::default() };
        self.begin(Trigger::Stop.name(), verdict.act, until, deadline, about);
        self.capturing.is_some()
    }

    /// The main process was asked to end, does not, and is killed at `kill`: what it does
    /// instead is worth an event, and its crash report if it does not even answer.
    pub(super) fn last_words(&mut self, kill: Instant) {
        let Some(evidence) = self.plan.evidence.as_ref().filter(|_| self.capturing.is_none()) else {
            return;
        };
        let rules = evidence.rules.iter().enumerate();
        let rules = rules
            .filter(|(_, rule)| rule.on == Trigger::Stop && rule.last_resort != Some(LastResort::Nothing));
        let rules: Vec<usize> = rules.map(|(index, _)| index).collect();
        if rules.is_empty() {
            return;
        }
        let now = Instant::now();
        let until = now + kill.saturating_duration_since(now) / LAST_WORDS_SHARE;
        self.rest();
        let about = About { is_last: true, ..About::default() };
        self.begin("killed", rules, until, kill, about);
    }

    pub(super) fn main_has_ended(&mut self, status: process::Status, asked: bool) {
        self.journal.note(What::End, "the main process ended", &status.to_string());
        if asked || status.is_success() {
            return;
        }
        if self.capturing.is_some() {
            // Judged once that event is captured.
            self.pending_end = Some(status);
            return;
        }
        let now = clock::now();
        let situation = Situation { exit_code: Some(status.code()), ..self.situation() };
        let mut verdict = self.rules.happened(&Trigger::Exit, situation, now);
        let mut trigger = Trigger::Exit;
        let mut ended = status.to_string();
        if let Some(reason) = self.out_of_memory(status) {
            trigger = Trigger::OutOfMemory;
            ended = format!("{ended}: out of memory ({reason})");
            warn!("the main process ended for want of memory: {reason}");
            // Unless its evidence was taken while it wrote its dump.
            if !self.is_out_of_memory {
                verdict.join(self.rules.happened(&trigger, situation, now));
            }
        }
        let Some(longest) = self.longest(&verdict.act) else { return };
        let until = Instant::now() + longest;
        let about = About { main_ended: Some(ended), ..About::default() };
        self.begin(trigger.name(), verdict.act, until, until, about);
    }

    /// Whether that is why it ended, and who says so.
    fn out_of_memory(&self, status: process::Status) -> Option<&'static str> {
        let is_killed = status.code() == crate::exit::of_signal(Signal::KILL);
        if cgroup::oom_kills() > self.plan.oom_kills && is_killed {
            return Some("the kernel killed it");
        }
        let files = self.crash_files.as_ref()?;
        if files.means_out_of_memory(status.code()) {
            return Some("-XX:+ExitOnOutOfMemoryError");
        }
        if files.heap_dump().is_some() {
            return Some("the JVM dumped its heap for an OutOfMemoryError");
        }
        files.report_tells_of_memory().then_some("the JVM's own report")
    }

    /// The operator asks: the rules on that, or everything. Words for the answer.
    pub(super) fn dump_all(&mut self) -> Result<String, String> {
        let Some(evidence) = &self.plan.evidence else {
            return Err("there is no store: name a folder with --to DIR, or configure [store]".to_owned());
        };
        if let Some((trigger, since)) = self.captures {
            let since = format_duration(Duration::from_secs(since.elapsed().as_secs()));
            return Err(format!("evidence of \"{trigger}\" is being captured since {since}"));
        }
        if self.stage != Stage::Running {
            return Err(format!("it is too late: the main process is {}", self.stage.name()));
        }
        let mut verdict = self.rules.happened(&Trigger::Manual, self.situation(), clock::now());
        if verdict.act.is_empty() {
            // Whatever anybody wants to know of a sick service is worth taking.
            verdict.act = (0..evidence.rules.len()).collect();
        }
        // Somebody is looking: no deployment takes the task away meanwhile.
        self.protect(Some(MANUAL_PROTECTION));
        self.act(Trigger::Manual.name(), verdict, None);
        Ok(format!("{}\n", self.begun))
    }

    /// The stop that is about to come takes its evidence now, and not twice. Words for the answer.
    pub(super) fn prestop(&mut self) -> Result<String, String> {
        if self.stage != Stage::Running {
            return Err(format!("it is too late: the main process is {}", self.stage.name()));
        }
        self.journal.note(What::Stop, "prestop requested", "");
        self.is_prestopped = true;
        if self.capturing.is_some() {
            // What runs is this stop's evidence.
            return Ok(format!("{}\n", self.begun));
        }
        let verdict = self.rules.happened(&Trigger::Stop, self.situation(), clock::now());
        if verdict.act.is_empty() {
            self.arm();
            return Ok(control::NOTHING.to_owned());
        }
        self.act(Trigger::Stop.name(), verdict, None);
        Ok(format!("{}\n", self.begun))
    }

    fn begin(
        &mut self,
        trigger: &'static str,
        rules: Vec<usize>,
        until: Instant,
        store_until: Instant,
        about: About,
    ) {
        let Some(evidence) = &self.plan.evidence else { return };
        if self.capturing.is_some() {
            info!("{trigger}: an event is being captured already, and this is part of it");
            return;
        }
        // A stop that is under way is the end of everything.
        let (until, store_until) = match self.stop_deadline {
            Some(deadline) => (until.min(deadline), store_until.min(deadline)),
            None => (until, store_until),
        };
        self.begun += 1;
        let number = self.begun;
        self.limit.send_replace(until);
        let capture_until = self.limit.subscribe();
        self.store_limit.send_modify(|limit| *limit = store_until.max(*limit));
        if self.stage == Stage::Stopping {
            self.shorten_store(store_until);
        }
        let store_until = self.store_limit.subscribe();
        let About { stop, main_ended, is_last, without } = about;
        let crash_files = self.crash_files.clone();
        let occasion = Occasion {
            number,
            trigger,
            rules,
            capture_until,
            store_until,
            stop,
            main_ended,
            crash_files,
            is_last,
            without,
        };
        info!(trigger, "capturing evidence");
        self.journal.note(What::Capture, "capturing evidence", trigger);
        self.captures = Some((trigger, Instant::now()));
        let held = occasion.rules.iter().filter_map(|index| evidence.rules.get(*index)?.hold).max();
        if let Some(hold) = held.filter(|_| !is_last) {
            self.hold(hold);
        }
        let means = Means {
            plan: self.plan,
            who: self.who.clone(),
            exported: self.exported,
            evidence,
            store: self.store,
            main: self.main,
            session: self.session.clone(),
            ring: self.ring,
            inherited: self.inherited,
            rates: self.rates.clone(),
            lost: self.lost.clone(),
        };
        self.capturing = Some(Box::pin(event::capture(means, occasion)));
        self.arm();
        if self.stage == Stage::Stopping {
            // Something new is to be waited for, whatever was stored before.
            say(self.link, Deed::Armed);
        }
    }

    pub(super) fn shorten_capture(&self, until: Instant) {
        self.limit.send_modify(|limit| *limit = until.min(*limit));
    }

    pub(super) fn shorten_store(&self, until: Instant) {
        self.store_limit.send_modify(|limit| *limit = until.min(*limit));
    }

    pub(super) fn captured(&mut self, captured: Result<Captured, String>) {
        self.capturing = None;
        let (number, trigger) = (self.begun, self.captures.take().map_or("", |(trigger, _)| trigger));
        let captured = match captured {
            Ok(captured) => Some(captured),
            Err(reason) => {
                error!("no evidence: {reason}");
                self.event_is_over(number, trigger, "0/0".to_owned(), Err(reason));
                None
            }
        };
        if !self.rest_of_stop(captured.as_ref()) {
            say(self.link, if captured.is_some() { Deed::Captured } else { Deed::NotCaptured });
        }
        if let (Some(captured), Some(evidence)) = (captured, &self.plan.evidence) {
            self.rates = captured.rates.clone();
            self.lost.clear();
            let spool = Spool::of(evidence);
            match self.store.cloned() {
                Some(Store::Bucket(bucket)) => {
                    self.storing.spawn(storing::store_in_bucket(bucket, spool, captured));
                }
                Some(Store::Directory(store)) if has_threads() => {
                    self.storing
                        .spawn_blocking(move || storing::store_in_directory(&store, &spool, captured));
                }
                Some(Store::Directory(store)) => {
                    // Deaf meanwhile, and not gone.
                    self.storing.spawn(async move { storing::store_in_directory(&store, &spool, captured) });
                }
                None => {
                    let reason = self.store_trouble.borrow().clone().unwrap_or_default();
                    self.storing.spawn(async move { storing::keep_all(captured, &spool, &reason) });
                }
            }
        }
        if let Some(status) = self.pending_end.take() {
            self.main_has_ended(status, false);
        }
        if self.stage == Stage::Running {
            attributes::be_background();
        }
        self.arm();
        self.everything_is_stored();
        self.restart_if_sick();
    }

    pub(super) fn stored(&mut self, stored: Option<Stored>) {
        if let Some(stored) = stored {
            self.store_trouble.send_replace(stored.result.as_ref().err().cloned());
            self.event_is_over(stored.number, stored.trigger, stored.artifacts, stored.result);
            let plans = self.plan.evidence.as_ref().map(|evidence| evidence.notify.clone());
            if let Some(plans) = plans.filter(|plans| !plans.is_empty()) {
                let until = self.store_limit.subscribe();
                let is_running = matches!(self.stage, Stage::Starting | Stage::Running);
                let limit = if is_running { LIMIT } else { LAST_LIMIT };
                self.notifying.spawn(notify(plans, stored.notice, limit, until));
            }
        }
        self.arm();
        self.everything_is_stored();
    }

    /// Whoever waits for it hears of it: where its bundle is, or why it is nowhere.
    fn event_is_over(
        &mut self,
        number: u64,
        trigger: &str,
        artifacts: String,
        result: Result<String, String>,
    ) {
        if trigger == Trigger::Manual.name() && self.held_until.is_none() {
            self.protect(None);
        }
        let (path, trouble) = match result {
            Ok(path) => (Some(path), None),
            Err(reason) => (None, Some(reason)),
        };
        let place = path.as_deref().unwrap_or("not stored");
        self.journal.note(What::Store, &format!("{trigger}: {artifacts} artifacts"), place);
        self.remember(EventStatus { number, trigger: trigger.to_owned(), path, trouble, artifacts });
    }

    /// Where the last events went, for the supervisor's last word: the length behind the text, so that
    /// nothing is read that is half written.
    fn leave_word(&self) {
        let Some(memory) = &self.farewell else { return };
        let mut words: Vec<serde_json::Value> = Vec::new();
        for event in self.events.iter().rev() {
            words.push(json!({ "trigger": event.trigger, "artifacts": event.artifacts, "url": event.path }));
            if serde_json::to_string(&words).is_ok_and(|text| text.len() > FAREWELL) {
                words.pop();
                break;
            }
        }
        let text = serde_json::Value::from(words).to_string();
        let length = u32::try_from(text.len()).unwrap_or(0).to_ne_bytes();
        let written = memory.write_all_at(text.as_bytes(), 4).and_then(|()| memory.write_all_at(&length, 0));
        if let Err(error) = written {
            debug!("the supervisor is not told where evidence went: {error}");
        }
    }

    fn remember(&mut self, event: EventStatus) {
        self.events.push_back(event);
        if self.events.len() > EVENTS_KEPT {
            self.events.pop_front();
        }
        self.leave_word();
    }

    /// Once the main process is gone, the supervisor waits for this.
    pub(super) fn everything_is_stored(&self) {
        if matches!(self.stage, Stage::Stopping | Stage::Ended) && self.is_done() {
            say(self.link, Deed::Stored);
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.capturing.is_none() && self.storing.is_empty() && self.notifying.is_empty()
    }
}
