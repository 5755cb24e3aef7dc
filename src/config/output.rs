//! `main.output`: the main process's standard output and error go through bookend.

use super::Diagnostic;
use super::document::{Node, Value};
use super::reader::{FromNode, expected};
use super::values::table;
use crate::units::ByteSize;

/// What is kept of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// So much of its end, for evidence. Bytes.
    pub keep: ByteSize,
}

impl FromNode for Output {
    const EXPECTED: &'static str = "{ keep = \"256KiB\" }";
    fn from_value(_: &Value) -> Result<Self, Option<String>> {
        Err(None)
    }
    fn from_node(node: &Node) -> Result<Self, Diagnostic> {
        let wrong = expected::<Self>;
        let mut keep = None;
        for (name, place, item) in table(node, Self::EXPECTED)? {
            if name != "keep" {
                return Err(wrong(&place, format!("an output has no `{name}`")));
            }
            let size = ByteSize::from_node(&item)?;
            // Less than a page tells nothing; it is memory of the container.
            if !(4 << 10..=64 << 20).contains(&size.0) {
                return Err(wrong(&item.place, "4KiB to 64MiB".to_owned()));
            }
            keep = Some(size);
        }
        keep.map(|keep| Self { keep }).ok_or_else(|| wrong(&node.place, "how much is kept?".to_owned()))
    }
    fn show(&self) -> String {
        format!("{{ keep = \"{}\" }}", self.keep)
    }
}
