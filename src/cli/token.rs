//! `orfeas token`.

use std::{process::ExitCode, time::Duration};

use clap::Args;

use super::{CommandError, output};
use crate::{auth::jwt::Tokens, config::Settings};

/// Options of `orfeas token`.
#[derive(Debug, Args)]
pub struct Options {
    /// Whom the token stands for.
    #[arg(long)]
    user: String,
    /// A role, such as `admin`; may be repeated.
    #[arg(long = "role")]
    roles: Vec<String>,
    /// How long the token works, in hours.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=87_600))]
    hours: u64,
}

/// Prints a token on the last line. Works on a running server's data folder and on an empty one.
///
/// # Errors
/// When the master keys can't be read or made.
pub fn run(settings: &Settings, options: Options) -> Result<ExitCode, CommandError> {
    let Options { user, roles, hours } = options;
    let tokens = Tokens::new(&settings.keyring()?).between(settings.token_parties());
    output::line(&tokens.issue(&user, &roles, Duration::from_secs(hours * 3600)));
    Ok(ExitCode::SUCCESS)
}
