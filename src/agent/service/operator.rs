//! What the operator asks, and what the supervisor hears of it.

use super::{Agent, BEAT, HelperState, Stage, say};
use crate::agent::control::{self, Request};
use crate::agent::elsewhere::elsewhere;
use crate::agent::journal::What;
use crate::agent::protection;
use crate::agent::status::{
    CapturingStatus, HealthChange, HealthStatus, HeapStatus, JvmStatus, ProcessStatus, RuleStatus, Status,
    StoreStatus,
};
use crate::evidence::waiting_bytes;
use crate::jvm::Counters;
use crate::link::{Deed, Order};
use crate::store::look;
use crate::sys::clock;
use crate::units::format_duration;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

/// Less than whoever asks waits.
const DISK_PATIENCE: Duration = Duration::from_secs(1);
/// So many changes of health are shown.
const HEALTH_SHOWN: usize = 5;

impl Agent<'_> {
    pub(super) fn beat(&mut self) {
        self.next_beat = Instant::now() + BEAT;
        say(self.link, Deed::Alive);
    }

    pub(super) fn hold(&mut self, span: Duration) {
        self.held_until = Some(Instant::now() + span);
        self.journal.note(What::Hold, "held", &format!("for at most {}", format_duration(span)));
        say(self.link, Deed::Hold { until: clock::now().after(span) });
    }

    /// Keeps deployments and scale-in from this task, on ECS; or no longer.
    pub(super) fn protect(&mut self, span: Option<Duration>) {
        if let Some(endpoint) = protection::endpoint(self.plan) {
            self.answers.spawn(protection::protect(endpoint, span));
        }
    }

    /// The answer's reader may be slow: it is written by a task of its own.
    pub(super) fn answer(&mut self, stream: UnixStream, request: Request) {
        let text = match request {
            Request::Status => {
                let mut status = self.status();
                let spool = self.plan.evidence.as_ref().map(|evidence| evidence.spool.clone());
                self.answers.spawn(async move {
                    if let (Some(store), Some(spool)) = (&mut status.store, spool) {
                        look_at(store, spool).await;
                    }
                    control::answer(stream, serde_json::to_string(&status).unwrap_or_default()).await;
                });
                return;
            }
            Request::Hold(span) => {
                self.hold(span);
                self.protect(Some(span));
                format!("held for at most {}\n", format_duration(span))
            }
            Request::Release => {
                let was_held = self.held_until.take().is_some();
                self.journal.note(What::Hold, "released", "");
                let text = if was_held { "released\n" } else { "it was not held\n" };
                // First: whoever asked may end with the container.
                let _full = stream.try_write(text.as_bytes());
                drop(stream);
                say(self.link, Deed::Release);
                self.protect(None);
                return;
            }
            Request::Dump => self.dump_all().unwrap_or_else(|reason| format!("{}{reason}\n", control::ERROR)),
            Request::Helper { name, order } => {
                self.order(&name, order).unwrap_or_else(|reason| format!("{}{reason}\n", control::ERROR))
            }
            Request::Prestop => {
                self.prestop().unwrap_or_else(|reason| format!("{}{reason}\n", control::ERROR))
            }
            Request::Events { follow } => {
                let (lines, next) = self.journal.follow();
                let next = follow.then_some(next);
                self.answers.spawn(control::follow(stream, lines, next));
                return;
            }
        };
        self.answers.spawn(control::answer(stream, text));
    }

    /// The supervisor does it, and says in the log what comes of it.
    fn order(&mut self, name: &str, order: Order) -> Result<String, String> {
        let helpers = &self.plan.helpers;
        let Some(index) = helpers.iter().position(|helper| helper.name == name) else {
            let known: Vec<&str> = helpers.iter().map(|helper| helper.name.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(format!("there is no helper process `{name}`; there are: {known}"));
        };
        if self.stage != Stage::Running {
            return Err(format!("the main process is {}: try again once it runs", self.stage.name()));
        }
        self.journal.note(What::Helper, order.word(), name);
        say(self.link, Deed::Helper { index, order });
        Ok(format!("{} of `{name}` is asked for; the log says what comes of it\n", order.word()))
    }

    fn status(&self) -> Status {
        let health = self.watch.health.as_ref().map(|health| {
            let changes = self.journal.health().rev().take(HEALTH_SHOWN);
            HealthStatus {
                state: health.state.name().to_owned(),
                for_seconds: clock::now().seconds_since(health.since),
                last_failure: self.watch.last_failure.clone(),
                changes: changes
                    .map(|line| HealthChange {
                        time: line.time.clone(),
                        state: line.text.clone(),
                        reason: line.detail.clone(),
                    })
                    .collect(),
            }
        });
        let jvm = self.session.as_ref().map(|session| {
            let counters = Counters::read(&session.target);
            let heap = counters.as_ref().and_then(Counters::heap);
            let gc_time = counters.as_ref().and_then(Counters::gc_time);
            let lived = self.main_started.elapsed().ok().filter(|lived| !lived.is_zero());
            JvmStatus {
                pid: session.target.pid.number(),
                version: session.version.full.clone(),
                heap_used: heap.map(|(used, _)| used),
                heap_maximum: heap.map(|(_, maximum)| maximum),
                threads: counters.as_ref().and_then(Counters::threads),
                collections: counters.as_ref().map(Counters::collections),
                gc_percent: gc_time
                    .zip(lived)
                    .map(|(time, lived)| percent(Duration::from_nanos(time), lived)),
            }
        });
        let rules = self.plan.evidence.iter().flat_map(|evidence| &evidence.rules);
        let now = Instant::now();
        let left = |until: Instant| until.saturating_duration_since(now).as_secs();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            service: self.who.service.clone(),
            platform: self.plan.platform.name().to_owned(),
            phase: self.stage.name().to_owned(),
            stop_deadline_seconds: self.stop_deadline.map(left),
            health,
            jvm,
            processes: self
                .plan
                .helpers
                .iter()
                .zip(&self.helpers)
                .map(|(helper, state)| process_status(&helper.name, *state))
                .collect(),
            store: self.plan.evidence.as_ref().map(|_| StoreStatus {
                url: self
                    .store
                    .map_or_else(String::new, |store| store.url("").trim_end_matches('/').to_owned()),
                trouble: self.store_trouble.borrow().clone(),
                spooled: 0,
            }),
            heap: HeapStatus {
                redact: self.plan.heap.redaction.word().to_owned(),
                encrypt_to: self.plan.heap.encrypt_to.iter().map(|to| to.as_str().to_owned()).collect(),
            },
            rules: rules
                .enumerate()
                .map(|(index, rule)| RuleStatus {
                    name: rule.name.clone(),
                    on: rule.on.name().to_owned(),
                    acted: self.rules.acted(index, clock::now()),
                    limit: (!rule.on.is_unlimited())
                        .then(|| format!("{} per {}", rule.limit.times, format_duration(rule.limit.per))),
                })
                .collect(),
            events: self.events.iter().cloned().collect(),
            capturing: self.captures.map(|(trigger, since)| CapturingStatus {
                trigger: trigger.to_owned(),
                for_seconds: since.elapsed().as_secs(),
            }),
            held_for_seconds: self.held_until.filter(|until| *until > now).map(left),
        }
    }
}

