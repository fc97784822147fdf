//! From an implicit field to the bytes of a mesh file: sampling, extraction, clean-up, placement, reports, writers; and how near one mesh comes to another. Pure.
//!
//! Frame of every mesh unless [`placement`] says otherwise: +Y up, the camera of the picture on +Z, triangles
//! counter-clockwise seen from outside.

use std::{error, io};

pub mod atlas;
pub mod clean;
mod color;
pub mod compare;
mod corners;
pub mod field;
pub mod glb;
pub mod intersections;
mod lattice;
mod marching_cubes;
pub mod normals;
pub mod obj;
mod overhang;
mod parts;
pub mod placement;
pub mod ply;
pub mod preview;
pub mod quality;
pub mod sight;
pub mod simplify;
pub mod stl;
pub mod surface;
pub mod texture;
pub mod three_mf;
pub mod topology;
mod triangle_grid;
mod vector;
mod wall;
mod webp;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

/// Why a mesh could not be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MeshError {
    /// The field has no surface, or a mesh has no triangle.
    #[error("the field has no surface")]
    Empty,
    /// The field's value at the `index`-th point asked for is not a number or infinite.
    #[error("the field's value at point {index} is not finite")]
    NonFinite {
        /// Counts every point asked for since the start, in order.
        index: usize,
    },
    /// The surface needs more samples or triangles than are allowed at any resolution.
    #[error("the surface needs {needed} {what}, at most {allowed} are allowed")]
    TooComplex {
        /// `samples` or `triangles`.
        what: &'static str,
        /// How many it needs at least.
        needed: usize,
        /// How many are allowed.
        allowed: usize,
    },
    /// Field samples along an axis outside the range of [`field::Resolution`].
    #[error("a resolution of {samples} samples lies outside {min}..={max}")]
    Resolution {
        /// As asked for.
        samples: u32,
        /// The least allowed.
        min: u32,
        /// The most allowed.
        max: u32,
    },
    /// There must be as many normals and colours as positions.
    #[error("there are {count} {attribute} for {vertices} vertices")]
    AttributeLength {
        /// `normals` or `colors`.
        attribute: &'static str,
        /// How many there are.
        count: usize,
        /// How many there should be.
        vertices: usize,
    },
    /// A vertex has a coordinate that is not a number or infinite.
    #[error("vertex {vertex} has a {attribute} that is not finite")]
    NonFiniteVertex {
        /// `position` or `normal`.
        attribute: &'static str,
        /// Its index.
        vertex: usize,
    },
    /// A triangle names a vertex that there is not.
    #[error("triangle {triangle} names vertex {vertex} of {vertices}")]
    IndexOutOfRange {
        /// The triangle's index.
        triangle: usize,
        /// The vertex it names.
        vertex: u32,
        /// How many vertices there are.
        vertices: usize,
    },
    /// There must be three texture coordinates for each triangle.
    #[error("there are {count} {attribute} for {triangles} triangles")]
    CornerLength {
        /// `texture coordinates`.
        attribute: &'static str,
        /// How many triples there are.
        count: usize,
        /// How many there should be.
        triangles: usize,
    },
    /// A corner of a triangle lies outside the texture, or nowhere.
    #[error("triangle {triangle} has a texture coordinate outside 0..=1")]
    TextureCoordinate {
        /// The triangle's index.
        triangle: usize,
    },
    /// The side of a texture lies outside the range of [`atlas::Atlas`].
    #[error("a texture of {side_px} texels lies outside {min}..={max}")]
    TextureSide {
        /// As asked for.
        side_px: u32,
        /// The least allowed.
        min: u32,
        /// The most allowed.
        max: u32,
    },
    /// All vertices lie in one point, so that the mesh has no size to scale.
    #[error("all vertices lie in one point")]
    NoExtent,
}

