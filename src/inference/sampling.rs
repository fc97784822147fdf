//! How an iterative model goes from noise to an object: what may be asked, and what one conversion gets. Pure.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

/// What `denoise` gets where the manifest has no `[guidance]`: as the model was trained, by custom.
const GUIDANCE_UNUSED: f64 = 1.0;

/// What an option may be, and what it is where nothing is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span<T> {
    pub default: T,
    pub min: T,
    pub max: T,
}

impl<T: Copy + PartialOrd + Display> Span<T> {
    /// What is used where `asked` is asked.
    ///
    /// # Errors
    /// [`OutOfSpan`] if it lies outside, as a NaN does.
    pub fn pick(self, option: &'static str, asked: Option<T>) -> Result<T, OutOfSpan> {
        let Self { default, min, max } = self;
        match asked {
            None => Ok(default),
            Some(value) if (min..=max).contains(&value) => Ok(value),
            Some(value) => Err(OutOfSpan {
                option,
                value: value.to_string(),
                min: min.to_string(),
                max: max.to_string(),
            }),
        }
    }
}

/// An option outside of what the model allows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{option} must lie in {min}..{max} for this model, and {value} was asked")]
pub struct OutOfSpan {
    /// The option's name in the API.
    pub option: &'static str,
    pub value: String,
    pub min: String,
    pub max: String,
}

/// What is asked of an iterative model; others take no notice of it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SamplingOptions {
    /// Denoising steps.
    pub steps: Option<u32>,
    /// How far the picture pulls.
    pub guidance: Option<f64>,
    /// What the noise is made from: the same one gives the same latents.
    pub seed: u32,
}

/// How one conversion's latents are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// At least 1.
    pub steps: u32,
    pub guidance: f32,
    pub seed: i64,
}

/// What an iterative model allows: the tables of its manifest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingLimits {
    pub steps: Span<u32>,
    /// `None`: the model takes no notice of it.
    pub guidance: Option<Span<f64>>,
}

impl SamplingLimits {
    /// What a conversion gets that asks for `options`.
    ///
    /// # Errors
    /// [`OutOfSpan`] for the first option that is outside of what is allowed.
    pub fn settle(&self, options: SamplingOptions) -> Result<Sampling, OutOfSpan> {
        let SamplingOptions {
            steps,
            guidance,
            seed,
        } = options;
        let guidance = match self.guidance {
            Some(span) => span.pick("guidance", guidance)?,
            None => GUIDANCE_UNUSED,
        };
        Ok(Sampling {
            steps: self.steps.pick("steps", steps)?,
            guidance: guidance as f32,
            seed: seed.into(),
        })
    }

    /// As few steps as the model allows, for trying it: the promises hold at any number of steps.
    #[must_use]
    pub fn shortest(&self, seed: i64) -> Sampling {
        Sampling {
            steps: self.steps.min,
            guidance: self.guidance.map_or(GUIDANCE_UNUSED, |span| span.default) as f32,
            seed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SamplingLimits = SamplingLimits {
        steps: Span {
            default: 20,
            min: 2,
            max: 50,
        },
        guidance: Some(Span {
            default: 3.0,
            min: 0.0,
            max: 10.0,
        }),
    };

    #[test]
    fn what_is_not_asked_is_the_models_default() {
        let settled = LIMITS.settle(SamplingOptions::default()).unwrap();
        let expected = Sampling {
            steps: 20,
            guidance: 3.0,
            seed: 0,
        };
        assert_eq!(settled, expected);
        let unguided = SamplingLimits {
            guidance: None,
            ..LIMITS
        };
        let asked = SamplingOptions {
            guidance: Some(99.0),
            ..SamplingOptions::default()
        };
        let settled = unguided.settle(asked).unwrap();
        assert_eq!(settled.guidance, 1.0, "it is not used, so it is not judged");
    }

    #[test]
    fn what_is_out_of_range_is_named_with_the_range() {
        let asked = |steps, guidance| {
            let options = SamplingOptions {
                steps,
                guidance,
                seed: 7,
            };
            LIMITS.settle(options).map_err(|error| error.option)
        };
        assert_eq!(asked(Some(1), None), Err("steps"));
        assert_eq!(asked(Some(51), None), Err("steps"));
        assert_eq!(asked(None, Some(-0.1)), Err("guidance"));
        assert_eq!(asked(None, Some(f64::NAN)), Err("guidance"));
        assert_eq!(asked(Some(50), Some(10.0)).map(|used| used.seed), Ok(7));
        let error = LIMITS.steps.pick("steps", Some(51)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "steps must lie in 2..50 for this model, and 51 was asked"
        );
    }
}
