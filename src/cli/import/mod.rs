//! `bookend import supervisord.conf`: the same programs in bookend's words, and a word on every key
//! that has none.

mod convert;
mod ini;

use super::arguments::Import;
use super::output;
use crate::exit;

pub(super) fn import(arguments: &Import) -> u8 {
    let file = &arguments.file;
    let converted = std::fs::read_to_string(file)
        .map_err(|error| error.to_string())
        .and_then(|text| ini::parse(&text))
        .and_then(|sections| convert::convert(&sections, arguments.main.as_deref()));
    match converted {
        Ok(converted) => {
            output::say(&converted.toml);
            for remark in &converted.remarks {
                output::complain(&format!("note: {remark}\n"));
            }
            exit::SUCCESS
        }
        Err(reason) => {
            output::error(&format!("{}: {reason}", file.display()));
            exit::FAILURE
        }
    }
}
