//! A task on ECS, from its start to its stop: containers driven through Docker as the ECS agent
//! drives them, in a network namespace of the task's own where a fake of the agent's endpoints
//! (`ecs`) answers at its real address, and a real S3 server that checks signatures.
//!
//! What the agent does is in amazon-ecs-agent: a pause container owns the task's network, the
//! health command is the engine's, a stop is the engine's with the container's `stopTimeout`, in
//! the reverse order of `dependsOn`; a restart in place starts the same container again.

use crate::bundle::{self, Bundle};
use crate::container::{docker, image};
use crate::credentials::Session;
use crate::ecs::{Agent, CREDENTIALS, DIGEST, TASK};
use crate::s3_server::{BUCKET, Server};
use crate::scenario::{Scenario, poll};
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

const JVM: u32 = 21;
/// Where the agent answers in every task.
const AGENT: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 2);
const S3_PORT: u16 = 9000;

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let needs = &[Need::Root, Need::Docker];
    vec![
        setup.trial("ecs_task::an_unhealthy_task_is_stopped_by_its_service", needs, unhealthy),
        setup.trial("ecs_task::a_scale_in_waits_for_a_capture_by_hand", needs, scale_in),
        setup.trial("ecs_task::a_spot_notice_is_a_stop_with_two_minutes", needs, spot),
        setup.trial("ecs_task::a_crash_ends_the_task_with_its_true_code", needs, crash),
        setup.trial("ecs_task::a_restart_in_place_sends_what_the_last_life_left", needs, restart),
    ]
}

type Outcome = Result<(), String>;

/// The containers of one task; removed when dropped.
struct Task<'a> {
    setup: &'a Setup,
    agent: Arc<Agent>,
    folder: PathBuf,
    name: String,
    namespace: PathBuf,
    /// Absent while nobody listens.
    store: Option<Server>,
}

impl<'a> Task<'a> {
    /// With the pause container, the agent's endpoints, and a sidecar on which the service depends.
    fn start(setup: &'a Setup) -> Result<Self, String> {
        let folder = Scenario::new(setup).folder().to_owned();
        let name = format!("bookend-ecs-{}", folder.file_name().expect("a name").to_string_lossy());
        let agent = Agent::new(true, Some(Session::of(1000)));
        let mut task = Self { setup, agent, folder, name, namespace: PathBuf::new(), store: None };
        let pause = task.container("pause");
        docker(
            setup,
            &["run", "--detach", "--network=none", "--name", &pause, "bookend-test/debian", "sleep", "600"],
        )?;
        let id = docker(setup, &["inspect", "--format", "{{.Id}}", &pause])?;
        task.namespace = network_of(id.trim()).ok_or("the pause container has no process")?;
        let address = format!("{AGENT}/32");
        let added = Command::new("nsenter")
            .arg(format!("--net={}", task.namespace.display()))
            .args(["ip", "address", "add", &address, "dev", "lo"])
            .status()
            .map_err(|error| error.to_string())?;
        assert!(added.success(), "the agent's address");
        task.agent.serve_on(task.listen(AGENT, 80));
        // What the service depends on is stopped after it.
        let network = format!("container:{pause}");
        let sidecar = task.container("sidecar");
        let trap = "trap 'exit 0' TERM; while :; do sleep 0.1; done";
        docker(
            setup,
            &[
                "run",
                "--detach",
                "--network",
                &network,
                "--name",
                &sidecar,
                "bookend-test/debian",
                "sh",
                "-c",
                trap,
            ],
        )?;
        Ok(task)
    }

