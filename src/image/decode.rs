//! Checked bytes become upright 8-bit sRGB with alpha, of a bounded size.
//!
//! The codecs meet hostile bytes here, so a server calls this through [`crate::decoder`] alone.

use std::{borrow::Cow, io::Cursor};

use ::image::{
    ColorType, DynamicImage, ImageDecoder, ImageError as CodecError, Limits, RgbaImage,
    codecs::{jpeg::JpegDecoder, png::PngDecoder, webp::WebPDecoder},
    error::LimitErrorKind,
    metadata::Orientation,
};
use fast_image_resize::{
    FilterType, MulDiv, PixelType, ResizeAlg, ResizeOptions, Resizer, images::Image,
};

use super::{ImageFormat, InputImage, error::ImageError, pixels::Pixels, png, profile::Conversion};

/// What the codecs may allocate for themselves per pixel, beside the picture: the largest need is a
/// progressive JPEG's coefficients, two bytes for each of four channels.
const CODEC_BYTES_PER_PIXEL: u64 = 8;
/// What they may allocate for a picture of any size (tables, windows, rows).
const CODEC_BYTES_BASE: u64 = 16 << 20;
/// Codecs describe damage in a sentence; nobody needs more of it.
const REASON_CHARACTERS_MAX: usize = 160;

/// Decodes everything and throws the pixels away.
///
/// # Errors
/// [`ImageError::Damaged`], [`ImageError::Feature`], [`ImageError::Profile`] or [`ImageError::TooMuchMemory`].
pub fn check(image: &InputImage) -> Result<(), ImageError> {
    Raster::decode(image).map(drop)
}

/// Decodes, scales down so that no side exceeds `side_max` (at least 1), converts to sRGB, and turns the picture upright.
///
/// # Errors
/// As [`check`].
pub fn decode(image: &InputImage, side_max: u32) -> Result<Pixels, ImageError> {
    let mut raster = Raster::decode(image)?.fit(side_max.max(1))?;
    let orientation = raster.orientation;
    let (width, height) = (raster.width, raster.height);
    let conversion = raster.conversion.take();
    let mut rgba = raster.into_rgba();
    if let Some(conversion) = conversion {
        conversion
            .apply(&mut rgba)
            .map_err(|_| ImageError::profile(image.format(), "can't be applied"))?;
    }
    let rgba =
        RgbaImage::from_raw(width, height, rgba).expect("four bytes were made for each pixel");
    let mut upright = DynamicImage::ImageRgba8(rgba);
    upright.apply_orientation(orientation);
    let rgba = upright.into_rgba8();
    let (width, height) = rgba.dimensions();
    Ok(Pixels::new(width, height, rgba.into_raw()).expect("turning keeps the number of pixels"))
}

/// What a codec yields, at eight bits a channel.
struct Raster {
    width: u32,
    height: u32,
    /// Grey, grey with alpha, RGB or RGBA by their number: 1, 2, 3, 4.
    channels: usize,
    samples: Vec<u8>,
    orientation: Orientation,
    /// To sRGB, where that is another colour space.
    conversion: Option<Conversion>,
}

impl Raster {
    fn decode(image: &InputImage) -> Result<Self, ImageError> {
        let format = image.format();
        let profile = image.profile()?;
        let pixels = u64::from(image.width()) * u64::from(image.height());
        let mut limits = Limits::default();
        limits.max_image_width = Some(image.width());
        limits.max_image_height = Some(image.height());
        limits.max_alloc = Some(pixels * CODEC_BYTES_PER_PIXEL + CODEC_BYTES_BASE);
        // Codecs see what pixels and orientation depend on, and nothing else of the file.
        let mut raster = match format {
            ImageFormat::Png => PngDecoder::with_limits(
                Cursor::new(png::for_decoder(image.bytes())),
                limits.clone(),
            )
            .and_then(|codec| Self::read(codec, limits)),
            ImageFormat::Jpeg => JpegDecoder::new(Cursor::new(image.essential().bytes()))
                .and_then(|codec| Self::read(codec, limits)),
            ImageFormat::WebP => WebPDecoder::new(Cursor::new(image.essential().bytes()))
                .and_then(|codec| Self::read(codec, limits)),
        }
        .map_err(|error| refusal(format, &error))?;
        if (raster.width, raster.height) != (image.width(), image.height()) {
            return Err(ImageError::damaged(
                format,
                "its headers disagree about its size",
            ));
        }
        if let Some(profile) = profile {
            raster.conversion = profile.conversion(raster.channels <= 2)?;
        }
        Ok(raster)
    }

