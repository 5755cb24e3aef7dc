//! Tells people of an event: what was saved, what was not, and where it is.
//!
//! Evidence never waits for it and never depends on it: it comes when everything is stored or in
//! the spool, and what fails is told in the log.

use crate::evidence::{Manifest, Status};
use crate::net::{self, Trust};
use crate::plan::NotifyPlan;
use crate::units::{ByteSize, MessageForm};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

/// An answer takes no longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Whoever does not take it in that time is given up.
pub(super) const LIMIT: Duration = Duration::from_mins(1);
/// The same where the container waits for it.
pub(super) const LAST_LIMIT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What is told of one event.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    trigger: &'static str,
    rules: Vec<String>,
    /// All of it; texts of templates are found here too.
    body: Value,
    title: String,
    /// How many are whole: `3/4 artifacts`.
    artifacts: String,
    lines: Vec<String>,
}

impl Notice {
    /// `url`: of the event's folder. `link`: the same for a browser, if there is one.
    /// `trouble`: why it is not there.
    pub(super) fn new(
        manifest: &Manifest,
        url: &str,
        link: Option<&str>,
        artifacts: &str,
        trouble: Option<&str>,
    ) -> Self {
        let (service, event) = (&manifest.service, &manifest.event);
        let artifacts = format!("{artifacts} artifacts");
        let title = format!("{}: evidence of \"{}\", {artifacts}", service.name, event.trigger);
        let mut lines = Vec::new();
        for record in &manifest.artifacts {
            let size = record.bytes.map(|bytes| format!(", {}", ByteSize(bytes))).unwrap_or_default();
            let place = if record.spooled { ", waits in the spool" } else { "" };
            let reason = record.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            match record.status {
                // What is well needs a line only where it is asked for.
                Status::Complete if record.of.is_some() => {}
                Status::Complete => lines.push(format!("{} complete{size}{place}", record.artifact)),
                Status::Partial => lines.push(format!("{} partial{size}{place}{reason}", record.artifact)),
                Status::Failed => lines.push(format!("{} failed{reason}", record.artifact)),
                Status::Absent => {}
                Status::Skipped => lines.push(format!("{} skipped{reason}", record.artifact)),
            }
        }
        lines.extend(trouble.map(|trouble| format!("not all of it is stored: {trouble}")));
        lines.push(url.to_owned());
        let text = format!("{title}\n{}", lines.join("\n"));
        let body = json!({
            "format": 1,
            "text": text,
            "service": service.name,
            "task": service.task,
            "platform": service.platform,
            "event": event.id,
            "trigger": event.trigger,
            "rules": event.rules,
            "began": event.began,
            "stored": event.stored,
            "artifacts": manifest.artifacts,
            "url": url,
            "manifest": format!("{url}/manifest.json"),
            "link": link,
            "trouble": trouble,
        });
        Self { trigger: event.trigger, rules: event.rules.clone(), body, title, artifacts, lines }
    }

    fn in_form(&self, form: &MessageForm) -> String {
        match form {
            MessageForm::Json => self.body.to_string(),
            MessageForm::Slack => self.for_slack().to_string(),
            MessageForm::Own(template) => template.fill(|name| {
                let text = match self.body.get(name) {
                    Some(Value::String(text)) => text.clone(),
                    _ if name == "rules" => self.rules.join(", "),
                    // How many are whole, not what became of each.
                    _ if name == "artifacts" => self.artifacts.clone(),
                    _ => String::new(),
                };
                let quoted = Value::String(text).to_string();
                let inner = quoted.strip_prefix('"').and_then(|quoted| quoted.strip_suffix('"'));
                inner.unwrap_or_default().to_owned()
            }),
        }
    }

    /// "Sending messages using incoming webhooks" and "Formatting text for app surfaces", Slack
    /// API: three characters are escaped, a link is `<url|text>`.
    fn for_slack(&self) -> Value {
        let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let mut text = format!("*{}*", escaped(&self.title));
        for line in &self.lines {
            text.push_str(&format!("\n{}", escaped(line)));
        }
        if let Some(link) = self.body.get("link").and_then(Value::as_str) {
            text.push_str(&format!("\n<{}|open>", escaped(link)));
        }
        json!({ "text": text })
    }
}

/// Posts `notice` to everybody who wants it, at once; ends after `limit`, and when `until` comes,
/// also if that is shortened meanwhile.
pub(super) async fn notify(
    plans: Vec<NotifyPlan>,
    notice: Notice,
    limit: Duration,
    mut until: watch::Receiver<Instant>,
) {
    let wanted = plans.into_iter().filter(|plan| plan.wants(notice.trigger, &notice.rules));
    let mut posts = tokio::task::JoinSet::new();
    for plan in wanted {
        let body = notice.in_form(&plan.form);
        let shown = plan.to.shown();
        posts.spawn(async move { (shown, post(&plan.to.0, body, limit).await) });
    }
    let longest = Instant::now() + limit;
    while !posts.is_empty() {
        let limit = longest.min(*until.borrow_and_update());
        tokio::select! {
            posted = timeout_at(limit, posts.join_next()) => match posted {
                Ok(Some(Ok((shown, Ok(()))))) => info!(to = shown, "notification sent"),
                Ok(Some(Ok((shown, Err(reason))))) => warn!("{shown} is not told of the evidence: {reason}"),
                Ok(_) => {}
                Err(_) => {
                    warn!("{} not told of the evidence: the time is up", posts.len());
                    return;
                }
            },
            changed = until.changed() => if changed.is_err() { return },
        }
    }
}

/// Until somebody takes it or refuses it for good.
async fn post(url: &str, body: String, limit: Duration) -> Result<(), String> {
    let client = net::client(&Trust::default())?
        .timeout(ANSWER_LIMIT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| net::in_words(&error))?;
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let request = client.post(url).header("content-type", "application/json").body(body.clone());
        let reason = match net::granted(request.send().await).await {
            Ok(()) => return Ok(()),
            Err(refusal) if refusal.is_for_good => return Err(refusal.reason),
            Err(refusal) => refusal.reason,
        };
        // Not all of a fleet at the same moment.
        let jittered = pause.mul_f64(0.5 + f64::from(begun.elapsed().subsec_nanos() % 1000) / 1000.0);
        if begun.elapsed() + jittered > limit {
            return Err(reason);
        }
        sleep(jittered).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
