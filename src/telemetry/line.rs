//! The line for people: `12:03:11.482 bookend  hook ended  name=migrate took=1.2s`.

use std::fmt;
use std::time::SystemTime;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

#[derive(Debug)]
pub(super) struct Human {
    pub(super) is_terminal: bool,
}

impl<S, N> FormatEvent<S, N> for Human
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        // A person on a terminal knows what day it is.
        let time = if self.is_terminal { time.get(11..23).unwrap_or(&time) } else { &time };
        let level = *event.metadata().level();
        let word = match level {
            Level::ERROR => "error: ",
            Level::WARN => "warning: ",
            _ => "",
        };
        write!(writer, "{time} bookend: {word}")?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        writer.write_str(&fields.message)?;
        writer.write_str(&fields.rest)?;
        writeln!(writer)
    }
}

/// The message first, then ` key=value` with quotes only where they help.
#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
}

impl tracing::field::Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        self.record_str(field, &text);
    }

    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        // A log line is one line, whatever the value holds.
        let value: String = value
            .chars()
            .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
            .collect();
        if field.name() == "message" {
            self.message = value;
            return;
        }
        self.rest.push(' ');
        self.rest.push_str(field.name());
        self.rest.push('=');
        if value.is_empty() || value.contains([' ', '"', '=']) {
            self.rest.push_str(&format!("{value:?}"));
        } else {
            self.rest.push_str(&value);
        }
    }
}
