//! `orfeas schema`, `orfeas config`, `orfeas migrate`.

use std::process::ExitCode;

use super::{CommandError, output, program};
use crate::{app, config::Settings, graphql};

/// Prints the GraphQL schema.
///
/// # Errors
/// Never.
pub fn print() -> Result<ExitCode, CommandError> {
    output::line(graphql::sdl().trim_end());
    Ok(ExitCode::SUCCESS)
}

/// Prints the settings in force.
///
/// # Errors
/// Never.
pub fn config(settings: &Settings) -> Result<ExitCode, CommandError> {
    output::line(settings.shown().trim_end());
    Ok(ExitCode::SUCCESS)
}

/// Brings the schema of the settings' database up to date.
///
/// # Errors
/// When the database can't be reached, or a step fails.
pub async fn migrate(settings: Settings) -> Result<ExitCode, CommandError> {
    let opened = app::open::database(&settings, program()?).await?;
    opened.close().await?;
    output::line("The database's schema is up to date.");
    Ok(ExitCode::SUCCESS)
}
