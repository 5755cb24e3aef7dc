//! What is taken out of a dump that leaves the house.
//!
//! Lengths, identifiers and references stay as they are, so that every tool reads the
//! result, and a dominator tree is the same. Besides arrays and fields the symbol table
//! tells secrets: the literals of the application's classes are among its UTF8 records.
//! Only what names a class, a field, a method or a file keeps its text.

use super::classes::{ClassRecord, Ids, Layout};
use super::format::{BYTE, CHARACTER};
use super::walk::{Frame, Visitor};
use std::ops::Range;

/// What stands in place of a text's letters: a name as long as before.
const BLANK: u8 = b'*';

/// Blanks what passes.
#[derive(Debug)]
pub(super) struct Redactor<const ALL: bool> {
    names: Ids,
    /// Of texts that are held: where they stand.
    texts: Vec<(u64, Range<usize>)>,
    /// Nothing is held any more.
    is_late: bool,
    /// The array that passes is to be blanked.
    blanks: bool,
}

impl<const ALL: bool> Redactor<ALL> {
    pub(super) fn new() -> Self {
        Self { names: Ids::default(), texts: Vec::new(), is_late: false, blanks: false }
    }

    fn keep(&mut self, name: u64) {
        self.names.insert(name);
    }
}

impl<const ALL: bool> Visitor for Redactor<ALL> {
    const NEEDS_LAYOUTS: bool = ALL;

    fn text(&mut self, id: u64, text: &mut [u8], begin: usize) {
        if self.is_late {
            // A frame of a virtual thread may name it later: better no name than a secret.
            if !self.names.contains(&id) {
                text.fill(BLANK);
            }
            return;
        }
        self.texts.push((id, begin..begin.saturating_add(text.len())));
    }

    fn class_name(&mut self, _serial: u64, _class: u64, name: u64) {
        self.keep(name);
    }

    fn frame(&mut self, frame: &Frame) {
        for name in [frame.method, frame.signature, frame.file] {
            self.keep(name);
        }
    }

    fn class(&mut self, class: &ClassRecord, record: &mut [u8]) {
        for name in &class.names {
            self.keep(*name);
        }
        if ALL {
            blank(record, &class.primitives);
        }
    }

    fn names_are_known(&mut self, held: &mut [u8]) {
        self.is_late = true;
        for (id, place) in std::mem::take(&mut self.texts) {
            if let (false, Some(text)) = (self.names.contains(&id), held.get_mut(place)) {
                text.fill(BLANK);
            }
        }
    }

    fn instance(&mut self, _id: u64, _class: u64, fields: &mut [u8], layout: Option<&Layout>) {
        if let Some(layout) = layout {
            blank(fields, &layout.primitives);
        }
    }

    fn array(&mut self, kind: u8, _length: u64, _size: u64) {
        self.blanks = ALL || [BYTE, CHARACTER].contains(&kind);
    }

    fn elements(&mut self, piece: &mut [u8]) {
        if self.blanks {
            piece.fill(0);
        }
    }
}

fn blank(bytes: &mut [u8], places: &[(usize, usize)]) {
    for (from, to) in places {
        if let Some(place) = bytes.get_mut(*from..*to) {
            place.fill(0);
        }
    }
}
