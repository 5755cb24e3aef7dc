//! What will happen: `Config + Facts -> Plan`.
//!
//! Pure and total: the only place of rules that need two values, or a value
//! and a fact. After it nobody reads configuration or environment again; the
//! plan is immutable and everybody works from it.

mod environment;
#[cfg(test)]
#[cfg(feature = "agent")]
pub(crate) mod fixture;
mod health;
mod helpers;
mod jvm;
mod notify;
mod programs;
mod release;
mod stop;
mod store;

pub use environment::{Variables, environment_of};
pub use health::{HealthPlan, ProbePlan, Thresholds};
pub use helpers::{HelperPlan, MainRestartPlan};
pub use notify::NotifyPlan;
pub use programs::{Backoff, HookPlan, Preflight, Program};
pub use release::{Release, ReleasePlan};
pub use stop::StopPlan;
pub use store::StorePlan;

use crate::config::{
    Capture, Config, Diagnostic, Diagnostics, Format, LastResort, Level, Limit, Partial, Place, Rule,
    Setting, Trigger, When, default_rules,
};
use crate::facts::{Facts, Identity, Named, Platform};
use crate::units::{ByteSize, Recipe};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Everything that will be done, and why.
#[expect(clippy::struct_excessive_bools, reason = "what was said and what was found, each a fact of its own")]
#[derive(Clone, Debug)]
pub struct Plan {
    /// The service's name, for bundles and logs.
    pub service: String,
    pub service_source: String,
    /// Nobody else may name it.
    pub service_is_configured: bool,
    /// This one container.
    pub task: String,
    pub task_source: String,
    pub task_is_configured: bool,
    /// What else is known of who it is.
    pub identity: Identity,
    /// What is meant to run.
    pub release: Option<ReleasePlan>,
    /// Where the last word goes.
    pub termination_message: Option<PathBuf>,
    pub platform: Platform,
    pub log: Log,
    pub main: Program,
    /// What was added for the JVM.
    pub jvm_options: Vec<String>,
    pub stop: StopPlan,
    pub preflight: Option<Preflight>,
    /// Before the main process, in order.
    pub hooks: Vec<HookPlan>,
    /// Helper processes, in the order of their start.
    pub helpers: Vec<HelperPlan>,
    /// Whether the main process is started again.
    pub main_restart: MainRestartPlan,
    /// After it, in order.
    pub post_stop: Vec<HookPlan>,
    /// How the service is probed.
    pub health: Option<HealthPlan>,
    /// What is captured, and where it goes.
    pub evidence: Option<Evidence>,
    /// What is done to heap dumps, whoever asks for them.
    pub heap: Recipe,
    /// The main process's output goes through bookend, and so many bytes of its end are kept.
    pub keep_output: Option<u64>,
    /// Where a JVM that was not told so by its options is told, while it runs, to dump
    /// its heap at an OutOfMemoryError.
    pub heap_dump: Option<PathBuf>,
    /// The environment that bookend was given, and its children start from.
    pub environment: Vec<(OsString, OsString)>,
    pub memory_limit: Option<u64>,
    /// Before this container's life: what comes on top is its own.
    pub oom_kills: u64,
    pub is_pid_one: bool,
    /// Some layer of configuration had something to say.
    pub is_configured: bool,
}

/// How bookend logs.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    pub format: Format,
    pub level: Level,
}

/// The rules, and where what they capture goes.
#[derive(Clone, Debug)]
pub struct Evidence {
    pub rules: Vec<RulePlan>,
    pub store: StorePlan,
    /// Where evidence is made, and waits for its store.
    pub spool: PathBuf,
    /// What waits there takes no more. Bytes.
    pub spool_limit: ByteSize,
    /// Nor more than this share of the disk that would be free without it. Percent.
    pub spool_share: u8,
    /// One that was cut off is kept.
    pub keeps_partial: bool,
    /// Who is told of it.
    pub notify: Vec<NotifyPlan>,
}

/// One rule: trigger, and what is captured.
#[derive(Clone, Debug)]
pub struct RulePlan {
    pub name: String,
    pub on: Trigger,
    pub when: Option<When>,
    /// In the order of the ladder: what is cheap and certain first.
    pub capture: Vec<Capture>,
    pub limit: Limit,
    /// How long an event may take that no stop cuts short.
    pub deadline: Duration,
    /// The container is kept for so long, as far as deadlines allow.
    pub hold: Option<Duration>,
    /// What is done to a JVM that answers nothing; none: a crash report, if it is about to be
    /// killed anyway.
    pub last_resort: Option<LastResort>,
}

impl Evidence {
    /// The rules that `trigger` sets off.
    pub fn rules_on(&self, trigger: &Trigger) -> impl Iterator<Item = &RulePlan> {
        self.rules.iter().filter(move |rule| rule.on == *trigger)
    }

    /// Every stop sets off a rule, whatever the service's health.
    pub fn every_stop(&self) -> bool {
        self.rules_on(&Trigger::Stop).any(|rule| rule.when.is_none())
    }
}

