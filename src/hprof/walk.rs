//! Through a dump, record by record.

use super::classes::{ClassRecord, Classes, Layout};
use super::format::{DumpError, VERSION, root_size, size_of, sub, tag};
use super::stream::{Stream, WHOLE_LIMIT, number};
use std::io::{Read, Write};

/// Who looks at what passes, and may change bytes that are no lengths, identifiers or
/// references.
pub(super) trait Visitor {
    /// A UTF8 record; where its text begins in what is held.
    fn text(&mut self, _id: u64, _text: &mut [u8], _offset: usize) {}
    fn class_name(&mut self, _serial: u64, _class: u64, _name: u64) {}
    fn frame(&mut self, _frame: &Frame) {}
    /// A stack: of which thread, and its frames, the innermost first.
    fn trace(&mut self, _thread: u64, _frames: &mut dyn Iterator<Item = u64>) {}
    /// A live thread, by its serial number.
    fn thread(&mut self, _serial: u64) {}
    /// A class, and its whole record.
    fn class(&mut self, _class: &ClassRecord, _record: &mut [u8]) {}
    /// Before the first object, or at the end where names come in between: all names are
    /// known. What was held, to be changed once more.
    fn names_are_known(&mut self, _held: &mut [u8]) {}
    fn instance(&mut self, _id: u64, _class: u64, _fields: &mut [u8], _layout: Option<&Layout>) {}
    fn object_array(&mut self, _class: u64, _length: u64, _identifier: usize) {}
    /// An array of primitives: its type, and how many.
    fn array(&mut self, _kind: u8, _length: u64, _size: u64) {}
    /// Piece by piece the elements of the array that was named last.
    fn elements(&mut self, _piece: &mut [u8]) {}
    /// Whether layouts are needed: their look-up is most of the work.
    const NEEDS_LAYOUTS: bool;
}

/// Two at once: the first sees what is there before the second changes it.
#[derive(Debug)]
pub(super) struct Both<A, B>(pub(super) A, pub(super) B);

impl<A: Visitor, B: Visitor> Visitor for Both<A, B> {
    const NEEDS_LAYOUTS: bool = A::NEEDS_LAYOUTS || B::NEEDS_LAYOUTS;

    fn text(&mut self, id: u64, text: &mut [u8], offset: usize) {
        self.0.text(id, text, offset);
        self.1.text(id, text, offset);
    }

    fn class_name(&mut self, serial: u64, class: u64, name: u64) {
        self.0.class_name(serial, class, name);
        self.1.class_name(serial, class, name);
    }

    fn frame(&mut self, frame: &Frame) {
        self.0.frame(frame);
        self.1.frame(frame);
    }

    fn trace(&mut self, thread: u64, frames: &mut dyn Iterator<Item = u64>) {
        // Whoever redacts has no use for it.
        self.0.trace(thread, frames);
    }

    fn thread(&mut self, serial: u64) {
        self.0.thread(serial);
        self.1.thread(serial);
    }

    fn class(&mut self, class: &ClassRecord, record: &mut [u8]) {
        self.0.class(class, record);
        self.1.class(class, record);
    }

    fn names_are_known(&mut self, held: &mut [u8]) {
        self.0.names_are_known(held);
        self.1.names_are_known(held);
    }

    fn instance(&mut self, id: u64, class: u64, fields: &mut [u8], layout: Option<&Layout>) {
        self.0.instance(id, class, fields, layout);
        self.1.instance(id, class, fields, layout);
    }

    fn object_array(&mut self, class: u64, length: u64, identifier: usize) {
        self.0.object_array(class, length, identifier);
        self.1.object_array(class, length, identifier);
    }

    fn array(&mut self, kind: u8, length: u64, size: u64) {
        self.0.array(kind, length, size);
        self.1.array(kind, length, size);
    }

    fn elements(&mut self, piece: &mut [u8]) {
        self.0.elements(piece);
        self.1.elements(piece);
    }
}

/// One line of a stack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) id: u64,
    pub(super) method: u64,
    pub(super) signature: u64,
    pub(super) file: u64,
    /// The class's serial number.
    pub(super) class: u64,
    /// Above 0; others tell that there is none.
    pub(super) line: u32,
}

/// What a dump is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Structure {
    /// Of the whole dump.
    pub bytes: u64,
    pub classes: u64,
    pub instances: u64,
    pub object_arrays: u64,
    pub primitive_arrays: u64,
    /// It ends as the JVM ends one, with `HEAP_DUMP_END`; others were broken off.
    pub has_end: bool,
}

/// Passes the whole of `input` to `output`, by way of `visitor`; what was there until an
/// error, if there is one.
///
/// `holds`: keeps all that comes before the first object, so that it can be changed.
/// `names`: that is no matter of order, and goes there.
pub(super) fn walk<R: Read, W: Write, V: Visitor>(
    input: R,
    output: W,
    names: Option<&mut dyn Write>,
    visitor: &mut V,
    holds: bool,
) -> (Structure, Result<(), DumpError>) {
    let mut walker = Walker {
        stream: Stream::new(input, output, names, holds),
        identifier: 8,
        classes: Classes::default(),
        structure: Structure::default(),
        names_ended: false,
    };
    let walked = walker.walk(visitor);
    // What is in front of an error is passed on.
    let finished = walker.end_names(visitor).and_then(|()| walker.stream.flush());
    walker.structure.bytes = walker.stream.position();
    (walker.structure, walked.and(finished))
}

