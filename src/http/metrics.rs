//! The operators' listener: Prometheus' text, and the node's health.

use axum::{Router, extract::State, response::Response, routing::get};
use metrics::Gauge;
use metrics_exporter_prometheus::PrometheusHandle;

use super::{
    gate::tally::Tally,
    health::{self, Vitals},
};
use crate::telemetry::process;

/// The routes of the operators' listener.
pub fn router(handle: PrometheusHandle, tally: Tally, vitals: Vitals) -> Router {
    let ready = |State(vitals): State<Vitals>| async move { ready(&vitals).await };
    Router::new()
        .route(
            "/metrics",
            get(move || async move { render(&handle, &tally) }),
        )
        .route("/healthz", get(health::live))
        .route("/readyz", get(ready))
        .with_state(vitals)
}

fn render(handle: &PrometheusHandle, tally: &Tally) -> String {
    process::record();
    tally.complete(handle.render())
}

async fn ready(vitals: &Vitals) -> Response {
    health::respond(&health::problems(vitals).await)
}

/// Counted by a gauge as long as it lives.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Counted {
    /// One more.
    #[must_use]
    pub fn new(gauge: Gauge) -> Self {
        gauge.increment(1);
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

/// Counts a connection with subscriptions that the server has ended.
pub fn count_dropped(reason: &'static str) {
    metrics::counter!("orfeas_subscribers_dropped_total", "reason" => reason).increment(1);
}

/// Counts a handler that panicked.
pub fn count_panic() {
    metrics::counter!("orfeas_http_panics_total").increment(1);
}
