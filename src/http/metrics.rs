//! The operators' listener: Prometheus' text, and the node's health.

use axum::{Router, extract::State, response::Response, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;

use super::health;
use crate::db::{Database, listen::Hub};

#[derive(Debug, Clone)]
struct Parts {
    database: Database,
    hub: Hub,
}

/// The routes of the operators' listener.
pub fn router(handle: PrometheusHandle, database: Database, hub: Hub) -> Router {
    let ready = |State(parts): State<Parts>| async move { ready(parts).await };
    Router::new()
        .route("/metrics", get(move || async move { handle.render() }))
        .route("/healthz", get(health::live))
        .route("/readyz", get(ready))
        .with_state(Parts { database, hub })
}

async fn ready(Parts { database, hub }: Parts) -> Response {
    health::respond(&health::problems(&database, &hub).await)
}

/// Counts a handler that panicked.
pub fn count_panic() {
    metrics::counter!("orfeas_http_panics_total").increment(1);
}
