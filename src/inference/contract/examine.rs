//! Tries every promise of every model in a folder.

use std::{path::Path, sync::Arc};

use super::{
    super::{
        catalog::ServedModel,
        device::{DeviceChoice, DeviceId},
        error::EngineError,
        manifest::{self, FoundModel, Manifest, ModelError},
        torch::{TorchBackend, devices},
    },
    Check, Examination, Examined, Finding, Verdict, archive,
};
use crate::error_chain::chain;

/// Examines the models of a folder, or the one whose own folder it is, on the first device of a choice. Blocks for
/// seconds: call it off the async threads.
///
/// # Errors
/// [`EngineError::Models`] if the folder can't be listed, [`EngineError::NoDevice`].
pub fn examine(
    models_dir: &Path,
    device: &DeviceChoice,
    cpu_threads: Option<usize>,
) -> Result<Examination, EngineError> {
    // Before anything touches a tensor: libtorch looks for CUDA once.
    let device = devices::choose(device)?
        .into_iter()
        .next()
        .unwrap_or(DeviceId::Cpu);
    let found = manifest::scan(models_dir).map_err(|source| EngineError::Models {
        source: Arc::new(source),
    })?;
    let models = found
        .into_iter()
        .map(|model| one(model, device, cpu_threads))
        .collect::<Result<_, _>>()?;
    Ok(Examination { device, models })
}

fn one(
    found: FoundModel,
    device: DeviceId,
    cpu_threads: Option<usize>,
) -> Result<Examined, EngineError> {
    let FoundModel {
        folder,
        name,
        manifest,
    } = found;
    let mut findings = Vec::new();
    let mut tell = |check, verdict| findings.push(Finding { check, verdict });
    let manifest = match manifest {
        Ok(manifest) => {
            tell(Check::Manifest, kept_manifest(&manifest));
            Some(Arc::new(manifest))
        }
        Err(error @ ModelError::FileMissing { .. }) => {
            tell(Check::File, Verdict::Broken(chain(&error)));
            None
        }
        Err(error) => {
            tell(Check::Manifest, Verdict::Broken(chain(&error)));
            None
        }
    };
    let file = manifest
        .as_ref()
        .and_then(|manifest| match manifest.verified_file(&folder) {
            Ok(file) => {
                let hash = &manifest.file.sha256;
                let says = format!("{} has the manifest's sha256 {hash}", manifest.file.name);
                tell(Check::File, Verdict::Kept(says));
                Some(file)
            }
            Err(error) => {
                tell(Check::File, Verdict::Broken(chain(&error)));
                None
            }
        });
    match (&manifest, file) {
        (Some(manifest), Some(file)) => {
            tell(Check::Code, archive::examine_code(&file, manifest));
            let served = ServedModel {
                name: name.as_str().into(),
                manifest: Arc::clone(manifest),
                file,
            };
            findings.extend(TorchBackend::examine(device, &served, cpu_threads)?);
        }
        // Another file than the manifest's is not run.
        _ => tell(
            Check::Load,
            Verdict::Untried("there is no file to be trusted".into()),
        ),
    }
    Ok(Examined {
        name,
        folder,
        manifest,
        findings,
    })
}

fn kept_manifest(manifest: &Manifest) -> Verdict {
    Verdict::Kept(format!(
        "{}, {} x {} pixels, {}",
        manifest.contract, manifest.input.height, manifest.input.width, manifest.licence
    ))
}
