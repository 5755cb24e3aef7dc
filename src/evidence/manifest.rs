//! `manifest.json`: what happened, what was saved, what was not and why.

use serde::Serialize;

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
    pub artifacts: Vec<ArtifactRecord>,
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
}

/// One artifact.
#[derive(Clone, Debug, Serialize)]
pub struct ArtifactRecord {
    pub artifact: &'static str,
    pub status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// How long it took to capture.
    pub duration_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
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
            artifacts: Vec::new(),
        }
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
