//! How much surface there is, and how much of it a printer would have to hold up.

use super::{
    BoundingBox,
    vector::{self, Vector},
};

/// The cosine of the angle between straight down and the normal of a face that prints by itself at most: 45 degrees,
/// what printers of melted plastic manage.
const DOWNWARD_COSINE: f64 = std::f64::consts::FRAC_1_SQRT_2;

/// What faces down within this share of the height from the bottom rests on the bed: less than a printed layer, for
/// most.
const BED_SHARE: f64 = 0.005;

/// The area of a surface, and what of it faces down more than 45 degrees from upright, without what rests on the bed when
/// the mesh stands on its lowest point. +Y is up.
pub(super) struct Overhang {
    /// What lies no higher than this rests on the bed.
    bed: f64,
    /// Twice the areas.
    hanging: f64,
    total: f64,
}

impl Overhang {
    /// Of a surface with these bounds, before any triangle of it.
    pub(super) fn within(bounds: &BoundingBox) -> Self {
        Self {
            bed: f64::from(bounds.min[1]) + BED_SHARE * bounds.size()[1],
            hanging: 0.0,
            total: 0.0,
        }
    }

    /// Counts a triangle, whose normal is as long as twice its area.
    pub(super) fn add(&mut self, corners: [Vector; 3], normal: Vector) {
        let area = vector::length(normal);
        self.total += area;
        if normal[1] < -DOWNWARD_COSINE * area {
            let rests = corners.iter().all(|corner| corner[1] <= self.bed);
            self.hanging += if rests { 0.0 } else { area };
        }
    }

    /// Sum of the triangles' areas.
    pub(super) fn area(&self) -> f64 {
        self.total / 2.0
    }

    /// The share of the area that a printer has to hold up, 0 to 1.
    pub(super) fn share(&self) -> f64 {
        if self.total > 0.0 {
            self.hanging / self.total
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{Mesh, fixtures};

    fn share(positions: &[[f32; 3]], triangles: &[[u32; 3]]) -> f64 {
        let mut overhang = Overhang::within(&BoundingBox::around(positions));
        for &triangle in triangles {
            let corners = vector::corners(positions, triangle);
            overhang.add(corners, vector::twice_area(corners));
        }
        overhang.share()
    }

    fn of(mesh: &Mesh) -> f64 {
        share(mesh.positions(), mesh.triangles())
    }

    #[test]
    fn a_cube_rests_on_its_bottom() {
        assert_eq!(of(&fixtures::cube()), 0.0);
    }

    #[test]
    fn a_ball_hangs_over_around_its_lowest_point() {
        let mesh = fixtures::colored(128, fixtures::sphere(0.7));
        // A cap of 45 degrees, less one of a two-hundredth of the height.
        let expected = (1.0 - 45f64.to_radians().cos()) / 2.0 - BED_SHARE;
        let share = of(&mesh);
        assert!(
            (share - expected).abs() < 0.004,
            "{share}, expected {expected}"
        );
    }

    #[test]
    fn a_pyramid_on_its_tip_hangs_over_if_it_is_flatter_than_45_degrees() {
        let on_its_tip = |height: f32| {
            fixtures::moved_cube(move |[x, y, z]| {
                if y > 0.0 {
                    [x, height, z]
                } else {
                    [0.02 * x, 0.0, 0.02 * z]
                }
            })
        };
        assert_eq!(of(&on_its_tip(0.6)), 0.0);
        let flat = on_its_tip(0.4);
        // All but the lid and the tip.
        let sides = 4.0 * 0.5 * 1.02 * (0.4f64.powi(2) + 0.49f64.powi(2)).sqrt();
        let expected = sides / (sides + 1.0 + 0.02f64.powi(2));
        assert!((of(&flat) - expected).abs() < 1e-6, "{}", of(&flat));
    }

    #[test]
    fn a_table_hangs_over_beside_its_leg() {
        // A plate of 0.8 by 0.8 by 0.1 on a square leg of 0.2 by 0.2 by 0.6.
        let boxed = |[x, y, z]: [f32; 3], middle: f32| {
            let place = move |[u, v, w]: [f32; 3]| [x * u, y * v + middle, z * w];
            fixtures::cube()
                .positions()
                .iter()
                .copied()
                .map(place)
                .collect::<Vec<_>>()
        };
        let positions = [boxed([0.8, 0.1, 0.8], 0.65), boxed([0.2, 0.6, 0.2], 0.3)].concat();
        let cube = fixtures::cube();
        let leg = cube
            .triangles()
            .iter()
            .map(|triangle| triangle.map(|vertex| vertex + 8));
        let triangles: Vec<_> = cube.triangles().iter().copied().chain(leg).collect();
        let plate = 2.0 * 0.64 + 4.0 * 0.8 * 0.1;
        let expected = 0.64 / (plate + 2.0 * 0.04 + 4.0 * 0.2 * 0.6);
        let share = share(&positions, &triangles);
        assert!(
            (share - expected).abs() < 1e-6,
            "{share}, expected {expected}"
        );
    }
}
