//! A picture on a surface and where each corner of each triangle lies in it.

use bytes::Bytes;

use super::MeshError;

/// A square picture and the place of each triangle in it.
#[derive(Debug, Clone, PartialEq)]
pub struct TextureMap {
    /// For each corner of each triangle its place in the picture, 0..=1: `u` to the right, `v` down from the top edge,
    /// as in glTF.
    pub uvs: Vec<[[f32; 2]; 3]>,
    /// Width and height of the picture.
    pub side_px: u32,
    /// The picture, an RGB PNG in sRGB.
    pub png: Bytes,
}

impl TextureMap {
    /// Whether the coordinates are those of so many triangles, and in range.
    pub(super) fn check(&self, triangles: usize) -> Result<(), MeshError> {
        let count = self.uvs.len();
        if count != triangles {
            return Err(MeshError::CornerLength {
                attribute: "texture coordinates",
                count,
                triangles,
            });
        }
        let is_inside = |along: &f32| (0.0..=1.0).contains(along);
        let outside = |uvs: &[[f32; 2]; 3]| !uvs.as_flattened().iter().all(is_inside);
        match self.uvs.iter().position(outside) {
            Some(triangle) => Err(MeshError::TextureCoordinate { triangle }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::fixtures;

    #[test]
    fn a_texture_must_fit_its_mesh() {
        let cube = fixtures::cube();
        let fits = cube.clone().with_texture(fixtures::texture(12));
        assert_eq!(fits.expect("fits").texture(), Some(&fixtures::texture(12)));
        assert_eq!(
            cube.clone().with_texture(fixtures::texture(11)),
            Err(MeshError::CornerLength {
                attribute: "texture coordinates",
                count: 11,
                triangles: 12
            })
        );
        for wrong in [f32::NAN, -0.1, 1.1] {
            let mut texture = fixtures::texture(12);
            texture.uvs[7][2][1] = wrong;
            assert_eq!(
                cube.clone().with_texture(texture),
                Err(MeshError::TextureCoordinate { triangle: 7 })
            );
        }
    }
}