/// By a thread of its own: the disk may be one that hangs.
async fn look_at(store: &mut StoreStatus, spool: PathBuf) {
    let looked = elsewhere(move || (look(&spool).err(), waiting_bytes(&spool)));
    match timeout(DISK_PATIENCE, looked).await {
        Ok(Ok((trouble, spooled))) => {
            // A folder may have got its owner meanwhile.
            store.trouble = trouble.or(store.trouble.take());
            store.spooled = spooled;
        }
        Ok(Err(reason)) => store.trouble = Some(reason),
        Err(_) => store.trouble = Some("the spool's disk does not answer".to_owned()),
    }
}

fn process_status(name: &str, state: HelperState) -> ProcessStatus {
    let unknown = ProcessStatus { name: name.to_owned(), ..ProcessStatus::default() };
    match state {
        HelperState::Unknown => unknown,
        HelperState::Runs { pid, since } => ProcessStatus {
            pid: Some(pid.number()),
            for_seconds: Some(clock::now().seconds_since(since)),
            ..unknown
        },
        HelperState::Ended(status) => ProcessStatus { ended: Some(status.to_string()), ..unknown },
    }
}

/// Tenths are more than anybody reads.
fn percent(part: Duration, whole: Duration) -> f64 {
    (part.as_secs_f64() / whole.as_secs_f64() * 1_000.0).round() / 10.0
}
