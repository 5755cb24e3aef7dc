//! The command line: one thin file a verb.
//!
//! Owns what is printed on standard output and the choice of role; nothing
//! imports it.

mod arguments;
mod check;
#[cfg(feature = "agent")]
mod client;
#[cfg(feature = "agent")]
mod dump;
#[cfg(feature = "agent")]
mod events;
#[cfg(feature = "agent")]
mod healthcheck;
#[cfg(feature = "agent")]
mod hprof;
mod import;
#[cfg(feature = "agent")]
mod jcmd;
#[cfg(feature = "agent")]
mod operator;
mod output;
#[cfg(feature = "agent")]
mod recipe;
mod run;

use crate::compat;
use crate::exit;
#[cfg(feature = "agent")]
use crate::link::Order;
use crate::sys::signals::Inherited;
use arguments::{Arguments, Run, Verb};
use clap::Parser;
use std::ffi::OsString;

/// Parses, chooses the role, and returns the process's exit code.
pub fn main(inherited: &Inherited, arguments: Vec<OsString>) -> u8 {
    // The one reading of the environment: from here on it is a value.
    let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    if let Some(name) = arguments.first().and_then(|first| compat::Name::of(first)) {
        compat::run(name, inherited, &arguments, &environment);
    }
    if let Some(command) = plain_run(&arguments) {
        return run::run(inherited, environment, &Run::plain(command));
    }
    let parsed = match Arguments::try_parse_from(arguments) {
        Ok(parsed) => parsed,
        Err(error) => return explain(&error),
    };
    if let Verb::Run(run) = &parsed.verb {
        return run::run(inherited, environment, run);
    }
    // A client verb is an ordinary program: Ctrl-C ends it, a closed pipe too.
    inherited.restore();
    let code = match parsed.verb {
        Verb::Run(_) => exit::INTERNAL,
        Verb::Check(check) => check::check(environment, &check),
        #[cfg(feature = "agent")]
        Verb::Dump(dump) => dump::dump(environment, &dump),
        #[cfg(feature = "agent")]
        Verb::Jcmd(jcmd) => jcmd::jcmd(&jcmd),
        #[cfg(feature = "agent")]
        Verb::Hprof(arguments) => hprof::hprof(&arguments),
        #[cfg(feature = "agent")]
        Verb::Healthcheck(healthcheck) => healthcheck::healthcheck(environment, inherited, &healthcheck),
        #[cfg(feature = "agent")]
        Verb::Status(status) => operator::status(&status),
        #[cfg(feature = "agent")]
        Verb::Events(arguments) => events::events(&arguments),
        #[cfg(feature = "agent")]
        Verb::Hold(hold) => operator::hold(&hold),
        #[cfg(feature = "agent")]
        Verb::Prestop(arguments) => dump::prestop(&arguments),
        #[cfg(feature = "agent")]
        Verb::Restart(helper) => operator::order(helper, Order::Restart),
        #[cfg(feature = "agent")]
        Verb::Stop(helper) => operator::order(helper, Order::Stop),
        #[cfg(feature = "agent")]
        Verb::Start(helper) => operator::order(helper, Order::Start),
        Verb::Import(arguments) => import::import(&arguments),
        #[cfg(feature = "agent")]
        Verb::Release => operator::release(),
    };
    output::flush();
    code
}

/// `bookend run -- COMMAND...`: what stands in most Dockerfiles needs no parser,
/// whose making is half of a start.
fn plain_run(arguments: &[OsString]) -> Option<&[OsString]> {
    match arguments {
        [_, verb, end, command @ ..] if verb == "run" && end == "--" && !command.is_empty() => Some(command),
        _ => None,
    }
}

/// Help and version are answers; everything else is a wrong command line.
fn explain(error: &clap::Error) -> u8 {
    let text = error.render().to_string();
    if error.use_stderr() {
        output::complain(&text);
        exit::CONFIGURATION
    } else {
        output::say(&text);
        exit::SUCCESS
    }
}
