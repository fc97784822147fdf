//! Masks of bits: unions, gaps and overlaps of silhouettes at a word an operation.

/// The longest side of a mask: its rows are words of so many bits.
pub(super) const SIDE_MAX: usize = 128;

/// What a silhouette covers of a square, row by row from the top; the first column is a row's lowest bit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mask {
    rows: Vec<u128>,
}

impl Mask {
    /// Packs a square of bytes, each 0 or 1. The side is a multiple of 8 and at most [`SIDE_MAX`].
    pub(super) fn packed(bytes: &[u8], side: usize) -> Self {
        // The bit of each of eight bytes ends up in the top byte of the product, the first byte's lowest.
        const GATHER: u64 = 0x0102_0408_1020_4080;
        debug_assert!(side <= SIDE_MAX && side.is_multiple_of(8), "rows of a word");
        let row = |bytes: &[u8]| {
            let eights = bytes.as_chunks::<8>().0.iter().rev();
            eights.fold(0u128, |word, &eight| {
                let bits = u64::from_le_bytes(eight).wrapping_mul(GATHER) >> 56;
                word << 8 | u128::from(bits)
            })
        };
        Self {
            rows: bytes.chunks_exact(side).map(row).collect(),
        }
    }

    /// Fills holes and slits up to two pixels wide and leaves every outer side where it is (a closing by 3 x 3 pixels).
    pub(super) fn close(&mut self) {
        let mut grown = self.rows.clone();
        for row in &mut grown {
            *row |= *row << 1 | *row >> 1;
        }
        let grown: Vec<u128> = (0..grown.len())
            .map(|row| {
                let above = grown[row.saturating_sub(1)];
                let below = grown[(row + 1).min(grown.len() - 1)];
                above | grown[row] | below
            })
            .collect();
        for (row, closed) in self.rows.iter_mut().enumerate() {
            let above = grown[row.saturating_sub(1)];
            let below = grown[(row + 1).min(grown.len() - 1)];
            let column = above & grown[row] & below;
            *closed |= column & (column << 1) & (column >> 1);
        }
    }

    /// Pixels that both cover over pixels that either covers, 0..=1.
    pub(super) fn iou(&self, other: &Self) -> f64 {
        let (mut both, mut either) = (0, 0);
        for (one, other) in self.rows.iter().zip(&other.rows) {
            both += (one & other).count_ones();
            either += (one | other).count_ones();
        }
        f64::from(both) / f64::from(either.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(side: usize, covers: impl Fn(usize, usize) -> bool) -> Mask {
        let bytes: Vec<u8> = (0..side * side)
            .map(|at| u8::from(covers(at % side, at / side)))
            .collect();
        Mask::packed(&bytes, side)
    }

    #[test]
    fn bits_lie_where_their_bytes_did() {
        for side in [64, 128] {
            let mask = mask(side, |column, row| (column * 7 + row * 3) % 5 == 0);
            for (row, word) in mask.rows.iter().enumerate() {
                for column in 0..side {
                    assert_eq!(
                        word >> column & 1 == 1,
                        (column * 7 + row * 3) % 5 == 0,
                        "{column} {row}"
                    );
                }
            }
        }
    }

    #[test]
    fn overlap_is_a_share_of_the_union() {
        let half = mask(64, |column, _| column < 32);
        let quarter = mask(64, |column, row| column < 32 && row < 32);
        assert_eq!(half.iou(&half), 1.0);
        assert_eq!(half.iou(&quarter), 0.5);
        let nothing = mask(64, |_, _| false);
        assert_eq!((half.iou(&nothing), nothing.iou(&nothing)), (0.0, 0.0));
    }

    #[test]
    fn closing_fills_gaps_and_thickens_nothing() {
        let square =
            |column: usize, row: usize| (20..60).contains(&column) && (20..60).contains(&row);
        let mut pierced = mask(128, |column, row| {
            square(column, row) && !(column % 9 < 2 && row % 7 < 2)
        });
        let mut line = mask(128, |column, row| row == 64 && column > 3);
        let whole_line = line.clone();
        pierced.close();
        line.close();
        let inside = mask(128, |column, row| {
            (22..58).contains(&column) && (22..58).contains(&row)
        });
        for (closed, inside) in pierced.rows.iter().zip(&inside.rows) {
            assert_eq!(closed & inside, *inside);
        }
        assert_eq!(line, whole_line);
    }
}
