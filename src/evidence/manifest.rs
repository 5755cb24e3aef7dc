//! `manifest.json`: what happened, what was saved, what was not and why.

use super::digest::{Digest, Digested};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The form of this file; raised when a reader would have to change.
const FORMAT: u32 = 1;

/// One event's record.
#[derive(Clone, Debug, Serialize)]
pub struct Manifest {
    pub format: u32,
    pub tool: Tool,
    pub service: Service,
    pub event: Event,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jvm: Option<Jvm>,
    /// Why there is no `jvm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jvm_missing: Option<String>,
    /// What was done to the service or to the plan, and must be known to read the rest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Events that earlier lives could not bring to their end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<Lost>,
    pub artifacts: Vec<ArtifactRecord>,
}

/// What is known of an event that was cut short: by a SIGKILL, by the kernel's OOM killer.
#[derive(Clone, Debug, Serialize)]
pub struct Lost {
    pub id: String,
    pub trigger: String,
    /// What of it is whole, and where.
    pub kept: Vec<String>,
}

/// Who wrote it.
#[derive(Clone, Debug, Serialize)]
pub struct Tool {
    pub name: &'static str,
    pub version: &'static str,
    pub commit: &'static str,
}

impl Tool {
    /// This binary.
    pub fn own() -> Self {
        Self { name: "bookend", version: env!("CARGO_PKG_VERSION"), commit: env!("BOOKEND_COMMIT") }
    }
}

/// Whose evidence it is.
#[derive(Clone, Debug, Serialize)]
pub struct Service {
    pub name: String,
    pub task: String,
    pub platform: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// What the platform says of it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<&'static str, String>,
}

/// What set it off.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// The bundle's own folder name.
    pub id: String,
    pub trigger: &'static str,
    pub rules: Vec<String>,
    /// RFC 3339, UTC.
    pub began: String,
    pub captured: String,
    pub stored: String,
    /// How the main process ended, where that was the trigger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub main_ended: Option<String>,
}

/// The stop during which it was taken.
#[derive(Clone, Debug, Serialize)]
pub struct Stop {
    pub signal: String,
    pub grace: String,
    pub grace_source: String,
    /// What evidence was given of it.
    pub evidence_budget: String,
}

/// The JVM that was asked.
#[derive(Clone, Debug, Serialize)]
pub struct Jvm {
    pub pid: i32,
    pub version: String,
    pub name: String,
}

/// What became of one artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Whole, and stored under `file`.
    Complete,
    /// Begun and broken off; what there is is stored under a name that says so.
    Partial,
    /// Tried and not got.
    Failed,
    /// Not tried.
    Skipped,
    /// There was nothing to take: no recording ran, the JVM left no crash report.
    Absent,
}

/// What a compressed artifact holds.
#[derive(Clone, Debug, Serialize)]
pub struct Content {
    pub bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Where its end came before its begin: its names, and its objects behind them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halves: Option<[Digest; 2]>,
    pub objects: u64,
    /// What was taken out of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redacted: Option<&'static str>,
}

impl Content {
    pub fn new(digested: Digested, objects: u64, redacted: Option<&'static str>) -> Self {
        let bytes = digested.bytes();
        let (sha256, halves) = match digested {
            Digested::Whole(whole) => (Some(whole.sha256), None),
            Digested::Halves(halves) => (None, Some(halves)),
        };
        Self { bytes, sha256, halves, objects, redacted }
    }
}

/// One artifact.
#[derive(Clone, Debug, Serialize)]
pub struct ArtifactRecord {
    pub artifact: &'static str,
    /// The artifact that it was made from: nobody asked for it alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<&'static str>,
    pub status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Of a file whose end came before its begin: both, in the file's order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halves: Option<[Digest; 2]>,
    /// It waits in the spool for a later start to send it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub spooled: bool,
    /// It is with its store already.
    #[serde(skip)]
    pub is_stored: bool,
    /// Where the file is a form of something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// How long it took to capture.
    pub duration_ms: u64,
    /// Why it is not whole, or how it was got where that is not the usual way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where time decided: what it was expected to take, and the time that there was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimate_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_ms: Option<u64>,
}

impl ArtifactRecord {
    fn new(artifact: &'static str, status: Status, took: Duration) -> Self {
        Self {
            artifact,
            of: None,
            status,
            file: None,
            bytes: None,
            sha256: None,
            halves: None,
            spooled: false,
            is_stored: false,
            content: None,
            duration_ms: milliseconds(took),
            reason: None,
            estimate_ms: None,
            left_ms: None,
        }
    }

    pub fn complete(artifact: &'static str, file: &str, took: Duration) -> Self {
        Self { file: Some(file.to_owned()), ..Self::new(artifact, Status::Complete, took) }
    }

    pub fn partial(artifact: &'static str, file: &str, reason: impl Into<String>, took: Duration) -> Self {
        let record = Self::new(artifact, Status::Partial, took);
        Self { file: Some(file.to_owned()), reason: Some(reason.into()), ..record }
    }

    pub fn failed(artifact: &'static str, reason: impl Into<String>, took: Duration) -> Self {
        Self { reason: Some(reason.into()), ..Self::new(artifact, Status::Failed, took) }
    }

    pub fn skipped(artifact: &'static str, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..Self::new(artifact, Status::Skipped, Duration::ZERO) }
    }

    pub fn absent(artifact: &'static str, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..Self::new(artifact, Status::Absent, Duration::ZERO) }
    }

    /// Not tried, since it would not have fitted.
    pub fn cut(artifact: &'static str, reason: String, estimate: Duration, left: Duration) -> Self {
        Self { left_ms: Some(milliseconds(left)), ..Self::skipped(artifact, reason).with_estimate(estimate) }
    }

    #[must_use]
    pub fn with_estimate(self, estimate: Duration) -> Self {
        Self { estimate_ms: Some(milliseconds(estimate)), ..self }
    }

    #[must_use]
    pub fn with_digest(self, digest: Digest) -> Self {
        Self { bytes: Some(digest.bytes), sha256: Some(digest.sha256), ..self }
    }

    #[must_use]
    pub fn made_of(self, artifact: &'static str) -> Self {
        Self { of: Some(artifact), ..self }
    }

    #[must_use]
    pub fn with_content(self, content: Content) -> Self {
        Self { content: Some(content), ..self }
    }

    /// Of a file that may be in two halves.
    #[must_use]
    pub fn with_digested(self, digested: Digested) -> Self {
        let bytes = Some(digested.bytes());
        match digested {
            Digested::Whole(digest) => self.with_digest(digest),
            Digested::Halves(halves) => Self { bytes, halves: Some(halves), ..self },
        }
    }

    /// Adds to what is said of it.
    #[must_use]
    pub fn with_note(mut self, text: &str) -> Self {
        self.reason = Some(match self.reason.take() {
            Some(reason) => format!("{reason}; {text}"),
            None => text.to_owned(),
        });
        self
    }
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl Manifest {
    pub fn new(service: Service, event: Event) -> Self {
        Self {
            format: FORMAT,
            tool: Tool::own(),
            service,
            event,
            stop: None,
            jvm: None,
            jvm_missing: None,
            notes: Vec::new(),
            lost: Vec::new(),
            artifacts: Vec::new(),
        }
    }

    /// Where its event is in a store: `service/date/task/event`.
    pub fn folder(&self) -> String {
        let date = self.event.began.get(..10).unwrap_or("undated").to_owned();
        [&self.service.name, &date, &self.service.task, &self.event.id].map(String::as_str).join("/")
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// None that is known for these types; never a panic.
    pub fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|error| error.to_string())?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}