    fn container(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// A socket in the task's network, wherever it is served from.
    fn listen(&self, address: Ipv4Addr, port: u16) -> TcpListener {
        let namespace = File::open(&self.namespace).expect("the pause container runs");
        // Of its own: the thread stays in there.
        let made = std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may");
            TcpListener::bind((address, port)).expect("its own network")
        });
        made.join().expect("no panic")
    }

    fn open_store(&mut self) {
        let listener = self.listen(Ipv4Addr::LOCALHOST, S3_PORT);
        self.store = Some(Server::on(&self.folder.join("s3"), listener));
    }

    /// The service with the example's configuration and what the agent puts into its environment.
    fn run(&self, settings: &[(&str, &str)]) -> Outcome {
        let image = image(self.setup, JVM)?;
        let config = self.setup.root.join("examples/ecs/bookend.toml");
        let (name, network) = (self.container("orders"), format!("container:{}", self.container("pause")));
        let volume = format!("{}:/etc/bookend.toml:ro", config.display());
        let variables = [
            ("ECS_CONTAINER_METADATA_URI_V4", format!("http://{AGENT}/v4/x")),
            ("ECS_AGENT_URI", format!("http://{AGENT}/api/x")),
            ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", CREDENTIALS.to_owned()),
            ("AWS_EXECUTION_ENV", "AWS_ECS_FARGATE".to_owned()),
            ("AWS_REGION", "us-west-2".to_owned()),
            ("EVIDENCE_BUCKET", BUCKET.to_owned()),
            ("EXPECTED_DIGEST", DIGEST.to_owned()),
            ("BOOKEND_STORE__ENDPOINT", format!("http://127.0.0.1:{S3_PORT}")),
            ("BOOKEND_HEALTH__INTERVAL", "300ms".to_owned()),
        ];
        let settings = settings.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let variables: Vec<String> = variables
            .into_iter()
            .chain(settings)
            .map(|(name, value)| format!("--env={name}={value}"))
            .collect();
        let mut arguments =
            vec!["run", "--detach", "--network", &network, "--name", &name, "--volume", &volume];
        // The task definition's health check, as the agent gives it to the engine.
        arguments.extend(["--health-cmd=/bookend healthcheck", "--health-interval=1s", "--health-retries=3"]);
        arguments.extend(variables.iter().map(String::as_str));
        arguments.push(&image);
        arguments.extend([
            "java",
            "-Xmx128m",
            "-cp",
            "/srv/classes",
            "SickService",
            "--heap=8m",
            "--shutdown=200ms",
        ]);
        docker(self.setup, &arguments).map(drop)
    }

    fn logs(&self) -> String {
        let client = self.setup.docker.as_ref().expect("the need was checked");
        let output =
            Command::new(client).args(["logs", &self.container("orders")]).output().expect("it runs");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    fn inspect(&self, container: &str, what: &str) -> Result<String, String> {
        docker(self.setup, &["inspect", "--format", what, &self.container(container)])
            .map(|text| text.trim().to_owned())
    }

    fn wait_for(&self, text: &str) {
        poll(&format!("the service's container says `{text}`"), || {
            let ended = self.inspect("orders", "{{.State.Running}}").is_ok_and(|running| running == "false");
            let logs = self.logs();
            assert!(logs.contains(text) || !ended, "it ended without saying `{text}`:\n{logs}");
            logs.contains(text).then_some(())
        });
    }

    fn wait_until_up(&self) {
        self.wait_for("ECS says who this is");
        self.wait_for("health: healthy");
        self.wait_for("attached to the JVM");
    }

    /// A request from within the task.
    fn request(&self, path: &str) -> Outcome {
        let ask = format!(
            "exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3 || true"
        );
        docker(self.setup, &["exec", &self.container("orders"), "bash", "-c", &ask]).map(drop)
    }

    /// As the agent stops a task: told first, then each container, what depends on another before it.
    fn stop(&self, stop_timeout: &str) -> Result<String, String> {
        self.agent.stops();
        for name in ["orders", "sidecar", "pause"] {
            // The sidecar still runs while the service sends its evidence.
            if name == "orders" {
                assert_eq!(self.inspect("sidecar", "{{.State.Running}}")?, "true");
            }
            let time = if name == "pause" { "0" } else { stop_timeout };
            docker(self.setup, &["stop", "--time", time, &self.container(name)])?;
        }
        self.inspect("orders", "{{.State.ExitCode}}")
    }

    /// The bundle that this trigger left in the bucket, below the service's name and the task's id.
    fn bundle(&self, trigger: &str) -> Result<Bundle, String> {
        let bucket = self.store.as_ref().expect("it was opened").bucket();
        let found =
            bundle::all(&bucket).into_iter().find(|bundle| bundle.manifest["event"]["trigger"] == trigger);
        let bundle = found.ok_or_else(|| format!("no bundle of `{trigger}`:\n{}", self.logs()))?;
        let path = bundle.folder.display().to_string();
        assert!(path.contains("/bookend/orders-service/") && path.contains(TASK), "{path}");
        let service = &bundle.manifest["service"];
        assert_eq!(service["image_digest"], DIGEST, "{service}");
        for (key, value) in [("family", "orders-task"), ("revision", "7"), ("launch_type", "FARGATE")] {
            assert_eq!(service["details"][key], value, "{service}");
        }
        assert!(self.store.as_ref().is_some_and(|store| store.stale_uploads().is_empty()));
        Ok(bundle)
    }
}

/// The network namespace of a container. What the engine calls its pid is one of the engine's own
/// namespace; its control group has the container's id in its name.
fn network_of(id: &str) -> Option<PathBuf> {
    let processes = std::fs::read_dir("/proc").ok()?;
    processes
        .flatten()
        .map(|process| process.path())
        .find(|path| std::fs::read_to_string(path.join("cgroup")).is_ok_and(|group| group.contains(id)))
        .map(|path| path.join("ns/net"))
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        for name in ["orders", "sidecar", "pause"] {
            drop(docker(self.setup, &["rm", "--force", "--volumes", &self.container(name)]));
        }
    }
}

