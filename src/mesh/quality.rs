//! What a mesh says of itself: closedness, parts, measures, and warnings in plain words.

use super::{
    BoundingBox, Mesh,
    intersections::{self, Intersections},
    overhang::Overhang,
    topology::Topology,
    triangle_grid::TriangleGrid,
    vector, wall,
};

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
    /// Pairs of triangles that cut through each other; counted up to a thousand where [`Known`] does not say.
    pub self_intersections: Intersections,
    /// How thick the thinnest wall is: a hundredth of the surface may lie on a thinner one. 0 if it has no inside.
    pub thinnest_wall: f64,
    /// The share of the area, 0 to 1, that a printer has to hold up when the mesh stands on its lowest point: what faces
    /// down more than 45 degrees from upright and does not rest on the bed. +Y is up.
    pub overhang_share: f64,
    /// What a person should know before using the mesh; empty if all is well.
    pub warnings: Vec<String>,
}

/// A side shorter than this share of the longest one makes a mesh flat: a card rather than a body.
const FLAT_SHARE: f64 = 0.02;

/// More pairs of triangles that cut each other than this are not counted: the mesh is of no use then.
const INTERSECTIONS_MAX: usize = 1_000;

/// What is known already of a mesh that is to be measured.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// How its triangles hang together.
    pub topology: &'a Topology,
    /// Where it cuts through itself; counted if not known. [`Intersections::NONE`] for what was extracted from a field.
    pub self_intersections: Option<Intersections>,
    /// How thick its thinnest wall is, in its unit; measured at its triangles if not known.
    pub thinnest_wall: Option<f64>,
    /// The box around it, looked for if not known.
    pub bounding_box: Option<BoundingBox>,
}

/// Measures a mesh.
#[must_use]
pub fn assess(mesh: &Mesh) -> Quality {
    let topology = Topology::of(mesh.positions().len(), mesh.triangles());
    let known = Known {
        topology: &topology,
        self_intersections: None,
        thinnest_wall: None,
        bounding_box: None,
    };
    assess_as(mesh, known)
}

/// Measures a mesh of which something is known.
#[must_use]
pub fn assess_as(mesh: &Mesh, known: Known<'_>) -> Quality {
    let Known {
        topology,
        self_intersections,
        thinnest_wall,
        bounding_box,
    } = known;
    let (positions, triangles) = (mesh.positions(), mesh.triangles());
    let bounding_box = bounding_box.unwrap_or_else(|| mesh.bounding_box());
    let by_itself = || measure(mesh, &bounding_box, topology);
    let among_others = || {
        let count =
            || intersections::count(&TriangleGrid::new(positions, triangles), INTERSECTIONS_MAX);
        rayon::join(
            || self_intersections.unwrap_or_else(count),
            || thinnest_wall.unwrap_or_else(|| wall::thinnest(positions, triangles)),
        )
    };
    let ((volumes, overhang), (self_intersections, thinnest_wall)) =
        rayon::join(by_itself, among_others);
    let mut quality = Quality {
        watertight: topology.is_watertight(),
        manifold: topology.is_manifold(),
        components: topology.components,
        volume: volumes.iter().sum(),
        surface_area: overhang.area(),
        bounding_box,
        vertices: positions.len(),
        triangles: triangles.len(),
        self_intersections,
        thinnest_wall,
        overhang_share: overhang.share(),
        warnings: Vec::new(),
    };
    let hollows = volumes.iter().filter(|&&volume| volume < 0.0).count();
    quality.warnings = warnings(&quality, topology, hollows);
    quality
}

/// What each component of a mesh encloses, and the area of all, in one pass over the triangles.
fn measure(mesh: &Mesh, bounds: &BoundingBox, topology: &Topology) -> (Vec<f64>, Overhang) {
    let positions = mesh.positions();
    // Six times the volumes, and the points over which tetrahedra stand: each component's own, as over a far one the
    // volumes of a small part would cancel out badly.
    let mut components: Vec<Option<(vector::Vector, f64)>> = vec![None; topology.components];
    let mut overhang = Overhang::within(bounds);
    for (index, &triangle) in mesh.triangles().iter().enumerate() {
        let corners = vector::corners(positions, triangle);
        let normal = vector::twice_area(corners);
        let component = &mut components[topology.component_of(index)];
        let (apex, volume) = component.get_or_insert((corners[0], 0.0));
        *volume += vector::dot(vector::sub(corners[0], *apex), normal);
        overhang.add(corners, normal);
    }
    let volumes = components.into_iter().flatten();
    (volumes.map(|(_, volume)| volume / 6.0).collect(), overhang)
}

