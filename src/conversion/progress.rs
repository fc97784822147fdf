//! One number for how far a conversion is.

use super::{Stage, Status};

/// The share of a conversion's time that a stage starts and ends at, from the stage times measured on two CPU
/// cores (docs/PERFORMANCE.md); it only has to look even, and to rise.
fn span(stage: Stage) -> (f32, f32) {
    match stage {
        Stage::Prepare => (0.00, 0.08),
        Stage::Encode => (0.08, 0.35),
        Stage::Reconstruct => (0.35, 0.75),
        Stage::Mesh => (0.75, 0.85),
        Stage::Texture => (0.85, 0.95),
        Stage::Export => (0.95, 1.00),
    }
}

/// Progress in 0..=1 of a conversion that is `fraction` (0..=1) through `stage`, or had come to `stage` when it failed
/// or was cancelled: then the stage's end, since nothing shown before may have been more. Rises with the stage and with
/// the fraction; a queued conversion is at 0.
#[must_use]
pub fn overall(status: Status, stage: Option<Stage>, fraction: f32) -> f32 {
    match (status, stage) {
        (Status::Succeeded, _) => 1.0,
        (_, None) => 0.0,
        (Status::Failed | Status::Canceled, Some(stage)) => span(stage).1,
        (_, Some(stage)) => {
            let (from, to) = span(stage);
            // In this form both ends are exact, so that stages join.
            let fraction = fraction.clamp(0.0, 1.0);
            from * (1.0 - fraction) + to * fraction
        }
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::Iterable;

    use super::*;

    #[test]
    fn stages_join_without_a_gap_and_end_at_one() {
        let mut before = 0.0;
        for stage in Stage::iter() {
            assert_eq!(
                overall(Status::Running, Some(stage), 0.0).to_bits(),
                f32::to_bits(before),
                "{stage:?}"
            );
            before = overall(Status::Running, Some(stage), 1.0);
        }
        assert_eq!(before.to_bits(), 1.0_f32.to_bits());
    }
}
