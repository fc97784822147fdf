//! `orfeas store sweep`, `orfeas store check`.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::{CommandError, output, program};
use crate::{
    app,
    backup::{self, Checked},
    config::Settings,
    db::{Database, listen::Hub},
    retention::{
        eraser::Eraser,
        orphans::{SweepOptions, SweepReport, sweep},
    },
    storage::Storage,
};

/// Subcommands of `orfeas store`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look for bytes older than a day that no row of the database tells of, and erase them.
    Sweep {
        /// Only say what would be erased.
        #[arg(long)]
        dry_run: bool,
        /// Take the store for this database's own, whoever it belonged to before. Whatever this database does not know is
        /// erased.
        #[arg(long)]
        adopt: bool,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Look whether the bytes that rows tell of are there, and what was stored.
    Check {
        /// Remove conversions whose bytes aren't.
        #[arg(long)]
        remove: bool,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs a subcommand on the settings' database and store.
///
/// # Errors
/// When one of them can't be reached, or the store is another database's.
pub async fn run(settings: Settings, command: Command) -> Result<ExitCode, CommandError> {
    match command {
        Command::Sweep {
            dry_run,
            adopt,
            json,
        } => run_sweep(settings, dry_run, adopt, json).await,
        Command::Check { remove, json } => run_check(settings, remove, json).await,
    }
}

async fn run_check(settings: Settings, remove: bool, json: bool) -> Result<ExitCode, CommandError> {
    let storage = app::open::storage(&settings)?;
    let opened = app::open::database(&settings, program()?).await?;
    let checked = backup::check(&storage, &opened.database, remove).await;
    opened.close().await?;
    let checked = checked?;
    if json {
        output::line(&json!(checked).to_string());
    } else {
        let Checked {
            assets,
            bytes,
            damaged,
            removed,
        } = &checked;
        for key in damaged {
            output::line(&format!("{key} is missing or damaged"));
        }
        output::line(&format!(
            "{assets} pictures and meshes ({bytes} bytes) are what was stored; {} are not, and {removed} conversions were removed for it.",
            damaged.len()
        ));
    }
    Ok(if checked.damaged.is_empty() || remove {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn run_sweep(
    settings: Settings,
    dry_run: bool,
    adopt: bool,
    json: bool,
) -> Result<ExitCode, CommandError> {
    let storage = app::open::storage(&settings)?;
    let opened = app::open::database(&settings, program()?).await?;
    let options = SweepOptions {
        is_dry: dry_run,
        is_adopting: adopt,
        ..SweepOptions::default()
    };
    let swept = sweep_and_erase(&opened.database, &storage, options).await;
    opened.close().await?;
    let report = swept?;
    if json {
        output::line(&json!(report).to_string());
    } else {
        output::line(&text(&report, dry_run));
    }
    Ok(ExitCode::SUCCESS)
}

/// Erases what was found as well, so that no node need be running.
async fn sweep_and_erase(
    database: &Database,
    storage: &Storage,
    options: SweepOptions,
) -> Result<SweepReport, CommandError> {
    let report = sweep(database, storage, options).await?;
    let eraser = Eraser {
        database: database.clone(),
        storage: storage.clone(),
        hub: Hub::default(),
    };
    while !options.is_dry && eraser.step().await?.erased > 0 {}
    Ok(report)
}

fn text(report: &SweepReport, is_dry: bool) -> String {
    let SweepReport {
        looked,
        young,
        strange,
        orphans,
        orphan_bytes,
        unfinished,
    } = report;
    let fate = if is_dry {
        "would be erased"
    } else {
        "are erased"
    };
    format!(
        "{looked} keys: {orphans} without a row ({orphan_bytes} bytes) {fate}; {young} too young to be judged and {strange} of another form stay; \
         {unfinished} unfinished files removed."
    )
}
