//! What the platform itself thinks of our health.
//!
//! On ECS the task metadata endpoint, version 4, answers with the container's own
//! record; its `Health` is there where the container definition has a health check:
//! `{"status": "UNHEALTHY", "statusSince": "...", "exitCode": 1, "output": "..."}`
//! (Amazon ECS developer guide, "Task metadata endpoint version 4"; amazon-ecs-agent,
//! `v4/response.go`). Everything in it is read as hostile input.

use crate::facts::Platform;
use crate::plan::Plan;
use crate::probe::{Http, HttpRequest};
use std::rc::Rc;
use std::time::Duration;
use tracing::debug;

const VARIABLE: &str = "ECS_CONTAINER_METADATA_URI_V4";

/// Whom to ask.
#[derive(Clone, Debug)]
pub(super) struct Metadata(Rc<Http>);

impl Metadata {
    /// `None` where the platform tells nothing of it.
    pub(super) fn of(plan: &Plan) -> Option<Self> {
        if !matches!(plan.platform, Platform::Ecs | Platform::EcsFargate) {
            return None;
        }
        let (_, url) = plan.environment.iter().find(|(name, _)| name == VARIABLE)?;
        let request = HttpRequest::get(url.to_str()?);
        match Http::new(request) {
            Ok(http) => Some(Self(Rc::new(http))),
            Err(reason) => {
                debug!("the task metadata endpoint cannot be asked: {reason}");
                None
            }
        }
    }

    /// Whether it takes us for healthy, and its words; `None` if it does not say.
    pub(super) async fn health(&self, limit: Duration) -> Option<(bool, String)> {
        let text = self.0.fetch(limit).await.inspect_err(|reason| debug!("task metadata: {reason}")).ok()?;
        read(&text)
    }
}

fn read(text: &str) -> Option<(bool, String)> {
    let record: serde_json::Value = serde_json::from_str(text).ok()?;
    let health = record.get("Health")?;
    let is_well = match health.get("status")?.as_str()? {
        "HEALTHY" => true,
        "UNHEALTHY" => false,
        _ => return None,
    };
    let output = health.get("output").and_then(|output| output.as_str()).unwrap_or_default();
    let line: String = output.lines().next().unwrap_or_default().chars().take(200).collect();
    let words = "ECS takes the container for unhealthy".to_owned();
    Some((is_well, if line.trim().is_empty() { words } else { format!("{words}: {}", line.trim()) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_endpoint_answers() {
        let healthy =
            r#"{"DockerId":"x","Health":{"status":"HEALTHY","statusSince":"2026-11-23T10:00:00Z"}}"#;
        assert_eq!(read(healthy).map(|(is_well, _)| is_well), Some(true));
        let sick = r#"{"Health":{"status":"UNHEALTHY","exitCode":1,"output":"curl: (7) refused\nmore"}}"#;
        assert_eq!(
            read(sick),
            Some((false, "ECS takes the container for unhealthy: curl: (7) refused".to_owned()))
        );
        for nothing in ["", "{}", r#"{"Health":{"status":"UNKNOWN"}}"#, r#"{"Health":7}"#, "[]"] {
            assert_eq!(read(nothing), None, "{nothing}");
        }
    }
}
