//! Fields of the same codes, asked in different company.

use std::fmt;

use super::{
    super::{
        super::{
            backend::{Answer, Backend as _, FieldValues, Portion, Want},
            error::EngineError,
        },
        Tensor, TorchBackend,
    },
    Fault,
};

/// How far a logit may move by the company that it is computed in, as a share of the range of logits: kernels of other
/// shapes add in another order. The shipped model's logits range over 16 and move by up to 0.08 in half precision.
const LOGIT_MOVE_SHARE_MAX: f32 = 0.01;
/// The same for a channel of a colour: five steps of a byte.
const COLOR_MOVE_MAX: f32 = 0.02;
/// A field flatter than this has no range to take shares of: the shipped model's surfaces are two logits thick.
const RANGE_MIN: f32 = 1.0;
/// The share of points that may move further: a field with a hard edge, such as the border of what a camera sees, flips
/// those that lie on it, whatever the rounding. A promise that is broken moves most points.
const FLIPPED_SHARE_MAX: f32 = 0.005;

/// The field's values at some points.
pub(super) fn field(
    backend: &mut TorchBackend,
    model: usize,
    codes: &Tensor,
    points: &[[f32; 3]],
) -> Result<FieldValues, EngineError> {
    let mut values = fields(backend, model, &[(codes, points)])?;
    Ok(values.pop().expect("one portion has one answer"))
}

/// The fields of rows of codes that are asked at once, each at as many points of its own.
pub(super) fn fields(
    backend: &mut TorchBackend,
    model: usize,
    asked: &[(&Tensor, &[[f32; 3]])],
) -> Result<Vec<FieldValues>, EngineError> {
    let portions: Vec<_> = asked
        .iter()
        .map(|&(codes, points)| Portion {
            codes,
            points,
            want: Want::LogitsAndColors,
        })
        .collect();
    let row = portions.iter().map(|portion| portion.points.len()).max();
    let row = row.expect("something is asked");
    let answers = backend.query(model, &portions, row)?.land()?;
    answers.into_iter().map(Answer::read).collect()
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
    /// Of the points that did not flip.
    logit: f32,
    color: f32,
    /// Points that moved further than rounding explains.
    flipped: usize,
    points: usize,
}

impl Move {
    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            logit: self.logit.max(other.logit),
            color: self.color.max(other.color),
            flipped: self.flipped + other.flipped,
            points: self.points + other.points,
        }
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            logit,
            color,
            flipped,
            points,
        } = self;
        if *logit == 0.0 && *color == 0.0 {
            f.write_str("exactly")?;
        } else {
            write!(f, "within {logit:.1e} of a logit, {color:.1e} of a channel")?;
        }
        if *flipped > 0 {
            write!(f, ", but for {flipped} of {points} points")?;
        }
        Ok(())
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
    let (low, high) = range(&one.logits);
    let logit_max = LOGIT_MOVE_SHARE_MAX * (high - low).max(RANGE_MIN);
    let mut moved = Move {
        points: one.logits.len(),
        ..Move::default()
    };
    let logits = one.logits.iter().zip(&other.logits);
    let colors = one.rgb.iter().zip(&other.rgb);
    for ((one, other), (color, other_color)) in logits.zip(colors) {
        let logit = (one - other).abs();
        let channels = color.iter().zip(other_color);
        let apart = |(one, other): (&f32, &f32)| (one - other).abs();
        // Asked for each, since a maximum passes over NaNs.
        if logit <= logit_max && channels.clone().all(|pair| apart(pair) <= COLOR_MOVE_MAX) {
            moved.logit = moved.logit.max(logit);
            moved.color = channels.map(apart).fold(moved.color, f32::max);
        } else {
            moved.flipped += 1;
        }
    }
    let Move {
        flipped, points, ..
    } = moved;
    if flipped as f32 <= FLIPPED_SHARE_MAX * points as f32 {
        return Ok(moved);
    }
    Err(Fault::Broken(format!(
        "{otherwise}: {flipped} of {points} points differ by more than {logit_max:.2} of a logit or {COLOR_MOVE_MAX} of a channel"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field from -8 to 8 over 1,000 points, so that a logit may move by 0.16.
    fn ramp() -> FieldValues {
        let logits = (0..1000).map(|at| at as f32 * 16.0 / 999.0 - 8.0).collect();
        FieldValues {
            logits,
            rgb: vec![[0.5; 3]; 1000],
        }
    }

    #[test]
    fn rounding_and_a_few_flipped_points_agree() {
        let one = ramp();
        let mut other = ramp();
        assert!(matches!(agree(&one, &other, ""), Ok(moved) if moved.to_string() == "exactly"));
        other.logits.iter_mut().for_each(|logit| *logit += 0.1);
        other.rgb[7][1] = 0.51;
        other.logits[..5].fill(-12.0);
        let Ok(moved) = agree(&one, &other, "") else {
            panic!("five of a thousand may flip");
        };
        assert!(
            moved.to_string().ends_with("but for 5 of 1000 points"),
            "{moved}"
        );
        other.logits[5] = f32::NAN;
        assert!(agree(&one, &other, "").is_err(), "a sixth one may not");
    }

    #[test]
    fn a_field_that_moves_as_a_whole_does_not_agree() {
        let one = ramp();
        let mut other = ramp();
        other.logits.iter_mut().for_each(|logit| *logit += 0.17);
        assert!(agree(&one, &other, "").is_err());
        let mut other = ramp();
        other.rgb.iter_mut().for_each(|color| color[2] = 0.53);
        assert!(agree(&one, &other, "").is_err());
    }
}
