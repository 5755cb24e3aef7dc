//! A swarm of one node, with the example's stack: a sick task is replaced, and its evidence stays.

use crate::container::{docker, image};
use crate::scenario::poll;
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;
use serde_json::Value;
use std::process::Command;

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    // The private engine: nobody's own is made a swarm.
    vec![setup.trial("swarm::a_sick_task_is_replaced_and_its_evidence_stays", &[Need::DockerInit], replaced)]
}

type Outcome = Result<(), String>;

/// Leaves the swarm when dropped, and with it everything that is deployed.
struct Swarm<'a>(&'a Setup);

impl<'a> Swarm<'a> {
    fn start(setup: &'a Setup) -> Result<Self, String> {
        docker(setup, &["swarm", "init", "--advertise-addr=127.0.0.1", "--listen-addr=127.0.0.1"])?;
        Ok(Self(setup))
    }

    /// Containers of the service that ever ran here, the oldest last.
    fn containers(&self, more: &[&str]) -> Vec<String> {
        let filter = "label=com.docker.swarm.service.name=shop_orders";
        let arguments = [&["ps", "--quiet", "--no-trunc", "--filter", filter], more].concat();
        let said = docker(self.0, &arguments).unwrap_or_default();
        said.lines().map(str::to_owned).collect()
    }
}

impl Drop for Swarm<'_> {
    fn drop(&mut self) {
        drop(docker(self.0, &["stack", "rm", "shop"]));
        drop(docker(self.0, &["swarm", "leave", "--force"]));
        for container in self.containers(&["--all"]) {
            drop(docker(self.0, &["rm", "--force", &container]));
        }
        drop(docker(self.0, &["volume", "rm", "--force", "shop_evidence"]));
    }
}

fn replaced(setup: &Setup) -> Outcome {
    let image = image(setup, 21)?;
    let swarm = Swarm::start(setup)?;
    let stack = setup.root.join("examples/swarm/stack.yaml");
    let client = setup.docker.as_ref().expect("the need was checked");
    let deployed = Command::new(client)
        // No registry is asked for a digest.
        .args(["stack", "deploy", "--resolve-image=never", "--compose-file"])
        .arg(stack)
        .arg("shop")
        .env("IMAGE", &image)
        .output()
        .map_err(|error| error.to_string())?;
    assert!(deployed.status.success(), "{}", String::from_utf8_lossy(&deployed.stderr));
    let healthy = |but: &str| {
        swarm.containers(&["--filter", "health=healthy"]).into_iter().find(|container| container != but)
    };
    let first = poll("a task is healthy", || healthy(""));
    let logs = || {
        let output = Command::new(client).args(["logs", &first]).output().expect("the client runs");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let task = docker(
        setup,
        &["inspect", "--format", "{{index .Config.Labels \"com.docker.swarm.task.id\"}}", &first],
    )?;
    poll("it is attached to", || logs().contains("attached to the JVM").then_some(()));
    let break_it = "exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET /break HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
    docker(setup, &["exec", &first, "bash", "-c", break_it])?;
    let second = poll("another task is healthy", || healthy(&first));
    assert_ne!(first, second);
    let logs = logs();
    assert!(logs.contains("evidence stored") && logs.contains("exit: stopped"), "{logs}");
    assert_eq!(
        docker(setup, &["inspect", "--format", "{{.State.ExitCode}}", &first])?.trim(),
        "143",
        "{logs}"
    );
    // The volume is the node's: whoever comes next finds it there.
    let list =
        format!("find /var/lib/bookend -path '*/{}/*-unhealthy/manifest.json' -exec cat {{}} +", task.trim());
    let manifest = docker(setup, &["exec", &second, "sh", "-c", &list])?;
    let manifest: Value = serde_json::from_str(&manifest).map_err(|error| format!("{error}: {manifest}"))?;
    assert_eq!(manifest["event"]["trigger"], "unhealthy", "{manifest}");
    assert_eq!(manifest["service"]["name"], "shop_orders", "{manifest}");
    assert_eq!(manifest["service"]["task"], task.trim(), "{manifest}");
    Ok(())
}
