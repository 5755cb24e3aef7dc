//! What a dump amounts to: the largest consumers, while it passes by.

use super::classes::{ById, ClassRecord, Layout};
use super::duplicates::Duplicates;
use super::format::{BYTE, CHARACTER, array_name};
use super::walk::{Frame, Structure, Visitor};
use serde::Serialize;
use std::collections::BTreeMap;

/// Rows of each table.
const ROWS: usize = 25;
/// Of each stack.
const FRAMES: usize = 4;
/// Stacks that are shown.
const STACKS: usize = 200;
/// An object's header, without compressed class pointers. Bytes.
const HEADER: u64 = 16;

/// Tables of a dump; sizes are what the dump's own terms give: references of eight bytes,
/// headers of sixteen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    pub dump_bytes: u64,
    /// It ends as the JVM ends one.
    pub is_whole: bool,
    pub objects: u64,
    pub bytes: u64,
    pub classes_by_bytes: Vec<ClassRow>,
    pub classes_by_objects: Vec<ClassRow>,
    pub largest_arrays: Vec<ArrayRow>,
    /// Equal byte and character arrays: nearly all are texts of strings.
    pub duplicate_texts: DuplicateRow,
    pub class_loaders: Vec<LoaderRow>,
    pub threads: u64,
    /// Of threads, the innermost frames.
    pub stacks: Vec<Vec<String>>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ClassRow {
    pub class: String,
    pub objects: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct ArrayRow {
    /// `byte[]`, `java.lang.Object[]`
    pub array: String,
    pub length: u64,
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct DuplicateRow {
    /// Arrays that equal another one which is counted as the first.
    pub copies: u64,
    pub bytes: u64,
    /// Counted one by one; otherwise an estimate from one in so many contents.
    pub sampled_one_in: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct LoaderRow {
    /// The loader's class; several loaders of one class are one row.
    pub loader: String,
    pub loaders: u64,
    pub classes: u64,
    pub objects: u64,
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    objects: u64,
    bytes: u64,
}

impl Count {
    fn add(&mut self, bytes: u64) {
        self.objects = self.objects.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Objects(u64),
    Primitives(u8),
}

/// Counts what passes.
#[derive(Debug, Default)]
pub(super) struct Summarizer {
    /// Until all names are known.
    texts: ById<Box<str>>,
    /// By class.
    names: ById<Box<str>>,
    /// By serial number, until all names are known.
    serials: ById<u64>,
    frames: ById<String>,
    stacks: Vec<Vec<String>>,
    threads: u64,
    instances: ById<Count>,
    object_arrays: ById<Count>,
    arrays: BTreeMap<u8, Count>,
    /// The largest, the smallest of them last.
    largest: Vec<(u64, u64, Kind)>,
    duplicates: Duplicates,
    /// The loader of each class.
    loader_of: ById<u64>,
    /// The class of each loader, once it passed.
    loaders: ById<u64>,
    is_text: bool,
    names_are_known: bool,
}

impl Visitor for Summarizer {
    const NEEDS_LAYOUTS: bool = false;

    fn text(&mut self, id: u64, text: &mut [u8], _offset: usize) {
        if !self.names_are_known {
            self.texts.insert(id, String::from_utf8_lossy(text).into());
        }
    }

    fn class_name(&mut self, serial: u64, class: u64, name: u64) {
        if let Some(name) = self.texts.get(&name) {
            self.names.insert(class, readable(name).into());
        }
        if !self.names_are_known {
            self.serials.insert(serial, class);
        }
    }

    fn frame(&mut self, frame: &Frame) {
        let text = |id: u64| self.texts.get(&id).map_or("?", |text| text);
        let class = self.serials.get(&frame.class).and_then(|class| self.names.get(class));
        let class = class.map_or("?", |class| class);
        let place = match frame.line {
            line if i32::try_from(line).is_ok_and(|line| line > 0) => format!("{}:{line}", text(frame.file)),
            _ => text(frame.file).to_owned(),
        };
        let frame_text = format!("{class}.{}({place})", text(frame.method));
        if self.stacks.len() < STACKS {
            self.frames.insert(frame.id, frame_text);
        }
    }

    fn trace(&mut self, thread: u64, frames: &mut dyn Iterator<Item = u64>) {
        // Trace 1 belongs to no thread: what has no stack refers to it.
        if thread != 0 && self.stacks.len() < STACKS {
            let frames = frames.take(FRAMES);
            let lines: Vec<String> = frames.filter_map(|id| self.frames.get(&id).cloned()).collect();
            if !lines.is_empty() {
                self.stacks.push(lines);
            }
        }
    }

    fn thread(&mut self, _serial: u64) {
        self.threads += 1;
    }

    fn class(&mut self, class: &ClassRecord, _record: &mut [u8]) {
        self.loader_of.insert(class.id, class.loader);
        self.loaders.entry(class.loader).or_insert(0);
    }

    fn names_are_known(&mut self, _held: &mut [u8]) {
        self.names_are_known = true;
        self.texts = ById::default();
        self.serials = ById::default();
        self.frames = ById::default();
    }

    fn instance(&mut self, id: u64, class: u64, fields: &mut [u8], _layout: Option<&Layout>) {
        self.instances.entry(class).or_default().add(HEADER + fields.len() as u64);
        if let Some(loader) = self.loaders.get_mut(&id) {
            *loader = class;
        }
    }

    fn object_array(&mut self, class: u64, length: u64, identifier: usize) {
        let bytes = HEADER.saturating_add(length.saturating_mul(identifier as u64));
        self.object_arrays.entry(class).or_default().add(bytes);
        self.rank(bytes, length, Kind::Objects(class));
    }

    fn array(&mut self, kind: u8, length: u64, size: u64) {
        let bytes = HEADER.saturating_add(size);
        self.arrays.entry(kind).or_default().add(bytes);
        self.rank(bytes, length, Kind::Primitives(kind));
        self.is_text = [BYTE, CHARACTER].contains(&kind) && length > 0;
        if self.is_text {
            self.duplicates.begin(bytes, size);
        }
    }

    fn elements(&mut self, piece: &mut [u8]) {
        if self.is_text {
            self.duplicates.take(piece);
        }
    }
}

impl Summarizer {
    fn rank(&mut self, bytes: u64, length: u64, kind: Kind) {
        let smallest = self.largest.last().map_or(0, |(smallest, ..)| *smallest);
        if self.largest.len() == ROWS && bytes <= smallest {
            return;
        }
        let at = self.largest.partition_point(|(other, ..)| *other >= bytes);
        self.largest.insert(at, (bytes, length, kind));
        self.largest.truncate(ROWS);
    }

    fn name(&self, class: u64) -> String {
        self.names.get(&class).map_or_else(|| format!("class 0x{class:x}"), ToString::to_string)
    }

    pub(super) fn finish(mut self, structure: &Structure) -> Summary {
        let mut rows: Vec<ClassRow> = Vec::new();
        for (class, count) in self.instances.iter().chain(&self.object_arrays) {
            rows.push(ClassRow { class: self.name(*class), objects: count.objects, bytes: count.bytes });
        }
        for (kind, count) in &self.arrays {
            let class = array_name(*kind).to_owned();
            rows.push(ClassRow { class, objects: count.objects, bytes: count.bytes });
        }
        let objects = rows.iter().map(|row| row.objects).sum();
        let bytes = rows.iter().map(|row| row.bytes).sum();
        let top = |rows: &mut Vec<ClassRow>, key: fn(&ClassRow) -> u64| {
            rows.sort_by(|a, b| key(b).cmp(&key(a)).then_with(|| a.class.cmp(&b.class)));
            rows.iter().take(ROWS).cloned().collect::<Vec<_>>()
        };
        let classes_by_bytes = top(&mut rows, |row| row.bytes);
        let classes_by_objects = top(&mut rows, |row| row.objects);
        let largest = std::mem::take(&mut self.largest);
        let arrays = largest.into_iter().map(|(bytes, length, kind)| {
            let array = match kind {
                Kind::Objects(class) => self.name(class),
                Kind::Primitives(kind) => array_name(kind).to_owned(),
            };
            ArrayRow { array, length, bytes }
        });
        let largest_arrays = arrays.collect();
        let class_loaders = self.loader_rows();
        Summary {
            dump_bytes: structure.bytes,
            is_whole: structure.has_end,
            objects,
            bytes,
            classes_by_bytes,
            classes_by_objects,
            largest_arrays,
            duplicate_texts: self.duplicates.finish(),
            class_loaders,
            threads: self.threads,
            stacks: self.stacks,
        }
    }

    fn loader_rows(&self) -> Vec<LoaderRow> {
        let mut by_loader: ById<LoaderRow> = ById::default();
        for (class, loader) in &self.loader_of {
            let row = by_loader.entry(*loader).or_insert_with(|| LoaderRow {
                loader: match self.loaders.get(loader) {
                    _ if *loader == 0 => "the boot loader".to_owned(),
                    Some(class) => self.name(*class),
                    None => "?".to_owned(),
                },
                loaders: 1,
                classes: 0,
                objects: 0,
                bytes: 0,
            });
            row.classes += 1;
            for count in [self.instances.get(class), self.object_arrays.get(class)].into_iter().flatten() {
                row.objects = row.objects.saturating_add(count.objects);
                row.bytes = row.bytes.saturating_add(count.bytes);
            }
        }
        let mut by_name: BTreeMap<String, LoaderRow> = BTreeMap::new();
        for row in by_loader.into_values() {
            match by_name.get_mut(&row.loader) {
                Some(sum) => {
                    sum.loaders += 1;
                    sum.classes += row.classes;
                    sum.objects = sum.objects.saturating_add(row.objects);
                    sum.bytes = sum.bytes.saturating_add(row.bytes);
                }
                None => drop(by_name.insert(row.loader.clone(), row)),
            }
        }
        let mut rows: Vec<LoaderRow> = by_name.into_values().collect();
        rows.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.loader.cmp(&b.loader)));
        rows.truncate(ROWS);
        rows
    }
}

/// `[Ljava/lang/String;` as `java.lang.String[]`.
fn readable(name: &str) -> String {
    let dimensions = name.bytes().take_while(|byte| *byte == b'[').count();
    let element = name.get(dimensions..).unwrap_or_default();
    let element = match element {
        _ if dimensions == 0 => element,
        "Z" => "boolean",
        "C" => "char",
        "F" => "float",
        "D" => "double",
        "B" => "byte",
        "S" => "short",
        "I" => "int",
        "J" => "long",
        class => class.strip_prefix('L').and_then(|class| class.strip_suffix(';')).unwrap_or(class),
    };
    element.replace('/', ".") + &"[]".repeat(dimensions)
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn names_as_in_java() {
        assert_eq!(readable("java/lang/String"), "java.lang.String");
        assert_eq!(readable("[[Ljava/util/Map$Entry;"), "java.util.Map$Entry[][]");
        assert_eq!(readable("[J"), "long[]");
        assert_eq!(readable("B"), "B");
    }
}
