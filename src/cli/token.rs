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
    /// Print a link to the studio that signs a browser in with one click, instead of the bare token.
    #[arg(long)]
    link: bool,
}

/// An address that signs a browser in. What follows the # stays in the browser: it is in no request and no log.
#[must_use]
pub fn sign_in_link(studio: &str, token: &str) -> String {
    format!("{}/#token={token}", studio.trim_end_matches('/'))
}

/// Prints a token on the last line. Works on a running server's data folder and on an empty one.
///
/// # Errors
/// When the master keys can't be read or made.
pub fn run(settings: &Settings, options: Options) -> Result<ExitCode, CommandError> {
    let Options {
        user,
        roles,
        hours,
        link,
    } = options;
    let tokens = Tokens::new(&settings.keyring()?).between(settings.token_parties());
    let token = tokens.issue(&user, &roles, Duration::from_secs(hours * 3600));
    output::line(&if link {
        sign_in_link(&settings.studio_url(), &token)
    } else {
        token
    });
    Ok(ExitCode::SUCCESS)
}
