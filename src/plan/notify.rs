//! Who is told of evidence, and in which form.

use super::RulePlan;
use crate::config::{Config, Diagnostic, Diagnostics, Notify, Webhook};
use crate::facts::Facts;
use crate::units::MessageForm;

/// One `[[notify]]`.
#[derive(Clone, Debug)]
pub struct NotifyPlan {
    pub to: Webhook,
    /// Triggers and names of rules; every event where there are none.
    pub on: Vec<String>,
    pub form: MessageForm,
}

impl NotifyPlan {
    /// Whether it is told of such an event.
    pub fn wants(&self, trigger: &str, rules: &[String]) -> bool {
        self.on.is_empty() || self.on.iter().any(|name| name == trigger || rules.contains(name))
    }
}

/// A stop that does not end in time is an event of its own.
const KILLED: &str = "killed";

pub(super) fn plan(
    config: &Config,
    facts: &Facts,
    rules: &[RulePlan],
    diagnostics: &mut Diagnostics,
) -> Vec<NotifyPlan> {
    let mut plans = Vec::new();
    for notify in &config.notify {
        for name in &notify.on.value {
            let is_known = |rule: &RulePlan| rule.on.name() == name || rule.name == *name;
            if name != KILLED && !rules.iter().any(is_known) {
                let message = format!("nothing is ever captured on `{name}`");
                diagnostics.push(
                    Diagnostic::error(message, &notify.on.place, "neither a rule nor what sets one off")
                        .help("name a rule, or a trigger that a rule has in `on`"),
                );
            }
        }
        if let Some(to) = webhook(notify, facts, diagnostics) {
            plans.push(NotifyPlan { to, on: notify.on.value.clone(), form: notify.template.value.clone() });
        }
    }
    plans
}

fn webhook(notify: &Notify, facts: &Facts, diagnostics: &mut Diagnostics) -> Option<Webhook> {
    match (&notify.url, &notify.url_env) {
        (Some(url), None) => Some(url.value.clone()),
        (None, Some(name)) => {
            let value = facts.environment.iter().find(|(known, _)| known.to_str() == Some(&name.value));
            let Some(text) = value.and_then(|(_, value)| value.to_str()) else {
                if facts.is_elsewhere {
                    return None;
                }
                let message = format!("the variable {} is not set", name.value);
                diagnostics.push(Diagnostic::error(message, &name.place, "it is to hold the URL"));
                return None;
            };
            match Webhook::parse(text) {
                Ok(webhook) => Some(webhook),
                Err(reason) => {
                    let message = format!("the variable {} holds no URL", name.value);
                    diagnostics.push(Diagnostic::error(message, &name.place, reason));
                    None
                }
            }
        }
        (url, _) => {
            let label = if url.is_some() { "url and url_env: which?" } else { "no url" };
            diagnostics.push(
                Diagnostic::error("a notification needs one URL", &notify.place, label)
                    .help("url = \"https://...\", or url_env = \"WEBHOOK_URL\" where it is a secret"),
            );
            None
        }
    }
}
