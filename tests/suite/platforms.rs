//! What each platform tells, and what is made of it.

use crate::bundle;
use crate::container::{Container, image};
use crate::credentials::{Session, TOKEN};
use crate::ecs::{Agent, DIGEST, TASK};
use crate::jvm::{port, request, sick, store};
use crate::s3_server::{BUCKET, Server};
use crate::scenario::{Scenario, poll};
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;
use serde_json::Value;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

const JVM: u32 = 21;

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let root = &[Need::Root];
    let java = &[Need::Root, Need::Java(JVM)];
    vec![
        setup.trial("ecs::an_unhealthy_service_leaves_its_evidence_in_s3_by_task", java, ecs_unhealthy),
        setup.trial("ecs::another_image_than_the_deployment_meant", root, ecs_stale),
        setup.trial("ecs::a_hold_is_protected_and_given_back", java, ecs_protection),
        setup.trial("release::a_version_file_is_compared", root, version_file),
        setup.trial("kubernetes::the_last_word_and_who_it_is", java, last_word),
        setup.trial("kubernetes::prestop_takes_the_evidence_once", java, prestop),
        setup.trial("nomad::job_and_allocation_are_known", java, nomad),
        setup.trial("titus::evidence_lies_in_the_logs_folder", &[Need::Docker], titus),
    ]
}

type Outcome = Result<(), String>;

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("bound").port()
}

/// The sick service on a port that the configuration can name.
fn on_port(setup: &Setup, port: u16) -> Vec<String> {
    let command = sick(setup, JVM, &["-Xmx128m"], &["--heap=8m", "--shutdown=0s"]);
    command.into_iter().map(|word| if word == "--port=0" { format!("--port={port}") } else { word }).collect()
}

/// From the first failed health check to the bundle in S3: with the role's credentials, below the
/// service's name and the task's id, before the stop that comes once a replacement is there.
fn ecs_unhealthy(setup: &Setup) -> Outcome {
    let scenario = Scenario::new(setup);
    let folder = scenario.folder().to_owned();
    let metadata = Agent::new(true, None).serve();
    let role = Session::of(100);
    let server = Server::in_session(&folder.join("s3"), &role);
    let token = folder.join("token");
    std::fs::write(&token, TOKEN).map_err(|error| error.to_string())?;
    let own = free_port();
    let config = format!(
        "[stop]\ngrace = \"30s\"\n[health]\nhttp = \"http://127.0.0.1:{own}/health\"\ninterval = \"200ms\"\n\
         [store]\nurl = \"s3://{BUCKET}/prod\"\nendpoint = \"http://127.0.0.1:{}\"\nregion = \"us-west-2\"\n\
         [spool]\ndir = \"{}/spool\"\n[release]\nexpect = \"{DIGEST}\"\n",
        server.port,
        folder.display()
    );
    let running = scenario
        .config(&config)
        .env("ECS_CONTAINER_METADATA_URI_V4", &format!("http://127.0.0.1:{metadata}/v4/x"))
        .env("AWS_EXECUTION_ENV", "AWS_ECS_FARGATE")
        .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("http://127.0.0.1:{}/credentials", role.serve()))
        .env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token.display().to_string())
        .command(on_port(setup, own))
        .start();
    running.wait_for("this is the release that is expected");
    running.wait_for("ECS says who this is");
    running.wait_for("health: healthy");
    running.wait_for("attached to the JVM");
    request(own, "/break");
    running.wait_for("evidence stored");
    let ended = running.stop();
    ended.exits(143).says("platform=\"ECS on Fargate\"");
    let bundles = bundle::all(&server.bucket());
    let bundle = bundles
        .iter()
        .find(|bundle| bundle.manifest["event"]["trigger"] == "unhealthy")
        .ok_or_else(|| format!("no bundle of it: {}", ended.output))?;
    let service = &bundle.manifest["service"];
    assert_eq!(service["name"], "orders-service", "{service}");
    assert_eq!(service["task"], TASK, "{service}");
    assert_eq!(service["image_digest"], DIGEST, "{service}");
    for (key, value) in
        [("revision", "7"), ("zone", "us-west-2d"), ("launch_type", "FARGATE"), ("restarts", "1")]
    {
        assert_eq!(service["details"][key], value, "{service}");
    }
    let path = bundle.folder.display().to_string();
    assert!(path.contains("/prod/orders-service/") && path.contains(TASK), "{path}");
    assert_eq!(bundle.status("heap"), "complete", "{}", bundle.manifest);
    Ok(())
}

