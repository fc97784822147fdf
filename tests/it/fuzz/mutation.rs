//! Inputs made from others: bits turned, numbers put in place of numbers, pieces cut out, repeated and exchanged.

use std::ops::Range;

/// Numbers at which lengths and counts go wrong.
const NUMBERS: [u32; 12] = [
    0,
    1,
    2,
    7,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
];
/// Changes made to one input, at most.
const CHANGES_MAX: usize = 6;
/// Bytes of a piece that is moved, at most.
const PIECE_MAX: usize = 64;

pub(super) struct Mutator<'a> {
    state: u64,
    words: &'a [&'a [u8]],
    bytes_max: usize,
}

impl<'a> Mutator<'a> {
    pub(super) fn new(seed: u64, words: &'a [&'a [u8]], bytes_max: usize) -> Self {
        Self {
            state: seed,
            words,
            bytes_max,
        }
    }

    /// SplitMix64: the same numbers from the same seed in every version of every crate.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `count`, or 0.
    fn below(&mut self, count: usize) -> usize {
        let count = u64::try_from(count.max(1)).unwrap();
        usize::try_from(self.next() % count).unwrap()
    }

    fn piece(&mut self, length: usize) -> Range<usize> {
        let start = self.below(length);
        let most = PIECE_MAX.min(length - start);
        start..start + self.below(most + 1)
    }

    /// One of the inputs, changed.
    pub(super) fn mutated(&mut self, pool: &[Vec<u8>]) -> Vec<u8> {
        let mut input = pool[self.below(pool.len())].clone();
        input.truncate(self.bytes_max);
        for _ in 0..=self.below(CHANGES_MAX) {
            self.change(&mut input, pool);
        }
        input.truncate(self.bytes_max);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let length = input.len();
        let at = self.below(length);
        match self.below(9) {
            0 if length > 0 => input[at] ^= 1 << self.below(8),
            1 if length > 0 => input[at] = self.next().to_le_bytes()[0],
            2 => {
                let number = NUMBERS[self.below(NUMBERS.len())];
                let size = [1, 2, 4][self.below(3)];
                let bytes = match self.below(2) {
                    0 => number.to_be_bytes()[4 - size..].to_vec(),
                    _ => number.to_le_bytes()[..size].to_vec(),
                };
                for (place, byte) in input.iter_mut().skip(at).zip(bytes) {
                    *place = byte;
                }
            }
            3 => drop(input.drain(self.piece(length))),
            4 => {
                let piece = input[self.piece(length)].to_vec();
                input.splice(at..at, piece);
            }
            5 => input.truncate(at),
            6 => {
                let other = &pool[self.below(pool.len())];
                let piece = other[self.piece(other.len())].to_vec();
                let end = (at + self.below(piece.len() + 1)).min(length);
                input.splice(at..end, piece);
            }
            7 => {
                // The beginning of one, the end of another.
                let other = &pool[self.below(pool.len())];
                input.truncate(at);
                input.extend_from_slice(&other[self.below(other.len())..]);
            }
            _ if !self.words.is_empty() => {
                let word = self.words[self.below(self.words.len())];
                input.splice(at..at, word.iter().copied());
            }
            _ => {}
        }
    }
}
