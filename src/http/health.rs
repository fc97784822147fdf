//! Liveness and readiness.

use std::{fmt, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::HttpState;
use crate::{db::Database, db::listen::Hub};

/// A database that takes longer than this to answer is not ready.
const PING_MAX: Duration = Duration::from_secs(2);

/// What a node's health is read from; cheap to clone.
#[derive(Clone)]
pub struct Vitals {
    pub database: Database,
    pub hub: Hub,
    /// Whether the node can do what its role asks of devices.
    pub can_compute: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl fmt::Debug for Vitals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vitals").finish_non_exhaustive()
    }
}

/// `GET /healthz`: the process runs and answers.
pub async fn live() -> &'static str {
    "alive\n"
}

/// `GET /readyz`: this node can take work, or says why it can't.
pub async fn ready(State(state): State<HttpState>) -> Response {
    respond(&problems(&state.0.vitals).await)
}

/// What keeps a node from working.
pub async fn problems(vitals: &Vitals) -> Vec<&'static str> {
    let mut problems = Vec::new();
    if !matches!(
        tokio::time::timeout(PING_MAX, vitals.database.ping()).await,
        Ok(Ok(()))
    ) {
        problems.push("the database does not answer");
    }
    if !vitals.hub.is_hearing() {
        problems.push("no notifications are heard from the database; progress is slower");
    }
    if !(vitals.can_compute)() {
        problems.push("every device is lost; restart this node");
    }
    problems
}

/// The answer for a list of problems.
#[must_use]
pub fn respond(problems: &[&str]) -> Response {
    if problems.is_empty() {
        return "ready\n".into_response();
    }
    (
        StatusCode::SERVICE_UNAVAILABLE,
        format!("not ready: {}\n", problems.join("; ")),
    )
        .into_response()
}