fn ecs_stale(setup: &Setup) -> Outcome {
    let metadata = Agent::new(true, None).serve();
    let uri = format!("http://127.0.0.1:{metadata}/v4/x");
    let run = |config: &str| {
        Scenario::new(setup)
            .config(config)
            .env("ECS_CONTAINER_METADATA_URI_V4", &uri)
            .shell("echo MAIN RUNS")
            .finish()
    };
    let stale = "[release]\nexpect = \"sha256:ffff\"\n";
    let ended = run(stale);
    ended.exits(241).never_says("MAIN RUNS");
    ended.says(&format!("this is release {DIGEST}, and sha256:ffff is expected: a stale tag?"));
    let ended = run(&format!("{stale}on_mismatch = \"warn\"\n"));
    ended.exits(0).says("a stale tag?").says("MAIN RUNS");
    run("[release]\nexpect = \"${EXPECTED:-}\"\n").exits(0).says("MAIN RUNS");
    Ok(())
}

fn ecs_protection(setup: &Setup) -> Outcome {
    for grants in [true, false] {
        let ecs = Agent::new(grants, None);
        let agent = ecs.serve();
        let scenario = Scenario::new(setup);
        let config = format!("[store]\nurl = \"file://{}/store\"\n", scenario.folder().display());
        let running = scenario
            .config(&config)
            .env("ECS_CONTAINER_METADATA_URI_V4", &format!("http://127.0.0.1:{agent}/v4/x"))
            .env("ECS_AGENT_URI", &format!("http://127.0.0.1:{agent}/api/x"))
            .command(sick(setup, JVM, &[], &["--heap=1m", "--shutdown=0s"]))
            .start();
        port(&running);
        running.wait_for("attached to the JVM");
        let (code, said) = running.verb(setup, "root", &["hold", "90m"]);
        assert_eq!(code, Some(0), "{said}");
        if grants {
            running.wait_for("the task is protected until=2026-11-25T14:29:16Z");
            let (code, said) = running.verb(setup, "root", &["release"]);
            assert_eq!(code, Some(0), "{said}");
            running.wait_for("task protection given back");
        } else {
            running.wait_for("the task is not protected: TASK_NOT_VALID");
        }
        running.stop().exits(143);
        let asked = ecs.protections();
        let first = asked.first().ok_or("nothing was asked")?;
        assert_eq!(first["ProtectionEnabled"], true, "{asked:?}");
        assert_eq!(first["ExpiresInMinutes"], 90, "{asked:?}");
        if grants {
            assert_eq!(asked.get(1).map(|second| &second["ProtectionEnabled"]), Some(&Value::Bool(false)));
        }
    }
    Ok(())
}

fn version_file(setup: &Setup) -> Outcome {
    let scenario = Scenario::new(setup);
    let file = scenario.folder().join("version");
    std::fs::write(&file, "1.4.2\n").map_err(|error| error.to_string())?;
    let config = |expect: &str| format!("[release]\nexpect = \"{expect}\"\nfile = \"{}\"\n", file.display());
    Scenario::new(setup).config(&config("1.4.2")).shell("exit 0").finish().exits(0);
    let ended = Scenario::new(setup).config(&config("1.4.3")).shell("exit 0").finish();
    ended.exits(241).says("this is release 1.4.2, and 1.4.3 is expected");
    let ended = Scenario::new(setup).config("[release]\nexpect = \"1\"\n").shell("exit 0").finish();
    ended.exits(240).says("nobody tells which image runs on");
    Ok(())
}

fn word(path: &Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    assert!(text.len() <= 4096 && text.lines().count() == 1, "{text}");
    serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
}

fn last_word(setup: &Setup) -> Outcome {
    let scenario = Scenario::new(setup);
    let path = scenario.folder().join("termination-log");
    let config = format!(
        "[stop]\ngrace = \"40s\"\ntermination_message = \"{}\"\n[[rule]]\nname = \"last\"\non = \"stop\"\n\
         capture = [\"threads\"]\n[store]\nurl = \"file://{}/store\"\n",
        path.display(),
        scenario.folder().display()
    );
    let pod = "orders-7d9f6c5b8-x2x9z";
    let running = scenario
        .config(&config)
        .env("KUBERNETES_SERVICE_HOST", "10.0.0.1")
        .env("POD_NAME", pod)
        .env("POD_NAMESPACE", "shop")
        .command(sick(setup, JVM, &[], &["--heap=1m", "--shutdown=0s"]))
        .start();
    port(&running);
    running.wait_for("attached to the JVM");
    let ended = running.stop();
    ended.exits(143).says("service=orders service_source=POD_NAME").says("platform=Kubernetes");
    let bundle = bundle::only(&store(&ended.folder));
    assert_eq!(bundle.manifest["service"]["task"], pod, "{}", bundle.manifest);
    assert_eq!(bundle.manifest["service"]["details"]["namespace"], "shop", "{}", bundle.manifest);
    let said = word(&path)?;
    assert_eq!(said["reason"], "stop", "{said}");
    assert_eq!(said["exit_code"], 143, "{said}");
    assert_eq!(said["evidence"][0]["url"], bundle.folder.display().to_string().as_str(), "{said}");
    // Without an agent too.
    let ended = Scenario::new(setup)
        .config(&format!("[stop]\ntermination_message = \"{}\"\n", path.display()))
        .shell("exit 7")
        .finish();
    ended.exits(7);
    let said = word(&path)?;
    assert_eq!(said, serde_json::json!({ "reason": "exit", "exit_code": 7, "evidence": [] }));
    Ok(())
}

