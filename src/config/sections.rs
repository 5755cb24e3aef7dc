//! The sections of `bookend.toml`, with every key and its default.

use super::attributes::AttributeKeys;
use super::capture::Capture;
use super::condition::Condition;
use super::diagnostics::Place;
use super::health::Health;
use super::jvm::Jvm;
use super::notify::Notify;
use super::output::Output;
use super::process::{MainRestart, Process};
use super::reader::{Context, Reader};
use super::release::Release;
use super::rules::{LastResort, Limit, When};
use super::store::{Spool, Store};
use super::trigger::Trigger;
use super::values::{Format, Forwarding, Level, Reachable, Setting};
use crate::units::{Compression, Recipient, Redaction, Signal};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Everything that was written, by section. `Option` means that the default
/// depends on facts or on other keys, so that the plan decides it.
#[derive(Clone, Debug)]
pub struct Config {
    /// Some layer had something to say. Without any, bookend is a plain init
    /// and logs nothing but trouble.
    pub is_written: bool,
    pub service: Service,
    pub release: Release,
    pub main: Main,
    pub stop: Stop,
    /// `[signals]`
    pub signals: Setting<BTreeMap<Signal, Forwarding>>,
    pub exit: Exit,
    pub preflight: Preflight,
    pub health: Health,
    pub jvm: Jvm,
    pub hooks: Vec<Hook>,
    pub processes: Vec<Process>,
    pub rules: Vec<Rule>,
    pub notify: Vec<Notify>,
    pub heap: Heap,
    pub store: Store,
    pub spool: Spool,
    pub log: Log,
}

/// `[service]`
#[derive(Clone, Debug)]
pub struct Service {
    pub name: Option<Setting<String>>,
    pub task: Option<Setting<String>>,
}

/// `[main]`
#[derive(Clone, Debug)]
pub struct Main {
    pub command: Option<Setting<Vec<String>>>,
    pub user: Option<Setting<String>>,
    pub workdir: Option<Setting<PathBuf>>,
    pub env: Setting<BTreeMap<String, String>>,
    pub attributes: AttributeKeys,
    pub stop_signal: Option<Setting<Signal>>,
    pub reserve: Option<Setting<Duration>>,
    pub output: Option<Setting<Output>>,
    pub restart: Setting<MainRestart>,
    pub restart_limit: Setting<Limit>,
}

/// `[stop]`
#[derive(Clone, Debug)]
pub struct Stop {
    pub grace: Option<Setting<Duration>>,
    pub margin: Option<Setting<Duration>>,
    pub signals: Setting<Vec<Signal>>,
    /// The service goes on so long after a stop signal, as requests still come.
    pub linger: Setting<Duration>,
    /// Where Kubernetes looks for a last word.
    pub termination_message: Option<Setting<PathBuf>>,
}

/// `[exit]`
#[derive(Clone, Debug)]
pub struct Exit {
    pub map: Setting<BTreeMap<u8, u8>>,
}

/// `[preflight]`
#[derive(Clone, Debug)]
pub struct Preflight {
    pub files: Setting<Vec<PathBuf>>,
    pub env: Setting<Vec<String>>,
    pub writable: Setting<Vec<PathBuf>>,
    pub reachable: Setting<Vec<Reachable>>,
    pub timeout: Setting<Duration>,
}

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    PreStart,
    PostStop,
}

/// What a hook that failed for good means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The container ends with the hook's code; the main process is not started.
    Abort,
    /// It is logged, and the next step follows.
    Continue,
}

/// What a stop means to a hook that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStop {
    /// It gets the stop signal at once, and ends in its own way.
    Signal,
    /// It gets it only when the time is over: what it would leave half done is worse.
    Finish,
}

/// `[[hook]]`
#[derive(Clone, Debug)]
pub struct Hook {
    pub name: Setting<String>,
    pub command: Setting<Vec<String>>,
    pub stage: Setting<Stage>,
    pub user: Option<Setting<String>>,
    pub workdir: Option<Setting<PathBuf>>,
    pub env: Setting<BTreeMap<String, String>>,
    pub attributes: AttributeKeys,
    pub timeout: Setting<Duration>,
    pub grace: Setting<Duration>,
    pub retries: Setting<u32>,
    pub backoff: Setting<Duration>,
    pub on_failure: Setting<OnFailure>,
    pub on_stop: Setting<OnStop>,
    pub when: Option<Setting<Condition>>,
    pub exports: Setting<bool>,
}

/// `[[rule]]`
#[derive(Clone, Debug)]
pub struct Rule {
    pub place: Place,
    pub name: Setting<String>,
    pub on: Setting<Trigger>,
    /// `if`
    pub when: Option<Setting<When>>,
    pub capture: Setting<Vec<Capture>>,
    pub limit: Setting<Limit>,
    pub deadline: Setting<Duration>,
    pub hold: Option<Setting<Duration>>,
    pub last_resort: Option<Setting<LastResort>>,
}

/// `[heap]`: what is done to heap dumps.
#[derive(Clone, Debug)]
pub struct Heap {
    pub redact: Setting<Redaction>,
    pub compression: Setting<Compression>,
    pub encrypt_to: Setting<Vec<Recipient>>,
    pub partial: Setting<Partial>,
}

/// What becomes of a heap dump that was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partial {
    Keep,
    Discard,
}

/// `[log]`
#[derive(Clone, Debug)]
pub struct Log {
    pub format: Setting<Format>,
    pub level: Option<Setting<Level>>,
}

