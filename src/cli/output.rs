//! Standard output and standard error of the verbs. A reader that is gone is
//! no error: `bookend check | head -1` is a fine thing to say.

use std::io::Write;

/// To standard output.
pub(super) fn say(text: &str) {
    drop(std::io::stdout().write_all(text.as_bytes()));
    drop(std::io::stdout().flush());
}

/// What is still in the buffer: without Rust's own start there is no end that would.
pub(super) fn flush() {
    drop(std::io::stdout().flush());
}

/// To standard error.
pub(super) fn complain(text: &str) {
    drop(std::io::stderr().write_all(text.as_bytes()));
}

/// `error: …` to standard error.
pub(super) fn error(text: &str) {
    complain(&format!("error: {text}\n"));
}