fn prestop(setup: &Setup) -> Outcome {
    let scenario = Scenario::new(setup);
    let config = format!(
        "[stop]\ngrace = \"40s\"\n[[rule]]\nname = \"last\"\non = \"stop\"\ncapture = [\"threads\", \"heap\"]\n\
         [store]\nurl = \"file://{}/store\"\n",
        scenario.folder().display()
    );
    let running =
        scenario.config(&config).command(sick(setup, JVM, &[], &["--heap=8m", "--shutdown=0s"])).start();
    let port = port(&running);
    running.wait_for("attached to the JVM");
    let (code, said) = running.verb(setup, "root", &["prestop"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(request(port, "/health").contains("UP"), "the service goes on");
    let ended = running.stop();
    ended.exits(143);
    let bundle = bundle::only(&store(&ended.folder));
    assert_eq!(bundle.status("heap"), "complete", "{}", bundle.manifest);
    assert_eq!(bundle.manifest["event"]["trigger"], "stop", "{}", bundle.manifest);
    Ok(())
}

fn nomad(setup: &Setup) -> Outcome {
    let scenario = Scenario::new(setup);
    let config = format!(
        "[stop]\ngrace = \"40s\"\n[[rule]]\nname = \"last\"\non = \"stop\"\ncapture = [\"threads\"]\n\
         [store]\nurl = \"file://{}/store\"\n",
        scenario.folder().display()
    );
    let running = scenario
        .config(&config)
        .env("NOMAD_ALLOC_ID", "5fc98185-17ff-26bc-a802-0c74fa471c99")
        .env("NOMAD_JOB_NAME", "orders")
        .env("NOMAD_GROUP_NAME", "web")
        .env("NOMAD_DC", "dc1")
        .command(sick(setup, JVM, &[], &["--heap=1m", "--shutdown=0s"]))
        .start();
    port(&running);
    running.wait_for("attached to the JVM");
    // Its Docker driver sends a second one right before SIGKILL.
    running.terminate();
    poll("the first is heard", || running.output().contains("stop requested").then_some(()));
    let ended = running.stop();
    ended.exits(143).says("platform=Nomad").says("service=orders");
    let bundle = bundle::only(&store(&ended.folder));
    let service = &bundle.manifest["service"];
    assert_eq!(service["task"], "5fc98185-17ff-26bc-a802-0c74fa471c99", "{service}");
    assert_eq!(service["details"]["zone"], "dc1", "{service}");
    Ok(())
}

/// Its init is above us, as on every Titus agent.
fn titus(setup: &Setup) -> Outcome {
    let folder = Scenario::new(setup).folder().to_owned();
    let (file, logs) = (folder.join("bookend.toml"), folder.join("logs"));
    let rule = "[stop]\ngrace = \"30s\"\n[[rule]]\nname = \"last\"\non = \"stop\"\ncapture = [\"threads\"]\n";
    std::fs::write(&file, rule).map_err(|error| error.to_string())?;
    std::fs::create_dir(&logs).map_err(|error| error.to_string())?;
    let volumes = [
        format!("--volume={}:/etc/bookend.toml:ro", file.display()),
        format!("--volume={}:/logs", logs.display()),
    ];
    let mut options: Vec<&str> = volumes.iter().map(String::as_str).collect();
    let variables = ["TITUS_TASK_ID=a3b6c9d2-4e5f-8a9b", "NETFLIX_APP=orders", "NETFLIX_STACK=prod"];
    options.extend(variables.iter().flat_map(|variable| ["--env", variable]));
    options.extend(["--init", "--user=root"]);
    let container = Container::run(setup, &image(setup, JVM)?, &options, &[])?;
    container.wait_for("attached to the JVM");
    container.wait_for("ready on port 8080");
    assert_eq!(container.stop()?, 143, "{}", container.logs());
    assert!(container.logs().contains("platform=Titus"), "{}", container.logs());
    let bundle = bundle::only(&logs.join("bookend"));
    let service = &bundle.manifest["service"];
    assert_eq!(
        (&service["name"], &service["task"]),
        (&"orders".into(), &"a3b6c9d2-4e5f-8a9b".into()),
        "{service}"
    );
    assert_eq!(service["details"]["stack"], "prod", "{service}");
    Ok(())
}
