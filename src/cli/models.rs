//! `orfeas models`.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{CommandError, output};
use crate::{config::Settings, error_chain::chain, inference::manifest::scan};

mod report;
mod verify;

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
    /// Check models against their contract, and measure them on pictures of known meshes.
    Verify(verify::Options),
}

/// Lists or verifies.
///
/// # Errors
/// When the folder can't be read, a set can't be used, or the engine does not start.
pub async fn run(settings: Settings, options: Options) -> Result<ExitCode, CommandError> {
    match options.action {
        Action::List => list(&settings),
        Action::Verify(options) => verify::run(settings, options).await,
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
