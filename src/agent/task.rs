//! Which task this is on ECS: asked of the task metadata endpoint, version 4.
//!
//! `$ECS_CONTAINER_METADATA_URI_V4` answers with this container, `.../task` with its task
//! (Amazon ECS developer guide, "Task metadata endpoint version 4"; amazon-ecs-agent,
//! `v4/state/response.go`). Everything in it is read as hostile input.

use crate::plan::Plan;
use crate::probe::{Http, HttpRequest};
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const VARIABLE: &str = "ECS_CONTAINER_METADATA_URI_V4";
/// For one answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// It is there before the container is, as a rule.
const LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(500);
/// No value is longer. Characters.
const VALUE_LIMIT: usize = 300;

/// What ECS says of this task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct EcsTask {
    pub(super) service: Option<String>,
    /// The last part of its ARN.
    pub(super) id: Option<String>,
    /// The image that runs, by digest.
    pub(super) image_digest: Option<String>,
    pub(super) details: Vec<(&'static str, String)>,
}

/// Asks until there is an answer, for a while.
///
/// # Errors
/// Why there is none.
pub(super) async fn ask(plan: &Plan) -> Result<EcsTask, String> {
    let uri = plan.environment.iter().find(|(name, _)| name == VARIABLE).and_then(|(_, uri)| uri.to_str());
    let uri = uri.ok_or_else(|| format!("{VARIABLE} is not set"))?;
    let (container, task) = (fetcher(uri)?, fetcher(&format!("{uri}/task"))?);
    let deadline = Instant::now() + LIMIT;
    loop {
        let answers = async { Ok((container.fetch(PATIENCE).await?, task.fetch(PATIENCE).await?)) };
        match answers.await {
            Ok((container, task)) => return Ok(read(&container, &task)),
            Err(reason) if Instant::now() + PAUSE > deadline => {
                let reason: String = reason;
                return Err(format!("the task metadata endpoint does not answer: {reason}"));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

fn fetcher(url: &str) -> Result<Http, String> {
    Http::new(HttpRequest::get(url))
}

fn read(container: &str, task: &str) -> EcsTask {
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let (container, task) = (parse(container), parse(task));
    let text = |value: &Value, key: &str| {
        let text = match value.get(key)? {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        let text: String = text.chars().filter(|c| !c.is_control()).take(VALUE_LIMIT).collect();
        (!text.is_empty()).then_some(text)
    };
    let mut details = Vec::new();
    for (key, value) in [
        ("cluster", text(&task, "Cluster")),
        ("task_arn", text(&task, "TaskARN")),
        ("family", text(&task, "Family")),
        ("revision", text(&task, "Revision")),
        ("zone", text(&task, "AvailabilityZone")),
        ("launch_type", text(&task, "LaunchType")),
        ("container", text(&container, "Name")),
        ("image", text(&container, "Image")),
        ("restarts", text(&container, "RestartCount")),
    ] {
        details.extend(value.map(|value| (key, value)));
    }
    let id = text(&task, "TaskARN").and_then(|arn| arn.rsplit('/').next().map(str::to_owned));
    EcsTask {
        service: text(&task, "ServiceName").or_else(|| text(&task, "Family")),
        id: id.filter(|id| !id.is_empty()),
        image_digest: text(&container, "ImageID"),
        details,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_endpoint_answers() {
        let container =
            r#"{"DockerId":"x","Name":"app","Image":"r/app:latest","ImageID":"sha256:12","RestartCount":1}"#;
        let task = r#"{"Cluster":"prod","ServiceName":"orders","Family":"orders-task","Revision":"7",
            "TaskARN":"arn:aws:ecs:eu-central-1:1:task/prod/0123","AvailabilityZone":"eu-central-1a","LaunchType":"FARGATE"}"#;
        let found = read(container, task);
        assert_eq!(found.service.as_deref(), Some("orders"));
        assert_eq!(found.id.as_deref(), Some("0123"));
        assert_eq!(found.image_digest.as_deref(), Some("sha256:12"));
        assert!(found.details.contains(&("revision", "7".to_owned())), "{found:?}");
        // Not of a service.
        assert_eq!(read(container, r#"{"Family":"job"}"#).service.as_deref(), Some("job"));
        for nonsense in ["", "[]", "{\"TaskARN\":7,\"ServiceName\":{}}", "null"] {
            let found = read(nonsense, nonsense);
            assert_eq!((found.service, found.image_digest), (None, None), "{nonsense}");
        }
    }
}
