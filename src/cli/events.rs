//! `bookend events`: what happened here, and what happens from now on.

use super::arguments::EventsArguments;
use super::{operator, output};
use crate::agent::{Line, Request, What, sockets};
use std::io::{BufRead, BufReader, Read};

pub(super) fn events(arguments: &EventsArguments) -> u8 {
    let request = Request::Events { follow: arguments.follow };
    let mut print = |stream: &mut dyn Read| {
        for line in BufReader::new(stream).lines() {
            let line = line?;
            let text = if arguments.json { line } else { describe(&line) };
            output::say(&format!("{text}\n"));
            output::flush();
        }
        Ok(())
    };
    operator::say(operator::send(&request, sockets(), &mut print).map(|()| String::new()))
}

/// `2026-11-23T18:52:06.123Z health   unhealthy: HTTP 503`; as it is if it is of
/// another version.
fn describe(line: &str) -> String {
    let Ok(line) = serde_json::from_str::<Line>(line) else { return line.to_owned() };
    let what = match line.what {
        What::Health => "health",
        What::Capture => "capture",
        What::Store => "store",
        What::Hold => "hold",
        What::Helper => "helper",
        What::Stop => "stop",
        What::End => "end",
    };
    let detail = if line.detail.is_empty() { String::new() } else { format!(": {}", line.detail) };
    format!("{} {what:<8} {}{detail}", line.time, line.text)
}
