//! What is done to a heap dump that somebody asks for by hand.
//!
//! `[heap]` says who may read the service's data, and holds here too: a dump without
//! redaction or encryption must be asked for by that word. How a dump is compressed is no
//! secret; it is as the command line says.

use super::arguments::{Dump, DumpFormat};
use super::{operator, output};
use crate::agent::Status;
use crate::config::{self, Inputs};
use crate::sys::process::Pid;
use crate::units::{Compression, Recipe, Recipient, Redaction};
use std::ffi::OsString;

/// # Errors
/// `[heap]` cannot be read, and nobody said that it does not matter.
pub(super) fn of(
    environment: Vec<(OsString, OsString)>,
    arguments: &Dump,
    jvm: Pid,
) -> Result<Recipe, String> {
    let compression = match arguments.compress {
        None => Compression::None,
        Some(DumpFormat::Zstd) => Compression::Zstd,
        Some(DumpFormat::Gzip) => Compression::Gzip,
    };
    if arguments.plain {
        return Ok(Recipe { compression, ..Recipe::PLAIN });
    }
    let (configured, encrypt_to) = match operator::fetch_above(jvm) {
        Ok(Some(status)) => by_the_agent(&status)?,
        Ok(None) => by_the_configuration(environment, arguments)?,
        Err(reason) => {
            return Err(format!(
                "the agent does not say whether [heap] redacts or encrypts ({reason}): try again, or take \
                 the heap as it is with --plain"
            ));
        }
    };
    let mut done = Vec::new();
    if configured != Redaction::None && !arguments.redact {
        done.push("redacted");
    }
    if !encrypt_to.is_empty() {
        done.push("encrypted");
    }
    if !done.is_empty() {
        output::complain(&format!("the heap dump is {}, as [heap] says\n", done.join(" and ")));
    }
    let redaction = if arguments.redact { Redaction::Primitives } else { configured };
    Ok(Recipe { redaction, compression, encrypt_to })
}

/// It knows what `run` was started with, flags and all.
fn by_the_agent(status: &Status) -> Result<(Redaction, Vec<Recipient>), String> {
    let heap = &status.heap;
    let redaction = Redaction::parse(&heap.redact)
        .ok_or_else(|| format!("the agent knows a redaction that this bookend does not: {}", heap.redact))?;
    let recipients: Result<Vec<Recipient>, String> =
        heap.encrypt_to.iter().map(|text| Recipient::parse(text)).collect();
    Ok((redaction, recipients?))
}

/// Where there is no agent: what `run` would read here.
fn by_the_configuration(
    environment: Vec<(OsString, OsString)>,
    arguments: &Dump,
) -> Result<(Redaction, Vec<Recipient>), String> {
    let inputs = Inputs {
        file: arguments.source.config.clone(),
        environment,
        overrides: arguments.source.set.clone(),
        explain: false,
    };
    let (config, _, diagnostics) = config::load(&inputs);
    if !diagnostics.is_empty() {
        return Err("the configuration cannot be read, and so not whether [heap] redacts or encrypts: \
                    `bookend check` shows what is wrong; --plain takes the heap as it is"
            .to_owned());
    }
    if !config.is_written {
        output::complain(
            "no agent and no configuration is found here (name one with --config): the heap is taken as it is\n",
        );
    }
    Ok((config.heap.redact.value, config.heap.encrypt_to.value))
}
