//! `orfeas audit verify`, `orfeas audit head`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use serde_json::json;

use super::{CommandError, output, program};
use crate::{
    app,
    config::Settings,
    db::audit::{
        head::Head,
        verify::{HeadState, Report},
    },
};

/// Subcommands of `orfeas audit`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Hold every event of the audit log against the keys; exits 1 when something was changed or removed.
    Verify {
        /// What `orfeas audit head` printed earlier: finds an end that was cut off since.
        #[arg(long)]
        head: Option<PathBuf>,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print where the chain ends, to be kept where nobody who can write to the database can write.
    Head,
}

/// A file that holds no head.
#[derive(Debug, thiserror::Error)]
enum HeadFileError {
    #[error("could not read the head in {path}")]
    Read {
        path: String,
        source: std::io::Error,
    },
    #[error("{path} does not hold what `orfeas audit head` prints")]
    Parse {
        path: String,
        source: serde_json::Error,
    },
}

/// Runs a subcommand on the settings' database.
///
/// # Errors
/// When the database, the keys or the head can't be read.
pub async fn run(settings: Settings, command: Command) -> Result<ExitCode, CommandError> {
    // First what can be wrong without a database.
    let keyring = settings.keyring()?;
    let expected = match &command {
        Command::Verify {
            head: Some(path), ..
        } => Some(read_head(path)?),
        _ => None,
    };
    let opened = app::open::database(&settings, program()?).await?;
    let database = &opened.database;
    let ended = match command {
        Command::Head => database.audit_head(&keyring).await.map(|head| {
            output::line(&json!(head).to_string());
            ExitCode::SUCCESS
        }),
        Command::Verify { json, .. } => database
            .verify_audit(&keyring, expected.as_ref())
            .await
            .map(|report| tell(&report, json)),
    };
    opened.close().await?;
    Ok(ended?)
}

fn read_head(path: &Path) -> Result<Head, HeadFileError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| HeadFileError::Read {
        path: shown.clone(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|source| HeadFileError::Parse {
        path: shown,
        source,
    })
}

fn tell(report: &Report, as_json: bool) -> ExitCode {
    if as_json {
        let mut shown = json!(report);
        let texts = report.findings.iter().map(ToString::to_string);
        for (finding, text) in shown["findings"]
            .as_array_mut()
            .into_iter()
            .flatten()
            .zip(texts)
        {
            finding["text"] = text.into();
        }
        shown["clean"] = report.is_clean().into();
        output::line(&shown.to_string());
    } else {
        for line in lines(report) {
            output::line(&line);
        }
    }
    if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn lines(report: &Report) -> Vec<String> {
    let mut lines: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    if report.findings_left_out > 0 {
        lines.push(format!("… and {} findings more", report.findings_left_out));
    }
    let verified = report.events_verified;
    let (begin, end) = (report.begins_after.saturating_add(1), report.last_seq);
    lines.push(if report.is_clean() {
        match verified {
            0 => "The audit log is empty.".to_owned(),
            _ => format!("The audit log is as it was written: {verified} events, seals {begin} to {end}."),
        }
    } else {
        format!("The audit log was tampered with, or is not sealed: {verified} events are as they were written.")
    });
    match report.head {
        Some(HeadState::OnChain) => lines.push("The head lies on the chain.".to_owned()),
        Some(HeadState::Pruned) => lines.push(
            "The head is older than what is kept and tells nothing any more: export a new one."
                .to_owned(),
        ),
        Some(HeadState::NotOnChain) | None => {}
    }
    lines
}
