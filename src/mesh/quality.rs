//! What a mesh says of itself: closedness, parts, measures, and warnings in plain words.

use super::{BoundingBox, Mesh, topology::Topology, vector};

/// The report on one mesh. Lengths are in the mesh's own unit: metres for a mesh placed in a scene.
#[derive(Debug, Clone, PartialEq)]
pub struct Quality {
    /// No open edge, and all triangles face the same way.
    pub watertight: bool,
    /// At most two triangles at each edge, one fan of triangles at each vertex.
    pub manifold: bool,
    /// Pieces that are not joined by any edge. A hollow is one.
    pub components: usize,
    /// Enclosed volume, the cube of the unit; negative if the mesh is inside out.
    pub volume: f64,
    /// Sum of the triangles' areas, the square of the unit.
    pub surface_area: f64,
    /// The box around it.
    pub bounding_box: BoundingBox,
    /// How many vertices.
    pub vertices: usize,
    /// How many triangles.
    pub triangles: usize,
    /// What a person should know before using the mesh; empty if all is well.
    pub warnings: Vec<String>,
}

/// A side shorter than this share of the longest one makes a mesh flat: a card rather than a body.
const FLAT_SHARE: f64 = 0.02;

/// Measures a mesh.
#[must_use]
pub fn assess(mesh: &Mesh) -> Quality {
    assess_as(
        mesh,
        &Topology::of(mesh.positions().len(), mesh.triangles()),
    )
}

/// Measures a mesh of which is known how its triangles hang together.
#[must_use]
pub fn assess_as(mesh: &Mesh, topology: &Topology) -> Quality {
    let (mut volume, mut surface_area) = (0.0, 0.0);
    // Tetrahedra over the middle of the mesh: over a far origin their volumes would cancel out badly.
    let center = mesh.bounding_box().center();
    for &triangle in mesh.triangles() {
        let corners = vector::corners(mesh.positions(), triangle);
        surface_area += vector::length(vector::twice_area(corners)) / 2.0;
        let [a, b, c] = corners.map(|corner| vector::sub(corner, center));
        volume += vector::dot(a, vector::cross(b, c)) / 6.0;
    }
    let mut quality = Quality {
        watertight: topology.is_watertight(),
        manifold: topology.is_manifold(),
        components: topology.components,
        volume,
        surface_area,
        bounding_box: mesh.bounding_box(),
        vertices: mesh.positions().len(),
        triangles: mesh.triangles().len(),
        warnings: Vec::new(),
    };
    quality.warnings = warnings(&quality, topology);
    quality
}

fn warnings(quality: &Quality, topology: &Topology) -> Vec<String> {
    let mut warnings = Vec::new();
    if topology.open_edges > 0 {
        warnings.push(format!(
            "The mesh is not closed: {} edges have a triangle on one side only.",
            topology.open_edges
        ));
    }
    if topology.misoriented_edges > 0 {
        warnings.push(format!(
            "Some triangles face the wrong way: {} edges have both their triangles running along them alike.",
            topology.misoriented_edges
        ));
    }
    if topology.crowded_edges > 0 {
        warnings.push(format!(
            "More than two triangles meet in {} edges.",
            topology.crowded_edges
        ));
    }
    if topology.pinched_vertices > 0 {
        warnings.push(format!(
            "Parts of the surface touch in single points, {} of them.",
            topology.pinched_vertices
        ));
    }
    if topology.collapsed_triangles > 0 {
        warnings.push(format!(
            "{} triangles have no area.",
            topology.collapsed_triangles
        ));
    }
    if topology.folded_edges > 0 {
        warnings.push(format!(
            "Triangles lie back to back along {} edges.",
            topology.folded_edges
        ));
    }
    if quality.watertight && quality.volume <= 0.0 {
        warnings.push("The mesh is inside out: its triangles face inward.".to_owned());
    }
    if quality.components > 1 {
        warnings.push(format!(
            "The mesh has {} separate parts.",
            quality.components
        ));
    }
    let size = quality.bounding_box.size();
    let shortest = size.into_iter().fold(f64::INFINITY, f64::min);
    if shortest < FLAT_SHARE * quality.bounding_box.longest_side() {
        warnings.push(
            "The mesh is nearly flat: one of its sides is under a fiftieth of the longest."
                .to_owned(),
        );
    }
    warnings
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use super::*;
    use crate::mesh::fixtures;

    fn assert_near(value: f64, expected: f64, share: f64) {
        assert!(
            (value / expected - 1.0).abs() < share,
            "{value}, expected {expected}"
        );
    }

    #[test]
    fn a_cube_has_its_measures() {
        let quality = assess(&fixtures::cube());
        assert_near(quality.volume, 1.0, 1e-12);
        assert_near(quality.surface_area, 6.0, 1e-12);
        assert_eq!(
            (quality.vertices, quality.triangles, quality.components),
            (8, 12, 1)
        );
        assert!(quality.watertight && quality.manifold);
        assert!(quality.warnings.is_empty(), "{:?}", quality.warnings);
    }

    #[test]
    fn a_torus_has_its_volume_and_area() {
        let quality = assess(&fixtures::colored(96, fixtures::torus()));
        assert_near(quality.volume, 2.0 * PI * PI * 0.5 * 0.2 * 0.2, 0.01);
        assert_near(quality.surface_area, 4.0 * PI * PI * 0.5 * 0.2, 0.01);
        assert!(quality.warnings.is_empty(), "{:?}", quality.warnings);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let cube = fixtures::cube();
        let with = |triangles: Vec<[u32; 3]>| {
            let mesh = Mesh::new(
                cube.positions().to_vec(),
                cube.normals().to_vec(),
                None,
                triangles,
            );
            assess(&mesh.expect("valid"))
        };
        let open = with(cube.triangles()[1..].to_vec());
        assert!(!open.watertight && open.manifold);
        assert!(
            open.warnings[0].contains("not closed: 3 edges"),
            "{:?}",
            open.warnings
        );
        let turned = with(
            cube.triangles()
                .iter()
                .map(|&[a, b, c]| [a, c, b])
                .collect(),
        );
        assert!(turned.watertight && turned.volume < 0.0);
        assert!(
            turned.warnings[0].contains("inside out"),
            "{:?}",
            turned.warnings
        );
    }

    #[test]
    fn parts_are_counted() {
        let quality = assess(&fixtures::colored(64, fixtures::two_spheres()));
        assert_eq!(quality.components, 2);
        assert_eq!(quality.warnings, ["The mesh has 2 separate parts."]);
    }
}
