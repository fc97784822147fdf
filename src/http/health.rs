//! Liveness and readiness.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::HttpState;
use crate::{db::Database, db::listen::Hub, storage::Storage};

/// A database that takes longer than this to answer is not ready.
const PING_MAX: Duration = Duration::from_secs(2);

/// What a node's health is read from; cheap to clone.
#[derive(Clone)]
pub struct Vitals {
    pub database: Database,
    pub hub: Hub,
    pub storage: Storage,
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
pub async fn problems(vitals: &Vitals) -> Vec<Cow<'static, str>> {
    let mut problems = Vec::new();
    match tokio::time::timeout(PING_MAX, vitals.database.is_read_only()).await {
        Ok(Ok(false)) => {}
        Ok(Ok(true)) => problems.push("the database takes no changes: it is read-only".into()),
        Ok(Err(_)) | Err(_) => problems.push("the database does not answer".into()),
    }
    // Neither is tried here: who asks often must not write often.
    if vitals.database.is_full() {
        problems.push("the database takes no changes: its disk is full".into());
    }
    if let Some(trouble) = vitals.storage.trouble() {
        problems.push(format!("the store can't be used: {trouble}").into());
    }
    if !vitals.hub.is_hearing() {
        problems.push("no notifications are heard from the database; progress is slower".into());
    }
    if !(vitals.can_compute)() {
        problems.push("every device is lost; restart this node".into());
    }
    problems
}

/// The answer for a list of problems.
#[must_use]
pub fn respond(problems: &[Cow<'static, str>]) -> Response {
    if problems.is_empty() {
        return "ready\n".into_response();
    }
    (
        StatusCode::SERVICE_UNAVAILABLE,
        format!("not ready: {}\n", problems.join("; ")),
    )
        .into_response()
}
