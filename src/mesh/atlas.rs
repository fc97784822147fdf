//! A flat picture of a surface: each triangle gets a place of its own, and each texel that a triangle needs gets a point
//! on the surface, so that colours can be asked for there.

use image::{
    ExtendedColorType, ImageEncoder,
    codecs::png::{CompressionType, FilterType, PngEncoder},
};
use rayon::prelude::*;

use super::{
    MeshError, WriteError,
    normals::vertex_normals,
    surface::Surface,
    texture::TextureMap,
    vector::{self, Vector},
};

mod fill;
mod texels;
mod unwrap;

use texels::{Texel, weights};

/// The least side of a texture, texels.
pub const SIDE_MIN_PX: u32 = 256;
/// The greatest side of a texture, texels: in a viewer's memory it takes 67 MB.
pub const SIDE_MAX_PX: u32 = 4096;

/// A surface laid out in a square of texels.
#[derive(Debug, Clone)]
pub struct Atlas {
    positions: Vec<[f32; 3]>,
    normals: Vec<[f32; 3]>,
    triangles: Vec<[u32; 3]>,
    /// Of each corner of each triangle, in texels from the upper left.
    places: Vec<[[f32; 2]; 3]>,
    side_px: u32,
    texels: Vec<Texel>,
}

impl Atlas {
    /// Cuts a surface into charts, flattens them and packs them into `side_px` × `side_px` texels.
    ///
    /// # Errors
    /// [`MeshError::TextureSide`] unless the side lies in [`SIDE_MIN_PX`]..=[`SIDE_MAX_PX`].
    pub fn of(surface: &Surface, side_px: u32) -> Result<Self, MeshError> {
        if !(SIDE_MIN_PX..=SIDE_MAX_PX).contains(&side_px) {
            return Err(MeshError::TextureSide {
                side_px,
                min: SIDE_MIN_PX,
                max: SIDE_MAX_PX,
            });
        }
        let places = unwrap::places(surface, side_px);
        let texels = texels::needed(&places, side_px);
        Ok(Self {
            positions: surface.positions().to_vec(),
            normals: vertex_normals(surface.positions(), surface.triangles()),
            triangles: surface.triangles().to_vec(),
            places,
            side_px,
            texels,
        })
    }

    /// The point on the surface of each texel that a triangle covers or that filtering looks at beside one; for the
    /// latter, the nearest of a triangle. The order is that of rows from the top.
    #[must_use]
    pub fn points(&self) -> Vec<[f32; 3]> {
        let texels = self.texels.par_iter();
        texels
            .map(|&texel| vector::narrow(self.blend(texel, &self.positions)))
            .collect()
    }

    /// The unit normal of the surface at each of [`Atlas::points`].
    #[must_use]
    pub fn normals(&self) -> Vec<[f32; 3]> {
        let texels = self.texels.par_iter();
        let normal = |&texel| {
            let blended = vector::unit(self.blend(texel, &self.normals));
            vector::narrow(blended.unwrap_or([0.0, 1.0, 0.0]))
        };
        texels.map(normal).collect()
    }

    /// Paints the texels of [`Atlas::points`] with sRGB colours, one for each, fills what lies between the charts, and
    /// encodes the picture.
    ///
    /// # Errors
    /// [`WriteError::TexelColors`] if there are not as many colours as points, [`WriteError::Png`].
    pub fn paint(self, colors: &[[u8; 3]]) -> Result<TextureMap, WriteError> {
        if colors.len() != self.texels.len() {
            return Err(WriteError::TexelColors {
                count: colors.len(),
                texels: self.texels.len(),
            });
        }
        let places = self.texels.iter().map(|texel| texel.place as usize);
        let picture = fill::between(self.side_px as usize, places.zip(colors.iter().copied()));
        let mut png = Vec::new();
        PngEncoder::new_with_quality(&mut png, CompressionType::Fast, FilterType::Adaptive)
            .write_image(
                picture.as_flattened(),
                self.side_px,
                self.side_px,
                ExtendedColorType::Rgb8,
            )?;
        let side = self.side_px as f32;
        let uv = |place: [f32; 2]| place.map(|along| (along / side).clamp(0.0, 1.0));
        Ok(TextureMap {
            uvs: self.places.iter().map(|corners| corners.map(uv)).collect(),
            side_px: self.side_px,
            png: png.into(),
        })
    }

    /// What the corners of a texel's triangle carry, mixed as at the texel's centre.
    fn blend(&self, texel: Texel, values: &[[f32; 3]]) -> Vector {
        let triangle = texel.triangle as usize;
        let weights = weights(texel.center(self.side_px), self.places[triangle]);
        let corners = self.triangles[triangle].into_iter().zip(weights);
        corners.fold([0.0; 3], |sum, (vertex, weight)| {
            let value = vector::wide(values[vertex as usize]);
            vector::add(sum, vector::scale(value, f64::from(weight)))
        })
    }
}

#[cfg(test)]
mod tests;
