//! Drops specks: pieces of the surface that enclose next to nothing beside the largest one.

use super::{
    surface::{Surface, compact},
    topology::Topology,
    vector,
};

/// What counts as a speck.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CleanOptions {
    /// A component that encloses less than this share of the largest component's volume is a speck. Zero keeps all.
    pub speck_share: f64,
}

impl Default for CleanOptions {
    /// A thousandth: a tenth of the largest component in each direction. What a field leaves floating by error is
    /// smaller, what an artist puts beside a body is larger.
    fn default() -> Self {
        Self { speck_share: 1e-3 }
    }
}

/// What was dropped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CleanReport {
    /// Components that remain.
    pub components_kept: usize,
    /// Specks that were dropped.
    pub components_dropped: usize,
    /// The share of all enclosed volume that was dropped, 0 to 1.
    pub volume_share_dropped: f64,
}

/// Drops the specks of a closed surface and says how much went, and how what remains hangs together.
///
/// A hollow inside of a body is a component too, and a small one is filled by being dropped. The largest component
/// always stays.
#[must_use]
pub fn drop_specks(surface: Surface, options: CleanOptions) -> (Surface, Topology, CleanReport) {
    let CleanOptions { speck_share } = options;
    let topology = Topology::of(surface.positions().len(), surface.triangles());
    if topology.components == 1 {
        let report = CleanReport {
            components_kept: 1,
            components_dropped: 0,
            volume_share_dropped: 0.0,
        };
        return (surface, topology, report);
    }
    let volumes = enclosed_volumes(&surface, &topology);
    let largest = volumes.iter().copied().fold(0.0, f64::max);
    let is_kept: Vec<bool> = volumes
        .iter()
        .map(|&volume| volume >= speck_share * largest)
        .collect();
    let (mut total, mut dropped) = (0.0, 0.0);
    for (&volume, &is_kept) in volumes.iter().zip(&is_kept) {
        total += volume;
        dropped += if is_kept { 0.0 } else { volume };
    }
    let kept = is_kept.iter().filter(|&&is_kept| is_kept).count();
    let report = CleanReport {
        components_kept: kept,
        components_dropped: volumes.len() - kept,
        volume_share_dropped: if total > 0.0 { dropped / total } else { 0.0 },
    };
    if report.components_dropped == 0 {
        return (surface, topology, report);
    }
    let (positions, triangles) = surface.into_parts();
    let triangles: Vec<_> = triangles
        .into_iter()
        .zip(&topology.component_of_triangle)
        .filter(|&(_, &component)| is_kept[component as usize])
        .map(|(triangle, _)| triangle)
        .collect();
    let compacted = compact(positions.len(), &triangles);
    let positions = compacted
        .kept
        .iter()
        .map(|&vertex| positions[vertex as usize])
        .collect();
    let surface = Surface::new(positions, compacted.triangles)
        .expect("the largest component of a surface is a surface");
    let topology = Topology::of(surface.positions().len(), surface.triangles());
    (surface, topology, report)
}

/// The volume that each component encloses, whichever way it faces.
fn enclosed_volumes(surface: &Surface, topology: &Topology) -> Vec<f64> {
    let mut volumes = vec![0.0; topology.components];
    for (&triangle, &component) in surface
        .triangles()
        .iter()
        .zip(&topology.component_of_triangle)
    {
        let corners = vector::corners(surface.positions(), triangle);
        volumes[component as usize] +=
            vector::dot(corners[0], vector::cross(corners[1], corners[2])) / 6.0;
    }
    volumes.into_iter().map(f64::abs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::fixtures;

    fn spheres(small_radius: f32) -> Surface {
        fixtures::surface(64, move |p| {
            let big = 0.5 - fixtures::distance(p, [-0.35, 0.0, 0.0]);
            let small = small_radius - fixtures::distance(p, [0.6, 0.0, 0.0]);
            big.max(small)
        })
    }

    #[test]
    fn a_speck_goes_and_is_reported() {
        let surface = spheres(0.04);
        let (cleaned, topology, report) = drop_specks(surface.clone(), CleanOptions::default());
        assert_eq!((report.components_kept, report.components_dropped), (1, 1));
        assert!(report.volume_share_dropped > 0.0 && report.volume_share_dropped < 1e-3);
        assert!(cleaned.triangles().len() < surface.triangles().len());
        assert!(cleaned.bounding_box().max[0] < 0.2, "the speck lay at 0.6");
        let anew = Topology::of(cleaned.positions().len(), cleaned.triangles());
        assert_eq!(topology, anew);
        assert!(topology.is_watertight() && topology.is_manifold());
    }

    #[test]
    fn several_real_parts_stay() {
        let surface = spheres(0.2);
        let (cleaned, topology, report) = drop_specks(surface.clone(), CleanOptions::default());
        assert_eq!(topology.components, 2);
        assert_eq!((report.components_kept, report.components_dropped), (2, 0));
        assert_eq!(report.volume_share_dropped, 0.0);
        assert_eq!(cleaned, surface);
    }

    #[test]
    fn a_hollow_stays_if_it_is_large() {
        let hollow = fixtures::surface(48, |p| {
            let distance = fixtures::distance(p, [0.0; 3]);
            (0.8 - distance).min(distance - 0.4)
        });
        let (_, _, report) = drop_specks(hollow, CleanOptions::default());
        assert_eq!((report.components_kept, report.components_dropped), (2, 0));
    }
}
