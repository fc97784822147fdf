//! The models of an engine: what was found, what is served, and why the rest is not.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    error::EngineError,
    manifest::{self, Manifest, ModelError},
    memory::{Ceiling, Measured},
};

/// A model whose manifest and file are right, to be loaded onto each device.
#[derive(Debug, Clone)]
pub struct ServedModel {
    pub name: Arc<str>,
    pub manifest: Arc<Manifest>,
    /// The file, its hash verified.
    pub file: PathBuf,
}

/// A model as clients and operators see it.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    pub name: String,
    /// `None` if it could not be read.
    pub manifest: Option<Arc<Manifest>>,
    /// Whether conversions get it that name no model.
    pub is_default: bool,
    /// Why it is not served.
    pub refused: Option<Arc<ModelError>>,
}

/// Every model that was found.
#[derive(Debug)]
pub struct Catalog {
    folder: PathBuf,
    /// Candidates, counted alike on every device.
    served: Arc<[ServedModel]>,
    /// For each candidate, why a device refused it.
    refused: Vec<Option<Arc<ModelError>>>,
    /// Models that were not even tried.
    broken: Vec<ModelInfo>,
    default: usize,
}

impl Catalog {
    /// Looks for models and verifies their files' hashes, once for all devices.
    ///
    /// # Errors
    /// [`EngineError::Models`] if the folder cannot be listed.
    pub fn find(models_dir: &Path) -> Result<Self, EngineError> {
        let found = manifest::scan(models_dir).map_err(|source| EngineError::Models {
            source: Arc::new(source),
        })?;
        let mut served = Vec::new();
        let mut broken = Vec::new();
        for model in found {
            let manifest = model.manifest.map(Arc::new);
            let file = manifest
                .as_ref()
                .ok()
                .map(|manifest| manifest.verified_file(&model.folder))
                .transpose();
            match (manifest, file) {
                (Ok(manifest), Ok(file)) => {
                    let file = file.expect("a readable manifest has had its file verified");
                    served.push(ServedModel {
                        name: model.name.into(),
                        manifest,
                        file,
                    });
                }
                (manifest, file) => {
                    let (manifest, error) = match manifest {
                        Ok(manifest) => (Some(manifest), file.err()),
                        Err(error) => (None, Some(error)),
                    };
                    let refused = error.map(Arc::new);
                    broken.push(ModelInfo {
                        name: model.name,
                        manifest,
                        is_default: false,
                        refused,
                    });
                }
            }
        }
        let refused = vec![None; served.len()];
        Ok(Self {
            folder: models_dir.to_owned(),
            served: served.into(),
            refused,
            broken,
            default: 0,
        })
    }

    /// The candidates, in the order by which devices count them.
    #[must_use]
    pub fn served(&self) -> Arc<[ServedModel]> {
        Arc::clone(&self.served)
    }

    /// Takes in what a device has measured of each candidate. One that any device refuses is served by none,
    /// so that a conversion never depends on where it runs.
    #[must_use]
    pub fn take_in(&mut self, measured: Vec<Result<Measured, ModelError>>) -> Vec<Ceiling> {
        assert_eq!(
            measured.len(),
            self.served.len(),
            "a device reports on each candidate"
        );
        let mut ceilings = Vec::with_capacity(measured.len());
        for (at, measured) in measured.into_iter().enumerate() {
            let measured = measured.unwrap_or_else(|error| {
                self.refused[at] = Some(Arc::new(error));
                Measured::default()
            });
            let images_max = measured.images_max(self.served[at].manifest.batch.images_max);
            ceilings.push(Ceiling::new(measured, images_max));
        }
        ceilings
    }

    /// Settles which model is the default.
    ///
    /// # Errors
    /// [`EngineError::ModelUnavailable`] if the one asked for is not served, [`EngineError::NoModel`]
    /// if none is.
    pub fn choose_default(&mut self, wanted: Option<&str>) -> Result<(), EngineError> {
        self.default = match wanted {
            Some(name) => self.model(name)?.0,
            None => self
                .refused
                .iter()
                .position(Option::is_none)
                .ok_or_else(|| self.no_model())?,
        };
        Ok(())
    }

    /// A served model and its number.
    ///
    /// # Errors
    /// [`EngineError::ModelUnavailable`].
    pub fn model(&self, name: &str) -> Result<(usize, &ServedModel), EngineError> {
        let unavailable = |source| EngineError::ModelUnavailable {
            model: name.to_owned(),
            source,
        };
        match self.served.iter().position(|model| &*model.name == name) {
            Some(at) => match &self.refused[at] {
                None => Ok((at, &self.served[at])),
                Some(refused) => Err(unavailable(Some(Arc::clone(refused)))),
            },
            None => {
                let broken = self.broken.iter().find(|model| model.name == name);
                Err(unavailable(broken.and_then(|model| model.refused.clone())))
            }
        }
    }

    /// The default model's number.
    #[must_use]
    pub fn default_index(&self) -> usize {
        self.default
    }

    /// The default model's name.
    #[must_use]
    pub fn default_model(&self) -> &str {
        &self.served[self.default].name
    }

    /// Every model found, in the order of names.
    #[must_use]
    pub fn models(&self) -> Vec<ModelInfo> {
        let candidates = self.served.iter().enumerate().map(|(at, model)| ModelInfo {
            name: model.name.to_string(),
            manifest: Some(Arc::clone(&model.manifest)),
            is_default: at == self.default && self.refused[at].is_none(),
            refused: self.refused[at].clone(),
        });
        let mut models: Vec<_> = candidates.chain(self.broken.iter().cloned()).collect();
        models.sort_by(|a, b| a.name.cmp(&b.name));
        models
    }

    fn no_model(&self) -> EngineError {
        let reasons: Vec<_> = self
            .models()
            .iter()
            .map(|model| match &model.refused {
                Some(refused) => format!("{}: {refused}", model.name),
                None => model.name.clone(),
            })
            .collect();
        let found = if reasons.is_empty() {
            "nothing".to_owned()
        } else {
            reasons.join("; ")
        };
        EngineError::NoModel {
            folder: self.folder.display().to_string(),
            found,
        }
    }
}
