//! Drops specks: pieces of the surface that enclose next to nothing beside the largest one.

use super::{
    parts::{longest_side, volumes},
    surface::Surface,
    topology::Topology,
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

/// Dropped specks of less than this share of the volume, all together, can be no part of the object.
const HARMLESS_VOLUME_SHARE: f64 = 1e-3;

/// A dropped speck that is shorter than this share of the longest side can be no part of the object.
const HARMLESS_SIZE_SHARE: f64 = 0.02;

/// What was dropped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CleanReport {
    /// Components that remain.
    pub components_kept: usize,
    /// Specks that were dropped: bodies of their own.
    pub components_dropped: usize,
    /// Small hollows inside of a body that were filled.
    pub hollows_filled: usize,
    /// The share of all bodies' volume that the specks had, 0 to 1.
    pub volume_share_dropped: f64,
    /// The longest side of the largest speck, as a share of the longest side of what remains.
    pub largest_dropped: f64,
}

impl CleanReport {
    /// What a person should know of it: nothing, unless what went could have been a part of the object.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let Self {
            components_kept: _,
            components_dropped,
            hollows_filled: _,
            volume_share_dropped,
            largest_dropped,
        } = *self;
        let is_harmless =
            volume_share_dropped <= HARMLESS_VOLUME_SHARE && largest_dropped <= HARMLESS_SIZE_SHARE;
        if components_dropped == 0 || is_harmless {
            return None;
        }
        let volume = volume_share_dropped * 100.0;
        let size = largest_dropped * 100.0;
        Some(if components_dropped == 1 {
            format!(
                "A loose piece was removed: {volume:.2}% of the volume, as long as {size:.1}% of the whole."
            )
        } else {
            format!(
                "{components_dropped} loose pieces were removed: {volume:.2}% of the volume, the largest as long as {size:.1}% of the whole."
            )
        })
    }
}

