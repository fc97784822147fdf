//! A bare triangle surface: what extraction yields and clean-up works on, before normals and colours.

use std::ops::Range;

use rayon::prelude::*;

use super::{BoundingBox, MeshError, topology::Topology, vector};

mod retain;

pub(super) use retain::compact;
use retain::retain;

/// Positions that are looked at by one task.
const PART: usize = 1 << 13;

/// Positions and triangles without attributes.
///
/// A value of this type has at least one triangle, finite positions, indices in range and a positive extent.
#[derive(Debug, Clone)]
pub struct Surface {
    positions: Vec<[f32; 3]>,
    triangles: Vec<[u32; 3]>,
    /// Whether it is known that its triangles hang together without a fault, by how they came about.
    is_faultless: bool,
}

impl PartialEq for Surface {
    /// The same triangles; how much is known of them makes no difference.
    fn eq(&self, other: &Self) -> bool {
        (&self.positions, &self.triangles) == (&other.positions, &other.triangles)
    }
}

impl Surface {
    /// Checks and joins positions and triangles (counter-clockwise from outside).
    ///
    /// # Errors
    /// [`MeshError::Empty`] without triangles, [`MeshError::NonFiniteVertex`], [`MeshError::IndexOutOfRange`], and
    /// [`MeshError::NoExtent`] if all positions are the same.
    pub fn new(positions: Vec<[f32; 3]>, triangles: Vec<[u32; 3]>) -> Result<Self, MeshError> {
        check(&positions, &triangles)?;
        Ok(Self {
            positions,
            triangles,
            is_faultless: false,
        })
    }

    /// The same, known to be closed, wound alike and two-manifold.
    pub(super) fn known_faultless(self) -> Self {
        Self {
            is_faultless: true,
            ..self
        }
    }

    /// Its triangles in `kept`, ascending ranges of them that make up whole components; one with an extent must be among them.
    pub(super) fn with_components(mut self, kept: &[Range<usize>]) -> Self {
        retain(&mut self.positions, &mut self.triangles, kept);
        debug_assert!(
            check(&self.positions, &self.triangles).is_ok(),
            "it was checked"
        );
        self
    }

    /// How its triangles hang together.
    #[must_use]
    pub fn topology(&self) -> Topology {
        let (vertices, triangles) = (self.positions.len(), &self.triangles);
        if !self.is_faultless {
            return Topology::of(vertices, triangles);
        }
        let topology = Topology::faultless(vertices, triangles);
        debug_assert_eq!(topology, Topology::of(vertices, triangles));
        topology
    }

    /// One point for each vertex: where colours are to be sampled.
    #[must_use]
    pub fn positions(&self) -> &[[f32; 3]] {
        &self.positions
    }

    /// Three vertex indices for each triangle.
    #[must_use]
    pub fn triangles(&self) -> &[[u32; 3]] {
        &self.triangles
    }

    /// Positions and triangles.
    #[must_use]
    pub fn into_parts(self) -> (Vec<[f32; 3]>, Vec<[u32; 3]>) {
        (self.positions, self.triangles)
    }

    /// The box around the positions.
    #[must_use]
    pub fn bounding_box(&self) -> BoundingBox {
        let parts = self.positions.par_chunks(PART).map(BoundingBox::around);
        let corners: Vec<_> = parts.map(|BoundingBox { min, max }| [min, max]).collect();
        BoundingBox::around(corners.as_flattened())
    }
}

/// What holds for the positions and triangles of every surface and mesh.
fn check(positions: &[[f32; 3]], triangles: &[[u32; 3]]) -> Result<(), MeshError> {
    if triangles.is_empty() {
        return Err(MeshError::Empty);
    }
    // Whether there is a fault is told without stopping at each number, which is done many at a time.
    let coordinates = positions.as_flattened().iter();
    if coordinates.fold(false, |fault, along| fault | !along.is_finite())
        && let Some(vertex) = positions
            .iter()
            .position(|position| !vector::is_finite(*position))
    {
        return Err(MeshError::NonFiniteVertex {
            attribute: "position",
            vertex,
        });
    }
    let vertices = positions.len();
    let named = triangles.as_flattened().iter();
    if named.fold(0, |greatest, &vertex| greatest.max(vertex)) as usize >= vertices {
        return Err(out_of_range(triangles, vertices));
    }
    if BoundingBox::around(positions).longest_side() > 0.0 {
        Ok(())
    } else {
        Err(MeshError::NoExtent)
    }
}

/// The first triangle that names a vertex out of range, one of which there must be.
fn out_of_range(triangles: &[[u32; 3]], vertices: usize) -> MeshError {
    let corner = triangles
        .as_flattened()
        .iter()
        .position(|&vertex| vertex as usize >= vertices)
        .expect("one is out of range");
    MeshError::IndexOutOfRange {
        triangle: corner / 3,
        vertex: triangles.as_flattened()[corner],
        vertices,
    }
}
