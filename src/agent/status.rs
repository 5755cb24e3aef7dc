//! What `bookend status` shows: the form of the answer, shared by both ends.

use serde::{Deserialize, Serialize};

/// Everything, at one moment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub service: String,
    pub platform: String,
    /// `starting`, `running`, `stopping` or `ended`.
    pub phase: String,
    /// Until the stop that is under way is over.
    pub stop_deadline_seconds: Option<u64>,
    pub health: Option<HealthStatus>,
    pub jvm: Option<JvmStatus>,
    /// Each `[[process]]`.
    pub processes: Vec<ProcessStatus>,
    /// None where no rule and no store is configured.
    pub store: Option<StoreStatus>,
    /// What `[heap]` says of heap dumps.
    pub heap: HeapStatus,
    pub rules: Vec<RuleStatus>,
    /// The newest last.
    pub events: Vec<EventStatus>,
    pub capturing: Option<CapturingStatus>,
    /// Seconds that the container is still kept.
    pub held_for_seconds: Option<u64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HealthStatus {
    pub state: String,
    pub for_seconds: u64,
    pub last_failure: Option<String>,
    /// The newest first.
    pub changes: Vec<HealthChange>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HealthChange {
    /// RFC 3339, UTC.
    pub time: String,
    pub state: String,
    /// What the probe said; empty where it was content.
    pub reason: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct JvmStatus {
    pub pid: i32,
    pub version: String,
    pub heap_used: Option<u64>,
    pub heap_maximum: Option<u64>,
    pub threads: Option<u64>,
    pub collections: Option<u64>,
    /// Time in collections that stop the world, of its life.
    pub gc_percent: Option<f64>,
}

/// Where evidence goes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StoreStatus {
    pub url: String,
    /// Why it took nothing when it was last tried; none if it did, or was not tried yet.
    pub trouble: Option<String>,
    /// What is in the spool: waits, or is being captured. Bytes.
    pub spooled: u64,
}

/// What is done to heap dumps so that only those read them who may.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HeapStatus {
    /// `none`, `strings` or `primitives`.
    pub redact: String,
    /// age recipients.
    pub encrypt_to: Vec<String>,
}

/// A helper process; all but the name is unknown where it was not started.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ProcessStatus {
    pub name: String,
    pub pid: Option<i32>,
    pub for_seconds: Option<u64>,
    /// How it ended, where it does not run.
    pub ended: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RuleStatus {
    pub name: String,
    pub on: String,
    /// How often within its limit's time.
    pub acted: usize,
    /// `3 per 1h`; none where no limit applies.
    pub limit: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct EventStatus {
    /// Counted from the agent's start.
    pub number: u64,
    pub trigger: String,
    /// Where its bundle is; none if it could not be stored.
    pub path: Option<String>,
    /// Why it could not be.
    pub trouble: Option<String>,
    /// Whole artifacts of those that were asked for.
    pub artifacts: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CapturingStatus {
    pub trigger: String,
    pub for_seconds: u64,
}
