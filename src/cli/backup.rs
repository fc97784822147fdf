//! `orfeas backup` and `orfeas restore`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use serde_json::json;

use super::{CommandError, output, program};
use crate::{
    app::{self, open::Opened},
    backup::{self, Made, Place, Restored},
    config::Settings,
    db::{Database, dump::Dumper},
};

/// Options of `orfeas backup`.
#[derive(Debug, Args)]
pub struct MakeOptions {
    /// The folder to make; it must be empty if it is there.
    folder: PathBuf,
    /// Leave out the store's pictures and meshes, where something else keeps copies of them.
    #[arg(long)]
    database_only: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Options of `orfeas restore`.
#[derive(Debug, Args)]
pub struct RestoreOptions {
    /// The folder that `orfeas backup` has made.
    folder: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Makes a backup of the settings' database and store; nodes may be at work.
///
/// # Errors
/// When one of them can't be read, or the folder not be written.
pub async fn make(settings: Settings, options: MakeOptions) -> Result<ExitCode, CommandError> {
    let MakeOptions {
        folder,
        database_only,
        json,
    } = options;
    let (place, opened) = open(&settings).await?;
    let made = backup::make(&place, &opened.database, &folder, !database_only).await;
    opened.close().await?;
    let made = made?;
    if json {
        output::line(&json!(made).to_string());
    } else {
        let Made { assets, bytes, .. } = &made;
        output::line(&format!(
            "The backup is in {}: the database, and {assets} pictures and meshes ({bytes} bytes).",
            folder.display()
        ));
        output::line(
            "The master keys are not in it: keep ORFEAS_MASTER_KEYS, or the file `master-keys` of the data folder, elsewhere.",
        );
    }
    for key in &made.damaged {
        output::complain(&format!("{key} is missing in the store, or damaged"));
    }
    Ok(if made.damaged.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Puts a backup into the settings' empty database, and its pictures and meshes into their store.
///
/// # Errors
/// When the folder is no backup, or the place not empty.
pub async fn restore(
    settings: Settings,
    options: RestoreOptions,
) -> Result<ExitCode, CommandError> {
    let RestoreOptions { folder, json } = options;
    let (place, opened) = open(&settings).await?;
    let restored = restored(&place, &opened.database, &folder).await;
    opened.close().await?;
    let restored = restored?;
    if json {
        output::line(&json!(restored).to_string());
    } else {
        let Restored {
            assets,
            bytes,
            handed_back,
            removed,
        } = restored;
        output::line(&format!(
            "Restored: {assets} pictures and meshes ({bytes} bytes). {handed_back} conversions that ran are queued again; \
             {removed} were removed whose pictures or meshes are not there."
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// What the settings name.
async fn open(settings: &Settings) -> Result<(Place, Opened), CommandError> {
    let dumper = Dumper::find(settings.orfeas_postgres_dir.as_deref())?;
    let storage = app::open::storage(settings)?;
    let opened = app::open::unmigrated(settings, program()?).await?;
    let place = Place {
        url: opened.url.clone(),
        storage,
        dumper,
    };
    Ok((place, opened))
}

async fn restored(
    place: &Place,
    database: &Database,
    folder: &std::path::Path,
) -> Result<Restored, CommandError> {
    backup::fill(place, database, folder).await?;
    // A backup of an earlier version is brought up to date.
    database.migrate().await?;
    Ok(backup::settle(place, database).await?)
}
