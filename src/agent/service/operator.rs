//! What the operator asks, and what the supervisor hears of it.

use super::{Agent, BEAT, say};
use crate::agent::control::Request;
use crate::agent::status::{CapturingStatus, HealthStatus, JvmStatus, RuleStatus, Status};
use crate::jvm::Counters;
use crate::link::Deed;
use crate::sys::clock;
use crate::units::format_duration;
use std::time::Duration;
use tokio::time::Instant;

impl Agent<'_> {
    pub(super) fn beat(&mut self) {
        self.next_beat = Instant::now() + BEAT;
        say(self.link, Deed::Alive);
    }

    pub(super) fn hold(&mut self, span: Duration) {
        self.held_until = Some(Instant::now() + span);
        say(self.link, Deed::Hold { until: clock::now().after(span) });
    }

    pub(super) fn answer(&mut self, request: Request) -> String {
        match request {
            Request::Status => serde_json::to_string(&self.status()).unwrap_or_default(),
            Request::Hold(span) => {
                self.hold(span);
                format!("held for at most {}\n", format_duration(span))
            }
            Request::Release => {
                let was_held = self.held_until.take().is_some();
                say(self.link, Deed::Release);
                if was_held { "released\n" } else { "it was not held\n" }.to_owned()
            }
        }
    }

    fn status(&self) -> Status {
        let health = self.health.as_ref().map(|health| HealthStatus {
            state: health.state.name().to_owned(),
            for_seconds: self.health_since.elapsed().as_secs(),
            last_failure: self.last_failure.clone(),
        });
        let jvm = self.session.as_ref().map(|session| {
            let counters = Counters::read(&session.target);
            let heap = counters.as_ref().and_then(Counters::heap);
            JvmStatus {
                pid: session.target.pid.number(),
                version: session.version.full.clone(),
                heap_used: heap.map(|(used, _)| used),
                heap_maximum: heap.map(|(_, maximum)| maximum),
                threads: counters.as_ref().and_then(Counters::threads),
                collections: counters.as_ref().map(Counters::collections),
            }
        });
        let rules = self.plan.evidence.iter().flat_map(|evidence| &evidence.rules);
        let now = Instant::now();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            service: self.plan.service.clone(),
            platform: self.plan.platform.name().to_owned(),
            phase: self.stage.name().to_owned(),
            health,
            jvm,
            rules: rules
                .map(|rule| RuleStatus { name: rule.name.clone(), on: rule.on.name().to_owned() })
                .collect(),
            events: self.events.iter().cloned().collect(),
            capturing: self.captures.map(|(trigger, since)| CapturingStatus {
                trigger: trigger.to_owned(),
                for_seconds: since.elapsed().as_secs(),
            }),
            held_for_seconds: self
                .held_until
                .filter(|until| *until > now)
                .map(|until| until.duration_since(now).as_secs()),
        }
    }
}
