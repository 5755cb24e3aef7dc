//! Where we are, for Amazon's region: from the environment, the task's ARN, or the machine.

use std::time::Duration;
use tracing::debug;

/// Both endpoints are on this host's link.
const LIMIT: Duration = Duration::from_secs(1);
/// Amazon's SDKs fall back to it too.
const DEFAULT: &str = "us-east-1";

/// The region, and where it is from.
pub(super) async fn region(client: &reqwest::Client, profile: Option<String>) -> (String, &'static str) {
    for name in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
        if let Some(region) = std::env::var(name).ok().filter(|region| !region.is_empty()) {
            return (region, "environment");
        }
    }
    if let Some(region) = profile {
        return (region, "profile");
    }
    // Amazon ECS developer guide, "Task metadata endpoint version 4": `${...}/task`.
    if let Ok(uri) = std::env::var("ECS_CONTAINER_METADATA_URI_V4") {
        let task = get(client, &format!("{uri}/task"), None).await;
        if let Some(region) = task.as_deref().and_then(of_task) {
            return (region, "task ARN");
        }
    } else if let Some(region) = of_machine(client).await {
        return (region, "instance metadata");
    }
    (DEFAULT.to_owned(), "default")
}

/// `arn:aws:ecs:eu-central-1:123456789012:task/...`
fn of_task(record: &str) -> Option<String> {
    let record: serde_json::Value = serde_json::from_str(record).ok()?;
    let region = record.get("TaskARN")?.as_str()?.split(':').nth(3)?;
    is_region(region).then(|| region.to_owned())
}

/// Where this machine tells of itself: the variable is that of Amazon's own SDKs ("IMDS client", AWS
/// SDKs and Tools reference).
pub(super) fn machine() -> String {
    let named = std::env::var("AWS_EC2_METADATA_SERVICE_ENDPOINT").ok();
    let named = named.as_deref().map(|url| url.trim_end_matches('/')).filter(|url| !url.is_empty());
    named.unwrap_or("http://169.254.169.254").to_owned()
}

/// Amazon EC2 user guide, "Use IMDSv2".
async fn of_machine(client: &reqwest::Client) -> Option<String> {
    let base = machine();
    let asked = client
        .put(format!("{base}/latest/api/token"))
        .header("X-aws-ec2-metadata-token-ttl-seconds", "60")
        .timeout(LIMIT)
        .send();
    let answer = asked.await.ok().filter(|answer| answer.status().is_success())?;
    let token = answer.text().await.ok()?;
    let region = get(client, &format!("{base}/latest/meta-data/placement/region"), Some(&token)).await?;
    let region = region.trim();
    is_region(region).then(|| region.to_owned())
}

async fn get(client: &reqwest::Client, url: &str, token: Option<&str>) -> Option<String> {
    let mut request = client.get(url).timeout(LIMIT);
    if let Some(token) = token {
        request = request.header("X-aws-ec2-metadata-token", token);
    }
    let answer = request.send().await.inspect_err(|error| debug!("{error}")).ok()?;
    if !answer.status().is_success() {
        return None;
    }
    answer.text().await.ok()
}

/// It becomes part of a host's name.
fn is_region(text: &str) -> bool {
    !text.is_empty()
        && text.len() < 40
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_tells_its_region() {
        let task = r#"{"Cluster":"c","TaskARN":"arn:aws:ecs:eu-central-1:123456789012:task/c/0a1b"}"#;
        assert_eq!(of_task(task).as_deref(), Some("eu-central-1"));
        for nothing in ["", "{}", r#"{"TaskARN":"arn"}"#, r#"{"TaskARN":"a:b:c:../x:e"}"#] {
            assert_eq!(of_task(nothing), None, "{nothing}");
        }
    }
}
