//! Between sRGB bytes and linear light (IEC 61966-2-1).

use std::sync::LazyLock;

/// The linear value of each sRGB byte, 0 to 1.
pub(super) fn linear_of_srgb() -> [f32; 256] {
    std::array::from_fn(|byte| {
        let encoded = byte as f32 / 255.0;
        if encoded <= 0.04045 {
            encoded / 12.92
        } else {
            ((encoded + 0.055) / 1.055).powf(2.4)
        }
    })
}

/// Linear to sRGB by table: a power for each channel of each pixel would take longer than drawing.
pub(super) struct SrgbEncoder {
    bytes: Vec<u8>,
}

impl SrgbEncoder {
    /// Steps of the table: fine enough that the darkest shades, 12.92 · 255 / 16384 = 0.2 bytes a step, come out right.
    const STEPS: usize = 16_384;

    /// The table, filled on first use.
    pub(super) fn get() -> &'static Self {
        static TABLE: LazyLock<SrgbEncoder> = LazyLock::new(SrgbEncoder::new);
        &TABLE
    }

    fn new() -> Self {
        let byte = |step: usize| {
            let linear = step as f32 / Self::STEPS as f32;
            let encoded = if linear <= 0.003_130_8 {
                12.92 * linear
            } else {
                1.055 * linear.powf(1.0 / 2.4) - 0.055
            };
            (255.0 * encoded).round() as u8
        };
        Self {
            bytes: (0..=Self::STEPS).map(byte).collect(),
        }
    }

    /// The sRGB byte nearest to a linear value, which is cut off at 0 and 1.
    pub(super) fn byte(&self, linear: f32) -> u8 {
        // By way of `i32`, whose conversion takes one instruction.
        self.bytes[(linear.clamp(0.0, 1.0) * Self::STEPS as f32 + 0.5) as i32 as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srgb_is_made_linear() {
        let linear = linear_of_srgb();
        assert_eq!((linear[0], linear[255]), (0.0, 1.0));
        assert!(
            (linear[188] - 0.5029).abs() < 1e-4,
            "the middle grey of sRGB"
        );
        assert!(linear.is_sorted());
    }

    #[test]
    fn every_byte_survives_the_way_there_and_back() {
        let (linear, encoder) = (linear_of_srgb(), SrgbEncoder::get());
        for byte in 0..=255u8 {
            assert_eq!(encoder.byte(linear[usize::from(byte)]), byte);
        }
        assert_eq!((encoder.byte(-1.0), encoder.byte(7.0)), (0, 255));
    }
}
