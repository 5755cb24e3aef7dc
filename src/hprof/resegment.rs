//! Dumps whose segments do not yet say how long they are.
//!
//! JDK 8, and 11 before 11.0.13, write a segment's length as 0 and come back to it once they know
//! it (`heapDumper.cpp`, `DumpWriter::write_dump_header` and `write_current_dump_record_length`):
//! whoever reads while they write has to find out. What a segment holds tells where it ends, as
//! none of its records begins as a segment or the dump's end does; it is handed on in segments
//! of a window's size, whose lengths are true.

use super::format::{VERSION, root_size, size_of, sub, tag};
use super::stream::number;
use std::io::{self, ErrorKind, Read};

/// Of what is looked at, and so of a segment. Bytes.
const WINDOW: usize = 1 << 20;
/// Tag, microseconds, length.
const HEAD: usize = 9;
/// With the size of identifiers and the time.
const FILE_HEAD: usize = VERSION.len() + 12;

/// The same dump, in segments that say how long they are.
#[derive(Debug)]
pub struct Resegmented<R> {
    input: R,
    window: Vec<u8>,
    at: usize,
    end: usize,
    identifier: usize,
    place: Place,
    /// What is handed out next, in this order: of these bytes, ...
    head: Vec<u8>,
    /// ... so many as they come.
    passing: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Begin,
    Top,
    Segment,
    /// Behind the end, or where nothing makes sense any more.
    Rest,
    End,
}

/// What stands at the beginning of some bytes of a segment.
enum Found {
    /// A record of so many bytes, whether or not they are all there.
    Record(u64),
    /// Too few bytes to tell.
    More,
    /// The segment ended before.
    Outside,
    Nonsense,
}

impl<R: Read> Resegmented<R> {
    pub fn new(input: R) -> Self {
        Self {
            input,
            window: vec![0; WINDOW],
            at: 0,
            end: 0,
            identifier: 8,
            place: Place::Begin,
            head: Vec::new(),
            passing: 0,
        }
    }

    fn there(&self) -> &[u8] {
        self.window.get(self.at..self.end).unwrap_or_default()
    }

