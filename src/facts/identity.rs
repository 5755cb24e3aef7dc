//! Who this container is, as far as its environment and files tell.
//!
//! Sources: Kubernetes, "Container environment" (the host name is the pod's), and the service
//! account's files; Nomad, "Runtime environment settings"; titus-executor
//! (`executor/runtime/types`); amazon-ecs-agent says nothing here but an address, where the
//! agent asks.

use super::Platform;
use std::ffi::OsString;
use std::path::Path;

/// `serviceaccount/namespace` of every pod that has an account.
const NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// A name, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub name: String,
    pub source: String,
}

/// What is known without asking anybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub service: Option<Named>,
    pub task: Option<Named>,
    /// The image that runs, by digest.
    pub image_digest: Option<String>,
    /// Whatever else is worth a line in the manifest.
    pub details: Vec<(&'static str, String)>,
}

impl Identity {
    /// Looks at the variables that the platform sets, and at its files.
    pub fn read(
        platform: Platform,
        environment: &[(OsString, OsString)],
        host_name: &str,
        file: impl Fn(&Path) -> Option<String>,
    ) -> Self {
        let variable = |name: &str| {
            let found = environment.iter().find(|(key, _)| key == name)?;
            let text = found.1.to_str()?.trim();
            (!text.is_empty()).then(|| text.to_owned())
        };
        let named =
            |name: &'static str| variable(name).map(|value| Named { name: value, source: name.to_owned() });
        let mut details = Vec::new();
        let mut detail =
            |key: &'static str, value: Option<String>| details.extend(value.map(|value| (key, value)));
        match platform {
            Platform::Kubernetes => {
                let pod = variable("POD_NAME").unwrap_or_else(|| host_name.to_owned());
                detail("namespace", variable("POD_NAMESPACE").or_else(|| file(Path::new(NAMESPACE))));
                detail("node", variable("NODE_NAME"));
                let source = if variable("POD_NAME").is_some() { "POD_NAME" } else { "the pod's name" };
                let service =
                    owner(&pod).map(|name| Named { name: name.to_owned(), source: source.to_owned() });
                let task = Some(Named { name: pod, source: source.to_owned() });
                Self { service, task, image_digest: None, details }
            }
            Platform::Nomad => {
                for (key, name) in [
                    ("namespace", "NOMAD_NAMESPACE"),
                    ("group", "NOMAD_GROUP_NAME"),
                    ("job_task", "NOMAD_TASK_NAME"),
                    ("index", "NOMAD_ALLOC_INDEX"),
                    ("zone", "NOMAD_DC"),
                    ("region", "NOMAD_REGION"),
                ] {
                    detail(key, variable(name));
                }
                let service = named("NOMAD_JOB_NAME");
                Self { service, task: named("NOMAD_ALLOC_ID"), image_digest: None, details }
            }
            Platform::Titus => {
                for (key, name) in [
                    ("image", "TITUS_IMAGE_NAME"),
                    ("image_tag", "TITUS_IMAGE_TAG"),
                    ("cluster", "NETFLIX_CLUSTER"),
                    ("stack", "NETFLIX_STACK"),
                    ("zone", "EC2_AVAILABILITY_ZONE"),
                    ("host", "TITUS_HOST_EC2_INSTANCE_ID"),
                ] {
                    detail(key, variable(name));
                }
                let task = named("TITUS_TASK_ID").or_else(|| named("TITUS_CONTAINER_ID"));
                Self {
                    service: named("NETFLIX_APP"),
                    task,
                    image_digest: variable("TITUS_IMAGE_DIGEST"),
                    details,
                }
            }
            // Swarm tells a container nothing of itself; task templates can.
            Platform::Docker | Platform::Bare | Platform::Ecs | Platform::EcsFargate => Self::default(),
        }
    }
}

/// What a pod is one of, by the names that controllers make: `orders-7d9f6c5b8-x2x9z` of a
/// Deployment, `orders-x2x9z` of a DaemonSet or Job, `orders-0` of a StatefulSet.
fn owner(pod: &str) -> Option<&str> {
    // apimachinery, `rand.SafeEncodeString`: no vowels, no digits that look like letters.
    let is_random = |text: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&text.len())
            && text.bytes().all(|byte| b"bcdfghjklmnpqrstvwxz2456789".contains(&byte))
    };
    let (rest, last) = pod.rsplit_once('-')?;
    if !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(rest);
    }
    if !is_random(last, 5..=5) {
        return None;
    }
    match rest.rsplit_once('-') {
        Some((name, hash)) if is_random(hash, 6..=10) => Some(name),
        _ => Some(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(platform: Platform, variables: &[(&str, &str)]) -> Identity {
        let environment: Vec<(OsString, OsString)> =
            variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Identity::read(platform, &environment, "orders-7d9f6c5b8-x2x9z", |path| {
            (path == Path::new(NAMESPACE)).then(|| "shop".to_owned())
        })
    }

    #[test]
    fn pods_are_named_by_their_controllers() {
        for (pod, name) in [
            ("orders-7d9f6c5b8-x2x9z", Some("orders")),
            ("order-api-7d9f6c5b8-x2x9z", Some("order-api")),
            ("logs-x2x9z", Some("logs")),
            ("db-0", Some("db")),
            ("orders", None),
            ("order-service", None),
        ] {
            assert_eq!(owner(pod), name, "{pod}");
        }
    }

    #[test]
    fn each_platform_tells_something_else() {
        let name = |named: &Option<Named>| named.as_ref().map(|named| named.name.clone()).unwrap_or_default();
        let pod = read(Platform::Kubernetes, &[]);
        assert_eq!((name(&pod.service), name(&pod.task)), ("orders".into(), "orders-7d9f6c5b8-x2x9z".into()));
        assert_eq!(pod.details, [("namespace", "shop".to_owned())]);
        let nomad = read(Platform::Nomad, &[("NOMAD_JOB_NAME", "orders"), ("NOMAD_ALLOC_ID", "a-b")]);
        assert_eq!((name(&nomad.service), name(&nomad.task)), ("orders".into(), "a-b".into()));
        let titus = read(Platform::Titus, &[("NETFLIX_APP", "orders"), ("TITUS_IMAGE_DIGEST", "sha256:1")]);
        assert_eq!(
            (name(&titus.service), titus.image_digest.as_deref()),
            ("orders".into(), Some("sha256:1"))
        );
        assert_eq!(read(Platform::Docker, &[]), Identity::default());
    }
}
