//! A real container engine, and the Dockerfile that the project shows.
//!
//! `cargo xtask test` starts the engine and makes the base images from a local
//! root file system; nothing is pulled.

use crate::bundle;
use crate::hprof;
use crate::jvm::VERSIONS;
use crate::scenario::Init;
use crate::scenario::{Scenario, poll};
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let docker = &[Need::Docker];
    let mut trials: Vec<Trial> = VERSIONS
        .into_iter()
        .map(|version| {
            let name = format!("container::{version}::docker_stop_leaves_evidence");
            setup.trial(name, docker, move |setup| stop(setup, version))
        })
        .collect();
    trials.extend([
        setup.trial("container::from_scratch", docker, from_scratch),
        setup.trial("container::read_only_root", docker, read_only),
        setup.trial("container::a_user_without_a_name", docker, unknown_user),
        setup.trial("container::under_another_init", &[Need::Docker, Need::Peer(Init::Tini)], other_init),
        setup.trial("container::docker_init_is_our_binary", &[Need::DockerInit], docker_init),
        setup.trial("container::no_capabilities", docker, no_capabilities),
        setup.trial("container::dump_from_docker_exec", docker, exec),
        setup.trial("container::health_check", docker, health),
    ]);
    trials
}

type Outcome = Result<(), String>;

/// One container; removed when dropped.
pub(crate) struct Container<'a> {
    setup: &'a Setup,
    pub(crate) name: String,
    pub(crate) evidence: PathBuf,
}

