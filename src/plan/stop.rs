//! The stop's budget: one total, shared by evidence, the main process's own
//! shutdown, leftovers and post-stop hooks.

use super::programs::HookPlan;
use crate::config::{Config, Diagnostic, Diagnostics, Forwarding};
use crate::facts::Facts;
use crate::units::{Moment, Signal, format_duration};
use std::collections::BTreeMap;
use std::time::Duration;

/// How a stop goes in time.
///
/// ```text
/// stop signal                                            deadline     SIGKILL
///      |-- evidence (only if a rule asks) --|-- reserve --|-- closing --|-- margin --|
///      |<------------------------------- grace ------------------------------------>|
/// ```
#[derive(Clone, Debug)]
pub struct StopPlan {
    /// What the orchestrator gives from its stop signal to its SIGKILL.
    pub grace: Duration,
    /// In words: who said so.
    pub grace_source: String,
    /// Somebody configured the grace. Only then does bookend ever kill the main
    /// process: a platform's default may be shorter than what this task really
    /// has, and an early SIGKILL of ours would be worse than the orchestrator's.
    pub grace_is_known: bool,
    /// The main process goes on so long, as requests still come.
    pub linger: Duration,
    /// Kept free at the end, for clocks that disagree.
    pub margin: Duration,
    /// Kept for the main process's own shutdown; evidence never eats it.
    pub reserve: Duration,
    /// Kept for post-stop hooks.
    pub closing: Duration,
    /// The signals that mean "stop".
    pub signals: Vec<Signal>,
    /// What other signals become on their way to the main process.
    pub forwarding: BTreeMap<Signal, Forwarding>,
    /// Exit codes of the main process that become others, after a stop.
    pub exit_codes: BTreeMap<u8, u8>,
}

impl StopPlan {
    /// When everything must be over.
    pub fn deadline(&self, begin: Moment) -> Moment {
        begin.after(self.grace.saturating_sub(self.margin))
    }

    /// When the main process is killed if it is still there.
    pub fn kill_at(&self, begin: Moment) -> Moment {
        self.deadline(begin).before(self.closing)
    }

    /// When evidence ends and the stop signal is passed on.
    pub fn evidence_until(&self, begin: Moment) -> Moment {
        self.kill_at(begin).before(self.reserve)
    }
}

pub(super) fn plan(
    config: &Config,
    facts: &Facts,
    post_stop: &[HookPlan],
    diagnostics: &mut Diagnostics,
) -> StopPlan {
    let (grace, grace_source) = match &config.stop.grace {
        Some(grace) => (grace.value, diagnostics.describe(&grace.place)),
        None => (facts.platform.default_grace(), format!("the default of {}", facts.platform.name())),
    };
    let margin =
        config.stop.margin.as_ref().map_or(Duration::from_secs(1).min(grace / 10), |margin| margin.value);
    let usable = grace.saturating_sub(margin);
    // Post-stop hooks get what they ask for, up to a quarter of the grace.
    let asked = post_stop.iter().map(|hook| hook.timeout).fold(Duration::ZERO, Duration::saturating_add);
    let closing = asked.min(usable / 4);
    let reserve = config
        .main
        .reserve
        .as_ref()
        .map_or((grace / 3).min(usable.saturating_sub(closing)), |reserve| reserve.value);
    let plan = StopPlan {
        grace,
        grace_source,
        grace_is_known: config.stop.grace.is_some(),
        linger: config.stop.linger.value,
        margin,
        reserve,
        closing,
        signals: config.stop.signals.value.clone(),
        forwarding: config.signals.value.clone(),
        exit_codes: config.exit.map.value.clone(),
    };
    check(config, facts, &plan, diagnostics);
    plan
}

fn check(config: &Config, facts: &Facts, plan: &StopPlan, diagnostics: &mut Diagnostics) {
    let grace = format_duration(plan.grace);
    let whose_grace = format!("the grace period is {grace}, {}", plan.grace_source);
    if let Some(setting) = config.stop.grace.as_ref().filter(|grace| grace.value.is_zero()) {
        diagnostics.push(
            Diagnostic::error("there is no time to stop", &setting.place, "the grace period is zero")
                .help("write what the orchestrator gives between its stop signal and SIGKILL"),
        );
        return;
    }
    if let Some(margin) = config.stop.margin.as_ref().filter(|margin| margin.value >= plan.grace) {
        diagnostics.push(
            Diagnostic::error(
                "the margin takes the whole grace period",
                &margin.place,
                "longer than the grace",
            )
            .help(whose_grace),
        );
        return;
    }
    let available = plan.grace.saturating_sub(plan.margin).saturating_sub(plan.closing);
    if let Some(reserve) = config.main.reserve.as_ref().filter(|reserve| reserve.value > available) {
        let margin = format_duration(plan.margin);
        let closing = match plan.closing {
            Duration::ZERO => String::new(),
            closing => format!(" and {} for post-stop hooks", format_duration(closing)),
        };
        let mut diagnostic = Diagnostic::error(
            "the reserve is larger than what the grace period leaves",
            &reserve.place,
            format!("at most {}", format_duration(available)),
        );
        if let Some(grace) = &config.stop.grace {
            diagnostic = diagnostic.and(&grace.place, "the grace period");
        }
        let help = format!(
            "{whose_grace}, less a margin of {margin}{closing}; lower main.reserve or set stop.grace to \
             what {} really gives",
            facts.platform.name()
        );
        diagnostics.push(diagnostic.help(help));
    }
    let dropped = plan.signals.iter().find(|signal| plan.forwarding.get(signal) == Some(&Forwarding::Drop));
    if let Some(signal) = dropped {
        let message = format!("{signal} means \"stop\", and would be dropped");
        diagnostics.push(
            Diagnostic::error(message, &config.signals.place, "dropped here")
                .help("take it out of stop.signals, or out of [signals]"),
        );
    }
    if plan.signals.is_empty() {
        diagnostics.push(
            Diagnostic::error(
                "no signal would stop this container",
                &config.stop.signals.place,
                "the list is empty",
            )
            .help("leave it out for SIGTERM and SIGINT"),
        );
    }
}
