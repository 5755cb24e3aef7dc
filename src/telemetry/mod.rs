//! Logs: one calm line an event, on standard error, never on standard output.
//!
//! Owns the two line formats and the writer. A reader that is slow or gone
//! never delays anything: the line is dropped and counted.

mod line;
mod writer;

use crate::config::{Format, Level};
use crate::plan::Log;
use tracing::level_filters::LevelFilter;

/// Starts logging for this process. Later calls change nothing.
pub fn start(log: Log) {
    let level = match log.level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    let is_terminal = crate::sys::terminal::is_on_standard_error();
    let as_json = match log.format {
        Format::Json => true,
        Format::Human => false,
        Format::Auto => !is_terminal,
    };
    let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(writer::StandardError::default);
    let started = if as_json {
        tracing::subscriber::set_global_default(
            builder
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .with_target(false)
                .finish(),
        )
    } else {
        tracing::subscriber::set_global_default(builder.event_format(line::Human { is_terminal }).finish())
    };
    // A second start in one process (a forked agent has the first one's).
    drop(started);
}