/// ECS finds the task sick, starts another one, and only then stops this one: the evidence was there
/// long before.
fn unhealthy(setup: &Setup) -> Outcome {
    let mut task = Task::start(setup)?;
    task.open_store();
    task.run(&[])?;
    task.wait_until_up();
    task.wait_for("this is the release that is expected");
    poll("ECS takes it for healthy", || {
        (task.inspect("orders", "{{.State.Health.Status}}").ok()? == "healthy").then_some(())
    });
    task.request("/break")?;
    poll("ECS takes it for unhealthy", || {
        (task.inspect("orders", "{{.State.Health.Status}}").ok()? == "unhealthy").then_some(())
    });
    task.wait_for("evidence stored");
    let bundle = task.bundle("unhealthy")?;
    assert_eq!(bundle.status("threads"), "complete", "{}", bundle.manifest);
    assert_eq!(bundle.status("heap"), "complete", "{}", bundle.manifest);
    assert_eq!(task.inspect("orders", "{{.State.Running}}")?, "true", "the stop comes later");
    assert_eq!(task.stop("30")?, "143", "{}", task.logs());
    Ok(())
}

const AT_STOP: [(&str, &str); 3] = [
    ("BOOKEND_RULE__0__NAME", "last-words"),
    ("BOOKEND_RULE__0__ON", "stop"),
    ("BOOKEND_RULE__0__CAPTURE", "[\"threads\", \"heap\"]"),
];

/// The task is protected as long as somebody captures a healthy one, and then no longer.
fn scale_in(setup: &Setup) -> Outcome {
    let mut task = Task::start(setup)?;
    task.open_store();
    task.run(&AT_STOP)?;
    task.wait_until_up();
    docker(setup, &["exec", &task.container("orders"), "/bookend", "dump", "all"])?;
    let is_enabled: Vec<bool> = poll("the protection is given back", || {
        let asked = task.agent.protections();
        (asked.len() == 2).then(|| asked.iter().map(|asked| asked["ProtectionEnabled"] == true).collect())
    });
    assert_eq!(is_enabled, [true, false]);
    assert_eq!(task.stop("30")?, "143", "{}", task.logs());
    assert_eq!(task.bundle("manual")?.status("heap"), "complete");
    assert_eq!(task.bundle("stop")?.status("heap"), "complete");
    Ok(())
}

fn spot(setup: &Setup) -> Outcome {
    let mut task = Task::start(setup)?;
    task.open_store();
    task.run(&AT_STOP)?;
    task.wait_until_up();
    // The notice is the signal; what it leaves is what `stopTimeout` says, 120 at most.
    assert_eq!(task.stop("120")?, "143", "{}", task.logs());
    let logs = task.logs();
    assert!(logs.contains("grace=2m"), "{logs}");
    let bundle = task.bundle("stop")?;
    assert_eq!(bundle.status("heap"), "complete", "{}", bundle.manifest);
    Ok(())
}

fn crash(setup: &Setup) -> Outcome {
    let mut task = Task::start(setup)?;
    task.open_store();
    task.run(&[])?;
    task.wait_until_up();
    // It may be gone before its answer is read.
    drop(task.request("/halt?code=3"));
    poll("the task's essential container has ended", || {
        (task.inspect("orders", "{{.State.Running}}").ok()? == "false").then_some(())
    });
    assert_eq!(task.inspect("orders", "{{.State.ExitCode}}")?, "3", "{}", task.logs());
    let bundle = task.bundle("exit")?;
    assert_eq!(bundle.manifest["event"]["main_ended"], "exit code 3", "{}", bundle.manifest);
    task.stop("30")?;
    Ok(())
}

/// `restartPolicy`: the same container, and what it has on its disk.
fn restart(setup: &Setup) -> Outcome {
    let mut task = Task::start(setup)?;
    // Nobody takes anything in its first life.
    task.agent.restarted(0);
    task.run(&[])?;
    task.wait_until_up();
    drop(task.request("/halt?code=3"));
    poll("the first life has ended", || {
        (task.inspect("orders", "{{.State.Running}}").ok()? == "false").then_some(())
    });
    assert_eq!(task.inspect("orders", "{{.State.ExitCode}}")?, "3", "{}", task.logs());
    task.open_store();
    task.agent.restarted(1);
    docker(setup, &["start", &task.container("orders")])?;
    task.wait_for("evidence that waited is stored");
    let bundle = task.bundle("exit")?;
    assert_eq!(bundle.manifest["service"]["details"]["restarts"], "0", "the life that it is about");
    poll("the second life is well", || (task.logs().matches("health: healthy").count() == 2).then_some(()));
    assert_eq!(task.stop("30")?, "143", "{}", task.logs());
    Ok(())
}
