//! Classes: which bytes of an instance are what.

use super::format::{DumpError, OBJECT, size_of};
use super::stream::{Stream, WHOLE_LIMIT, number};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::io::{Read, Write};

/// By identifier: they are addresses, which nobody chooses to collide, and there are
/// millions of look-ups.
pub(super) type ById<V> = HashMap<u64, V, BuildHasherDefault<IdHasher>>;

pub(super) type Ids = HashSet<u64, BuildHasherDefault<IdHasher>>;

/// One multiplication (Fibonacci hashing).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        // The table takes the lowest bits, and the best are the highest.
        self.0.rotate_left(26)
    }
}

/// No class has so many ancestors.
const DEPTH_LIMIT: usize = 10_000;

/// One class, as its dump says.
#[derive(Debug, Default)]
struct Class {
    parent: u64,
    /// Types of its own instance fields, in order.
    fields: Vec<u8>,
}

/// What was read of one class dump.
#[derive(Debug)]
pub(super) struct ClassRecord {
    pub(super) id: u64,
    pub(super) loader: u64,
    pub(super) size: usize,
    /// The identifiers of its fields' names.
    pub(super) names: Vec<u64>,
    /// Where values that are no references stand in it, from its first byte.
    pub(super) primitives: Vec<(usize, usize)>,
}

/// What an instance's bytes are.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// Of all its fields. Bytes.
    pub(super) size: usize,
    /// Where values that are no references stand, from its first field.
    pub(super) primitives: Vec<(usize, usize)>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Classes {
    classes: ById<Class>,
    /// Asked for again and again.
    layouts: ById<Layout>,
}

impl Classes {
    /// Reads a class dump that begins behind its tag, without going on.
    pub(super) fn read<R: Read, W: Write>(
        &mut self,
        stream: &mut Stream<'_, R, W>,
        identifier: usize,
    ) -> Result<ClassRecord, DumpError> {
        // Identifier, stack, six identifiers, instance size.
        let head = 7 * identifier + 8;
        let mut size = head + 2;
        let bytes = stream.look(size)?;
        let id = number(bytes, 0, identifier);
        let parent = number(bytes, identifier + 4, identifier);
        let loader = number(bytes, 2 * identifier + 4, identifier);
        let mut primitives = Vec::new();
        let mut names = Vec::new();
        let constants = count(bytes, head);
        for _ in 0..constants {
            let kind = last(stream.look(checked(stream, size + 3)?)?);
            let width = width(stream, kind, identifier)?;
            note(&mut primitives, kind, size + 3, width);
            size += 3 + width;
        }
        let statics = count(stream.look(checked(stream, size + 2)?)?, size);
        size += 2;
        for _ in 0..statics {
            let bytes = stream.look(checked(stream, size + identifier + 1)?)?;
            names.push(number(bytes, size, identifier));
            let kind = last(bytes);
            let width = width(stream, kind, identifier)?;
            note(&mut primitives, kind, size + identifier + 1, width);
            size += identifier + 1 + width;
        }
        let own = count(stream.look(checked(stream, size + 2)?)?, size);
        size += 2;
        let mut fields = Vec::new();
        for _ in 0..own {
            let bytes = stream.look(checked(stream, size + identifier + 1)?)?;
            names.push(number(bytes, size, identifier));
            let kind = last(bytes);
            width(stream, kind, identifier)?;
            fields.push(kind);
            size += identifier + 1;
        }
        stream.look(checked(stream, size)?)?;
        self.classes.insert(id, Class { parent, fields });
        Ok(ClassRecord { id, loader, size, names, primitives })
    }

    /// An instance's fields: its own class's first, then its parents' (`heapDumper.cpp`,
    /// `dump_instance_fields`). `None` for a class that was not described before.
    pub(super) fn layout(&mut self, class: u64, identifier: usize) -> Option<&Layout> {
        if !self.layouts.contains_key(&class) {
            let layout = self.lay_out(class, identifier)?;
            self.layouts.insert(class, layout);
        }
        self.layouts.get(&class)
    }

    fn lay_out(&self, class: u64, identifier: usize) -> Option<Layout> {
        let mut layout = Layout::default();
        let mut next = class;
        // A class is its own ancestor only in a dump that somebody made up.
        for _ in 0..DEPTH_LIMIT {
            if next == 0 {
                return Some(layout);
            }
            let known = self.classes.get(&next)?;
            for kind in &known.fields {
                let end = layout.size + size_of(*kind, identifier)?;
                if *kind != OBJECT {
                    match layout.primitives.last_mut() {
                        Some((_, last)) if *last == layout.size => *last = end,
                        _ => layout.primitives.push((layout.size, end)),
                    }
                }
                layout.size = end;
            }
            next = known.parent;
        }
        None
    }
}

fn count(bytes: &[u8], at: usize) -> u64 {
    number(bytes, at, 2)
}

fn last(bytes: &[u8]) -> u8 {
    bytes.last().copied().unwrap_or(0)
}

fn note(primitives: &mut Vec<(usize, usize)>, kind: u8, at: usize, width: usize) {
    if kind != OBJECT {
        primitives.push((at, at + width));
    }
}

fn width<R: Read, W: Write>(
    stream: &Stream<'_, R, W>,
    kind: u8,
    identifier: usize,
) -> Result<usize, DumpError> {
    size_of(kind, identifier).ok_or_else(|| stream.broken(format!("there is no type {kind}")))
}

fn checked<R: Read, W: Write>(stream: &Stream<'_, R, W>, size: usize) -> Result<usize, DumpError> {
    if size > WHOLE_LIMIT { Err(stream.broken("a class is longer than any JVM's")) } else { Ok(size) }
}
