//! What holds for any field.

use proptest::prelude::*;

use crate::mesh::{
    MeshError,
    clean::{CleanOptions, drop_specks},
    field::{FieldOptions, FieldSampler},
    fixtures,
    parts::volumes,
    simplify::simplify_surface,
    surface::Surface,
    topology::Topology,
    vector,
};

/// The direction and frequency of a wave, and where it begins.
type Wave = ([f32; 3], f32);

fn any_waves() -> impl Strategy<Value = Vec<Wave>> {
    prop::collection::vec((prop::array::uniform3(-12.0f32..12.0), 0.0f32..6.0), 1..5)
}

/// Sums of a few waves: bodies, holes, specks, and parts cut by the border.
fn sum_of(waves: &[Wave], offset: f32) -> impl Fn([f32; 3]) -> f32 {
    move |p| {
        let phase = |wave: &[f32; 3]| {
            let along = p.iter().zip(wave);
            along.map(|(along, wave)| along * wave).sum::<f32>()
        };
        let heights = waves
            .iter()
            .map(|(wave, shift)| (phase(wave) + shift).sin());
        heights.sum::<f32>() + offset
    }
}

/// No field at all: any value beside any other within `reach` of the middle, outside beyond.
fn any_values(seed: u64, iso: f32, reach: f32) -> impl Fn([f32; 3]) -> f32 {
    let values = [
        iso,
        iso.next_up(),
        iso.next_down(),
        iso + 1.0,
        iso - 1.0,
        f32::MIN_POSITIVE,
        -0.0,
        f32::MAX,
        f32::MIN,
    ];
    move |p| {
        if fixtures::distance(p, [0.0; 3]) > reach {
            return iso - 1.0;
        }
        // Knuth's multiplier; the high bits are the good ones.
        let mix = |state: u64, along: f32| {
            (state ^ u64::from(along.to_bits())).wrapping_mul(6_364_136_223_846_793_005)
        };
        let state = p.into_iter().fold(seed, mix);
        let state = mix(state ^ state >> 32, 0.0);
        values[(state >> 33) as usize % values.len()]
    }
}

fn check_closed(surface: &Surface) -> Result<Topology, TestCaseError> {
    let topology = Topology::of(surface.positions().len(), surface.triangles());
    prop_assert!(
        topology.is_watertight() && topology.is_manifold(),
        "{:?}",
        topology
    );
    Ok(topology)
}

/// Cleaned and simplified as a conversion does it, to one in `share` triangles, a surface is closed and faces outwards.
fn check_whole_when_simplified(surface: Surface, share: usize) -> Result<(), TestCaseError> {
    let (surface, topology, _) = drop_specks(surface, CleanOptions::default());
    let cleaned = check_closed(&surface)?;
    prop_assert_eq!(&cleaned, &topology);
    let before = surface.triangles().len();
    let (surface, report) = simplify_surface(surface, before / share);
    prop_assert_eq!(report.triangles_before, before);
    prop_assert_eq!(report.triangles_after, surface.triangles().len());
    let simplified = check_closed(&surface)?;
    prop_assert_eq!(simplified.components, topology.components);
    let runs = simplified.runs(surface.triangles().len());
    let parts = volumes(surface.positions(), surface.triangles(), &runs);
    let volume: f64 = parts.iter().sum();
    prop_assert!(volume > 0.0, "{} parts enclose {}", parts.len(), volume);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_smooth_field_is_closed_or_empty(
        waves in any_waves(),
        offset in -2.0f32..2.0,
        samples in 32u32..80,
    ) {
        match fixtures::sample(fixtures::options(samples), &sum_of(&waves, offset)) {
            Ok((surface, _)) => {
                check_closed(&surface)?;
            }
            Err(error) => prop_assert_eq!(error, MeshError::Empty),
        }
    }

    #[test]
    fn a_value_that_is_not_finite_is_named_in_any_request(
        bad in prop::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY]),
        pick in any::<[usize; 2]>(),
        samples in 32u32..80,
    ) {
        let field = fixtures::torus();
        let options = fixtures::options(samples);
        let mut requests = Vec::new();
        let mut sampler = FieldSampler::new(options);
        while let Some(points) = sampler.request() {
            let logits: Vec<f32> = points.into_iter().map(&field).collect();
            sampler.supply(&logits).expect("finite");
            requests.push(logits);
        }
        let request = pick[0] % requests.len();
        let at = pick[1] % requests[request].len();
        let before: usize = requests[..request].iter().map(Vec::len).sum();
        requests[request][at] = bad;
        let mut sampler = FieldSampler::new(options);
        for (number, logits) in requests.iter().enumerate().take(request + 1) {
            prop_assert!(sampler.request().is_some());
            let expected = if number == request {
                Err(MeshError::NonFinite { index: before + at })
            } else {
                Ok(())
            };
            prop_assert_eq!(sampler.supply(logits), expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Up to the border of the volume on a grid that is evaluated whole, and where there are coarse levels.
    #[test]
    fn any_values_are_closed_and_every_triangle_has_an_area(
        seed in any::<u64>(),
        iso in prop::sample::select(vec![0.0f32, 0.5, -2.5]),
        (samples, reach) in prop_oneof![(32u32..36, Just(f32::MAX)), (47u32..66, Just(0.4))],
    ) {
        let options = FieldOptions { iso, ..fixtures::options(samples) };
        let (surface, _) =
            fixtures::sample(options, &any_values(seed, iso, reach)).expect("something is inside");
        check_closed(&surface)?;
        for &triangle in surface.triangles() {
            let corners = vector::corners(surface.positions(), triangle);
            prop_assert!(vector::length(vector::twice_area(corners)) > 0.0, "{:?}", corners);
        }
    }

    #[test]
    fn any_smooth_field_stays_whole_when_it_is_cleaned_and_simplified(
        waves in any_waves(),
        offset in -2.0f32..2.0,
        samples in 32u32..52,
        share in 2usize..12,
    ) {
        match fixtures::sample(fixtures::options(samples), &sum_of(&waves, offset)) {
            Ok((surface, _)) => check_whole_when_simplified(surface, share)?,
            Err(error) => prop_assert_eq!(error, MeshError::Empty),
        }
    }

    #[test]
    fn any_values_stay_whole_when_they_are_cleaned_and_simplified(
        seed in any::<u64>(),
        samples in 32u32..36,
        share in 2usize..12,
    ) {
        let field = any_values(seed, 0.0, 0.3);
        let (surface, _) =
            fixtures::sample(fixtures::options(samples), &field).expect("something is inside");
        check_whole_when_simplified(surface, share)?;
    }
}
