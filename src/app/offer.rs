//! The models that a node offers to clients, from their manifests; a node without an engine knows them, too.

use std::path::Path;

use tracing::warn;

use crate::{
    error_chain::chain,
    graphql::model_card::{self, ModelCard},
    inference::{
        manifest::{ModelError, scan},
        sampling::Span,
    },
};

/// Reads the manifests of a models folder; broken ones are left out, with a word in the log.
///
/// # Errors
/// [`ModelError`] when the folder can't be read.
pub fn models(dir: &Path, default: &str) -> Result<Vec<ModelCard>, ModelError> {
    let mut cards = Vec::new();
    for found in scan(dir)? {
        match found.manifest {
            Ok(manifest) => cards.push(ModelCard {
                is_default: manifest.name == default,
                resolution_default: manifest.resolution.default,
                resolution_max: manifest.resolution.max,
                contract: manifest.contract.to_string(),
                steps: manifest.steps.map(offered),
                guidance: manifest.guidance.map(offered),
                description: manifest.description,
                licence: manifest.licence,
                name: manifest.name,
            }),
            Err(error) => warn!(cause = %chain(&error), "The model {} is not offered", found.name),
        }
    }
    Ok(cards)
}

fn offered<T>(Span { default, min, max }: Span<T>) -> model_card::Span<T> {
    model_card::Span { default, min, max }
}
