//! Points spread evenly over a mesh's surface.

use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};

use super::super::{
    BoundingBox, Mesh,
    vector::{self, Vector},
};

/// Enough that each of the 64³ cells that a surface goes through holds some 20 samples.
pub const SAMPLES: usize = 400_000;

/// Samples of one mesh, in random order: the first are as good as any.
#[derive(Debug, Clone)]
pub struct Samples {
    /// Centred on the mesh's bounding box, the longest side 1.
    pub points: Vec<[f64; 3]>,
    /// sRGB in 0..1, one for each point.
    pub colors: Vec<[f32; 3]>,
}

/// [`SAMPLES`] samples of a mesh turned by -`azimuth` degrees about +Y, so that what lay at that azimuth comes to +Z.
/// Every part of the surface gets as many as its area asks for. The same seed gives the same samples.
#[must_use]
pub fn sample(mesh: &Mesh, azimuth: f64, seed: u64) -> Samples {
    let positions = normalized(mesh.positions(), azimuth);
    let mut total = 0.0;
    let areas: Vec<f64> = mesh
        .triangles()
        .iter()
        .map(|triangle| {
            let corners = triangle.map(|vertex| positions[vertex as usize]);
            total += vector::length(vector::twice_area(corners));
            total
        })
        .collect();
    // Named, since the library's nameless generators may change from one version to the next.
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut samples = Samples {
        points: Vec::with_capacity(SAMPLES),
        colors: Vec::with_capacity(SAMPLES),
    };
    for _ in 0..SAMPLES {
        let share = random.random::<f64>() * total;
        let at = areas.partition_point(|&upto| upto <= share);
        let triangle = mesh.triangles()[at.min(areas.len() - 1)];
        // Even over the triangle: the root makes up for its narrowing towards the first corner.
        let root = random.random::<f64>().sqrt();
        let along = random.random::<f64>();
        let weights = [1.0 - root, root * (1.0 - along), root * along];
        samples.points.push(mixed(weights, |corner| {
            positions[triangle[corner] as usize]
        }));
        let color = mixed(weights, |corner| {
            let grey = [127; 3];
            let color = mesh
                .colors()
                .map_or(grey, |colors| colors[triangle[corner] as usize]);
            color.map(|byte| f64::from(byte) / 255.0)
        });
        samples.colors.push(vector::narrow(color));
    }
    samples
}

fn mixed(weights: [f64; 3], corner: impl Fn(usize) -> Vector) -> Vector {
    let part = |at: usize| vector::scale(corner(at), weights[at]);
    vector::add(vector::add(part(0), part(1)), part(2))
}

fn normalized(positions: &[[f32; 3]], azimuth: f64) -> Vec<Vector> {
    let (sin, cos) = azimuth.to_radians().sin_cos();
    let turned: Vec<[f32; 3]> = positions
        .iter()
        .map(|&position| {
            let [x, y, z] = vector::wide(position);
            vector::narrow([x * cos - z * sin, y, x * sin + z * cos])
        })
        .collect();
    let bounds = BoundingBox::around(&turned);
    // A mesh always has an extent.
    let scale = 1.0 / bounds.longest_side();
    turned
        .into_iter()
        .map(|position| vector::scale(vector::sub(vector::wide(position), bounds.center()), scale))
        .collect()
}
