//! One view through the pipeline, and what came of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinError;

use super::set::{EvaluationSet, KnownView, SetError};
use crate::{
    conversion::options::{ConversionOptions, MeshFormat},
    error_chain::chain,
    mesh::{
        compare::{Score, View, compare},
        ply::reader,
    },
    pipeline::{self, Job, Tools, stage::Silent},
};

/// Why nothing could be measured. A conversion that fails is a result, not an error.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The set is at fault, not the model.
    #[error("the set can't be used")]
    Set(#[from] SetError),
    /// A bug, caught.
    #[error("comparing {name} panicked")]
    Panicked { name: String, source: JoinError },
}

/// How pictures are converted.
#[derive(Debug, Clone)]
pub struct EvaluationOptions {
    pub model: String,
    /// Field samples along the longest axis; the model's own default if `None`.
    pub resolution: Option<u32>,
}

/// What came of one view.
#[derive(Debug, Clone)]
pub struct Measured {
    pub view: KnownView,
    /// From the picture's bytes to the mesh's, without the comparison.
    pub took: Duration,
    /// [`Score::FAILED`] where there is no mesh.
    pub score: Score,
    /// Why there is no mesh.
    pub failure: Option<String>,
}

/// Converts a view's picture as `orfeas convert` does, by the same code, and compares the mesh with the true one.
/// Called one after another, since conversions that run at once would be measured slower than they are.
///
/// # Errors
/// [`RunError`].
pub async fn measure(
    tools: &Tools,
    options: &EvaluationOptions,
    set: &Arc<EvaluationSet>,
    view: &KnownView,
) -> Result<Measured, RunError> {
    let (picture, truth) = {
        let (set, known) = (Arc::clone(set), view.clone());
        blocking(view, move || Ok((set.picture(&known)?, set.truth(&known)?))).await?
    };
    let job = Job {
        picture: picture.into(),
        model: options.model.clone(),
        options: ConversionOptions {
            formats: vec![MeshFormat::Ply],
            resolution: options.resolution,
            ..ConversionOptions::default()
        },
        rank: 0,
        name: None,
    };
    let started = Instant::now();
    let converted = pipeline::convert(tools, job, &Silent).await;
    let took = started.elapsed();
    let (score, failure) = match converted {
        Err(error) => (Score::FAILED, Some(chain(&error))),
        Ok(product) => {
            let angles: View = view.view();
            let compared = blocking(view, move || {
                let made = product
                    .files
                    .first()
                    .map(|file| reader::read(&file.pieces.concat()));
                Ok(match made {
                    Some(Ok(made)) => (compare(&made, &truth, &angles), None),
                    Some(Err(error)) => (Score::FAILED, Some(chain(&error))),
                    None => (Score::FAILED, Some("no file was written".to_owned())),
                })
            });
            compared.await?
        }
    };
    Ok(Measured {
        view: view.clone(),
        took,
        score,
        failure,
    })
}

async fn blocking<T: Send + 'static>(
    view: &KnownView,
    work: impl FnOnce() -> Result<T, SetError> + Send + 'static,
) -> Result<T, RunError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|source| RunError::Panicked {
        name: view.name.clone(),
        source,
    })??)
}
