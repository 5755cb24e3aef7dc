//! Logs: one calm line an event, on standard error, never on standard output.
//!
//! Owns the two line formats and the writer. A reader that is slow or gone
//! never delays anything: the line is dropped and counted.

mod line;
mod writer;

use crate::config::{Format, Level};
use crate::plan::Log;
use std::sync::OnceLock;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber};

/// Starts logging for this process. Later calls change nothing.
pub fn start(log: Log) {
    let level = match log.level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    // A second start in one process (a forked agent has the first one's).
    drop(tracing::subscriber::set_global_default(Lazy { level, log, made: OnceLock::new() }));
}

fn subscriber(log: Log, level: LevelFilter) -> Dispatch {
    let is_terminal = crate::sys::terminal::is_on_standard_error();
    let as_json = match log.format {
        Format::Json => true,
        Format::Human => false,
        Format::Auto => !is_terminal,
    };
    let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(writer::StandardError::default);
    if as_json {
        Dispatch::new(
            builder
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .with_target(false)
                .finish(),
        )
    } else {
        Dispatch::new(builder.event_format(line::Human { is_terminal }).finish())
    }
}

/// Makes the subscriber with its first line: an init that has nothing to say does
/// not pay for it.
struct Lazy {
    level: LevelFilter,
    log: Log,
    made: OnceLock<Dispatch>,
}

impl Lazy {
    fn get(&self) -> &Dispatch {
        self.made.get_or_init(|| subscriber(self.log, self.level))
    }
}

impl Subscriber for Lazy {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What libraries have to say is for those who write them.
        *metadata.level() <= self.level && metadata.target().starts_with(env!("CARGO_PKG_NAME"))
    }
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }
    fn event(&self, event: &Event<'_>) {
        self.get().event(event);
    }
    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        self.get().new_span(attributes)
    }
    fn record(&self, span: &Id, values: &Record<'_>) {
        self.get().record(span, values);
    }
    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.get().record_follows_from(span, follows);
    }
    fn enter(&self, span: &Id) {
        self.get().enter(span);
    }
    fn exit(&self, span: &Id) {
        self.get().exit(span);
    }
}
