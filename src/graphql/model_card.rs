//! What the API knows of the models: what they are called, and what conversions may ask of them.

use std::{fmt::Display, ops::RangeInclusive};

use super::error::ApiError;
use crate::conversion::options::{ConversionOptions, RESOLUTION, SEED_DEFAULT};

/// What an option of the denoising may be, and what it is where nothing is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span<T> {
    pub default: T,
    pub min: T,
    pub max: T,
}

/// A model that conversions may name.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelCard {
    pub name: String,
    pub description: String,
    pub licence: String,
    pub contract: String,
    pub resolution_default: u32,
    pub resolution_max: u32,
    /// Denoising steps; `None`: it doesn't iterate.
    pub steps: Option<Span<u32>>,
    /// `None`: it takes no notice of it.
    pub guidance: Option<Span<f64>>,
    pub is_default: bool,
}

impl ModelCard {
    /// The resolutions that this model and the contract allow.
    #[must_use]
    pub fn resolutions(&self) -> RangeInclusive<u32> {
        *RESOLUTION.start()..=self.resolution_max.min(*RESOLUTION.end())
    }

    /// Options as they are used: the denoising's filled in where the model iterates, and left out where they would mean
    /// nothing.
    ///
    /// # Errors
    /// `INVALID_INPUT` with the range, for the first that is outside of what the model allows.
    pub fn settle(&self, options: ConversionOptions) -> Result<ConversionOptions, ApiError> {
        Ok(ConversionOptions {
            steps: self.pick("steps", self.steps, options.steps)?,
            guidance: self.pick("guidance", self.guidance, options.guidance)?,
            seed: self.steps.map(|_| options.seed.unwrap_or(SEED_DEFAULT)),
            ..options
        })
    }

    fn pick<T: PartialOrd + Display>(
        &self,
        option: &str,
        span: Option<Span<T>>,
        asked: Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(Span { default, min, max }) = span else {
            return Ok(None);
        };
        let value = asked.unwrap_or(default);
        if (&min..=&max).contains(&&value) {
            return Ok(Some(value));
        }
        let message = format!(
            "The option {option} of the model {} must lie in {min}..{max}.",
            self.name
        );
        Err(ApiError::invalid(format!("options.{option}"), message))
    }
}
