//! `bookend healthcheck`: one line on standard output (ECS once counted any
//! output on standard error as a failure), exit code 0 or 1.

use super::arguments::Healthcheck;
use super::output;
use crate::exit;
use crate::probe;
use crate::units::format_duration;
use std::time::Instant;

pub(super) fn healthcheck(arguments: &Healthcheck) -> u8 {
    let begun = Instant::now();
    let address = &arguments.address;
    let answer = match crate::agent::runtime() {
        Ok(runtime) => runtime.block_on(probe::connect(&address.host, address.port, arguments.timeout)),
        Err(error) => Err(format!("cannot probe: {error}")),
    };
    match answer {
        Ok(_) => {
            output::say(&format!("healthy: {address} answered in {}\n", format_duration(begun.elapsed())));
            exit::SUCCESS
        }
        Err(reason) => {
            output::say(&format!("unhealthy: {reason}\n"));
            exit::FAILURE
        }
    }
}