    /// Makes room and reads; false at the input's end, or where there is no room.
    fn read_more(&mut self) -> io::Result<bool> {
        self.window.copy_within(self.at..self.end, 0);
        self.end -= self.at;
        self.at = 0;
        let room = self.window.get_mut(self.end..).unwrap_or_default();
        if room.is_empty() {
            return Ok(false);
        }
        loop {
            match self.input.read(room) {
                Ok(count) => {
                    self.end += count;
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// At least so many bytes are there, or no more come.
    fn look(&mut self, size: usize) -> io::Result<bool> {
        while self.end - self.at < size {
            if !self.read_more()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Decides what is handed out next.
    fn step(&mut self) -> io::Result<()> {
        match self.place {
            Place::Begin => {
                let is_there = self.look(FILE_HEAD)?;
                self.identifier = if number(self.there(), VERSION.len(), 4) == 4 { 4 } else { 8 };
                self.place = if is_there { Place::Top } else { Place::Rest };
                self.passing = if is_there { FILE_HEAD as u64 } else { 0 };
            }
            Place::Top => {
                if !self.look(HEAD)? {
                    self.place = Place::Rest;
                    return Ok(());
                }
                let kind = u8::try_from(number(self.there(), 0, 1)).unwrap_or_default();
                match kind {
                    tag::HEAP_DUMP | tag::HEAP_DUMP_SEGMENT => {
                        self.at += HEAD;
                        self.place = Place::Segment;
                    }
                    tag::HEAP_DUMP_END => {
                        self.passing = HEAD as u64;
                        self.place = Place::End;
                    }
                    _ => self.passing = HEAD as u64 + number(self.there(), 5, 4),
                }
            }
            Place::Segment => self.segment()?,
            Place::Rest => {
                // It is for whoever reads to say what is wrong with it.
                self.passing = u64::MAX;
                self.place = Place::End;
            }
            Place::End => {}
        }
        Ok(())
    }

    /// As many whole records as are there; or one that is larger than the window.
    fn segment(&mut self) -> io::Result<()> {
        let mut size = 0;
        loop {
            let rest = self.there().get(size..).unwrap_or_default();
            match found(rest, self.identifier) {
                Found::Record(whole) if whole <= rest.len() as u64 => {
                    size += usize::try_from(whole).unwrap_or_default();
                }
                _ if size > 0 => break,
                Found::Record(whole) if whole > WINDOW as u64 => {
                    self.begin_segment(whole);
                    return Ok(());
                }
                Found::Record(_) | Found::More => {
                    if !self.read_more()? {
                        let left = self.there().len() as u64;
                        self.place = if left == 0 { Place::End } else { Place::Rest };
                        if left > 0 {
                            // Longer than what is there: seen to be short.
                            self.head = head_of(left + 1);
                        }
                        return Ok(());
                    }
                }
                Found::Outside => {
                    self.place = Place::Top;
                    return Ok(());
                }
                Found::Nonsense => {
                    self.head = head_of(u64::from(u32::MAX));
                    self.place = Place::Rest;
                    return Ok(());
                }
            }
        }
        self.begin_segment(size as u64);
        Ok(())
    }

    fn begin_segment(&mut self, size: u64) {
        self.head = head_of(size);
        self.passing = size;
    }
}

fn head_of(size: u64) -> Vec<u8> {
    // No array is longer: the JVM cuts it (`DumperSupport::calculate_array_max_length`).
    let length = u32::try_from(size).unwrap_or(u32::MAX);
    let mut head = vec![tag::HEAP_DUMP_SEGMENT, 0, 0, 0, 0];
    head.extend_from_slice(&length.to_be_bytes());
    head
}

fn found(bytes: &[u8], identifier: usize) -> Found {
    let Some(kind) = bytes.first().copied() else { return Found::More };
    let head = match kind {
        tag::HEAP_DUMP | tag::HEAP_DUMP_SEGMENT | tag::HEAP_DUMP_END => return Found::Outside,
        sub::CLASS => return class(bytes, identifier).map_or(Found::More, |size| size),
        sub::INSTANCE | sub::OBJECT_ARRAY => 9 + 2 * identifier,
        sub::PRIMITIVE_ARRAY => 10 + identifier,
        kind => {
            return root_size(kind).map_or(Found::Nonsense, |(identifiers, others)| {
                Found::Record((1 + identifiers * identifier + others) as u64)
            });
        }
    };
    if bytes.len() < head {
        return Found::More;
    }
    let content = match kind {
        sub::INSTANCE => number(bytes, 5 + 2 * identifier, 4),
        sub::OBJECT_ARRAY => number(bytes, 5 + identifier, 4) * identifier as u64,
        _ => {
            let kind = u8::try_from(number(bytes, 9 + identifier, 1)).unwrap_or_default();
            let Some(width) = size_of(kind, identifier) else { return Found::Nonsense };
            number(bytes, 5 + identifier, 4) * width as u64
        }
    };
    Found::Record(head as u64 + content)
}

/// `None` if there are too few bytes to tell.
fn class(bytes: &[u8], identifier: usize) -> Option<Found> {
    // Tag, identifier, stack, six identifiers, instance size.
    let mut size = 9 + 7 * identifier;
    let count = |at: usize| bytes.get(at..at + 2).map(|bytes| number(bytes, 0, 2));
    // Constants, static fields, fields: what stands in front of a type, and whether a value follows.
    for (before, has_value) in [(2, true), (identifier, true), (identifier, false)] {
        let entries = count(size)?;
        size += 2;
        for _ in 0..entries {
            let kind = *bytes.get(size + before)?;
            let Some(width) = size_of(kind, identifier) else { return Some(Found::Nonsense) };
            size += before + 1 + if has_value { width } else { 0 };
        }
    }
    Some(Found::Record(size as u64))
}

impl<R: Read> Read for Resegmented<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.head.is_empty() && self.passing == 0 && self.place != Place::End {
            self.step()?;
        }
        if !self.head.is_empty() {
            let count = self.head.len().min(buffer.len());
            for (to, from) in buffer.iter_mut().zip(self.head.drain(..count)) {
                *to = from;
            }
            return Ok(count);
        }
        let limit = usize::try_from(self.passing).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = buffer.get_mut(..limit).unwrap_or_default();
        let there = self.there();
        let count = if there.is_empty() {
            self.input.read(buffer)?
        } else {
            let count = there.len().min(buffer.len());
            if let (Some(to), Some(from)) = (buffer.get_mut(..count), there.get(..count)) {
                to.copy_from_slice(from);
            }
            self.at += count;
            count
        };
        self.passing -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Redaction, pass};
    use super::*;

    /// Gives its bytes in pieces of that size.
    struct Slowly<'a>(&'a [u8], usize);

    impl Read for Slowly<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            let (now, later) = self.0.split_at(count);
            buffer.get_mut(..count).unwrap_or_default().copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    fn array(length: u32) -> Vec<u8> {
        let mut record = vec![sub::PRIMITIVE_ARRAY];
        record.extend_from_slice(&[1; 12]);
        record.extend_from_slice(&length.to_be_bytes());
        record.push(8);
        // As if segments and ends were in it.
        record.extend((0..length).map(|number| if number % 2 == 0 { 0x1c } else { 0x2c }));
        record
    }

    fn class_record() -> Vec<u8> {
        let mut record = vec![sub::CLASS];
        record.extend_from_slice(&[2; 8 + 4 + 48 + 4]);
        // No constant; one static long; one field.
        record.extend_from_slice(&[0, 0, 0, 1]);
        record.extend_from_slice(&[3; 8]);
        record.push(11);
        record.extend_from_slice(&[0; 8]);
        record.extend_from_slice(&[0, 1]);
        record.extend_from_slice(&[3; 8]);
        record.push(10);
        record
    }

    fn dump(ends: bool) -> Vec<u8> {
        let mut dump = [VERSION, &[0, 0, 0, 8], &[0; 8]].concat();
        dump.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 3]);
        dump.extend_from_slice(b"name");
        let unknown = [tag::HEAP_DUMP_SEGMENT, 0, 0, 0, 0, 0, 0, 0, 0];
        dump.extend_from_slice(&unknown);
        // A thread, a class, arrays: the last is larger than the window.
        dump.push(sub::THREAD);
        dump.extend_from_slice(&[1; 16]);
        dump.extend(class_record());
        dump.extend(array(3));
        dump.extend_from_slice(&unknown);
        dump.extend(array(3_000_000));
        dump.extend(array(700_000));
        if ends {
            dump.extend_from_slice(&[tag::HEAP_DUMP_END, 0, 0, 0, 0, 0, 0, 0, 0]);
            // Of a file that is not cut to its length.
            dump.extend_from_slice(b"more");
        }
        dump
    }

    #[test]
    fn segments_get_their_lengths_however_the_bytes_come() {
        let dump = dump(true);
        for size in [1, 7, 4096, usize::MAX] {
            let (structure, summary) =
                pass(Resegmented::new(Slowly(&dump, size)), io::sink(), None, Redaction::None);
            let structure = structure.expect("sound");
            assert!(structure.has_end);
            assert_eq!((structure.classes, structure.primitive_arrays), (1, 3), "{size}");
            assert_eq!(summary.objects, 3);
        }
    }

    #[test]
    fn what_is_cut_off_or_nonsense_is_named() {
        let whole = dump(false);
        for size in [10, 40, 60, 75, 100, 1000, 3_000_000, whole.len() - 1] {
            let piece = whole.get(..size).expect("inside");
            let (structure, _) = pass(Resegmented::new(piece), io::sink(), None, Redaction::None);
            assert!(structure.as_ref().map_or(true, |structure| !structure.has_end), "{size}: {structure:?}");
        }
        let mut nonsense = whole.get(..61).expect("inside").to_vec();
        nonsense.extend_from_slice(&[0x77; 100]);
        let (structure, _) = pass(Resegmented::new(&nonsense[..]), io::sink(), None, Redaction::None);
        assert!(structure.is_err_and(|error| error.to_string().contains("0x77")));
    }
}
