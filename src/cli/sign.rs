//! `orfeas sign`: the header fields that sign a request, for curl and for whoever debugs a client.

use std::{io::Read, path::PathBuf, process::ExitCode};

use axum::http::Method;
use clap::Args;
use serde::Deserialize;
use time::OffsetDateTime;
use url::Url;

use super::{CommandError, output};
use crate::auth::{
    api_key::{AgentSecret, KeyId},
    signature::signer::{Nonce, Unsigned, sign},
};

/// Options of `orfeas sign`.
#[derive(Debug, Args)]
#[command(
    after_help = "orfeas sign --key-file key.json --url URL --body query.json |\n  curl -H @- -H 'Content-Type: application/json' --data-binary @query.json URL"
)]
pub struct Options {
    /// The JSON that `orfeas keys create --json` printed; `-` for standard input.
    #[arg(long)]
    key_file: PathBuf,
    /// The whole URL, query string included.
    #[arg(long)]
    url: Url,
    /// Default: POST with a body, GET without.
    #[arg(long)]
    method: Option<Method>,
    /// The file that will be sent, byte for byte; `-` for standard input.
    #[arg(long)]
    body: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyFile {
    key_id: String,
    secret: String,
}

/// Prints the fields, one a line. The signature is good for five minutes and one request.
///
/// # Errors
/// When a file can't be read or holds no key.
pub fn run(options: Options) -> Result<ExitCode, CommandError> {
    let Options {
        key_file,
        url,
        method,
        body,
    } = options;
    let KeyFile { key_id, secret } = serde_json::from_slice(&read(&key_file)?)
        .map_err(|error| format!("{} holds no key: {error}", key_file.display()))?;
    let key_id: KeyId = key_id.parse()?;
    let secret: AgentSecret = secret.parse()?;
    let body = body.map(|path| read(&path)).transpose()?;
    let method = method.unwrap_or(if body.is_some() {
        Method::POST
    } else {
        Method::GET
    });
    let unsigned = Unsigned {
        method: &method,
        url: &url,
        body: body.as_deref(),
        created: OffsetDateTime::now_utc(),
        nonce: Nonce::new(),
    };
    for (name, value) in &sign(unsigned, &key_id, &secret) {
        output::line(&format!("{name}: {}", value.to_str()?));
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &PathBuf) -> Result<Vec<u8>, CommandError> {
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    std::fs::read(path)
        .map_err(|error| format!("could not read {}: {error}", path.display()).into())
}
