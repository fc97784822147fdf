//! How the points of several conversions share one query pass: a pure decision.
//!
//! The contract's `query` takes codes `[R, K]` and points `[R, N, 3]`: as many points for each row. A conversion gets one
//! row or several, each with a copy of its codes; rows that are not full are padded. Long rows waste points, short ones
//! copy codes more often, so the length is chosen for the conversions at hand.

/// What a row costs beside its points, in points: its copy of the codes is made, and read once more by the model. On an
/// H100 1.4 MB of codes cost about 3 µs, a point 3.7 ns (docs/PERFORMANCE.md).
const ROW_COST: usize = 800;
/// The shortest row tried.
const ROW_MIN: usize = 1024;

/// How a pass is laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The points taken of each conversion, in the order given; 0 for those that must wait for the next pass.
    pub taken: Vec<usize>,
    /// The length of a row.
    pub row: usize,
}

impl Layout {
    /// Rows of the pass.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.taken
            .iter()
            .map(|taken| taken.div_ceil(self.row))
            .sum()
    }

    /// Points of the pass that nobody asked for.
    #[must_use]
    pub fn padding(&self) -> usize {
        self.rows() * self.row - self.taken.iter().sum::<usize>()
    }

    /// What a point that was asked for costs, in points.
    fn cost(&self) -> f64 {
        let taken: usize = self.taken.iter().sum();
        (self.rows() * (self.row + ROW_COST)) as f64 / taken.max(1) as f64
    }
}

/// Lays out a pass of at most `points_max` points, padding included, for conversions that ask `remaining` points each.
/// Everybody gets an even share; what one doesn't need goes to the others. Where there are more conversions than rows,
/// the first ones come first.
///
/// # Panics
/// If nobody asks for anything, or `points_max` is 0.
#[must_use]
pub fn layout(remaining: &[usize], points_max: usize) -> Layout {
    let longest = remaining.iter().copied().max().unwrap_or(0);
    assert!(longest > 0 && points_max > 0, "a pass has points");
    let longest = longest.min(points_max);
    let powers = std::iter::successors(Some(ROW_MIN.min(longest)), |row| row.checked_mul(2));
    powers
        .take_while(|&row| row < longest)
        .chain([longest])
        .enumerate()
        // A length that leaves somebody out is taken only where every length does.
        .filter(|&(at, row)| at == 0 || points_max / row >= remaining.len())
        .map(|(_, row)| in_rows(remaining, points_max / row, row))
        .min_by(|a, b| a.cost().total_cmp(&b.cost()))
        .expect("the first length is tried in any case")
}

/// Shares `rows` rows of a length evenly.
fn in_rows(remaining: &[usize], rows: usize, row: usize) -> Layout {
    let mut taken = vec![0; remaining.len()];
    // Those who need least choose first, so that what they leave is known when the others are served.
    let mut order: Vec<_> = (0..remaining.len().min(rows)).collect();
    order.sort_by_key(|&at| (remaining[at], at));
    let mut left = rows;
    for (served, &at) in order.iter().enumerate() {
        let share = left / (order.len() - served);
        let got = share.min(remaining[at].div_ceil(row));
        taken[at] = remaining[at].min(got * row);
        left -= got;
    }
    let longest = taken.iter().copied().max().unwrap_or(0);
    Layout {
        taken,
        row: row.min(longest),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_alone_gets_one_row() {
        assert_eq!(
            layout(&[36_000], 1 << 20),
            Layout {
                taken: vec![36_000],
                row: 36_000
            }
        );
        assert_eq!(
            layout(&[36_000], 10_000),
            Layout {
                taken: vec![10_000],
                row: 10_000
            }
        );
        assert_eq!(layout(&[5], 1).taken, [1]);
    }

    #[test]
    fn a_large_conversion_leaves_room_for_small_ones() {
        let pass = layout(&[4_000_000, 3_000, 2_900, 3_100], 65_536);
        assert_eq!(pass.taken[1..], [3_000, 2_900, 3_100]);
        assert!(pass.taken[0] >= 49_152, "{pass:?}");
        assert!(pass.padding() < 65_536 / 10, "{pass:?}");
    }

    #[test]
    fn equals_get_equal_shares() {
        let pass = layout(&[100_000; 4], 65_536);
        assert_eq!(pass.taken, [16_384; 4]);
        assert_eq!(pass.row, 16_384, "a row each: no codes are copied twice");
    }

    #[test]
    fn more_conversions_than_points_wait_their_turn() {
        let pass = layout(&[1; 5], 3);
        assert_eq!(pass.taken, [1, 1, 1, 0, 0]);
    }

    proptest! {
        #[test]
        fn a_pass_fits_and_is_fair(
            remaining in prop::collection::vec(1usize..2_000_000, 1..80),
            points_max in 1usize..1_200_000,
        ) {
            let pass = layout(&remaining, points_max);
            prop_assert!(pass.rows() * pass.row <= points_max, "{pass:?}");
            prop_assert!(pass.taken[0] > 0, "the first in line always moves on");
            let least_of_the_cut = pass.taken.iter().zip(&remaining)
                .filter(|(taken, remaining)| taken < remaining).map(|(taken, _)| *taken).min();
            for (taken, remaining) in pass.taken.iter().zip(&remaining) {
                prop_assert!(taken <= remaining);
                if let Some(least) = least_of_the_cut.filter(|&least| least > 0) {
                    // Nobody has more than a row and a rounding over one whose points were cut off.
                    prop_assert!(*taken <= least + 2 * pass.row, "{pass:?}");
                }
            }
        }

        #[test]
        fn padding_and_copies_cost_little_where_many_ask(
            remaining in prop::collection::vec(2_000usize..200_000, 16..80),
        ) {
            let pass = layout(&remaining, 262_144);
            prop_assert!(pass.cost() < 1.6, "{} {pass:?}", pass.cost());
        }
    }
}
