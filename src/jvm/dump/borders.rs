//! Where records end, in bytes that come in pieces.

/// Tag, microseconds, length.
const HEAD: usize = 9;
/// `JAVA PROFILE 1.0.2\0`, the size of identifiers, the time.
const FILE_HEAD: u64 = 31;
/// `HPROF_HEAP_DUMP`, `HPROF_HEAP_DUMP_SEGMENT` and `HPROF_HEAP_DUMP_END` (`heapDumper.cpp`).
const HEAP_DUMP: u8 = 0x0c;
const SEGMENT: u8 = 0x1c;
const END: u8 = 0x2c;

/// Where records end, in bytes that come in pieces.
#[derive(Debug, Default)]
pub(super) struct Borders {
    /// The last head; so many of its bytes are there, if it is not whole.
    head: [u8; HEAD],
    head_bytes: usize,
    /// Of the record that passes.
    left: u64,
}

impl Borders {
    /// From the first byte of a dump on.
    pub(super) fn of_dump() -> Self {
        Self { left: FILE_HEAD, ..Self::default() }
    }

    /// What passed last is the dump's end.
    pub(super) fn has_end(&self) -> bool {
        let [kind, ..] = self.head;
        self.is_at_one() && kind == END
    }

    /// Goes on up to the first segment of the heap, or to what stands in its place where its
    /// bytes were punched out: how many bytes of `piece` that are.
    pub(super) fn pass_names(&mut self, piece: &[u8]) -> usize {
        let mut at = 0;
        while let Some(next) = piece.get(at) {
            if self.is_at_one() && [HEAP_DUMP, SEGMENT, 0].contains(next) {
                break;
            }
            let rest = piece.get(at..).unwrap_or_default();
            let here = self.until_next().min(rest.len());
            self.pass(rest.get(..here).unwrap_or_default());
            at += here;
        }
        at
    }

    pub(super) fn is_at_one(&self) -> bool {
        self.head_bytes == 0 && self.left == 0
    }

    /// So many bytes bring no more than the next border.
    pub(super) fn until_next(&self) -> usize {
        match usize::try_from(self.left) {
            Ok(0) => HEAD - self.head_bytes,
            left => left.unwrap_or(usize::MAX),
        }
    }

    /// The last border in `piece`: as many bytes before it.
    pub(super) fn pass(&mut self, piece: &[u8]) -> Option<usize> {
        let mut at = 0;
        let mut last = None;
        while at < piece.len() {
            let rest = piece.get(at..).unwrap_or_default();
            if self.left > 0 {
                let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
                self.left -= here as u64;
                at += here;
            } else {
                let missing = HEAD - self.head_bytes;
                let here = missing.min(rest.len());
                for (to, from) in self.head.iter_mut().skip(self.head_bytes).zip(rest) {
                    *to = *from;
                }
                self.head_bytes += here;
                at += here;
                if self.head_bytes < HEAD {
                    break;
                }
                let [.., a, b, c, d] = self.head;
                self.left = u64::from(u32::from_be_bytes([a, b, c, d]));
                self.head_bytes = 0;
            }
            if self.left == 0 {
                last = Some(at);
            }
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_do_not_depend_on_pieces() {
        let mut records = Vec::new();
        for size in [0_u32, 5, 1, 300] {
            records.extend_from_slice(&[1, 0, 0, 0, 0]);
            records.extend_from_slice(&size.to_be_bytes());
            records.extend(std::iter::repeat_n(7, size as usize));
        }
        for size in 1..records.len() {
            let mut borders = Borders::default();
            let mut found = Vec::new();
            for (number, piece) in records.chunks(size).enumerate() {
                found.extend(borders.pass(piece).map(|border| number * size + border));
            }
            assert!(borders.is_at_one(), "{size}");
            assert!(found.iter().all(|border| [9, 23, 33, 342].contains(border)), "{size}: {found:?}");
            assert_eq!(found.last(), Some(&342));
        }
    }

    #[test]
    fn names_end_at_the_heap_and_a_dump_at_its_end() {
        let mut names = vec![7; 31];
        names.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 2, SEGMENT, SEGMENT]);
        for heap in [SEGMENT, 0] {
            let dump: Vec<u8> = names.iter().copied().chain([heap; 20]).collect();
            for size in 1..dump.len() {
                let mut borders = Borders::of_dump();
                let passed: usize = dump.chunks(size).map(|piece| borders.pass_names(piece)).sum();
                assert_eq!(passed, names.len(), "{size}");
                assert!(borders.is_at_one() && !borders.has_end());
                borders.pass(&[END, 0, 0, 0, 0, 0, 0, 0, 0]);
                assert!(borders.has_end());
            }
        }
    }
}
