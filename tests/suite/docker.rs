//! A real engine's own doings: restart, kill, small memory, a terminal, exec, Compose.

use crate::bundle;
use crate::container::{Container, docker, image};
use crate::scenario::poll;
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;
use std::process::Command;

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let docker = &[Need::Docker];
    vec![
        setup.trial("docker::restart_is_a_stop_and_a_start", docker, restart),
        setup.trial("docker::kill_reaches_the_service_and_its_true_code_the_engine", docker, kill),
        setup.trial("docker::memory_so_small_that_the_kernel_kills", docker, small_memory),
        setup.trial("docker::orphans_of_exec_are_reaped", docker, exec_orphans),
        setup.trial("docker::a_stale_image_is_one_line", docker, stale),
        setup.trial("docker::a_wrong_user_is_one_line", docker, wrong_user),
        setup.trial("docker::the_engine_sees_health_and_a_restart_on_unhealthy", docker, unhealthy),
        setup.trial(
            "compose::an_unhealthy_service_and_who_depends_on_it",
            &[Need::Docker, Need::Compose],
            compose,
        ),
    ]
}

type Outcome = Result<(), String>;

fn restart(setup: &Setup) -> Outcome {
    let container = Container::run(setup, &image(setup, 21)?, &[], &[])?;
    container.wait_for("attached to the JVM");
    container.wait_for("ready on port 8080");
    docker(setup, &["restart", "--time", "30", &container.name])?;
    poll("it is attached to again", || {
        (container.logs().matches("attached to the JVM").count() == 2).then_some(())
    });
    let bundle = bundle::only(&container.evidence);
    assert_eq!(bundle.status("heap"), "complete", "{}", bundle.manifest);
    // The same container: what the first life left on its disk is there.
    assert_eq!(container.stop()?, 143, "{}", container.logs());
    assert_eq!(bundle::all(&container.evidence).len(), 2);
    Ok(())
}

fn kill(setup: &Setup) -> Outcome {
    let container = Container::run(setup, &image(setup, 21)?, &[], &[])?;
    container.wait_for("attached to the JVM");
    container.wait_for("ready on port 8080");
    docker(setup, &["kill", "--signal", "QUIT", &container.name])?;
    container.wait_for("Full thread dump");
    // Held back: a JVM without a handler would die of it.
    docker(setup, &["kill", "--signal", "USR1", &container.name])?;
    container.wait_for("held back");
    assert_eq!(container.inspect("{{.State.Running}}")?, "true");
    docker(setup, &["kill", "--signal", "KILL", &container.name])?;
    poll("it has ended", || (container.inspect("{{.State.Running}}").ok()? == "false").then_some(()));
    assert_eq!(container.inspect("{{.State.ExitCode}}")?, "137");
    Ok(())
}

/// The JVM is killed, PID 1 lives: the true code, and evidence that says why.
fn small_memory(setup: &Setup) -> Outcome {
    let options = ["--memory=160m", "--memory-swap=160m", "--entrypoint", "/bookend"];
    let command = [
        "run",
        "--set",
        "rule.0.name=gone",
        "--set",
        "rule.0.on=oom",
        "--set",
        "rule.0.capture=[\"os\"]",
        "--",
        "java",
        "-Xmx1g",
        "-XX:+AlwaysPreTouch",
        "-Xms1g",
        "-cp",
        "/srv/classes",
        "SickService",
    ];
    let container = Container::run(setup, &image(setup, 21)?, &options, &command)?;
    poll("it has ended", || (container.inspect("{{.State.Running}}").ok()? == "false").then_some(()));
    let logs = container.logs();
    assert_eq!(container.inspect("{{.State.ExitCode}}")?, "137", "{logs}");
    assert!(logs.contains("the main process ended for want of memory: the kernel killed it"), "{logs}");
    let bundle = bundle::only(&container.evidence);
    assert_eq!(bundle.manifest["event"]["trigger"], "oom", "{}", bundle.manifest);
    Ok(())
}

fn exec_orphans(setup: &Setup) -> Outcome {
    let container = Container::run(setup, &image(setup, 21)?, &[], &[])?;
    container.wait_for("ready on port 8080");
    // Its parent outside the namespace goes at once: they are PID 1's then.
    for _ in 0..20 {
        docker(setup, &["exec", &container.name, "sh", "-c", "(sleep 0.1 &) ; (true &)"])?;
    }
    poll("nobody is left, and no zombie", || {
        let states = "grep -h ^State: /proc/[0-9]*/status";
        let said = docker(setup, &["exec", &container.name, "sh", "-c", states]).ok()?;
        // The shell and grep may be there themselves.
        (!said.contains('Z') && said.lines().count() <= 6).then_some(())
    });
    assert_eq!(container.stop()?, 143, "{}", container.logs());
    Ok(())
}

