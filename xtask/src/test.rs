//! `cargo xtask test`: prepares the machine, then runs every test.

use crate::azurite::Azurite;
use crate::engine::Engine;
use crate::seaweed::{BUCKET, KEY, SECRET, Seaweed};
use crate::tools::{self, build, is_root, root, say, step};
use crate::{hprof_slurp, images, java, migration};
use anyhow::{Result, bail};
use std::path::Path;
use std::process::Command;

/// What is built and brought, and the largest heap dumps: some JVMs write one twice. GiB.
const DISK_WANTED: u64 = 25;

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    const OPTIONS: [&str; 3] = ["--no-containers", "--hunts", "--large"];
    let is_unknown = |argument: &&String| argument.starts_with('-') && !OPTIONS.contains(&argument.as_str());
    if let Some(unknown) = arguments.iter().find(is_unknown) {
        bail!("`{unknown}` is not an option of `test`: there are {}", OPTIONS.join(", "));
    }
    let without_containers = arguments.iter().any(|argument| argument == "--no-containers");
    let with_hunts = arguments.iter().any(|argument| argument == "--hunts");
    let filter: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let is_ci = std::env::var_os("CI").is_some_and(|value| value == "true");

    look_at_disk();
    if filter.is_empty() {
        step("Unit tests, also without default features", || {
            tools::run(cargo().args(["test", "--quiet", "--lib"]))?;
            tools::run(cargo().args(["test", "--quiet", "--lib", "--no-default-features"]))
        })?;
    }
    let binary = build()?;
    let mut suite = cargo();
    suite.args(["test", "--quiet", "--test", "suite", "--"]).args(&filter);
    // Two processors: more at once only makes time-outs tighter.
    suite.args(["--test-threads", "3"]);
    suite.env("BOOKEND_TEST_BINARY", &binary);
    name_javas(&mut suite)?;

    programs(is_ci)?;
    suite.env("BOOKEND_TEST_HPROF_SLURP", hprof_slurp::program()?);
    suite.env("BOOKEND_TEST_LIQUIBASE", migration::liquibase()?);
    match migration::postgres() {
        Ok(folder) => {
            suite.env("BOOKEND_TEST_POSTGRES", folder);
        }
        Err(error) if is_ci => return Err(error),
        Err(error) => say(&format!("No PostgreSQL: {error:#}")),
    }
    let engine = if without_containers { None } else { engine(&binary, is_ci)? };
    if let Some(engine) = &engine {
        suite.env("BOOKEND_TEST_DOCKER", engine.client()).envs(engine.environment());
        suite.env("BOOKEND_TEST_COMPOSE", tools::need("docker-compose", "docker-compose")?);
    }
    // Ends when this does.
    let server = Seaweed::start(&tools::target().join("seaweedfs-of-the-suite"))?;
    suite.env("BOOKEND_TEST_S3", format!("{} {KEY} {SECRET} {BUCKET}", server.endpoint()));
    let azure = Azurite::start()?;
    suite.env("BOOKEND_TEST_AZURE", azure.port.to_string());
    if arguments.iter().any(|argument| argument == "--large") {
        suite.env("BOOKEND_TEST_LARGE", "1");
    }
    if with_hunts || is_ci {
        suite.env("BOOKEND_TEST_HUNTS", "1");
    }
    if !is_root() {
        say("Not root: tests that need PID namespaces and users are skipped, by name");
    }
    step("The suite: PID namespaces, JVM 11/17/21/25, containers", || tools::run(&mut suite))
}

/// A disk that fills up looks like many failures.
fn look_at_disk() {
    let Ok(space) = nix::sys::statvfs::statvfs(&tools::target()) else { return };
    let free = space.blocks_available().saturating_mul(space.fragment_size()) >> 30;
    if free < DISK_WANTED {
        say(&format!("The disk has {free} GiB free: all of this wants {DISK_WANTED}"));
    }
}

/// What tests run beside bookend. Without one its tests are skipped, which CI does not accept.
fn programs(is_ci: bool) -> Result<()> {
    // The peers that keep the same list of cases, what asks over HTTP, the helper process, what
    // opens what bookend encrypts.
    let programs = [
        ("tini-static", "tini"),
        ("dumb-init", "dumb-init"),
        ("catatonit", "catatonit"),
        ("curl", "curl"),
        ("nginx", "nginx-light"),
        ("age", "age"),
        // In place of a kubelet.
        ("podman", "podman"),
    ];
    for (name, package) in programs {
        match tools::need(name, package) {
            Err(error) if is_ci => return Err(error),
            Err(error) => say(&format!("No {name}: {error:#}")),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// Tells the suite where the runtimes and the sick service are.
pub(crate) fn name_javas(suite: &mut Command) -> Result<()> {
    for version in java::versions().chain([java::EARLY]) {
        let home = java::home(version)?;
        suite.env(format!("BOOKEND_TEST_JAVA_{version}"), home.join("bin/java"));
    }
    suite.env("BOOKEND_TEST_CLASSES", java::classes()?);
    Ok(())
}

/// An engine with the images; without one the container tests are skipped,
/// which CI does not accept.
fn engine(binary: &Path, is_ci: bool) -> Result<Option<Engine>> {
    let made = Engine::find_or_start(binary).and_then(|engine| {
        images::make(&engine)?;
        Ok(engine)
    });
    match made {
        Ok(engine) => Ok(Some(engine)),
        Err(error) if is_ci => Err(error),
        Err(error) => {
            say(&format!("No containers: {error:#}"));
            Ok(None)
        }
    }
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}