pub(crate) fn docker(setup: &Setup, arguments: &[&str]) -> Result<String, String> {
    let client = setup.docker.as_ref().expect("the need was checked");
    let output = Command::new(client).args(arguments).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(format!("docker {}: {text}{}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)))
}

/// Builds the Dockerfile that we show, on a local base image.
pub(crate) fn image(setup: &Setup, version: u32) -> Result<String, String> {
    // The classic builder's cache is not made for two builds at once.
    static ONE_BUILD: Mutex<()> = Mutex::new(());
    let _guard = ONE_BUILD.lock().map_err(|error| error.to_string())?;
    let tag = format!("bookend-test/example:{version}");
    let binary =
        setup.binary.strip_prefix(&setup.root).map_err(|_| "the binary is not below the checkout")?;
    let base = format!("BASE=bookend-test/jre:{version}");
    let binary = format!("BINARY={}", binary.display());
    let root = setup.root.display().to_string();
    let file = format!("{root}/Dockerfile.example");
    docker(
        setup,
        &[
            "build",
            "--quiet",
            "--network=none",
            "--file",
            &file,
            "--tag",
            &tag,
            "--build-arg",
            &base,
            "--build-arg",
            "JDK=bookend-test/jdk",
            "--build-arg",
            &binary,
            &root,
        ],
    )?;
    Ok(tag)
}

impl<'a> Container<'a> {
    pub(crate) fn run(
        setup: &'a Setup,
        image: &str,
        options: &[&str],
        command: &[&str],
    ) -> Result<Self, String> {
        let scenario = Scenario::new(setup);
        let evidence = scenario.folder().to_owned();
        let name = format!("bookend-test-{}", evidence.file_name().expect("a name").to_string_lossy());
        let volume = format!("{}:/var/lib/bookend", evidence.display());
        let mut arguments =
            vec!["run", "--detach", "--network", "none", "--name", &name, "--volume", &volume];
        arguments.extend(options);
        arguments.push(image);
        arguments.extend(command);
        docker(setup, &arguments)?;
        Ok(Self { setup, name, evidence })
    }

    pub(crate) fn logs(&self) -> String {
        let client = self.setup.docker.as_ref().expect("the need was checked");
        let output = Command::new(client).args(["logs", &self.name]).output().expect("the client runs");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    pub(crate) fn wait_for(&self, text: &str) {
        poll(&format!("the container says `{text}`"), || {
            // Asked before the logs: what it said last is in them.
            let ended = self.inspect("{{.State.Running}}").is_ok_and(|running| running == "false");
            let logs = self.logs();
            let said = logs.contains(text);
            assert!(said || !ended, "the container ended without saying `{text}`:\n{logs}");
            said.then_some(())
        });
    }

    pub(crate) fn inspect(&self, what: &str) -> Result<String, String> {
        docker(self.setup, &["inspect", "--format", what, &self.name]).map(|text| text.trim().to_owned())
    }

    /// `docker stop`, and the exit code that Docker shows.
    pub(crate) fn stop(&self) -> Result<i32, String> {
        docker(self.setup, &["stop", "--time", "30", &self.name])?;
        self.inspect("{{.State.ExitCode}}")?.parse().map_err(|_| "no exit code".to_owned())
    }

    /// The bundle is whole: both artifacts, and the heap dump walks to its end.
    fn has_evidence(&self) -> Result<(), String> {
        let bundle = bundle::only(&self.evidence);
        let logs = self.logs();
        assert_eq!(bundle.status("threads"), "complete", "{}\n{logs}", bundle.manifest);
        assert_eq!(bundle.status("heap"), "complete", "{}\n{logs}", bundle.manifest);
        assert!(bundle.read("threads-1.txt").contains("\"Signal Dispatcher\""));
        hprof::walk(&bundle.folder.join("heap.hprof.zst")).map(drop)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        drop(docker(self.setup, &["rm", "--force", "--volumes", &self.name]));
    }
}

fn stop(setup: &Setup, version: u32) -> Outcome {
    let container = Container::run(setup, &image(setup, version)?, &[], &[])?;
    container.wait_for("attached to the JVM");
    container.wait_for("ready on port 8080");
    assert_eq!(container.stop()?, 143, "{}", container.logs());
    container.has_evidence()
}

fn from_scratch(setup: &Setup) -> Outcome {
    let scenario = Scenario::new(setup);
    let folder = scenario.folder();
    std::fs::copy(&setup.binary, folder.join("bookend")).map_err(|error| error.to_string())?;
    std::fs::write(
        folder.join("Dockerfile"),
        "FROM scratch\nCOPY bookend /bookend\nENTRYPOINT [\"/bookend\", \"run\", \"--\"]\n",
    )
    .map_err(|error| error.to_string())?;
    let path = folder.display().to_string();
    docker(setup, &["build", "--quiet", "--network=none", "--tag", "bookend-test/scratch", &path])?;
    let said = docker(
        setup,
        &["run", "--rm", "--network", "none", "bookend-test/scratch", "/bookend", "--version"],
    )?;
    assert!(said.starts_with("bookend "), "{said}");
    Ok(())
}

fn read_only(setup: &Setup) -> Outcome {
    let options = ["--read-only", "--tmpfs", "/tmp"];
    let container = Container::run(setup, &image(setup, 21)?, &options, &[])?;
    container.wait_for("attached to the JVM");
    container.wait_for("ready on port 8080");
    assert_eq!(container.stop()?, 143, "{}", container.logs());
    container.has_evidence()
}

fn unknown_user(setup: &Setup) -> Outcome {
    let container = Container::run(setup, &image(setup, 17)?, &["--user", "54321:54321"], &[])?;
    container.wait_for("attached to the JVM");
    container.wait_for("ready on port 8080");
    assert_eq!(container.stop()?, 143, "{}", container.logs());
    container.has_evidence()
}

fn other_init(setup: &Setup) -> Outcome {
    let volume = format!("{}:/tini:ro", Init::Tini.peer().expect("a peer").display());
    let options = ["--volume", &volume, "--entrypoint", "/tini"];
    let java = ["java", "-cp", "/srv/classes", "SickService"];
    let command = [&["--", "/bookend", "run", "--"], &java[..]].concat();
    let container = Container::run(setup, &image(setup, 21)?, &options, &command)?;
    container.wait_for("not PID 1: running as a subreaper");
    container.wait_for("attached to the JVM");
    container.wait_for("ready on port 8080");
    assert_eq!(container.stop()?, 143, "{}", container.logs());
    container.has_evidence()
}

/// `docker run --init`: the engine's init is our binary by another name, and
/// above a bookend that has evidence to take.
fn docker_init(setup: &Setup) -> Outcome {
    let container = Container::run(setup, &image(setup, 21)?, &["--init"], &[])?;
    container.wait_for("not PID 1: running as a subreaper");
    container.wait_for("attached to the JVM");
    container.wait_for("ready on port 8080");
    let first = docker(setup, &["exec", &container.name, "readlink", "/proc/1/exe"])?;
    assert!(first.contains("docker-init"), "{first}");
    assert_eq!(container.stop()?, 143, "{}", container.logs());
    container.has_evidence()?;
    // And above something plain: signals, codes, orphans.
    let run = |script: &str| {
        let client = setup.docker.as_ref().expect("the need was checked");
        let output = Command::new(client)
            .args(["run", "--rm", "--init", "--network", "none", "bookend-test/debian", "sh", "-c", script])
            .output()
            .expect("the client runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(run("exit 42").0, Some(42));
    assert_eq!(run("kill -9 $$").0, Some(137));
    let (code, text) =
        run("(sh -c 'sleep .2 & exit' &) ; sleep 1; grep -l 'State:.Z' /proc/[0-9]*/status; echo done");
    assert_eq!((code, text.as_str()), (Some(0), "done\n"), "no zombie is left");
    Ok(())
}

fn no_capabilities(setup: &Setup) -> Outcome {
    let options = ["--cap-drop=ALL", "--security-opt=no-new-privileges", "--pids-limit=100"];
    let container = Container::run(setup, &image(setup, 25)?, &options, &[])?;
    container.wait_for("attached to the JVM");
    container.wait_for("ready on port 8080");
    assert_eq!(container.stop()?, 143, "{}", container.logs());
    container.has_evidence()
}

/// By hand, as root, in a container whose JVM is somebody else's.
fn exec(setup: &Setup) -> Outcome {
    let container = Container::run(setup, &image(setup, 21)?, &[], &[])?;
    container.wait_for("ready on port 8080");
    let bookend = |arguments: &[&str]| {
        let mut all = vec!["exec", "--user", "0", &container.name, "/bookend"];
        all.extend(arguments);
        docker(setup, &all)
    };
    let threads = bookend(&["dump", "threads", "--to", "-"])?;
    assert!(threads.contains("Full thread dump") && threads.contains("\"Signal Dispatcher\""), "{threads}");
    let heap = bookend(&["dump", "heap", "--to", "/tmp"])?;
    assert!(heap.starts_with("/tmp/heap.hprof  ("), "{heap}");
    let copy = container.evidence.join("by-hand.hprof");
    docker(setup, &["cp", &format!("{}:/tmp/heap.hprof", container.name), &copy.display().to_string()])?;
    hprof::walk(Path::new(&copy))?;
    Ok(())
}

fn health(setup: &Setup) -> Outcome {
    let options = ["--health-interval=1s", "--health-retries=1"];
    let container = Container::run(setup, &image(setup, 21)?, &options, &[])?;
    poll("the container is healthy", || {
        (container.inspect("{{.State.Health.Status}}").ok()? == "healthy").then_some(())
    });
    let said = container.inspect("{{range .State.Health.Log}}{{.Output}}{{end}}")?;
    assert!(said.contains("healthy: tcp://127.0.0.1:8080 answered in"), "{said}");
    assert_eq!(container.stop()?, 143, "{}", container.logs());
    Ok(())
}