fn refused(setup: &Setup, options: &[&str], command: &[&str]) -> (Option<i32>, String) {
    let image = image(setup, 21).expect("it is built");
    let client = setup.docker.as_ref().expect("the need was checked");
    let output = Command::new(client)
        .args(["run", "--rm", "--network", "none"])
        .args(options)
        .arg(image)
        .args(command)
        .output()
        .expect("the client runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn stale(setup: &Setup) -> Outcome {
    let options =
        ["--env", "BOOKEND_RELEASE__EXPECT=1.4.3", "--env", "BOOKEND_RELEASE__FILE=/etc/debian_version"];
    let (code, said) = refused(setup, &options, &[]);
    assert_eq!(code, Some(241), "{said}");
    let errors: Vec<&str> = said.lines().filter(|line| line.contains("error")).collect();
    assert!(errors.len() == 1 && said.contains("1.4.3 is expected"), "{said}");
    Ok(())
}

fn wrong_user(setup: &Setup) -> Outcome {
    let (code, said) = refused(setup, &["--env", "BOOKEND_MAIN__USER=www-data"], &[]);
    assert_eq!(code, Some(240), "{said}");
    assert!(said.contains("cannot become `www-data`") && said.contains("only root may change"), "{said}");
    Ok(())
}

/// Docker itself does nothing about a container that is unhealthy.
fn unhealthy(setup: &Setup) -> Outcome {
    let options = [
        "--env",
        "BOOKEND_MAIN__RESTART=on-unhealthy",
        "--env",
        "BOOKEND_HEALTH__HTTP=http://127.0.0.1:8080/health",
        "--env",
        "BOOKEND_HEALTH__INTERVAL=300ms",
        "--env",
        "BOOKEND_RULE__0__ON=unhealthy",
        "--health-interval=1s",
        "--health-retries=1",
        "--health-cmd=/bookend healthcheck",
    ];
    let container = Container::run(setup, &image(setup, 21)?, &options, &[])?;
    container.wait_for("health: healthy");
    container.wait_for("attached to the JVM");
    let break_it = "exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET /break HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
    docker(setup, &["exec", &container.name, "bash", "-c", break_it])?;
    container.wait_for("restarting it");
    poll("it is well again", || (container.logs().matches("health: healthy").count() == 2).then_some(()));
    poll("the engine says so too", || {
        (container.inspect("{{.State.Health.Status}}").ok()? == "healthy").then_some(())
    });
    let logs = container.logs();
    assert_eq!(container.stop()?, 143, "{logs}");
    let bundle = bundle::only(&container.evidence);
    assert_eq!(bundle.manifest["event"]["trigger"], "unhealthy", "{}", bundle.manifest);
    Ok(())
}

/// The example, with its image made here: the client waits for health, the service is restarted when
/// it is sick, and stopped within its grace period.
fn compose(setup: &Setup) -> Outcome {
    let project = format!("bookend-test-{}", std::process::id());
    let folder = setup.root.join("examples/compose");
    let image = image(setup, 21)?;
    let run = |arguments: &[&str]| -> Result<String, String> {
        let mut command = Command::new(setup.compose.as_ref().expect("the need was checked"));
        command.args(["--project-name", &project, "--file"]).arg(folder.join("compose.yaml"));
        command.args(arguments).env("IMAGE", &image);
        let output = command.output().map_err(|error| error.to_string())?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        if output.status.success() { Ok(text) } else { Err(text) }
    };
    let done = (|| {
        run(&["up", "--detach"])?;
        let logs = || run(&["logs", "--no-color"]).unwrap_or_default();
        poll("the client has reached it", || logs().contains("answered in").then_some(()));
        let id = run(&["ps", "--quiet", "orders"])?;
        let id = id.trim();
        let break_it =
            "exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET /break HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
        docker(setup, &["exec", id, "bash", "-c", break_it])?;
        poll("it is restarted", || logs().contains("restarting it").then_some(()));
        poll("it is well again", || (logs().matches("health: healthy").count() == 2).then_some(()));
        run(&["stop"])?;
        let code = docker(setup, &["inspect", "--format", "{{.State.ExitCode}}", id])?;
        assert_eq!(code.trim(), "143", "{}", logs());
        assert!(logs().contains("evidence stored"), "{}", logs());
        Ok(())
    })();
    drop(run(&["down", "--volumes", "--timeout", "1"]));
    done
}