impl Plan {
    /// Somebody is needed who probes, captures, or hears what an operator wants of helper processes.
    pub fn needs_agent(&self) -> bool {
        let has_helpers = cfg!(feature = "agent") && !self.helpers.is_empty();
        self.health.is_some() || self.evidence.is_some() || has_helpers
    }

    /// Somebody's output goes through us.
    pub fn has_output_to_carry(&self) -> bool {
        self.keep_output.is_some() || self.helpers.iter().any(|helper| helper.has_label)
    }
}

/// Makes the plan. `command` is what stood behind `--`; it wins over
/// `main.command`. Findings go to `diagnostics`; the plan is only to be acted
/// on if there are none. `None` if there is nothing to run.
pub fn make(
    config: &Config,
    facts: &Facts,
    command: &[OsString],
    diagnostics: &mut Diagnostics,
) -> Option<Plan> {
    if diagnostics.is_broken() {
        return None;
    }
    let mut main = programs::main(config, facts, command, diagnostics);
    let (hooks, post_stop) = programs::hooks(config, facts, main.as_ref(), diagnostics);
    let heap_dump = main.as_ref().and_then(|main| jvm::heap_dump(config, facts, main));
    let jvm_options =
        main.as_mut().map(|main| jvm::add_options(config, facts, main, diagnostics)).unwrap_or_default();
    let stop = stop::plan(config, facts, &post_stop, diagnostics);
    let health = health::plan(config, main.as_ref(), diagnostics);
    let helpers = helpers::plan(config, facts, health.is_some(), diagnostics);
    // On ECS the container's own health check is heard of through the task metadata.
    let is_told = facts.is_elsewhere || matches!(facts.platform, Platform::Ecs | Platform::EcsFargate);
    let main_restart = helpers::main_restart(config, health.is_some(), diagnostics);
    let evidence = evidence(config, facts, health.is_some() || is_told, diagnostics);
    let preflight = programs::preflight(config, diagnostics);
    let (service, service_source) = service(config, facts, diagnostics);
    let (task, task_source) = task(config, facts, diagnostics);
    Some(Plan {
        service,
        service_source,
        service_is_configured: config.service.name.is_some(),
        task,
        task_source,
        task_is_configured: config.service.task.is_some(),
        identity: facts.identity.clone(),
        release: release::plan(config, facts, diagnostics),
        termination_message: termination_message(config, facts),
        platform: facts.platform,
        log: log(config),
        main: main?,
        jvm_options,
        heap_dump,
        stop,
        preflight,
        hooks,
        helpers,
        main_restart,
        post_stop,
        health,
        evidence,
        heap: Recipe {
            redaction: config.heap.redact.value,
            compression: config.heap.compression.value,
            encrypt_to: config.heap.encrypt_to.value.clone(),
        },
        keep_output: config.main.output.as_ref().map(|output| output.value.keep.0),
        environment: facts.environment.clone(),
        memory_limit: facts.memory_limit,
        oom_kills: facts.oom_kills,
        is_pid_one: facts.is_pid_one,
        is_configured: config.is_written,
    })
}

/// Without any configuration bookend is as quiet as the inits it replaces.
fn log(config: &Config) -> Log {
    let default = if config.is_written { Level::Info } else { Level::Warn };
    Log {
        format: config.log.format.value,
        level: config.log.level.as_ref().map_or(default, |level| level.value),
    }
}

/// The name, and who gave it.
fn service(config: &Config, facts: &Facts, diagnostics: &mut Diagnostics) -> (String, String) {
    if let Some(name) = &config.service.name {
        check_name(name, "the service", diagnostics);
        return (name.value.clone(), diagnostics.describe(&name.place));
    }
    named(facts.identity.service.as_ref(), facts)
}

fn task(config: &Config, facts: &Facts, diagnostics: &mut Diagnostics) -> (String, String) {
    if let Some(name) = &config.service.task {
        check_name(name, "the task", diagnostics);
        return (name.value.clone(), diagnostics.describe(&name.place));
    }
    named(facts.identity.task.as_ref(), facts)
}

fn named(named: Option<&Named>, facts: &Facts) -> (String, String) {
    match named {
        Some(named) => (file_name(&named.name), named.source.clone()),
        None => (file_name(&facts.host_name), "the host name".to_owned()),
    }
}

fn check_name(name: &Setting<String>, whose: &str, diagnostics: &mut Diagnostics) {
    if name.value.is_empty() || file_name(&name.value) != name.value {
        diagnostics.push(
            Diagnostic::error(
                format!("cannot use this name for {whose}"),
                &name.place,
                "it becomes a folder's name",
            )
            .help("use letters, digits, `.`, `_` and `-`; not `.` or `-` first"),
        );
    }
}

/// The kubelet's own default, where there is one (`terminationMessagePath`).
const TERMINATION_LOG: &str = "/dev/termination-log";

