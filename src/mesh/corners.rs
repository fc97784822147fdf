//! The corners of triangles as formats want them that know vertices alone: one for each different set of attributes.

use super::Mesh;

/// A vertex as a file has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Corner {
    /// The mesh's vertex that it is a copy of: its position and colour.
    pub(super) vertex: u32,
    pub(super) normal: [f32; 3],
    /// Place in the texture; zero where there is none.
    pub(super) uv: [f32; 2],
}

/// The different corners of a mesh, and its triangles over them.
pub(super) enum Corners<'a> {
    /// They are the mesh's vertices, each once and in their order.
    Vertices(&'a Mesh),
    Split {
        corners: Vec<Corner>,
        triangles: Vec<[u32; 3]>,
    },
}

impl<'a> Corners<'a> {
    /// Splits vertices where the corners around them differ in normal or place in the texture, and only there: a mesh
    /// without creases and texture keeps its vertices in their order.
    pub(super) fn of(mesh: &'a Mesh) -> Self {
        let (normals, texture) = (mesh.corner_normals(), mesh.texture());
        if normals.is_none() && texture.is_none() {
            return Self::Vertices(mesh);
        }
        let mut split = Split::over(mesh.positions().len());
        let numbered = mesh.triangles().iter().enumerate();
        let triangles = numbered.map(|(triangle, vertices)| {
            std::array::from_fn(|at| {
                let vertex = vertices[at];
                split.index_of(Corner {
                    vertex,
                    normal: match normals {
                        Some(normals) => normals[triangle][at],
                        None => mesh.normals()[vertex as usize],
                    },
                    uv: texture.map_or([0.0; 2], |texture| texture.uvs[triangle][at]),
                })
            })
        });
        let triangles = triangles.collect();
        Self::Split {
            corners: split.corners,
            triangles,
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Vertices(mesh) => mesh.positions().len(),
            Self::Split { corners, .. } => corners.len(),
        }
    }

    /// The triangles over them.
    pub(super) fn triangles(&self) -> &[[u32; 3]] {
        match self {
            Self::Vertices(mesh) => mesh.triangles(),
            Self::Split { triangles, .. } => triangles,
        }
    }

    /// The corners themselves, if they are not just the mesh's vertices.
    pub(super) fn split(&self) -> Option<&[Corner]> {
        match self {
            Self::Vertices(_) => None,
            Self::Split { corners, .. } => Some(corners),
        }
    }
}

/// The corners found so far, those of each vertex in a chain.
struct Split {
    corners: Vec<Corner>,
    first: Vec<u32>,
    next: Vec<u32>,
}

/// The end of a chain.
const NONE: u32 = u32::MAX;

impl Split {
    fn over(vertices: usize) -> Self {
        Self {
            corners: Vec::with_capacity(vertices),
            first: vec![NONE; vertices],
            next: Vec::with_capacity(vertices),
        }
    }

    fn index_of(&mut self, corner: Corner) -> u32 {
        let mut at = self.first[corner.vertex as usize];
        while at != NONE {
            if self.corners[at as usize] == corner {
                return at;
            }
            at = self.next[at as usize];
        }
        let index = self.corners.len() as u32;
        self.corners.push(corner);
        self.next.push(self.first[corner.vertex as usize]);
        self.first[corner.vertex as usize] = index;
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{fixtures, normals::CREASE_DEG};

    #[test]
    fn vertices_are_split_only_where_their_corners_differ() {
        let cube = fixtures::cube();
        let smooth = Corners::of(&cube);
        assert_eq!(smooth.triangles(), cube.triangles());
        assert_eq!((smooth.len(), smooth.split()), (8, None));
        let creased = cube.with_creases(CREASE_DEG);
        assert_eq!(Corners::of(&creased).len(), 24);
        let textured = creased.with_texture(fixtures::texture(12)).expect("fits");
        let corners = Corners::of(&textured);
        let split = corners.split().expect("they differ");
        assert_eq!(split.len(), 36);
        for (triangle, welded) in corners.triangles().iter().zip(textured.triangles()) {
            assert_eq!(
                triangle.map(|corner| split[corner as usize].vertex),
                *welded
            );
        }
    }
}
