//! Holds a loaded model to its contract before anybody's picture meets it.

use super::{
    super::{
        backend::{Backend as _, FieldValues, Want},
        error::EngineError,
        manifest::{Manifest, ModelError},
    },
    TorchBackend,
};

/// How far colours and alpha may leave 0..1: rounding of half precision.
const ROUNDING: f32 = 2e-3;

/// Encodes one picture of noise, asks the field at one pass of points, and mattes where the manifest says
/// so. Missing methods, wrong shapes, NaNs and values out of range are told apart.
///
/// # Errors
/// [`ModelError::Contract`] with the reason.
pub fn holds_its_contract(
    backend: &mut TorchBackend,
    model: usize,
    manifest: &Manifest,
) -> Result<(), ModelError> {
    let image = noise(1, manifest.input.values());
    let codes = backend.encode(model, &[&image]).map_err(refuse)?;
    let [codes] =
        <[_; 1]>::try_from(codes).map_err(|_| broken("encode gave no row for its image"))?;
    let flat = noise(2, 3 * backend.points_per_pass(model));
    let points: Vec<[f32; 3]> = flat
        .as_chunks::<3>()
        .0
        .iter()
        .map(|point| point.map(|unit| 2.0 * unit - 1.0))
        .collect();
    let mut values = FieldValues::default();
    backend
        .query(model, &codes, &points, Want::LogitsAndColors, &mut values)
        .map_err(refuse)?;
    if !values.logits.iter().all(|logit| logit.is_finite()) {
        return Err(broken("query gave logits that are not finite"));
    }
    if !values
        .rgb
        .as_flattened()
        .iter()
        .all(|&value| in_unit(value))
    {
        return Err(broken("query gave colours outside 0..1"));
    }
    if manifest.matte {
        let alpha = backend.matte(model, &image).map_err(refuse)?;
        if !alpha.iter().all(|&value| in_unit(value)) {
            return Err(broken("matte gave alpha outside 0..1"));
        }
    }
    Ok(())
}

fn in_unit(value: f32) -> bool {
    (-ROUNDING..=1.0 + ROUNDING).contains(&value)
}

fn broken(reason: &str) -> ModelError {
    ModelError::Contract {
        reason: reason.to_owned(),
    }
}

fn refuse(error: EngineError) -> ModelError {
    ModelError::Contract {
        reason: error.to_string(),
    }
}

/// Values in 0..1, the same for the same seed: SplitMix64, whose constants are its author's.
#[must_use]
pub fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // The top 24 bits fill an f32's mantissa exactly.
        ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1 << 24) as f32
    };
    (0..count).map(|_| next()).collect()
}