fn termination_message(config: &Config, facts: &Facts) -> Option<PathBuf> {
    let written = config.stop.termination_message.as_ref().map(|path| path.value.clone());
    written.or_else(|| (facts.platform == Platform::Kubernetes).then(|| PathBuf::from(TERMINATION_LOG)))
}

/// `text` as the name of one folder, whatever it was.
pub fn file_name(text: &str) -> String {
    let name: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' })
        .take(100)
        .collect();
    match name.trim_start_matches(['.', '-']) {
        "" => "unknown".to_owned(),
        name => name.to_owned(),
    }
}

fn evidence(
    config: &Config,
    facts: &Facts,
    has_health: bool,
    diagnostics: &mut Diagnostics,
) -> Option<Evidence> {
    unique_names(config.rules.iter().map(|rule| &rule.name), "rules", diagnostics);
    let written_url = config.store.url.as_ref().map(|url| &url.value);
    // Who wants nothing of it gets nothing, wherever it runs.
    let default_url = (written_url.is_none() && (has_health || !config.rules.is_empty()))
        .then(|| store::default_url(facts))
        .flatten();
    let url = written_url.or(default_url.as_ref());
    let default = if config.rules.is_empty() && url.is_some() && cfg!(feature = "agent") {
        default_rules(has_health, config.main.output.is_some())
    } else {
        Vec::new()
    };
    let written = if config.rules.is_empty() { &default } else { &config.rules };
    let mut rules = Vec::new();
    for rule in written {
        if rule.capture.value.is_empty() {
            let message = format!("the rule `{}` captures nothing", rule.name.value);
            diagnostics.push(Diagnostic::error(message, &rule.capture.place, "name at least one artifact"));
        }
        let mut capture = rule.capture.value.clone();
        capture.sort_by_key(Capture::rung);
        check_output(config, rule, diagnostics);
        let asks = rule.when.as_ref().filter(|when| when.value.needs_health());
        if (rule.on.value.needs_health() || asks.is_some()) && !has_health {
            let place = asks.map_or(&rule.on.place, |when| &when.place);
            let message = format!("the rule `{}` asks for the service's health", rule.name.value);
            diagnostics.push(
                Diagnostic::error(message, place, "nobody probes it")
                    .help("add [health] with http, tcp or exec"),
            );
        }
        rules.push(RulePlan {
            name: rule.name.value.clone(),
            on: rule.on.value.clone(),
            when: rule.when.as_ref().map(|when| when.value.clone()),
            capture,
            limit: rule.limit.value,
            deadline: rule.deadline.value,
            hold: rule.hold.as_ref().map(|hold| hold.value),
            last_resort: rule.last_resort.as_ref().map(|last_resort| last_resort.value),
        });
    }
    let first = written.first()?;
    if !cfg!(feature = "agent") {
        let message = "this bookend was built without the agent: it has no rules";
        diagnostics.push(
            Diagnostic::error(message, &first.place, "first rule")
                .help("use the full build, or remove the rules"),
        );
    }
    let Some(url) = url else {
        diagnostics.push(
            Diagnostic::error(
                "there are rules but no store",
                &first.place,
                "what it captures has nowhere to go",
            )
            .help("add [store] with url = \"file:///var/lib/bookend\""),
        );
        return None;
    };
    let (store, spool) = store::store(config, facts, url, diagnostics);
    let notify = notify::plan(config, facts, &rules, diagnostics);
    let keeps_partial = config.heap.partial.value == Partial::Keep;
    let spool_limit = config.spool.limit.value;
    let spool_share = config.spool.share.value.0;
    Some(Evidence { rules, store, spool, spool_limit, spool_share, keeps_partial, notify })
}

/// What the service prints is there only where bookend carries it.
fn check_output(config: &Config, rule: &Rule, diagnostics: &mut Diagnostics) {
    if config.main.output.is_some() {
        return;
    }
    let place = if matches!(rule.on.value, Trigger::Log(_)) {
        &rule.on.place
    } else if rule.capture.value.contains(&Capture::Logs) {
        &rule.capture.place
    } else {
        return;
    };
    let message = format!("the rule `{}` asks for what the service prints", rule.name.value);
    diagnostics.push(
        Diagnostic::error(message, place, "nobody keeps it")
            .help("add output = { keep = \"256KiB\" } to [main]"),
    );
}

fn unique_names<'a>(
    names: impl Iterator<Item = &'a Setting<String>>,
    what: &str,
    diagnostics: &mut Diagnostics,
) {
    let mut seen: BTreeMap<&str, &Place> = BTreeMap::new();
    for name in names {
        if name.value.is_empty() || name.value.contains(char::is_control) {
            let message = format!("{what} need a name that can be printed");
            diagnostics.push(Diagnostic::error(message, &name.place, "this one cannot"));
        }
        if let Some(first) = seen.insert(&name.value, &name.place) {
            let message = format!("two {what} are called `{}`", name.value);
            diagnostics.push(Diagnostic::error(message, &name.place, "the second").and(first, "the first"));
        }
    }
}
