//! Which orchestrator runs us, told by environment and files alone.
//!
//! Sources: the Amazon ECS developer guide (task metadata endpoint v4), the
//! Kubernetes documentation (service environment variables), Nomad's runtime
//! environment settings, Titus' executor, Docker's `/.dockerenv`.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// Who runs this container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    EcsFargate,
    Ecs,
    Kubernetes,
    Nomad,
    Titus,
    Docker,
    Bare,
}

impl Platform {
    /// Looks at the variables that each platform sets, then at Docker's file.
    pub fn detect(environment: &[(OsString, OsString)], exists: impl Fn(&Path) -> bool) -> Self {
        let variable = |name: &str| environment.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        if variable("ECS_CONTAINER_METADATA_URI_V4").is_some() {
            return match variable("AWS_EXECUTION_ENV") {
                Some(value) if value == "AWS_ECS_FARGATE" => Self::EcsFargate,
                _ => Self::Ecs,
            };
        }
        if variable("KUBERNETES_SERVICE_HOST").is_some() {
            return Self::Kubernetes;
        }
        if variable("NOMAD_ALLOC_ID").is_some() {
            return Self::Nomad;
        }
        if variable("TITUS_TASK_ID").or(variable("TITUS_CONTAINER_ID")).is_some() {
            return Self::Titus;
        }
        if exists(Path::new("/.dockerenv")) || exists(Path::new("/run/.containerenv")) {
            return Self::Docker;
        }
        Self::Bare
    }

    /// The platform's name, as logs and manifests say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::EcsFargate => "ECS on Fargate",
            Self::Ecs => "ECS",
            Self::Kubernetes => "Kubernetes",
            Self::Nomad => "Nomad",
            Self::Titus => "Titus",
            Self::Docker => "Docker",
            Self::Bare => "no orchestrator",
        }
    }

    /// It stops by itself what its own health check, or ours, takes for sick.
    ///
    /// ECS replaces the tasks of a service whose health command fails, Kubernetes acts on the
    /// liveness probe, Nomad on `check_restart`; plain Docker does nothing.
    pub fn stops_the_sick(self) -> bool {
        matches!(self, Self::EcsFargate | Self::Ecs | Self::Kubernetes | Self::Nomad)
    }

    /// The grace period the platform gives unless somebody set another: it
    /// tells a container nothing of it, on any platform.
    ///
    /// ECS 30 s (container definition, `stopTimeout`), Kubernetes 30 s
    /// (`terminationGracePeriodSeconds`), Docker 10 s (`docker stop`), Titus
    /// 10 s, Nomad 5 s (`kill_timeout`).
    pub fn default_grace(self) -> Duration {
        Duration::from_secs(match self {
            Self::EcsFargate | Self::Ecs | Self::Kubernetes => 30,
            Self::Titus | Self::Docker | Self::Bare => 10,
            Self::Nomad => 5,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_apart_by_what_each_sets() {
        let detect = |variables: &[(&str, &str)], file: Option<&str>| {
            let environment: Vec<(OsString, OsString)> =
                variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            Platform::detect(&environment, |path| file.is_some_and(|file| path == Path::new(file)))
        };
        let uri = ("ECS_CONTAINER_METADATA_URI_V4", "http://169.254.170.2/v4/x");
        assert_eq!(detect(&[uri], Some("/.dockerenv")), Platform::Ecs);
        assert_eq!(detect(&[uri, ("AWS_EXECUTION_ENV", "AWS_ECS_FARGATE")], None), Platform::EcsFargate);
        assert_eq!(detect(&[("KUBERNETES_SERVICE_HOST", "10.0.0.1")], None), Platform::Kubernetes);
        assert_eq!(detect(&[("NOMAD_ALLOC_ID", "a")], None), Platform::Nomad);
        assert_eq!(detect(&[("TITUS_TASK_ID", "a")], None), Platform::Titus);
        assert_eq!(detect(&[], Some("/.dockerenv")), Platform::Docker);
        assert_eq!(detect(&[], None), Platform::Bare);
    }
}
