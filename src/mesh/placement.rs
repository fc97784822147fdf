//! Where a mesh stands and how large it is in the file that a client gets.

use super::{BoundingBox, Mesh, vector};

const MILLIMETERS_PER_METER: f64 = 1000.0;

/// The kinds of frame that formats stand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// GLB, OBJ, PLY: metres, +Y up, facing +Z, centred on the bounding box.
    Scene,
    /// STL and 3MF: millimetres, +Z up, facing -Y, resting on z = 0 and centred on x = y = 0.
    Print,
}

/// How to place a mesh.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placement {
    /// The frame of the format.
    pub frame: Frame,
    /// Length of the longest side in millimetres.
    pub size_mm: f64,
}

/// Moves, turns and scales a mesh in the modelling frame (+Y up, the camera on +Z) into the frame of a file.
///
/// # Panics
/// If `size_mm` is not a positive number.
#[must_use]
pub fn place(mesh: &Mesh, placement: Placement) -> Mesh {
    placed(mesh.clone(), placement).mesh
}

/// A mesh where it was placed.
#[derive(Debug)]
pub struct Placed {
    /// The mesh.
    pub mesh: Mesh,
    /// How much longer everything is than before.
    pub scale: f64,
    /// The box around it.
    pub bounding_box: BoundingBox,
}

/// [`place`] where the mesh stands, without a copy.
///
/// # Panics
/// If `size_mm` is not a positive number.
#[must_use]
pub fn placed(mut mesh: Mesh, placement: Placement) -> Placed {
    let Placement { frame, size_mm } = placement;
    assert!(
        size_mm.is_finite() && size_mm > 0.0,
        "sizes are checked where options are parsed"
    );
    let bounds = mesh.bounding_box();
    let (center, size) = (bounds.center(), bounds.size());
    let longest = match frame {
        Frame::Scene => size_mm / MILLIMETERS_PER_METER,
        Frame::Print => size_mm,
    };
    // A mesh always has an extent.
    let scale = longest / bounds.longest_side();
    // Half of the height in the modelling frame: the lowest point comes to rest on exactly zero.
    let lift = match frame {
        Frame::Scene => 0.0,
        Frame::Print => size[1] / 2.0,
    };
    let turn = |[x, y, z]: [f64; 3]| match frame {
        Frame::Scene => [x, y, z],
        Frame::Print => [x, -z, y],
    };
    let moved = |position: [f32; 3]| {
        let [x, y, z] = vector::sub(vector::wide(position), center);
        vector::narrow(vector::scale(turn([x, y + lift, z]), scale))
    };
    for position in &mut mesh.positions {
        *position = moved(*position);
    }
    if frame != Frame::Scene {
        let corner_normals = mesh.corner_normals.iter_mut().flatten().flatten();
        for normal in mesh.normals.iter_mut().chain(corner_normals) {
            *normal = vector::narrow(turn(vector::wide(*normal)));
        }
    }
    Placed {
        mesh,
        scale,
        // Axes stay axes and what lies farther along one stays there, so that the corners' box is that of all.
        bounding_box: BoundingBox::around(&[moved(bounds.min), moved(bounds.max)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{fixtures, quality};

    /// A box 0.6 wide, 0.2 high and 0.4 deep, off centre, with a bump towards the camera.
    fn body() -> Mesh {
        fixtures::colored(64, |[x, y, z]| {
            let inside = |p: [f32; 3], half: [f32; 3]| {
                p.iter()
                    .zip(half)
                    .map(|(along, half)| half - along.abs())
                    .fold(f32::MAX, f32::min)
            };
            let slab = inside([x - 0.2, y - 0.1, z + 0.1], [0.6, 0.2, 0.4]);
            let bump = inside([x - 0.2, y - 0.1, z - 0.4], [0.1, 0.1, 0.2]);
            50.0 * slab.max(bump)
        })
    }

    fn assert_close(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{a} is not {b}");
    }

    #[test]
    fn a_scene_is_centred_with_a_longest_side_of_one_metre_or_as_asked() {
        for (size_mm, expected) in [(1000.0, 1.0), (250.0, 0.25)] {
            let bounds = place(
                &body(),
                Placement {
                    frame: Frame::Scene,
                    size_mm,
                },
            )
            .bounding_box();
            assert_close(bounds.longest_side(), expected);
            for along in bounds.center() {
                assert_close(along, 0.0);
            }
            assert!(
                bounds.size()[0] > bounds.size()[2] && bounds.size()[2] > bounds.size()[1],
                "not turned"
            );
        }
    }

    #[test]
    fn a_print_rests_on_the_bed_in_millimetres_facing_front() {
        for size_mm in [100.0, 42.0] {
            let mesh = place(
                &body(),
                Placement {
                    frame: Frame::Print,
                    size_mm,
                },
            );
            let bounds = mesh.bounding_box();
            assert_close(bounds.longest_side(), size_mm);
            assert_eq!(bounds.min[2], 0.0, "rests on the bed exactly");
            assert_close(bounds.center()[0], 0.0);
            assert_close(bounds.center()[1], 0.0);
            assert!(
                bounds.size()[0] > bounds.size()[1] && bounds.size()[1] > bounds.size()[2],
                "z is up"
            );
            // The bump faced the camera (+Z), so it now faces the front (-Y).
            let front = mesh
                .positions()
                .iter()
                .min_by(|a, b| a[1].total_cmp(&b[1]))
                .expect("has vertices");
            assert!(
                f64::from(front[0].abs()) < 0.2 * size_mm,
                "the foremost point belongs to the bump"
            );
        }
    }

    #[test]
    fn placing_keeps_the_outside_outside() {
        for frame in [Frame::Scene, Frame::Print] {
            let mesh = place(
                &body(),
                Placement {
                    frame,
                    size_mm: 1000.0,
                },
            );
            let report = quality::assess(&mesh);
            assert!(report.watertight && report.volume > 0.0);
            let normals = crate::mesh::normals::vertex_normals(mesh.positions(), mesh.triangles());
            for (turned, anew) in mesh.normals().iter().zip(normals) {
                assert!(
                    fixtures::distance(*turned, anew) < 1e-3,
                    "{turned:?} {anew:?}"
                );
            }
        }
    }

    #[test]
    fn the_box_and_the_scale_are_told() {
        let body = body();
        for frame in [Frame::Scene, Frame::Print] {
            let placement = Placement {
                frame,
                size_mm: 321.0,
            };
            let placed = placed(body.clone(), placement);
            assert_eq!(placed.bounding_box, placed.mesh.bounding_box());
            let longer = placed.bounding_box.longest_side() / body.bounding_box().longest_side();
            assert_close(placed.scale, longer);
        }
    }

    #[test]
    fn creases_and_textures_come_along() {
        let texture = fixtures::texture(12);
        let cube = fixtures::cube().with_creases(40.0);
        let cube = cube.with_texture(texture.clone()).expect("fits");
        let placed = place(
            &cube,
            Placement {
                frame: Frame::Print,
                size_mm: 1000.0,
            },
        );
        assert_eq!(placed.texture(), Some(&texture));
        let before = cube.corner_normals().expect("a cube has creases");
        let after = placed.corner_normals().expect("they stay");
        for ([x, y, z], turned) in before.as_flattened().iter().zip(after.as_flattened()) {
            assert_eq!([*x, -z, *y], *turned);
        }
    }

    #[test]
    #[should_panic(expected = "sizes are checked")]
    fn a_size_of_zero_is_a_programming_error() {
        let _ = place(
            &fixtures::cube(),
            Placement {
                frame: Frame::Print,
                size_mm: 0.0,
            },
        );
    }
}
