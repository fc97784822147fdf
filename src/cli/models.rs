//! `orfeas models`.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};

use super::{CommandError, output};
use crate::{app, config::Settings, error_chain::chain, inference::manifest::scan};

/// Options of `orfeas models`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the models of the models folder.
    List,
    /// Load each model of a models folder and check it against its contract.
    Verify {
        /// A folder with a folder for each model; default: the settings'.
        folder: Option<PathBuf>,
    },
}

/// Lists or verifies.
///
/// # Errors
/// When the folder can't be read or the engine does not start.
pub async fn run(settings: Settings, options: Options) -> Result<ExitCode, CommandError> {
    match options.action {
        Action::List => list(&settings),
        Action::Verify { folder } => {
            verify(Settings {
                orfeas_models_dir: folder.or(settings.orfeas_models_dir),
                ..settings
            })
            .await
        }
    }
}

fn list(settings: &Settings) -> Result<ExitCode, CommandError> {
    for found in scan(&settings.models_dir()?)? {
        match found.manifest {
            Ok(manifest) => output::line(&format!(
                "{:<24} {:<18} {}",
                manifest.name,
                manifest.contract.to_string(),
                manifest.description
            )),
            Err(error) => output::line(&format!("{:<24} unusable: {}", found.name, chain(&error))),
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn verify(settings: Settings) -> Result<ExitCode, CommandError> {
    let engine = app::open::engine(&settings).await?;
    let mut code = ExitCode::SUCCESS;
    for model in engine.models() {
        match model.refused {
            None => output::line(&format!("{:<24} keeps its contract", model.name)),
            Some(reason) => {
                output::line(&format!("{:<24} refused: {}", model.name, chain(&*reason)));
                code = ExitCode::FAILURE;
            }
        }
    }
    engine.stop().await;
    Ok(code)
}
