//! Dumps made by hand, and by chance.

use super::*;
use proptest::prelude::*;

/// A dump as the JVM writes one, small: identifiers of eight bytes.
#[derive(Default)]
struct Builder {
    bytes: Vec<u8>,
}

impl Builder {
    fn new() -> Self {
        let mut builder = Self::default();
        builder.bytes.extend_from_slice(b"JAVA PROFILE 1.0.2\0");
        builder.u4(8).u8(0);
        builder
    }

    fn u1(&mut self, number: u8) -> &mut Self {
        self.bytes.push(number);
        self
    }

    fn u2(&mut self, number: u16) -> &mut Self {
        self.bytes.extend_from_slice(&number.to_be_bytes());
        self
    }

    fn u4(&mut self, number: u32) -> &mut Self {
        self.bytes.extend_from_slice(&number.to_be_bytes());
        self
    }

    fn u8(&mut self, number: u64) -> &mut Self {
        self.bytes.extend_from_slice(&number.to_be_bytes());
        self
    }

    fn record(&mut self, tag: u8, content: &[u8]) -> &mut Self {
        self.u1(tag).u4(0).u4(u32::try_from(content.len()).expect("small"));
        self.bytes.extend_from_slice(content);
        self
    }

    fn text(&mut self, id: u64, text: &str) -> &mut Self {
        let content = [&id.to_be_bytes()[..], text.as_bytes()].concat();
        self.record(0x01, &content)
    }

    fn load_class(&mut self, serial: u32, class: u64, name: u64) -> &mut Self {
        let mut content = Self::default();
        content.u4(serial).u8(class).u4(0).u8(name);
        self.record(0x02, &content.bytes)
    }
}

const NAME: u64 = 0x10;
const FIELD: u64 = 0x18;
const SECRET: u64 = 0x20;
const METHOD: u64 = 0x28;
const FILE: u64 = 0x30;
const CLASS: u64 = 0x1000;

/// One class with a static number, an `int` and a reference; two of its objects; a text.
fn small() -> Vec<u8> {
    let mut dump = Builder::new();
    dump.text(NAME, "com/example/Account").text(FIELD, "balance").text(SECRET, "open sesame");
    dump.text(METHOD, "transfer").text(FILE, "Account.java");
    dump.load_class(1, CLASS, NAME);
    let mut frame = Builder::default();
    frame.u8(0x500).u8(METHOD).u8(0).u8(FILE).u4(1).u4(42);
    dump.record(0x04, &frame.bytes);
    let mut trace = Builder::default();
    trace.u4(2).u4(1).u4(1).u8(0x500);
    dump.record(0x05, &trace.bytes);
    let mut heap = Builder::default();
    heap.u1(0x20).u8(CLASS).u4(1).u8(0).u8(0x9000).u8(0).u8(0).u8(0).u8(0).u4(12);
    // No constants; one static `int`; an `int` and a reference.
    heap.u2(0).u2(1).u8(FIELD).u1(10).u4(0x7777_7777).u2(2).u8(FIELD).u1(10).u8(FIELD).u1(2);
    for number in 0..2 {
        heap.u1(0x21).u8(0x2000 + number).u4(1).u8(CLASS).u4(12).u4(0x5555_5555).u8(0x3000);
    }
    heap.u1(0x23).u8(0x3000).u4(1).u4(6).u1(8);
    heap.bytes.extend_from_slice(b"sesame");
    heap.u1(0x23).u8(0x3008).u4(1).u4(6).u1(8);
    heap.bytes.extend_from_slice(b"sesame");
    heap.u1(0x23).u8(0x3010).u4(1).u4(1).u1(11).u8(0x6666_6666_6666_6666);
    heap.u1(0x22).u8(0x4000).u4(1).u4(2).u8(CLASS).u8(0x2000).u8(0x2001);
    heap.u1(0x08).u8(0x9000).u4(1).u4(2);
    dump.record(0x1c, &heap.bytes);
    dump.record(0x2c, &[]);
    dump.bytes
}

fn redacted(dump: &[u8], how: Redaction) -> Vec<u8> {
    let mut after = Vec::new();
    redact(dump, &mut after, how).expect("it is whole");
    after
}

fn holds(dump: &[u8], word: &[u8]) -> bool {
    dump.windows(word.len()).any(|window| window == word)
}

#[test]
fn what_the_small_one_amounts_to() {
    let (structure, summary) = summarize(small().as_slice());
    let structure = structure.expect("it is whole");
    assert_eq!((structure.classes, structure.instances, structure.primitive_arrays), (1, 2, 3));
    assert!(structure.has_end && summary.is_whole);
    assert_eq!(structure.bytes, small().len() as u64);
    assert_eq!((summary.threads, summary.objects), (1, 6));
    assert_eq!(summary.stacks, [["com.example.Account.transfer(Account.java:42)"]]);
    let row = summary.classes_by_objects.iter().find(|row| row.class == "com.example.Account");
    assert_eq!(row.map(|row| (row.objects, row.bytes)), Some((2, 2 * 28)));
    assert_eq!((summary.duplicate_texts.copies, summary.duplicate_texts.bytes), (1, 22));
    assert_eq!(summary.class_loaders.first().map(|row| row.classes), Some(1));
}

