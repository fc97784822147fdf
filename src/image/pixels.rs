//! Decoded pixels.

/// From this alpha on a pixel counts as opaque: lossy alpha and rounding leave a little under 255.
const OPAQUE_FROM: u8 = 250;
/// The share of pixels that must let something through before a picture counts as cut out. Rounded corners of
/// screenshots stay below it, the free corners around any object stay above.
const TRANSPARENT_SHARE_MIN: f64 = 0.005;

/// A decoded picture: 8-bit sRGB with straight (not premultiplied) alpha, upright.
#[derive(Clone, PartialEq, Eq)]
pub struct Pixels {
    width: u32,
    height: u32,
    rgba: Vec<u8>,
}

impl Pixels {
    /// Takes `rgba` as rows from the top of `width` pixels of four bytes; `None` if its length isn't
    /// `width · height · 4` or a side is zero.
    #[must_use]
    pub fn new(width: u32, height: u32, rgba: Vec<u8>) -> Option<Self> {
        let bytes = u64::from(width) * u64::from(height) * 4;
        (bytes > 0 && rgba.len() as u64 == bytes).then_some(Self {
            width,
            height,
            rgba,
        })
    }

    /// In pixels, at least 1.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// In pixels, at least 1.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Rows from the top, four bytes a pixel.
    #[must_use]
    pub fn rgba(&self) -> &[u8] {
        &self.rgba
    }

    /// The rows alone.
    #[must_use]
    pub fn into_rgba(self) -> Vec<u8> {
        self.rgba
    }

    /// The pixels one by one, in rows from the top.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = [u8; 4]> {
        self.rgba.as_chunks::<4>().0.iter().copied()
    }

    /// Whether a meaningful share of the pixels lets something through, so that the alpha tells the object from
    /// its background.
    #[must_use]
    pub fn has_transparency(&self) -> bool {
        let transparent = self.iter().filter(|pixel| pixel[3] < OPAQUE_FROM).count();
        transparent as f64 >= TRANSPARENT_SHARE_MIN * self.iter().len() as f64
    }
}

impl std::fmt::Debug for Pixels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pixels")
            .field("width", &self.width)
            .field("height", &self.height)
            .finish_non_exhaustive()
    }
}
