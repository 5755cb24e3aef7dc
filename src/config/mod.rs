//! What the user wrote: file, environment and flags, read into typed sections
//! that remember where each value came from.
//!
//! Layers, lowest first: defaults < `bookend.toml` < `BOOKEND_SECTION__KEY`
//! variables < `--set section.key=value`. Every error of every layer is
//! collected, with its place, before anything is refused. Owns syntax and the
//! meaning of single values; rules that need two values, or facts of this
//! machine, are [`crate::plan`]'s. Does no I/O but reading its file.

mod attributes;
mod capture;
mod condition;
mod diagnostics;
mod document;
mod expand;
mod health;
mod journal;
mod jvm;
mod layers;
mod notify;
mod output;
mod process;
mod reader;
mod release;
mod rules;
mod sections;
mod store;
mod trigger;
mod values;

pub use capture::{Capture, Recording};
pub use condition::{Condition, Test};
pub use diagnostics::{Diagnostic, Diagnostics, Place, SourceId};
pub use health::Health;
pub use journal::Entry;
pub use jvm::DiagnosticOption;
pub use layers::{Inputs, load};
pub use notify::{Notify, Webhook};
pub use output::Output;
pub use process::{MainRestart, Process, Ready, Restart, Start};
pub use release::{OnMismatch, Release};
pub use rules::{LastResort, Limit, When, default_rules};
pub use sections::{
    Config, Exit, Hook, Log, Main, OnFailure, OnStop, Partial, Preflight, Rule, Service, Stage, Stop,
};
pub use store::{ServerEncryption, Spool, Store, StoreUrl};
pub use trigger::{Bound, Measure, Trigger};
pub use values::{Format, Forwarding, Level, Reachable, Setting};

/// Where the configuration lives unless `--config` or `BOOKEND_CONFIG` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/bookend.toml";
/// The prefix of configuration variables.
pub const VARIABLE_PREFIX: &str = "BOOKEND_";
