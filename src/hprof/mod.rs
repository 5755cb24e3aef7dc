//! HPROF heap dumps as a stream: one pass, constant memory, whatever the heap.
//!
//! Owns the format (`heapDumper.cpp`, "JAVA PROFILE 1.0.2"), what is taken out of a dump
//! that leaves the house, and what a dump amounts to. A library: knows neither plan nor
//! roles. Every byte is a stranger's: lengths are checked, and what is wrong is named with
//! its offset.

mod classes;
mod duplicates;
mod format;
mod packed;
mod redact;
mod report;
mod resegment;
mod stream;
mod summary;
mod walk;

pub use format::DumpError;
pub use packed::Unpacked;
pub use resegment::Resegmented;
pub use summary::Summary;
pub use walk::Structure;

use crate::units::Redaction;
use redact::Redactor;
use std::io::{Read, Write, sink};
use summary::Summarizer;
use walk::{Both, Visitor, walk};

/// Passes a dump on, redacted if asked for, and counts what it holds.
///
/// Up to its first object it is held in memory where it is redacted (names come before the
/// classes that tell what they name): 1 to 15 MB of what a JVM writes.
///
/// `names`: this dump's names, classes and stacks come in between its objects. They go there,
/// and belong in front of what goes to `output`: so readers expect it (Eclipse MAT looks a
/// class's name up when it meets the class). Then they are held to the end.
///
/// # Errors
/// What is wrong with the dump and at which byte, or why it cannot be read or written.
/// What was written until then is sound, and redacted.
pub fn pass(
    input: impl Read,
    output: impl Write,
    names: Option<&mut dyn Write>,
    redaction: Redaction,
) -> (Result<Structure, DumpError>, Summary) {
    match redaction {
        Redaction::None => run(input, output, names, Nothing, false),
        Redaction::Strings => run(input, output, names, Redactor::<false>::new(), true),
        Redaction::Primitives => run(input, output, names, Redactor::<true>::new(), true),
    }
}

/// Redacts and no more.
///
/// # Errors
/// As [`pass`].
pub fn redact(input: impl Read, output: impl Write, redaction: Redaction) -> Result<Structure, DumpError> {
    match redaction {
        Redaction::None => passed(walk(input, output, None, &mut Nothing, false)),
        Redaction::Strings => passed(walk(input, output, None, &mut Redactor::<false>::new(), true)),
        Redaction::Primitives => passed(walk(input, output, None, &mut Redactor::<true>::new(), true)),
    }
}

/// Checks and counts what a dump holds; what was counted until an error stays.
///
/// # Errors
/// As [`pass`].
pub fn summarize(input: impl Read) -> (Result<Structure, DumpError>, Summary) {
    run(input, sink(), None, Nothing, false)
}

fn passed((structure, result): (Structure, Result<(), DumpError>)) -> Result<Structure, DumpError> {
    result.map(|()| structure)
}

fn run<V: Visitor>(
    input: impl Read,
    output: impl Write,
    names: Option<&mut dyn Write>,
    visitor: V,
    holds: bool,
) -> (Result<Structure, DumpError>, Summary) {
    // The summary sees what is there before the redactor takes it out.
    let mut both = Both(Summarizer::default(), visitor);
    let walked = walk(input, output, names, &mut both, holds);
    let summary = both.0.finish(&walked.0);
    (passed(walked), summary)
}

/// Looks at nothing.
#[derive(Debug)]
struct Nothing;

impl Visitor for Nothing {
    const NEEDS_LAYOUTS: bool = false;
}

#[cfg(test)]
mod tests;
