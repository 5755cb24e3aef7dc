//! What happened, for `bookend events` and `bookend status`: the last lines, and
//! whoever follows them.

use super::storing::rfc3339;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::SystemTime;
use tokio::sync::broadcast;

/// So many are kept.
const KEPT: usize = 200;
/// Whoever is so far behind misses some.
const BEHIND: usize = 256;

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Health,
    Capture,
    Store,
    Hold,
    Helper,
    Stop,
    End,
}

/// One thing that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// RFC 3339, UTC.
    pub time: String,
    pub what: What,
    pub text: String,
    /// Why, where, or who.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub detail: String,
}

/// The lines, and who wants the next ones.
#[derive(Debug)]
pub(super) struct Journal {
    lines: VecDeque<Line>,
    followers: broadcast::Sender<String>,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self { lines: VecDeque::new(), followers: broadcast::Sender::new(BEHIND) }
    }

    pub(super) fn note(&mut self, what: What, text: &str, detail: &str) {
        let time = rfc3339(SystemTime::now());
        let line = Line { time, what, text: text.to_owned(), detail: detail.to_owned() };
        // Nobody follows, mostly.
        let _nobody = self.followers.send(in_json(&line));
        self.lines.push_back(line);
        if self.lines.len() > KEPT {
            self.lines.pop_front();
        }
    }

    /// Whoever follows has heard everything.
    pub(super) fn close(&mut self) {
        self.followers = broadcast::Sender::new(1);
    }

    /// Those about health.
    pub(super) fn health(&self) -> impl DoubleEndedIterator<Item = &Line> {
        self.lines.iter().filter(|line| line.what == What::Health)
    }

    /// Everything so far, a JSON object a line; and the next ones, as they come.
    pub(super) fn follow(&self) -> (String, broadcast::Receiver<String>) {
        (self.lines.iter().map(in_json).collect(), self.followers.subscribe())
    }
}

fn in_json(line: &Line) -> String {
    let mut text = serde_json::to_string(line).unwrap_or_default();
    text.push('\n');
    text
}
