//! `orfeas serve`.

use std::{process::ExitCode, time::Duration};

use tokio::signal::unix::{SignalKind, signal};

use super::{CommandError, output, program};
use crate::{
    app::{App, AppOptions},
    config::{Role, Settings},
    telemetry,
};

/// Runs a node until it is asked to stop.
///
/// # Errors
/// When it can't start.
pub async fn run(settings: Settings) -> Result<ExitCode, CommandError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let metrics = Some(telemetry::init_metrics()?);
    let role = settings.orfeas_role;
    let own_database = settings.database_url.is_none();
    let app = App::start(AppOptions {
        settings,
        program: program()?,
        engine: None,
        egress: None,
        metrics,
    })
    .await?;
    announce(&app, role, own_database);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tokio::select! {
        () = app.stop() => Ok(ExitCode::SUCCESS),
        // Whoever asks twice does not want to wait; leases see to the rest.
        _ = interrupt.recv() => Ok(ExitCode::FAILURE),
    }
}

fn announce(app: &App, role: Role, own_database: bool) {
    if let Some(api) = app.api {
        output::line(&format!("Studio         http://{api}/"));
        output::line(&format!("API            http://{api}/graphql"));
        output::line(&format!(
            "Subscriptions  ws://{api}/graphql (graphql-transport-ws)"
        ));
        output::line(&format!("Ready?         http://{api}/readyz"));
    }
    if let Some(metrics) = app.metrics {
        output::line(&format!("Metrics        http://{metrics}/metrics"));
    }
    // A person at a terminal tries it out at once; a node among others has its own ways to sign people in.
    if role == Role::All && own_database {
        let token = app.tokens.issue(
            "admin",
            &["admin".to_owned()],
            Duration::from_secs(24 * 3600),
        );
        output::line("\nFor a day, as an admin:\n");
        if let Some(api) = app.api {
            // What follows the # stays in the browser: it is in no request and no log.
            output::line(&format!("  http://{api}/#token={token}\n"));
        }
        output::line(&format!("  Authorization: Bearer {token}\n"));
    }
}