fn warnings(quality: &Quality, topology: &Topology, hollows: usize) -> Vec<String> {
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
    warnings.extend(cuts_itself(quality.self_intersections));
    if quality.components > 1 {
        // Of an open or turned mesh one can't tell.
        let hollows = match hollows {
            1.. if !quality.watertight || quality.volume <= 0.0 => String::new(),
            0 => String::new(),
            1 => "; 1 of them is a hollow inside".to_owned(),
            _ => format!("; {hollows} of them are hollows inside"),
        };
        warnings.push(format!(
            "The mesh has {} separate parts{hollows}.",
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

fn cuts_itself(found: Intersections) -> Option<String> {
    let Intersections { pairs, is_complete } = found;
    let where_to = match (pairs, is_complete) {
        (0, _) => return None,
        (1, true) => "one place".to_owned(),
        (_, true) => format!("{pairs} places"),
        (_, false) => format!("at least {pairs} places"),
    };
    Some(format!(
        "The surface cuts through itself in {where_to}: before printing, let the slicing program mend it, or ask for more triangles."
    ))
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

    #[test]
    fn hollows_are_told_from_other_parts() {
        let mesh = fixtures::colored(64, |p| {
            let ball = |center, radius| radius - fixtures::distance(p, center);
            let hollows = ball([-0.3, 0.0, 0.0], 0.2).max(ball([0.3, 0.0, 0.0], 0.2));
            50.0 * ball([0.0; 3], 0.8).min(-hollows)
        });
        let quality = assess(&mesh);
        assert_eq!(
            quality.warnings,
            ["The mesh has 3 separate parts; 2 of them are hollows inside."]
        );
        let solid = |radius: f64| 4.0 / 3.0 * PI * radius.powi(3);
        assert_near(quality.volume, solid(0.8) - 2.0 * solid(0.2), 0.01);
    }

    #[test]
    fn what_print_needs_is_measured() {
        let quality = assess(&fixtures::cube());
        assert_eq!(quality.self_intersections, Intersections::NONE);
        assert_eq!(quality.overhang_share, 0.0);
        assert_near(quality.thinnest_wall, 1.0, 1e-5);
    }

    #[test]
    fn a_mesh_that_cuts_itself_is_warned_of() {
        let cube = fixtures::cube();
        let moved = cube
            .positions()
            .iter()
            .map(|corner| corner.map(|along| along + 0.3));
        let second = cube
            .triangles()
            .iter()
            .map(|triangle| triangle.map(|vertex| vertex + 8));
        let mesh = Mesh::new(
            cube.positions().iter().copied().chain(moved).collect(),
            [cube.normals(), cube.normals()].concat(),
            None,
            cube.triangles().iter().copied().chain(second).collect(),
        )
        .expect("two cubes");
        let quality = assess(&mesh);
        assert!(quality.self_intersections.pairs >= 6 && quality.self_intersections.is_complete);
        assert!(
            quality.warnings[0].starts_with("The surface cuts through itself in"),
            "{:?}",
            quality.warnings
        );
        let topology = Topology::of(mesh.positions().len(), mesh.triangles());
        let told = Known {
            topology: &topology,
            self_intersections: Some(Intersections {
                pairs: 1_000,
                is_complete: false,
            }),
            thinnest_wall: Some(0.25),
            bounding_box: None,
        };
        let Quality {
            thinnest_wall,
            warnings,
            ..
        } = assess_as(&mesh, told);
        assert_eq!(thinnest_wall, 0.25);
        assert!(
            warnings[0].contains("in at least 1000 places:"),
            "{warnings:?}"
        );
    }
}