/// Drops the specks of a closed surface and says how much went, and how what remains hangs together.
///
/// A hollow inside of a body is a component too, and a small one is filled by being dropped. The largest component
/// always stays.
#[must_use]
pub fn drop_specks(surface: Surface, options: CleanOptions) -> (Surface, Topology, CleanReport) {
    let CleanOptions { speck_share } = options;
    let topology = surface.topology();
    let mut report = CleanReport {
        components_kept: topology.components,
        components_dropped: 0,
        hollows_filled: 0,
        volume_share_dropped: 0.0,
        largest_dropped: 0.0,
    };
    if topology.components == 1 {
        return (surface, topology, report);
    }
    let (positions, triangles) = (surface.positions(), surface.triangles());
    let runs = topology.runs(triangles.len());
    let volumes = volumes(positions, triangles, &runs);
    let largest = volumes.iter().copied().map(f64::abs).fold(0.0, f64::max);
    let is_kept: Vec<bool> = volumes
        .iter()
        .map(|volume| volume.abs() >= speck_share * largest)
        .collect();
    if is_kept.iter().all(|&is_kept| is_kept) {
        return (surface, topology, report);
    }
    let is_dropped = |component: usize| !is_kept[component] && volumes[component] >= 0.0;
    let longest = longest_side(positions, triangles, &runs, is_dropped);
    let dropped = || (0..topology.components).filter(|&component| is_dropped(component));
    report.components_dropped = dropped().count();
    let dropped: f64 = dropped().map(|component| volumes[component]).sum();
    let bodies: f64 = volumes.iter().map(|volume| volume.max(0.0)).sum();
    report.components_kept = is_kept.iter().filter(|&&is_kept| is_kept).count();
    report.hollows_filled =
        topology.components - report.components_kept - report.components_dropped;
    let kept = runs.iter().filter(|run| is_kept[run.component]);
    let kept: Vec<_> = kept.map(|run| run.triangles.clone()).collect();
    let surface = surface.with_components(&kept);
    report.volume_share_dropped = if bodies > 0.0 { dropped / bodies } else { 0.0 };
    // A surface always has an extent.
    report.largest_dropped = longest / surface.bounding_box().longest_side();
    let topology = topology
        .of_components(&is_kept, &runs)
        .unwrap_or_else(|| surface.topology());
    (surface, topology, report)
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

    fn hollow(radius: f32) -> Surface {
        fixtures::surface(64, move |p| {
            let distance = fixtures::distance(p, [0.0; 3]);
            (0.8 - distance).min(distance - radius)
        })
    }

    #[test]
    fn a_speck_goes_and_is_reported() {
        let surface = spheres(0.04);
        let (cleaned, topology, report) = drop_specks(surface.clone(), CleanOptions::default());
        assert_eq!((report.components_kept, report.components_dropped), (1, 1));
        assert_eq!(report.hollows_filled, 0);
        assert!(report.volume_share_dropped > 0.0 && report.volume_share_dropped < 1e-3);
        // A ball of 0.08 beside one of 1, drawn by samples that lie 0.03 apart.
        assert!(
            (0.05..0.085).contains(&report.largest_dropped),
            "{report:?}"
        );
        assert!(cleaned.triangles().len() < surface.triangles().len());
        assert!(cleaned.bounding_box().max[0] < 0.2, "the speck lay at 0.6");
        let anew = Topology::of(cleaned.positions().len(), cleaned.triangles());
        assert_eq!(topology, anew);
        assert!(topology.is_watertight() && topology.is_manifold());
    }

    #[test]
    fn what_stays_hangs_together_as_it_would_by_itself() {
        let balls = [
            ([-0.6, 0.0, -0.6], 0.03),
            ([0.0, 0.0, 0.0], 0.3),
            ([0.6, 0.0, 0.1], 0.04),
            ([0.5, 0.5, 0.5], 0.25),
        ];
        let surface = fixtures::surface(64, move |p| {
            let balls = balls.map(|(center, radius)| radius - fixtures::distance(p, center));
            balls.into_iter().fold(f32::MIN, f32::max)
        });
        for speck_share in [1e-3, 0.1, 0.9] {
            let options = CleanOptions { speck_share };
            let (cleaned, topology, report) = drop_specks(surface.clone(), options);
            assert!(report.components_dropped > 0, "{report:?}");
            assert_eq!(report.components_kept, topology.components);
            let anew = Topology::of(cleaned.positions().len(), cleaned.triangles());
            assert_eq!(topology, anew);
        }
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
    fn a_hollow_stays_if_it_is_large_and_is_filled_if_it_is_small() {
        let (_, _, report) = drop_specks(hollow(0.4), CleanOptions::default());
        assert_eq!((report.components_kept, report.hollows_filled), (2, 0));
        let (filled, _, report) = drop_specks(hollow(0.06), CleanOptions::default());
        assert_eq!((report.components_kept, report.hollows_filled), (1, 1));
        assert_eq!(
            (report.components_dropped, report.volume_share_dropped),
            (0, 0.0)
        );
        assert_eq!(report.warning(), None);
        let solid = fixtures::surface(64, |p| 0.8 - fixtures::distance(p, [0.0; 3]));
        assert_eq!(filled.triangles().len(), solid.triangles().len());
    }

    #[test]
    fn only_what_could_have_been_a_part_is_warned_of() {
        let report = CleanReport {
            components_kept: 1,
            components_dropped: 1,
            hollows_filled: 2,
            volume_share_dropped: 0.0001,
            largest_dropped: 0.015,
        };
        assert_eq!(report.warning(), None);
        let long = CleanReport {
            largest_dropped: 0.083,
            ..report
        };
        assert_eq!(
            long.warning().as_deref(),
            Some("A loose piece was removed: 0.01% of the volume, as long as 8.3% of the whole.")
        );
        let many = CleanReport {
            components_dropped: 40,
            volume_share_dropped: 0.012,
            ..report
        };
        assert_eq!(
            many.warning().as_deref(),
            Some(
                "40 loose pieces were removed: 1.20% of the volume, the largest as long as 1.5% of the whole."
            )
        );
        let none = CleanReport {
            components_dropped: 0,
            ..long
        };
        assert_eq!(none.warning(), None);
    }
}
