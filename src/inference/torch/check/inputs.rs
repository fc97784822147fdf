//! Pictures and points that models are tried with, the same each time.

use super::super::super::manifest::Manifest;

/// Values in 0..1, the same for the same seed: SplitMix64, whose constants are its author's.
#[must_use]
pub fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // The top 24 bits fill an f32's mantissa exactly.
        ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1 << 24) as f32
    };
    (0..count).map(|_| next()).collect()
}

/// `count` points of [-1, 1]³: its corners first, as many as there is room for, then noise.
#[must_use]
pub fn cloud(seed: u64, count: usize) -> Vec<[f32; 3]> {
    let corner = |at: usize| std::array::from_fn(|axis| [-1.0, 1.0][at >> axis & 1]);
    let flat = noise(seed, 3 * count);
    let inner = flat
        .as_chunks::<3>()
        .0
        .iter()
        .map(|point| point.map(|unit| 2.0 * unit - 1.0));
    (0..8).map(corner).chain(inner).take(count).collect()
}

/// A picture of nothing but the manifest's background.
#[must_use]
pub fn blank(manifest: &Manifest) -> Vec<f32> {
    let input = &manifest.input;
    let pixels = (input.height * input.width) as usize;
    let planes = input.background.iter();
    planes
        .flat_map(|&value| std::iter::repeat_n(value, pixels))
        .collect()
}

/// A picture as the pipeline would frame it: a shaded ellipse on the manifest's background, of other proportions and
/// another colour for each number.
#[must_use]
pub fn picture(manifest: &Manifest, number: usize) -> Vec<f32> {
    let input = &manifest.input;
    let (height, width) = (input.height as usize, input.width as usize);
    let slim = input.fill / (1.0 + 0.4 * number as f32);
    let (wide, tall) = if number.is_multiple_of(2) {
        (input.fill, slim)
    } else {
        (slim, input.fill)
    };
    let color = [0, 1, 2].map(|part| if part == number % 3 { 0.85 } else { 0.25 });
    let mut planes = Vec::with_capacity(input.values());
    for (&background, color) in input.background.iter().zip(color) {
        for row in 0..height {
            for column in 0..width {
                let unit = |at: usize, of: usize| (at as f32 + 0.5) / of as f32 * 2.0 - 1.0;
                let (x, y) = (unit(column, width) / wide, -unit(row, height) / tall);
                let depth = 1.0 - x * x - y * y;
                planes.push(if depth > 0.0 {
                    let light = 0.35 + 0.65 * (0.4 * x + 0.6 * y + 0.7 * depth.sqrt()).max(0.0);
                    (color * light).clamp(0.0, 1.0)
                } else {
                    background
                });
            }
        }
    }
    planes
}
