//! What equal texts cost, in constant memory.

use super::classes::ById;
use super::summary::DuplicateRow;

/// Contents that are told apart at once; with more, every second is forgotten.
const CONTENTS: usize = 1 << 16;

/// Equal contents among those whose hash begins with so many zero bits: each content
/// has the same chance, and all its copies come with it.
#[derive(Debug, Default)]
pub(super) struct Duplicates {
    /// How often, and its size in bytes.
    contents: ById<(u64, u64)>,
    level: u32,
    size: u64,
    left: u64,
    hash: u64,
    /// Bytes of an eight that is not full yet.
    rest: u64,
    rest_bits: u32,
}

impl Duplicates {
    /// An array of that size in memory, with so many bytes of elements to come.
    pub(super) fn begin(&mut self, size: u64, elements: u64) {
        self.size = size;
        self.left = elements;
        self.hash = elements;
        self.rest = 0;
        self.rest_bits = 0;
    }

    /// The hash of the whole does not depend on where pieces end.
    pub(super) fn take(&mut self, piece: &[u8]) {
        self.left = self.left.saturating_sub(piece.len() as u64);
        let mut piece = piece;
        while self.rest_bits != 0
            && let Some((first, others)) = piece.split_first()
        {
            self.push(*first);
            piece = others;
        }
        let mut eights = piece.chunks_exact(8);
        for eight in &mut eights {
            if let Ok(eight) = eight.try_into() {
                self.mix(u64::from_le_bytes(eight));
            }
        }
        for byte in eights.remainder() {
            self.push(*byte);
        }
        if self.left == 0 {
            self.mix(self.rest);
            self.count();
        }
    }

    fn push(&mut self, byte: u8) {
        self.rest |= u64::from(byte) << self.rest_bits;
        self.rest_bits += 8;
        if self.rest_bits == 64 {
            let eight = std::mem::take(&mut self.rest);
            self.rest_bits = 0;
            self.mix(eight);
        }
    }

    fn mix(&mut self, eight: u64) {
        // Both halves of the product: no bit of the content is lost.
        let product = u128::from(self.hash ^ eight).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let folded = product ^ (product >> 64);
        self.hash = u64::try_from(folded & u128::from(u64::MAX)).unwrap_or_default().rotate_left(23) ^ eight;
    }

    fn count(&mut self) {
        // Once more, so that the first bits know of the last byte.
        let hash = self.hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        if hash.leading_zeros() < self.level {
            return;
        }
        self.contents.entry(hash).or_insert((0, self.size)).0 += 1;
        if self.contents.len() > CONTENTS {
            self.level += 1;
            let level = self.level;
            self.contents.retain(|hash, _| hash.leading_zeros() >= level);
        }
    }

    pub(super) fn finish(&self) -> DuplicateRow {
        let one_in = 1_u64 << self.level.min(63);
        let (mut copies, mut bytes) = (0_u64, 0_u64);
        for (count, size) in self.contents.values() {
            copies = copies.saturating_add(count - 1);
            bytes = bytes.saturating_add((count - 1).saturating_mul(*size));
        }
        DuplicateRow {
            copies: copies.saturating_mul(one_in),
            bytes: bytes.saturating_mul(one_in),
            sampled_one_in: one_in,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_do_not_matter() {
        let content: Vec<u8> = (0..100).collect();
        let mut duplicates = Duplicates::default();
        for cut in 0..=100 {
            let (first, second) = content.split_at(cut);
            duplicates.begin(116, 100);
            duplicates.take(first);
            if cut < 100 {
                duplicates.take(second);
            }
        }
        let found = duplicates.finish();
        assert_eq!((found.copies, found.bytes, found.sampled_one_in), (100, 11_600, 1));
    }

    /// Half a million contents, each of them twice: an estimate within a tenth.
    #[test]
    fn an_estimate_from_a_sample() {
        let mut duplicates = Duplicates::default();
        for _ in 0..2 {
            for number in 0..500_000_u64 {
                duplicates.begin(24, 8);
                duplicates.take(&number.to_be_bytes());
            }
        }
        let found = duplicates.finish();
        assert!(found.sampled_one_in > 1, "{found:?}");
        assert!((450_000..550_000).contains(&found.copies), "{found:?}");
    }
}
