//! The colour space that a picture says it is in, and the way from there to sRGB.

use std::{fmt, sync::Arc};

use moxcms::{
    CicpColorPrimaries, CicpProfile, ColorProfile, DataColorSpace, Layout, MatrixCoefficients,
    TransferCharacteristics, Transform8BitExecutor, TransformOptions,
};

use super::{ImageFormat, error::ImageError};

/// The largest profiles of printers have two or three megabytes; those of cameras and screens a few kilobytes.
pub(super) const PROFILE_BYTES_MAX: usize = 4 << 20;
/// How many pixels are converted at a time: both sides of it fit a core's nearest cache.
const PIXELS_AT_ONCE: usize = 1024;
/// Steps along each channel at which a conversion is compared with none.
const PROBES: u8 = 5;
/// The two transfer functions of high dynamic range in the table of H.273: PQ and HLG. Squeezed into eight bits by a
/// formula for other light, they would come out wrong.
const HIGH_DYNAMIC_RANGE: [u8; 2] = [16, 18];

/// A colour space that could be read.
pub(super) struct Profile {
    format: ImageFormat,
    space: Box<ColorProfile>,
}

impl Profile {
    /// By an ICC profile.
    ///
    /// # Errors
    /// [`ImageError::Profile`] if it is none, or larger than one is.
    pub(super) fn embedded(format: ImageFormat, icc: &[u8]) -> Result<Self, ImageError> {
        if icc.len() > PROFILE_BYTES_MAX {
            return Err(ImageError::profile(format, "is too large"));
        }
        let space = ColorProfile::new_from_slice(icc)
            .map_err(|_| ImageError::profile(format, "is broken"))?;
        Ok(Self {
            format,
            space: Box::new(space),
        })
    }

    /// By the code points of H.273: primaries, transfer function, matrix, and whether the full range is used.
    ///
    /// # Errors
    /// [`ImageError::Profile`] for what isn't an RGB space of a screen.
    pub(super) fn coded(format: ImageFormat, codes: [u8; 4]) -> Result<Self, ImageError> {
        let [primaries, transfer, matrix, full_range] = codes;
        if HIGH_DYNAMIC_RANGE.contains(&transfer) {
            return Err(ImageError::profile(format, "is of high dynamic range"));
        }
        let unknown = || ImageError::profile(format, "names a colour space that isn't known here");
        let cicp = CicpProfile {
            color_primaries: CicpColorPrimaries::try_from(primaries).map_err(|_| unknown())?,
            transfer_characteristics: TransferCharacteristics::try_from(transfer)
                .map_err(|_| unknown())?,
            matrix_coefficients: MatrixCoefficients::try_from(matrix).map_err(|_| unknown())?,
            full_range: full_range == 1,
        };
        let space = ColorProfile::new_from_cicp(cicp);
        // 0 is RGB itself; the others are for pictures in luma and chroma.
        if matrix != 0 || full_range != 1 || !space.is_matrix_shaper() {
            return Err(unknown());
        }
        Ok(Self {
            format,
            space: Box::new(space),
        })
    }

    /// The way to sRGB for grey or coloured samples, `None` if it would change nothing that can be seen.
    ///
    /// # Errors
    /// [`ImageError::Profile`] if the profile isn't for such samples, or has no way to sRGB.
    pub(super) fn conversion(&self, is_grey: bool) -> Result<Option<Conversion>, ImageError> {
        let refused = |reason| Err(ImageError::profile(self.format, reason));
        let source = match self.space.color_space {
            // Grey samples in an RGB space are the greys of that space: many programs write that.
            DataColorSpace::Rgb => Layout::Rgba,
            DataColorSpace::Gray if is_grey => Layout::Gray,
            DataColorSpace::Cmyk => return refused("is one for printing (CMYK)"),
            _ => return refused("isn't for pixels such as its own"),
        };
        let target = if source == Layout::Gray {
            Layout::Rgb
        } else {
            Layout::Rgba
        };
        let srgb = ColorProfile::new_srgb();
        let options = TransformOptions::default();
        let Ok(transform) = self
            .space
            .create_transform_8bit(source, &srgb, target, options)
        else {
            return refused("can't be applied");
        };
        let conversion = if source == Layout::Gray {
            let greys: Vec<u8> = (0..=u8::MAX).collect();
            let mut colours = vec![0; 3 * greys.len()];
            if transform.transform(&greys, &mut colours).is_err() {
                return refused("can't be applied");
            }
            Conversion::Grey(colours.as_chunks().0.to_vec())
        } else {
            Conversion::Colour(transform)
        };
        let mut probes = probes(is_grey);
        let before = probes.clone();
        if conversion.apply(&mut probes).is_err() {
            return refused("can't be applied");
        }
        let is_needed = probes
            .iter()
            .zip(&before)
            .any(|(after, before)| after.abs_diff(*before) > 1);
        Ok(is_needed.then_some(conversion))
    }
}

/// RGBA pixels over the whole range.
fn probes(is_grey: bool) -> Vec<u8> {
    if is_grey {
        return (0..=u8::MAX)
            .flat_map(|grey| [grey, grey, grey, 255])
            .collect();
    }
    let steps = || (0..PROBES).map(|step| step * (u8::MAX / (PROBES - 1)));
    steps()
        .flat_map(|red| steps().map(move |green| (red, green)))
        .flat_map(|(red, green)| steps().flat_map(move |blue| [red, green, blue, 255]))
        .collect()
}

/// A way from a picture's colour space to sRGB.
pub(super) enum Conversion {
    /// What each grey becomes.
    Grey(Vec<[u8; 3]>),
    Colour(Arc<Transform8BitExecutor>),
}

impl fmt::Debug for Conversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grey(_) => "Grey",
            Self::Colour(_) => "Colour",
        })
    }
}

/// The library declined, which it does for lengths that don't fit.
#[derive(Debug)]
pub(super) struct Inapplicable;

impl Conversion {
    /// Converts RGBA in place; alpha stays.
    pub(super) fn apply(&self, rgba: &mut [u8]) -> Result<(), Inapplicable> {
        match self {
            Self::Grey(colours) => {
                for pixel in rgba.as_chunks_mut::<4>().0 {
                    let [red, green, blue] = colours[usize::from(pixel[0])];
                    *pixel = [red, green, blue, pixel[3]];
                }
            }
            Self::Colour(transform) => {
                let mut converted = [0; 4 * PIXELS_AT_ONCE];
                for pixels in rgba.chunks_mut(4 * PIXELS_AT_ONCE) {
                    let converted = &mut converted[..pixels.len()];
                    transform
                        .transform(pixels, converted)
                        .map_err(|_| Inapplicable)?;
                    let converted = converted.as_chunks::<4>().0;
                    for (pixel, &[red, green, blue, _]) in
                        pixels.as_chunks_mut::<4>().0.iter_mut().zip(converted)
                    {
                        *pixel = [red, green, blue, pixel[3]];
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