impl Config {
    pub(super) fn read(mut root: Reader<'_>, is_written: bool, context: &mut Context) -> Self {
        let service = root.section("service", context);
        let release = root.section("release", context);
        let main = root.section("main", context);
        let stop = root.section("stop", context);
        let signals = root.or("signals", BTreeMap::new(), context);
        let exit = root.section("exit", context);
        let preflight = root.section("preflight", context);
        let health = root.section("health", context);
        let jvm = root.section("jvm", context);
        let hooks = root.list("hook", context);
        let processes = root.list("process", context);
        let rules = root.list("rule", context);
        let notify = root.list("notify", context);
        let heap = root.section("heap", context);
        let store = root.section("store", context);
        let spool = root.section("spool", context);
        let log = root.section("log", context);
        root.finish(context);
        Self {
            is_written,
            service: Service::read(service, context),
            release: Release::read(release, context),
            main: Main::read(main, context),
            stop: Stop::read(stop, context),
            signals,
            exit: Exit::read(exit, context),
            preflight: Preflight::read(preflight, context),
            health: Health::read(health, context),
            jvm: Jvm::read(jvm, context),
            hooks: hooks.into_iter().filter_map(|hook| Hook::read(hook, context)).collect(),
            processes: processes.into_iter().filter_map(|process| Process::read(process, context)).collect(),
            rules: rules.into_iter().filter_map(|rule| Rule::read(rule, context)).collect(),
            notify: notify.into_iter().map(|notify| Notify::read(notify, context)).collect(),
            heap: Heap::read(heap, context),
            store: Store::read(store, context),
            spool: Spool::read(spool, context),
            log: Log::read(log, context),
        }
    }
}

impl Service {
    fn read(mut reader: Reader<'_>, context: &mut Context) -> Self {
        let section = Self { name: reader.optional("name", context), task: reader.optional("task", context) };
        reader.finish(context);
        section
    }
}

impl Main {
    fn read(mut reader: Reader<'_>, context: &mut Context) -> Self {
        let section = Self {
            command: reader.optional("command", context),
            user: reader.optional("user", context),
            workdir: reader.optional("workdir", context),
            env: reader.or("env", BTreeMap::new(), context),
            attributes: AttributeKeys::read(&mut reader, context),
            stop_signal: reader.optional("stop_signal", context),
            reserve: reader.optional("reserve", context),
            output: reader.optional("output", context),
            restart: reader.or("restart", MainRestart::Never, context),
            restart_limit: reader.or(
                "restart_limit",
                Limit { times: 5, per: Duration::from_hours(1) },
                context,
            ),
        };
        reader.finish(context);
        section
    }
}

impl Stop {
    fn read(mut reader: Reader<'_>, context: &mut Context) -> Self {
        let section = Self {
            grace: reader.optional("grace", context),
            margin: reader.optional("margin", context),
            signals: reader.or("signals", vec![Signal::TERM, Signal::INT], context),
            linger: reader.or("linger", Duration::ZERO, context),
            termination_message: reader.optional("termination_message", context),
        };
        reader.finish(context);
        section
    }
}

impl Exit {
    fn read(mut reader: Reader<'_>, context: &mut Context) -> Self {
        let section = Self { map: reader.or("map", BTreeMap::new(), context) };
        reader.finish(context);
        section
    }
}

impl Preflight {
    fn read(mut reader: Reader<'_>, context: &mut Context) -> Self {
        let section = Self {
            files: reader.or("files", Vec::new(), context),
            env: reader.or("env", Vec::new(), context),
            writable: reader.or("writable", Vec::new(), context),
            reachable: reader.or("reachable", Vec::new(), context),
            timeout: reader.or("timeout", Duration::from_secs(30), context),
        };
        reader.finish(context);
        section
    }
}

impl Hook {
    fn read(mut reader: Reader<'_>, context: &mut Context) -> Option<Self> {
        let name = reader.required("name", context);
        let command = reader.required("command", context);
        let stage = reader.or("stage", Stage::PreStart, context);
        let user = reader.optional("user", context);
        let workdir = reader.optional("workdir", context);
        let env = reader.or("env", BTreeMap::new(), context);
        let attributes = AttributeKeys::read(&mut reader, context);
        // An hour: longer than any migration that somebody waits for, and no
        // container hangs for ever on a forgotten lock.
        let timeout = reader.or("timeout", Duration::from_hours(1), context);
        let grace = reader.or("grace", Duration::from_secs(5), context);
        let retries = reader.or("retries", 0, context);
        let backoff = reader.or("backoff", Duration::from_secs(1), context);
        let on_failure = reader.or("on_failure", OnFailure::Abort, context);
        let on_stop = reader.or("on_stop", OnStop::Signal, context);
        let when = reader.optional("when", context);
        let exports = reader.or("exports", false, context);
        reader.finish(context);
        Some(Self {
            name: name?,
            command: command?,
            stage,
            user,
            workdir,
            env,
            attributes,
            timeout,
            grace,
            retries,
            backoff,
            on_failure,
            on_stop,
            when,
            exports,
        })
    }
}

impl Heap {
    fn read(mut reader: Reader<'_>, context: &mut Context) -> Self {
        let section = Self {
            redact: reader.or("redact", Redaction::None, context),
            compression: reader.or("compression", Compression::Zstd, context),
            encrypt_to: reader.or("encrypt_to", Vec::new(), context),
            partial: reader.or("partial", Partial::Keep, context),
        };
        reader.finish(context);
        section
    }
}

impl Log {
    fn read(mut reader: Reader<'_>, context: &mut Context) -> Self {
        let section = Self {
            format: reader.or("format", Format::Human, context),
            level: reader.optional("level", context),
        };
        reader.finish(context);
        section
    }
}
