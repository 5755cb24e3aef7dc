//! The integration suite: real processes, real PID namespaces, real JVMs, a
//! real container engine.
//!
//! One binary whose tests are made while it runs (JVM x case), so that what
//! cannot run here is skipped by name. `cargo xtask test` prepares everything
//! it needs and tells it through `BOOKEND_TEST_*` variables; with `CI=true` a
//! skip is a failure.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::unnecessary_wraps,
    reason = "a test may fail loudly, and is not the supervisor"
)]

mod architecture;
mod artifacts;
mod azure;
mod bundle;
mod cli;
mod compat;
mod configuration;
mod conformance;
mod container;
mod credentials;
mod docker;
mod ecs;
mod ecs_task;
mod encryption;
mod examples;
mod folders;
mod google;
mod health;
mod helpers;
mod hooks;
mod hprof;
mod http;
mod hunts;
mod identities;
mod init;
mod jvm;
mod jvm_crash;
mod jvm_trouble;
mod large;
mod migration;
mod notify;
mod operator;
mod output;
mod platforms;
mod podman;
mod proxy;
mod redaction;
mod s3;
mod s3_server;
mod scenario;
mod seaweed;
mod setup;
mod silence;
mod survival;
mod swarm;
mod terminal;
mod triggers;
mod web;

use libtest_mimic::{Arguments, Trial};
use setup::Setup;

fn main() {
    let arguments = Arguments::from_args();
    let setup: &'static Setup = Box::leak(Box::new(Setup::read()));
    folders::clear(&setup.root);
    let mut trials: Vec<Trial> = Vec::new();
    trials.extend(architecture::trials());
    trials.extend(configuration::trials(setup));
    trials.extend(examples::trials(setup));
    trials.extend(s3::trials(setup));
    trials.extend(seaweed::trials(setup));
    trials.extend(azure::trials(setup));
    trials.extend(google::trials(setup));
    trials.extend(identities::trials(setup));
    trials.extend(web::trials(setup));
    trials.extend(conformance::trials(setup));
    trials.extend(init::trials(setup));
    trials.extend(terminal::trials(setup));
    trials.extend(compat::trials(setup));
    trials.extend(hooks::trials(setup));
    trials.extend(helpers::trials(setup));
    trials.extend(migration::trials(setup));
    trials.extend(jvm::trials(setup));
    trials.extend(jvm_crash::trials(setup));
    trials.extend(jvm_trouble::trials(setup));
    trials.extend(silence::trials(setup));
    trials.extend(survival::trials(setup));
    trials.extend(triggers::trials(setup));
    trials.extend(artifacts::trials(setup));
    trials.extend(redaction::trials(setup));
    trials.extend(large::trials(setup));
    trials.extend(encryption::trials(setup));
    trials.extend(notify::trials(setup));
    trials.extend(health::trials(setup));
    trials.extend(platforms::trials(setup));
    trials.extend(operator::trials(setup));
    trials.extend(output::trials(setup));
    trials.extend(cli::trials(setup));
    trials.extend(container::trials(setup));
    trials.extend(docker::trials(setup));
    trials.extend(ecs_task::trials(setup));
    trials.extend(swarm::trials(setup));
    trials.extend(podman::trials(setup));
    trials.extend(hunts::trials(setup));
    let names =
        trials.iter().map(|trial| trial.name().split(' ').next().unwrap_or_default().to_owned()).collect();
    trials.push(examples::named(setup, names));
    libtest_mimic::run(&arguments, trials).exit();
}
