//! Fills what no texel covers from what lies around, so that the coarser pictures that a viewer makes don't mix in a
//! foreign colour: push-pull (Gortler et al., The Lumigraph, 1996, 3.4.4).

/// A square picture and which of its pixels are set.
struct Level {
    side: usize,
    colors: Vec<[u8; 3]>,
    is_set: Vec<bool>,
}

/// A picture of `side` × `side` with the colours given by index; every other pixel gets the mean of the set ones in the
/// smallest square of a power of two around it that has any.
pub(super) fn between(side: usize, set: impl Iterator<Item = (usize, [u8; 3])>) -> Vec<[u8; 3]> {
    let mut finest = Level {
        side,
        colors: vec![[0; 3]; side * side],
        is_set: vec![false; side * side],
    };
    for (place, color) in set {
        finest.colors[place] = color;
        finest.is_set[place] = true;
    }
    let mut levels = vec![finest];
    while levels[levels.len() - 1].side > 1 {
        levels.push(levels[levels.len() - 1].coarser());
    }
    while let (Some(coarse), Some(fine)) = (levels.pop(), levels.last_mut()) {
        fine.take_missing(&coarse);
        if levels.len() == 1 {
            break;
        }
    }
    levels.swap_remove(0).colors
}

impl Level {
    /// Half as wide; each pixel the mean of the set ones of four.
    fn coarser(&self) -> Self {
        let side = self.side.div_ceil(2);
        let mut coarse = Self {
            side,
            colors: Vec::with_capacity(side * side),
            is_set: Vec::with_capacity(side * side),
        };
        for y in 0..side {
            for x in 0..side {
                let mut sum = [0u32; 3];
                let mut count = 0;
                for fine_y in 2 * y..(2 * y + 2).min(self.side) {
                    for fine_x in 2 * x..(2 * x + 2).min(self.side) {
                        let place = fine_y * self.side + fine_x;
                        if self.is_set[place] {
                            count += 1;
                            for (sum, channel) in sum.iter_mut().zip(self.colors[place]) {
                                *sum += u32::from(channel);
                            }
                        }
                    }
                }
                let mean = |sum: u32| ((sum + count / 2) / count.max(1)) as u8;
                coarse.colors.push(sum.map(mean));
                coarse.is_set.push(count > 0);
            }
        }
        coarse
    }

    fn take_missing(&mut self, coarse: &Self) {
        for (place, color) in self.colors.iter_mut().enumerate() {
            if !self.is_set[place] {
                let (x, y) = (place % self.side, place / self.side);
                *color = coarse.colors[y / 2 * coarse.side + x / 2];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_take_the_mean_of_the_nearest_square() {
        let filled = between(5, [(0, [10; 3]), (1, [20; 3]), (24, [90; 3])].into_iter());
        assert_eq!(filled[0..2], [[10; 3], [20; 3]]);
        assert_eq!(filled[6], [15; 3], "the mean of the two beside it");
        assert_eq!(filled[12], [15; 3], "of the four by four around it");
        assert_eq!(filled[24], [90; 3]);
        assert_eq!(between(3, std::iter::empty()), [[0; 3]; 9]);
    }
}