    fn read(mut codec: impl ImageDecoder, limits: Limits) -> Result<Self, CodecError> {
        codec.set_limits(limits)?;
        // A picture with broken EXIF data is still a picture.
        let orientation = codec.orientation().unwrap_or(Orientation::NoTransforms);
        let (width, height) = codec.dimensions();
        let (channels, sample_bytes) = match codec.color_type() {
            ColorType::L8 => (1, 1),
            ColorType::La8 => (2, 1),
            ColorType::Rgb8 => (3, 1),
            ColorType::Rgba8 => (4, 1),
            ColorType::L16 => (1, 2),
            ColorType::La16 => (2, 2),
            ColorType::Rgb16 => (3, 2),
            ColorType::Rgba16 => (4, 2),
            other => unreachable!("PNG, JPEG and WebP have no {other:?}"),
        };
        let too_large = || {
            CodecError::Limits(::image::error::LimitError::from_kind(
                LimitErrorKind::InsufficientMemory,
            ))
        };
        let bytes = usize::try_from(codec.total_bytes()).map_err(|_| too_large())?;
        let mut samples = Vec::new();
        samples.try_reserve_exact(bytes).map_err(|_| too_large())?;
        samples.resize(bytes, 0);
        codec.read_image(&mut samples)?;
        if sample_bytes == 2 {
            narrow(&mut samples);
        }
        Ok(Self {
            width,
            height,
            channels,
            samples,
            orientation,
            conversion: None,
        })
    }

    /// Scales down if a side exceeds `side_max`, before any channel is added: a quarter of the memory and time
    /// for grey pictures.
    fn fit(mut self, side_max: u32) -> Result<Self, ImageError> {
        let longest = self.width.max(self.height);
        if longest <= side_max {
            return Ok(self);
        }
        let scaled = |side: u32| {
            let side = u64::from(side) * u64::from(side_max) + u64::from(longest) / 2;
            u32::try_from(side / u64::from(longest))
                .expect("it is at most `side_max`")
                .max(1)
        };
        let (width, height) = (scaled(self.width), scaled(self.height));
        let (kind, has_alpha) = match self.channels {
            1 => (PixelType::U8, false),
            2 => (PixelType::U8x2, true),
            3 => (PixelType::U8x3, false),
            _ => (PixelType::U8x4, true),
        };
        let alpha = MulDiv::new();
        let mut source = Image::from_slice_u8(self.width, self.height, &mut self.samples, kind)
            .expect("the samples fit the sides");
        let mut target = Image::new(width, height, kind);
        // Hidden colours must not bleed over the edge of the alpha. In place: a copy of the source would double
        // the memory.
        if has_alpha {
            alpha
                .multiply_alpha_inplace(&mut source)
                .expect("the kind has alpha");
        }
        // The Hamming kernel is sharp for its support of one pixel and never negative: no halo in the alpha.
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::Hamming))
            .use_alpha(false);
        Resizer::new()
            .resize(&source, &mut target, &options)
            .expect("both images are of one kind");
        if has_alpha {
            alpha
                .divide_alpha_inplace(&mut target)
                .expect("the kind has alpha");
        }
        Ok(Self {
            width,
            height,
            samples: target.into_vec(),
            ..self
        })
    }

    fn into_rgba(self) -> Vec<u8> {
        match self.channels {
            1 => self
                .samples
                .iter()
                .flat_map(|&grey| [grey, grey, grey, u8::MAX])
                .collect(),
            2 => self
                .samples
                .as_chunks()
                .0
                .iter()
                .flat_map(|&[grey, alpha]| [grey, grey, grey, alpha])
                .collect(),
            3 => self
                .samples
                .as_chunks()
                .0
                .iter()
                .flat_map(|&[r, g, b]| [r, g, b, u8::MAX])
                .collect(),
            _ => self.samples,
        }
    }
}

/// Sixteen bits a sample (native order) to eight, rounded, in place.
fn narrow(samples: &mut Vec<u8>) {
    let count = samples.len() / 2;
    for index in 0..count {
        let wide = u16::from_ne_bytes([samples[2 * index], samples[2 * index + 1]]);
        // 65535 = 255 · 257, so this is exact division with rounding.
        samples[index] = u8::try_from((u32::from(wide) + 128) / 257).expect("65663 / 257 is 255");
    }
    samples.truncate(count);
    samples.shrink_to_fit();
}

fn refusal(format: ImageFormat, error: &CodecError) -> ImageError {
    match error {
        CodecError::Limits(limit) => match limit.kind() {
            LimitErrorKind::DimensionError => {
                ImageError::damaged(format, "its headers disagree about its size")
            }
            _ => ImageError::TooMuchMemory,
        },
        CodecError::Unsupported(_) => ImageError::Feature {
            format,
            feature: reason(error),
        },
        _ => ImageError::Damaged {
            format,
            reason: reason(error),
        },
    }
}

/// A codec's own words, on one line.
fn reason(error: &CodecError) -> Cow<'static, str> {
    let text = match error {
        // The outer sentence only repeats which format it is.
        CodecError::Decoding(decoding) => match std::error::Error::source(decoding) {
            Some(source) => source.to_string(),
            None => decoding.to_string(),
        },
        other => other.to_string(),
    };
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars()
        .filter(|character| !character.is_control())
        .take(REASON_CHARACTERS_MAX)
        .collect::<String>()
        .into()
}

#[cfg(test)]
mod tests;
