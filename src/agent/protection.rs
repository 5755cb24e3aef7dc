//! Task protection on ECS: as long as somebody keeps a healthy task for a look at it, deployments
//! and scale-in leave it alone.
//!
//! `PUT $ECS_AGENT_URI/task-protection/v1/state` with `{"ProtectionEnabled":true,
//! "ExpiresInMinutes":60}` (Amazon ECS developer guide, "Task scale-in protection endpoint").
//! A `failure` or an `error` comes with status 200 too, and is one. It covers neither failed health
//! checks nor a stop by hand.

use crate::net::{self, Trust};
use crate::plan::Plan;
use serde_json::{Value, json};
use std::time::Duration;
use tracing::{info, warn};

const VARIABLE: &str = "ECS_AGENT_URI";
const PATIENCE: Duration = Duration::from_secs(5);
/// What the endpoint takes. Minutes.
const LONGEST: u64 = 2880;
/// Of what it says. Characters.
const WORDS_LIMIT: usize = 200;

/// Where to ask; `None` outside of ECS.
pub(super) fn endpoint(plan: &Plan) -> Option<String> {
    let uri = plan.environment.iter().find(|(name, _)| name == VARIABLE)?.1.to_str()?;
    (!uri.is_empty()).then(|| format!("{uri}/task-protection/v1/state"))
}

/// Asks for it, for that long, or gives it back; says in the log what came of it.
pub(super) async fn protect(endpoint: String, span: Option<Duration>) {
    match (ask(&endpoint, span).await, span) {
        (Ok(until), Some(_)) => info!(until, "the task is protected"),
        (Ok(_), None) => info!("task protection given back"),
        (Err(reason), Some(_)) => warn!("the task is not protected: {reason}"),
        (Err(reason), None) => warn!("task protection is not given back, and ends by itself: {reason}"),
    }
}

async fn ask(endpoint: &str, span: Option<Duration>) -> Result<String, String> {
    let body = match span {
        Some(span) => {
            let minutes = span.as_secs().div_ceil(60).clamp(1, LONGEST);
            json!({ "ProtectionEnabled": true, "ExpiresInMinutes": minutes })
        }
        None => json!({ "ProtectionEnabled": false }),
    };
    let client = net::client(&Trust::default())?
        .timeout(PATIENCE)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| net::in_words(&error))?;
    let request = client.put(endpoint).header("content-type", "application/json").body(body.to_string());
    let answer = request.send().await.map_err(|error| net::in_words(&error))?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| net::in_words(&error))?;
    match read(&text) {
        Ok(until) if status.is_success() => Ok(until),
        Ok(_) => Err(status.to_string()),
        Err(reason) => Err(reason),
    }
}

/// When it ends; or why it was refused.
fn read(text: &str) -> Result<String, String> {
    let value: Value = serde_json::from_str(text).map_err(|_| "no JSON was answered".to_owned())?;
    let words = |value: &Value, keys: &[&str]| {
        let words = keys.iter().filter_map(|key| value.get(key).and_then(Value::as_str));
        words.collect::<Vec<_>>().join(": ").chars().filter(|c| !c.is_control()).take(WORDS_LIMIT).collect()
    };
    for (key, keys) in [("failure", ["Reason", "Detail"]), ("error", ["Code", "Message"])] {
        if let Some(trouble) = value.get(key).filter(|trouble| trouble.is_object()) {
            return Err(words(trouble, &keys));
        }
    }
    let protection = value.get("protection").ok_or("the answer says nothing of protection")?;
    let is_enabled = protection.get("ProtectionEnabled").and_then(Value::as_bool) == Some(true);
    Ok(if is_enabled { words(protection, &["ExpirationDate"]) } else { "given back".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_within_a_success_is_one() {
        let granted = r#"{"protection":{"ExpirationDate":"2022-10-06T02:29:16Z","ProtectionEnabled":true,"TaskArn":"a"}}"#;
        assert_eq!(read(granted), Ok("2022-10-06T02:29:16Z".to_owned()));
        assert_eq!(read(r#"{"protection":{"ProtectionEnabled":false}}"#), Ok("given back".to_owned()));
        let failed = r#"{"failure":{"Arn":"a","Detail":"no service","Reason":"TASK_NOT_VALID"}}"#;
        assert_eq!(read(failed), Err("TASK_NOT_VALID: no service".to_owned()));
        let refused =
            r#"{"requestID":"1","error":{"Arn":"a","Code":"AccessDeniedException","Message":"no"}}"#;
        assert_eq!(read(refused), Err("AccessDeniedException: no".to_owned()));
        for nonsense in ["", "[]", "{}", "null"] {
            assert!(read(nonsense).is_err(), "{nonsense}");
        }
    }
}
