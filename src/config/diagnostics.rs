//! Errors with their place, drawn as a compiler draws them.

use codespan_reporting::diagnostic::{Diagnostic as Drawing, Label};
use codespan_reporting::files::SimpleFiles;
use codespan_reporting::term;
use std::ops::Range;

/// One text that values come from: the file, one environment variable, one flag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceId(usize);

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nobody wrote it; the reason for the value.
    Default(String),
    Written {
        source: SourceId,
        span: Range<usize>,
    },
}

/// One finding.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    message: String,
    labels: Vec<(Place, String)>,
    help: Vec<String>,
    /// Found beside it.
    others: Vec<Diagnostic>,
}

impl Diagnostic {
    /// An error about the value at `place`; `label` is written under the caret.
    pub fn error(message: impl Into<String>, place: &Place, label: impl Into<String>) -> Self {
        Self { labels: vec![(place.clone(), label.into())], ..Self::general(message) }
    }

    /// An error that is at no place in a text.
    pub fn general(message: impl Into<String>) -> Self {
        Self { message: message.into(), labels: Vec::new(), help: Vec::new(), others: Vec::new() }
    }

    /// Several as one; none of nothing.
    pub fn all(found: Vec<Self>) -> Option<Self> {
        let mut found = found.into_iter();
        let mut first = found.next()?;
        first.others.extend(found);
        Some(first)
    }

    /// Another place that has to do with it.
    #[must_use]
    pub fn and(mut self, place: &Place, label: impl Into<String>) -> Self {
        self.labels.push((place.clone(), label.into()));
        self
    }

    /// What to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    fn order(&self) -> (usize, usize) {
        match self.labels.first() {
            Some((Place::Written { source, span }, _)) => (source.0, span.start),
            _ => (usize::MAX, 0),
        }
    }
}

/// All findings, and the texts they point into.
#[derive(Debug, Default)]
pub struct Diagnostics {
    sources: Vec<(String, String)>,
    found: Vec<Diagnostic>,
    /// What there is of a text is not what somebody meant.
    is_broken: bool,
}

impl Diagnostics {
    /// Registers a text. `name` is what stands before `:line:column`.
    pub fn add_source(&mut self, name: impl Into<String>, text: impl Into<String>) -> SourceId {
        self.sources.push((name.into(), text.into()));
        SourceId(self.sources.len() - 1)
    }

    pub fn push(&mut self, mut diagnostic: Diagnostic) {
        let others = std::mem::take(&mut diagnostic.others);
        self.found.push(diagnostic);
        for other in others {
            self.push(other);
        }
    }

    /// A text that is no TOML: whatever else is missing may stand in what could not be read.
    pub fn push_broken(&mut self, diagnostic: Diagnostic) {
        self.push(diagnostic);
        self.is_broken = true;
    }

    /// Nothing can be said of the whole.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// `/etc/bookend.toml:3:9`, `environment variable X` or `default: reason`.
    pub fn describe(&self, place: &Place) -> String {
        match place {
            Place::Default(reason) if reason.is_empty() => "default".to_owned(),
            Place::Default(reason) => format!("default: {reason}"),
            Place::Written { source, span } => {
                let Some((name, text)) = self.sources.get(source.0) else {
                    return String::new();
                };
                if !text.contains('\n') && name.starts_with("environment") || name.starts_with("flag") {
                    return name.clone();
                }
                let before = text.get(..span.start).unwrap_or("");
                let line = before.matches('\n').count() + 1;
                let column = before.rsplit('\n').next().map_or(0, |part| part.chars().count()) + 1;
                format!("{name}:{line}:{column}")
            }
        }
    }

    /// Everything found, in the order of the text, for standard error.
    pub fn render(&self) -> String {
        let mut files = SimpleFiles::new();
        for (name, text) in &self.sources {
            files.add(name.clone(), text.clone());
        }
        let mut ordered: Vec<&Diagnostic> = self.found.iter().collect();
        ordered.sort_by_key(|diagnostic| diagnostic.order());
        let config = term::Config { chars: term::Chars::ascii(), ..term::Config::default() };
        let mut text = String::new();
        for diagnostic in ordered {
            let labels =
                diagnostic.labels.iter().enumerate().filter_map(|(index, (place, label))| match place {
                    Place::Default(_) => None,
                    Place::Written { source, span } if index == 0 => {
                        Some(Label::primary(source.0, span.clone()).with_message(label))
                    }
                    Place::Written { source, span } => {
                        Some(Label::secondary(source.0, span.clone()).with_message(label))
                    }
                });
            let mut notes: Vec<String> = Vec::new();
            for (place, label) in &diagnostic.labels {
                if matches!(place, Place::Default(_)) {
                    notes.push(format!("{label} ({})", self.describe(place)));
                }
            }
            notes.extend(diagnostic.help.iter().map(|help| format!("help: {help}")));
            let drawing = Drawing::error()
                .with_message(&diagnostic.message)
                .with_labels(labels.collect())
                .with_notes(notes);
            match term::emit_into_string(&config, &files, &drawing) {
                Ok(drawn) => text.push_str(&drawn),
                Err(_) => text.push_str(&format!("error: {}\n", diagnostic.message)),
            }
        }
        text
    }
}
