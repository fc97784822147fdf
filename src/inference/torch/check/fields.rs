//! Fields of the same codes, asked in different company.

use std::fmt;

use super::{
    super::{
        super::backend::{Backend as _, FieldValues, Want},
        Tensor, TorchBackend,
    },
    Fault,
};

/// How far a logit may move by the company that it is computed in, as a share of the range of logits: kernels of other
/// shapes add in another order. The shipped model moves by up to 0.08 of some 60 in half precision.
const LOGIT_MOVE_SHARE_MAX: f32 = 0.01;
/// The same for a channel of a colour: five steps of a byte.
const COLOR_MOVE_MAX: f32 = 0.02;
/// A field flatter than this has no range to take shares of: the shipped model's surfaces are two logits thick.
const RANGE_MIN: f32 = 1.0;

/// The field's values at some points.
pub(super) fn field(
    backend: &mut TorchBackend,
    model: usize,
    codes: &Tensor,
    points: &[[f32; 3]],
) -> Result<FieldValues, Fault> {
    let mut values = FieldValues::default();
    backend.query(model, codes, points, Want::LogitsAndColors, &mut values)?;
    Ok(values)
}

/// The least and the greatest of some values.
pub(super) fn range(values: &[f32]) -> (f32, f32) {
    values
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &value| {
            (low.min(value), high.max(value))
        })
}

/// How far a field moved.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Move {
    logit: f32,
    color: f32,
}

impl Move {
    /// The greater of both.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            logit: self.logit.max(other.logit),
            color: self.color.max(other.color),
        }
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { logit, color } = self;
        if *logit == 0.0 && *color == 0.0 {
            return f.write_str("exactly");
        }
        write!(f, "within {logit:.1e} of a logit, {color:.1e} of a channel")
    }
}

/// How far the same field moved from one asking to the other.
///
/// # Errors
/// [`Fault::Broken`] with `otherwise`, if it is further than rounding explains.
pub(super) fn agree(
    one: &FieldValues,
    other: &FieldValues,
    otherwise: &str,
) -> Result<Move, Fault> {
    // Not by `f32::max`, which passes over NaNs.
    let worst = |one: &[f32], other: &[f32]| {
        one.iter().zip(other).fold(0.0, |worst: f32, (one, other)| {
            let apart = (one - other).abs();
            if apart.is_nan() || apart > worst {
                apart
            } else {
                worst
            }
        })
    };
    let moved = Move {
        logit: worst(&one.logits, &other.logits),
        color: worst(one.rgb.as_flattened(), other.rgb.as_flattened()),
    };
    let (low, high) = range(&one.logits);
    let logit_max = LOGIT_MOVE_SHARE_MAX * (high - low).max(RANGE_MIN);
    if moved.logit <= logit_max && moved.color <= COLOR_MOVE_MAX {
        return Ok(moved);
    }
    let Move { logit, color } = moved;
    Err(Fault::Broken(format!(
        "{otherwise}: logits differ by up to {logit:.3} in {low:.1} to {high:.1}, colours by up to {color:.3}"
    )))
}
