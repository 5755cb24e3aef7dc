//! A pod by Kubernetes' own manifest, run by `podman play kube` in place of a kubelet. What it does
//! differently is in docs/platforms.md: it looks at the liveness probe only when somebody asks
//! (`podman healthcheck run`; it leaves that to systemd's timers), stops with `--time` and not with
//! the manifest's grace period, and knows neither `preStop` nor a termination message.

use crate::bundle;
use crate::container::{docker, image};
use crate::scenario::{Scenario, poll, poll_telling};
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;
use nix::sys::resource::{Resource, getrlimit};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let needs = &[Need::Root, Need::Docker, Need::Program("/usr/bin/podman", "podman")];
    vec![setup.trial("podman::a_pod_by_its_manifest", needs, pod)]
}

type Outcome = Result<(), String>;

/// A podman of its own, with its images in a folder; gone when dropped.
struct Podman {
    folder: PathBuf,
}

impl Podman {
    fn new(folder: PathBuf) -> Self {
        // Its own defaults are more than whoever lacks CAP_SYS_RESOURCE may set.
        let hard = |resource| getrlimit(resource).map_or(1024, |(_, hard)| hard.min(20_000));
        let (files, processes) = (hard(Resource::RLIMIT_NOFILE), hard(Resource::RLIMIT_NPROC));
        let config = format!(
            "[containers]\ndefault_ulimits = [\"nofile={files}:{files}\", \"nproc={processes}:{processes}\"]\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"runc\"\n"
        );
        std::fs::write(folder.join("containers.conf"), config).expect("the folder is ours");
        Self { folder }
    }

    fn try_run(&self, arguments: &[&str]) -> Output {
        let below = |name: &str| self.folder.join(name).display().to_string();
        Command::new("/usr/bin/podman")
            .args(["--root", &below("root"), "--runroot", &below("run"), "--tmpdir", &below("tmp")])
            .args(arguments)
            // It would read the other engine's client's.
            .env_remove("DOCKER_CONFIG")
            .env("CONTAINERS_CONF", below("containers.conf"))
            .output()
            .expect("podman runs")
    }

    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.try_run(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        Err(format!("podman {}: {text}{}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)))
    }

    fn logs(&self) -> String {
        let output = self.try_run(&["logs", "orders-orders"]);
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    fn wait_for(&self, text: &str, times: usize) {
        poll(&format!("the pod says `{text}` {times} times"), || {
            let logs = self.logs();
            let ended = logs.contains("exit: ") && times == 1;
            assert!(!ended || logs.contains(text), "it ended without saying `{text}`:\n{logs}");
            (logs.matches(text).count() >= times).then_some(())
        });
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        drop(self.try_run(&["pod", "rm", "--force", "--all"]));
        // Its storage is mounted, and has files of every user.
        drop(self.try_run(&["system", "reset", "--force"]));
        drop(std::fs::remove_dir_all(self.folder.join("root")));
    }
}

fn pod(setup: &Setup) -> Outcome {
    let folder = Scenario::new(setup).folder().to_owned();
    let image = image(setup, 21)?;
    let archive = folder.join("image.tar");
    docker(setup, &["save", "--output", &archive.display().to_string(), &image])?;
    let podman = Podman::new(folder.clone());
    podman.run(&["load", "--quiet", "--input", &archive.display().to_string()])?;
    std::fs::remove_file(archive).map_err(|error| error.to_string())?;
    let store = folder.join("evidence");
    std::fs::create_dir(&store).map_err(|error| error.to_string())?;
    let config = "[stop]\ngrace = \"20s\"\n[health]\nhttp = \"http://127.0.0.1:8080/health\"\ninterval = \"200ms\"\n\
                  [[rule]]\nname = \"sick\"\non = \"unhealthy\"\ncapture = [\"threads\"]\n\
                  [[rule]]\nname = \"last\"\non = \"stop\"\ncapture = [\"threads\", \"heap\"]\n\
                  [store]\nurl = \"file:///evidence\"\n";
    std::fs::write(folder.join("bookend.toml"), config).map_err(|error| error.to_string())?;
    let word = folder.join("termination-log");
    std::fs::write(&word, "").map_err(|error| error.to_string())?;
    for path in [&store, &word] {
        use std::os::unix::fs::PermissionsExt;
        let all = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(path, all).map_err(|error| error.to_string())?;
    }
    let manifest = include_str!("pod.yaml")
        .replace("IMAGE", &format!("localhost/{image}"))
        .replace("FOLDER", &folder.display().to_string());
    let file = folder.join("pod.yaml");
    std::fs::write(&file, manifest).map_err(|error| error.to_string())?;
    podman.run(&["play", "kube", "--network", "none", &file.display().to_string()])?;

    podman.wait_for("health: healthy", 1);
    podman.wait_for("attached to the JVM", 1);
    assert!(podman.logs().contains("platform=Kubernetes"), "{}", podman.logs());
    assert!(podman.try_run(&["healthcheck", "run", "orders-orders"]).status.success());
    let break_it = "exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET /break HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
    podman.run(&["exec", "orders-orders", "bash", "-c", break_it])?;
    podman.wait_for("evidence stored", 1);
    // The liveness probe fails as often as the manifest allows, and the container is restarted.
    let mut said = String::new();
    poll_telling("the container is restarted", || {
        let check = podman.try_run(&["healthcheck", "run", "orders-orders"]);
        let now = String::from_utf8_lossy(&[check.stdout, check.stderr].concat()).into_owned();
        if !said.ends_with(&now) {
            said.push_str(&now);
        }
        let logs = podman.logs();
        let is_restarted = logs.matches("bookend: starting").count() == 2;
        if is_restarted { Ok(()) } else { Err(format!("{said}{logs}")) }
    });
    let told = last_word(&word)?;
    assert_eq!((&told["reason"], &told["exit_code"]), (&"stop".into(), &143.into()), "{told}");
    podman.wait_for("health: healthy", 2);
    podman.wait_for("attached to the JVM", 2);
    podman.run(&["pod", "stop", "--time", "20", "orders"])?;
    let code = podman.run(&["inspect", "--format", "{{.State.ExitCode}}", "orders-orders"])?;
    assert_eq!(code.trim(), "143", "{}", podman.logs());
    let told = last_word(&word)?;
    assert_eq!(told["evidence"][0]["trigger"], "stop", "{told}");
    let of = |trigger: &str| {
        let all = bundle::all(&store);
        all.into_iter().filter(|bundle| bundle.manifest["event"]["trigger"] == trigger).collect::<Vec<_>>()
    };
    assert_eq!(of("unhealthy").len(), 1, "{}", podman.logs());
    let stop = of("stop").pop().ok_or("no evidence of the stop")?;
    assert_eq!(stop.status("heap"), "complete", "{}", stop.manifest);
    assert_eq!(stop.manifest["service"]["task"], "orders", "{}", stop.manifest);
    assert_eq!(stop.manifest["service"]["details"]["namespace"], "shop", "{}", stop.manifest);
    Ok(())
}

fn last_word(path: &std::path::Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    assert!(text.len() <= 4096, "{text}");
    serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
}