/// Why a mesh could not be written in a format.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The document's JSON could not be made.
    #[error("could not write the glTF document")]
    Json(#[from] serde_json::Error),
    /// The mesh is too large for the format, which counts in 32 bits.
    #[error("{bytes} bytes are too many for a {format} file")]
    TooLarge {
        /// The format's name.
        format: &'static str,
        /// How many bytes the file would have.
        bytes: u64,
    },
    /// A writer over memory failed.
    #[error("could not write the {format} file")]
    Io {
        /// The format's name.
        format: &'static str,
        /// What failed.
        source: io::Error,
    },
    /// The 3MF package could not be put together or compressed; each step of that has a kind of error of its own.
    #[error("could not write the 3MF package")]
    ThreeMf(#[source] Box<dyn error::Error + Send + Sync>),
    /// The preview or the texture could not be encoded.
    #[error("could not encode the picture")]
    Png(#[from] image::ImageError),
    /// The turntable or the sketch could not be encoded.
    #[error("could not encode {0} as WebP")]
    WebP(&'static str),
    /// A texture needs a colour for each of its texels.
    #[error("there are {count} colours for {texels} texels")]
    TexelColors {
        /// How many there are.
        count: usize,
        /// How many there should be.
        texels: usize,
    },
    /// The archive around an OBJ and its material could not be put together.
    #[error("could not write the archive")]
    Zip(#[from] zip::result::ZipError),
}

/// An axis-aligned box, in the units of the mesh it was taken from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoundingBox {
    /// The least coordinate along x, y and z.
    pub min: [f32; 3],
    /// The greatest coordinate along x, y and z.
    pub max: [f32; 3],
}

impl BoundingBox {
    /// The box around `positions`; a point at the origin when there are none.
    #[must_use]
    pub fn around(positions: &[[f32; 3]]) -> Self {
        let Some(&first) = positions.first() else {
            return Self {
                min: [0.0; 3],
                max: [0.0; 3],
            };
        };
        let mut bounds = Self {
            min: first,
            max: first,
        };
        // Four at a time, which are three whole registers.
        let (fours, rest) = positions.as_chunks::<4>();
        let mut least = [first; 4];
        let mut greatest = [first; 4];
        for four in fours {
            let (least, greatest) = (least.as_flattened_mut(), greatest.as_flattened_mut());
            for (index, &along) in four.as_flattened().iter().enumerate() {
                least[index] = if along < least[index] {
                    along
                } else {
                    least[index]
                };
                greatest[index] = if along > greatest[index] {
                    along
                } else {
                    greatest[index]
                };
            }
        }
        for position in least.iter().chain(&greatest).chain(rest) {
            for (axis, &coordinate) in position.iter().enumerate() {
                bounds.min[axis] = bounds.min[axis].min(coordinate);
                bounds.max[axis] = bounds.max[axis].max(coordinate);
            }
        }
        bounds
    }

    /// Lengths along x, y and z.
    #[must_use]
    pub fn size(&self) -> [f64; 3] {
        vector::sub(vector::wide(self.max), vector::wide(self.min))
    }

    /// The length of the longest side.
    #[must_use]
    pub fn longest_side(&self) -> f64 {
        self.size().into_iter().fold(0.0, f64::max)
    }

    /// The middle of the box.
    #[must_use]
    pub fn center(&self) -> [f64; 3] {
        vector::scale(
            vector::add(vector::wide(self.max), vector::wide(self.min)),
            0.5,
        )
    }
}

/// A triangle mesh with a normal and perhaps a colour at each vertex, and perhaps a texture and normals of their own at
/// each corner of each triangle.
///
/// Vertices are welded, whatever their corners carry: where corners differ, writers split the vertex. A value of this type
/// has at least one triangle, finite coordinates, indices in range, one normal (and one colour) for each position, three
/// corners for each triangle, and a positive extent.
#[derive(Debug, Clone, PartialEq)]
pub struct Mesh {
    positions: Vec<[f32; 3]>,
    normals: Vec<[f32; 3]>,
    colors: Option<Vec<[u8; 3]>>,
    triangles: Vec<[u32; 3]>,
    texture: Option<texture::TextureMap>,
    corner_normals: Option<Vec<[[f32; 3]; 3]>>,
}

impl Mesh {
    /// Checks and joins the parts of a mesh. Colours are sRGB.
    ///
    /// # Errors
    /// [`MeshError::Empty`] without triangles, [`MeshError::AttributeLength`] if the lengths differ,
    /// [`MeshError::NonFiniteVertex`], [`MeshError::IndexOutOfRange`], and [`MeshError::NoExtent`] if all positions
    /// are the same.
    pub fn new(
        positions: Vec<[f32; 3]>,
        normals: Vec<[f32; 3]>,
        colors: Option<Vec<[u8; 3]>>,
        triangles: Vec<[u32; 3]>,
    ) -> Result<Self, MeshError> {
        let surface = surface::Surface::new(positions, triangles)?;
        let mesh = Self::with_normals(surface, normals, colors)?;
        let mut normals = mesh.normals.iter();
        match normals.position(|normal| !vector::is_finite(*normal)) {
            None => Ok(mesh),
            Some(vertex) => Err(MeshError::NonFiniteVertex {
                attribute: "normal",
                vertex,
            }),
        }
    }

    /// A mesh from a surface, with normals of its own making. `colors` are sRGB, one for each position.
    ///
    /// # Errors
    /// [`MeshError::AttributeLength`] if there are not as many colours as positions.
    pub fn from_surface(
        surface: surface::Surface,
        colors: Option<Vec<[u8; 3]>>,
    ) -> Result<Self, MeshError> {
        let normals = normals::vertex_normals(surface.positions(), surface.triangles());
        Self::with_normals(surface, normals, colors)
    }

    /// A mesh from a surface and what [`normals::vertex_normals`] gave for it. `colors` are sRGB, one for each position.
    ///
    /// # Errors
    /// [`MeshError::AttributeLength`] if there are not as many as positions.
    pub(crate) fn with_normals(
        surface: surface::Surface,
        normals: Vec<[f32; 3]>,
        colors: Option<Vec<[u8; 3]>>,
    ) -> Result<Self, MeshError> {
        let (positions, triangles) = surface.into_parts();
        check_length("normals", normals.len(), positions.len())?;
        if let Some(colors) = &colors {
            check_length("colors", colors.len(), positions.len())?;
        }
        // A surface has been checked.
        Ok(Self {
            positions,
            normals,
            colors,
            triangles,
            texture: None,
            corner_normals: None,
        })
    }

    /// One point for each vertex.
    #[must_use]
    pub fn positions(&self) -> &[[f32; 3]] {
        &self.positions
    }

    /// One unit vector for each vertex, pointing outward.
    #[must_use]
    pub fn normals(&self) -> &[[f32; 3]] {
        &self.normals
    }

    /// One sRGB colour for each vertex, if the mesh has colours.
    #[must_use]
    pub fn colors(&self) -> Option<&[[u8; 3]]> {
        self.colors.as_deref()
    }

    /// Three vertex indices for each triangle, counter-clockwise from outside.
    #[must_use]
    pub fn triangles(&self) -> &[[u32; 3]] {
        &self.triangles
    }

    /// The picture on the surface, if there is one.
    #[must_use]
    pub fn texture(&self) -> Option<&texture::TextureMap> {
        self.texture.as_ref()
    }

    /// A unit normal for each corner of each triangle, if the mesh has creases. Elsewhere [`Mesh::normals`] are meant.
    #[must_use]
    pub fn corner_normals(&self) -> Option<&[[[f32; 3]; 3]]> {
        self.corner_normals.as_deref()
    }

    /// The mesh with a texture, in place of what it had.
    ///
    /// # Errors
    /// [`MeshError::CornerLength`] unless there is one triple of coordinates for each triangle, and
    /// [`MeshError::TextureCoordinate`] if one lies outside 0..=1.
    pub fn with_texture(mut self, texture: texture::TextureMap) -> Result<Self, MeshError> {
        texture.check(self.triangles.len())?;
        self.texture = Some(texture);
        Ok(self)
    }

    /// The mesh with its edges sharp where its faces meet at more than `angle_deg` degrees
    /// (see [`normals::crease_normals`]).
    #[must_use]
    pub fn with_creases(mut self, angle_deg: f32) -> Self {
        self.corner_normals = normals::crease_normals(&self.positions, &self.triangles, angle_deg);
        self
    }

    /// The box around the positions.
    #[must_use]
    pub fn bounding_box(&self) -> BoundingBox {
        BoundingBox::around(&self.positions)
    }
}

fn check_length(attribute: &'static str, count: usize, vertices: usize) -> Result<(), MeshError> {
    if count == vertices {
        Ok(())
    } else {
        Err(MeshError::AttributeLength {
            attribute,
            count,
            vertices,
        })
    }
}