fn read_header<R: Read, W: Write>(stream: &mut Stream<'_, R, W>) -> Result<usize, DumpError> {
    let begin = stream.look(VERSION.len()).map_err(|error| match error {
        DumpError::Short { .. } => DumpError::NoDump,
        error => error,
    })?;
    if begin != VERSION {
        return Err(DumpError::NoDump);
    }
    stream.pass(VERSION.len());
    // The size of identifiers, and milliseconds since 1970.
    let size = number(stream.look(12)?, 0, 4);
    let identifier = match size {
        4 => 4,
        8 => 8,
        _ => return Err(stream.broken(format!("identifiers of {size} bytes"))),
    };
    stream.pass(12);
    Ok(identifier)
}

struct Walker<'n, R, W> {
    stream: Stream<'n, R, W>,
    identifier: usize,
    classes: Classes,
    structure: Structure,
    names_ended: bool,
}

impl<R: Read, W: Write> Walker<'_, R, W> {
    fn walk<V: Visitor>(&mut self, visitor: &mut V) -> Result<(), DumpError> {
        self.identifier = read_header(&mut self.stream)?;
        while !self.stream.is_over()? {
            // Tag, microseconds, length.
            let head = self.stream.look(9)?;
            let (kind, length) = (number(head, 0, 1), number(head, 5, 4));
            let kind = u8::try_from(kind).unwrap_or_default();
            if self.structure.has_end {
                return Err(self.stream.broken("something follows the end of the dump"));
            }
            self.stream
                .turn(![tag::HEAP_DUMP, tag::HEAP_DUMP_SEGMENT, tag::HEAP_DUMP_END].contains(&kind))?;
            match kind {
                tag::HEAP_DUMP | tag::HEAP_DUMP_SEGMENT => {
                    self.stream.pass(9);
                    self.segment(length, visitor)?;
                }
                tag::HEAP_DUMP_END => {
                    self.stream.pass(9);
                    self.stream.pass_all(length, |_| {})?;
                    self.structure.has_end = true;
                }
                tag::UTF8 | tag::LOAD_CLASS | tag::FRAME | tag::TRACE => self.name(kind, length, visitor)?,
                kind if tag::PLAIN.contains(&kind) => {
                    self.stream.pass(9);
                    self.stream.pass_all(length, |_| {})?;
                }
                kind => return Err(self.stream.broken(format!("there is no record 0x{kind:02x}"))),
            }
        }
        Ok(())
    }

    fn name<V: Visitor>(&mut self, kind: u8, length: u64, visitor: &mut V) -> Result<(), DumpError> {
        let offset = self.stream.held_position();
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        let size = size.checked_add(9).filter(|size| *size <= WHOLE_LIMIT);
        let Some(size) = size else {
            return Err(self.stream.broken("a name or a stack is longer than any JVM's"));
        };
        let least = match kind {
            tag::UTF8 => self.identifier,
            tag::LOAD_CLASS => 2 * self.identifier + 8,
            tag::FRAME => 4 * self.identifier + 8,
            _ => 12,
        };
        if size - 9 < least {
            return Err(self.stream.broken(format!("a record 0x{kind:02x} of only {length} bytes")));
        }
        let identifier = self.identifier;
        let record = self.stream.look(size)?;
        match kind {
            tag::UTF8 => {
                let id = number(record, 9, identifier);
                let begin = 9 + identifier;
                visitor.text(id, record.get_mut(begin..).unwrap_or_default(), offset + begin);
            }
            tag::LOAD_CLASS => {
                // Serial number, class, stack, name.
                let name = number(record, 17 + identifier, identifier);
                visitor.class_name(number(record, 9, 4), number(record, 13, identifier), name);
            }
            tag::FRAME => {
                let at = |index: usize| number(record, 9 + index * identifier, identifier);
                let behind = 9 + 4 * identifier;
                visitor.frame(&Frame {
                    id: at(0),
                    method: at(1),
                    signature: at(2),
                    file: at(3),
                    class: number(record, behind, 4),
                    line: u32::try_from(number(record, behind + 4, 4)).unwrap_or_default(),
                });
            }
            _ => {
                let frames = record.get(21..).unwrap_or_default();
                let mut frames = frames.chunks_exact(identifier).map(|id| number(id, 0, identifier));
                visitor.trace(number(record, 13, 4), &mut frames);
            }
        }
        self.stream.pass(size);
        Ok(())
    }

    /// What a segment holds must fill it exactly: a short write of some JVMs (JDK-8303937)
    /// shows here.
    fn segment<V: Visitor>(&mut self, length: u64, visitor: &mut V) -> Result<(), DumpError> {
        let end = self.stream.position().saturating_add(length);
        while self.stream.position() < end {
            let kind = u8::try_from(number(self.stream.look(1)?, 0, 1)).unwrap_or_default();
            match kind {
                sub::CLASS => self.class(visitor)?,
                sub::INSTANCE => self.instance(visitor)?,
                sub::OBJECT_ARRAY => self.object_array(visitor)?,
                sub::PRIMITIVE_ARRAY => self.primitive_array(visitor)?,
                kind => self.root(kind, visitor)?,
            }
        }
        if self.stream.position() != end {
            return Err(self.stream.broken("a record goes beyond its segment"));
        }
        Ok(())
    }

    fn root<V: Visitor>(&mut self, kind: u8, visitor: &mut V) -> Result<(), DumpError> {
        let Some((identifiers, others)) = root_size(kind) else {
            return Err(self.stream.broken(format!("there is no record 0x{kind:02x} in a segment")));
        };
        let identifier = self.identifier;
        let size = 1 + identifiers * identifier + others;
        let record = self.stream.look(size)?;
        if kind == sub::THREAD {
            visitor.thread(number(record, 1 + identifier, 4));
        }
        self.stream.pass(size);
        Ok(())
    }

    fn class<V: Visitor>(&mut self, visitor: &mut V) -> Result<(), DumpError> {
        self.stream.pass(1);
        let class = self.classes.read(&mut self.stream, self.identifier)?;
        visitor.class(&class, self.stream.look(class.size)?);
        self.stream.pass(class.size);
        self.structure.classes += 1;
        Ok(())
    }

    fn instance<V: Visitor>(&mut self, visitor: &mut V) -> Result<(), DumpError> {
        self.begin_objects(visitor)?;
        let identifier = self.identifier;
        // Tag, identifier, stack, class, length.
        let head = 9 + 2 * identifier;
        let bytes = self.stream.look(head)?;
        let (id, class) = (number(bytes, 1, identifier), number(bytes, 5 + identifier, identifier));
        let length = usize::try_from(number(bytes, 5 + 2 * identifier, 4)).unwrap_or(usize::MAX);
        let Some(size) = head.checked_add(length).filter(|size| *size <= WHOLE_LIMIT) else {
            return Err(self.stream.broken(format!("an object with {length} bytes of fields")));
        };
        let layout = if V::NEEDS_LAYOUTS {
            let Some(layout) = self.classes.layout(class, identifier) else {
                return Err(self.stream.broken("an object of a class that was not described before it"));
            };
            if layout.size != length {
                let known = layout.size;
                let what = format!("an object with {length} bytes of fields, and its class has {known}");
                return Err(self.stream.broken(what));
            }
            Some(layout)
        } else {
            None
        };
        let record = self.stream.look(size)?;
        visitor.instance(id, class, record.get_mut(head..).unwrap_or_default(), layout);
        self.stream.pass(size);
        self.structure.instances += 1;
        Ok(())
    }

    fn object_array<V: Visitor>(&mut self, visitor: &mut V) -> Result<(), DumpError> {
        self.begin_objects(visitor)?;
        let identifier = self.identifier;
        // Tag, identifier, stack, length, class.
        let head = 9 + 2 * identifier;
        let bytes = self.stream.look(head)?;
        let (length, class) = (number(bytes, 5 + identifier, 4), number(bytes, 9 + identifier, identifier));
        visitor.object_array(class, length, identifier);
        self.stream.pass(head);
        self.stream.pass_all(length.saturating_mul(identifier as u64), |_| {})?;
        self.structure.object_arrays += 1;
        Ok(())
    }

    fn primitive_array<V: Visitor>(&mut self, visitor: &mut V) -> Result<(), DumpError> {
        self.begin_objects(visitor)?;
        let identifier = self.identifier;
        // Tag, identifier, stack, length, type.
        let head = 10 + identifier;
        let bytes = self.stream.look(head)?;
        let length = number(bytes, 5 + identifier, 4);
        let kind = u8::try_from(number(bytes, 9 + identifier, 1)).unwrap_or_default();
        let Some(width) = size_of(kind, identifier).filter(|_| kind != super::format::OBJECT) else {
            return Err(self.stream.broken(format!("an array of the type {kind}")));
        };
        let size = length.saturating_mul(width as u64);
        visitor.array(kind, length, size);
        self.stream.pass(head);
        self.stream.pass_all(size, |piece| visitor.elements(piece))?;
        self.structure.primitive_arrays += 1;
        Ok(())
    }

    fn begin_objects<V: Visitor>(&mut self, visitor: &mut V) -> Result<(), DumpError> {
        if self.stream.parts_names() { Ok(()) } else { self.end_names(visitor) }
    }

    fn end_names<V: Visitor>(&mut self, visitor: &mut V) -> Result<(), DumpError> {
        if std::mem::replace(&mut self.names_ended, true) {
            return Ok(());
        }
        self.stream.release(|held| visitor.names_are_known(held))
    }
}