#[test]
fn values_go_and_names_stay() {
    let before = small();
    for how in [Redaction::Strings, Redaction::Primitives] {
        let after = redacted(&before, how);
        assert_eq!(after.len(), before.len());
        assert!(!holds(&after, b"sesame"), "{how:?}");
        for name in ["com/example/Account", "balance", "transfer", "Account.java"] {
            assert!(holds(&after, name.as_bytes()), "{name} {how:?}");
        }
        assert_eq!(holds(&after, &[0x55; 4]), how == Redaction::Strings, "a field");
        assert_eq!(holds(&after, &[0x66; 8]), how == Redaction::Strings, "an array");
        assert_eq!(holds(&after, &[0x77; 4]), how == Redaction::Strings, "a static");
        assert_eq!(redacted(&after, how), after, "once more changes nothing");
    }
}

#[test]
fn both_at_once_are_the_same_as_each() {
    let mut after = Vec::new();
    let (structure, summary) = pass(small().as_slice(), &mut after, None, Redaction::Primitives);
    assert!(structure.is_ok());
    assert_eq!(after, redacted(&small(), Redaction::Primitives));
    assert_eq!(summary.to_string(), summarize(small().as_slice()).1.to_string());
}

/// A text of which nothing tells that it is a name, after objects have begun.
#[test]
fn late_texts_are_blanked() {
    let mut dump = Builder { bytes: small() };
    dump.bytes.truncate(dump.bytes.len() - 9);
    dump.text(0x80, "a late sesame").text(NAME, "com/example/Account").record(0x2c, &[]);
    let after = redacted(&dump.bytes, Redaction::Strings);
    assert!(!holds(&after, b"sesame"));
    assert!(after.ends_with(b"com/example/Account\x2c\0\0\0\0\0\0\0\0"));
}

/// As JVMs from 22 on give them: parted, and each in its order, they are the same dump.
#[test]
fn names_among_objects_come_first() {
    let whole = small();
    let at = |tag: u8| {
        let mut at = 31;
        while whole[at] != tag {
            let length: [u8; 4] = whole[at + 5..at + 9].try_into().expect("four");
            at += 9 + u32::from_be_bytes(length) as usize;
        }
        at
    };
    let (classes, objects, end) = (at(0x02), at(0x1c), whole.len() - 9);
    let mixed = [&whole[..classes], &whole[objects..end], &whole[classes..objects], &whole[end..]].concat();
    for how in [Redaction::None, Redaction::Strings, Redaction::Primitives] {
        let (mut names, mut rest) = (Vec::new(), Vec::new());
        let (structure, summary) = pass(mixed.as_slice(), &mut rest, Some(&mut names), how);
        assert!(structure.expect("it is whole").has_end);
        assert_eq!(names.len(), objects, "{how:?}");
        names.extend_from_slice(&rest);
        let expected = if how == Redaction::None { whole.clone() } else { redacted(&whole, how) };
        assert_eq!(names, expected, "{how:?}");
        assert_eq!(summary.to_string(), summarize(whole.as_slice()).1.to_string());
    }
}

#[test]
fn errors_name_the_place() {
    let said = |dump: &[u8]| summarize(dump).0.map(|structure| structure.has_end).map_err(|e| e.to_string());
    let whole = small();
    assert_eq!(said(&whole[..whole.len() - 9]), Ok(false));
    assert_eq!(said(b"PK\x03\x04").map_err(|error| error.contains("no heap dump")), Err(true));
    let cut = said(&whole[..whole.len() - 20]).expect_err("cut");
    assert!(cut.contains("ends at byte"), "{cut}");
    let mut wrong = whole.clone();
    wrong[31] = 0x42;
    let error = said(&wrong).expect_err("wrong");
    assert_eq!(error, "the dump is broken at byte 31: there is no record 0x42");
    let more = said(&[&whole[..], b"\x01"].concat()).expect_err("more");
    assert!(more.contains("in the middle of a record") || more.contains("follows the end"), "{more}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever is in it: no panic, no more out than in, and an end.
    #[test]
    fn any_bytes_are_survived(
        cut in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut dump = small();
        for (place, byte) in changes {
            let place = place.index(dump.len());
            dump[place] = byte;
        }
        dump.truncate(cut.index(dump.len() + 1));
        for how in [Redaction::None, Redaction::Strings, Redaction::Primitives] {
            let mut after = Vec::new();
            let (result, summary) = pass(dump.as_slice(), &mut after, None, how);
            prop_assert!(after.len() <= dump.len());
            if result.is_ok() {
                prop_assert_eq!(after.len(), dump.len());
            }
            drop(summary.to_string());
        }
    }

    /// Pieces of any size give the same.
    #[test]
    fn pieces_do_not_matter(size in 1_usize..50) {
        struct Slow<'a>(&'a [u8], usize);
        impl Read for Slow<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let size = self.1.min(buffer.len());
                self.0.read(&mut buffer[..size])
            }
        }
        let whole = small();
        let mut after = Vec::new();
        redact(Slow(&whole, size), &mut after, Redaction::Primitives).expect("it is whole");
        prop_assert_eq!(after, redacted(&whole, Redaction::Primitives));
    }
}
