//! Logs, traces and metrics: where they go, and what every metric is called.

pub mod context;
pub mod logs;
pub mod process;
pub mod traces;
pub mod zeroes;

use std::time::Duration;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

/// What can keep telemetry from starting.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("ORFEAS_LOG can't be used")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("logs are already set up in this process")]
    Subscriber(#[from] tracing::subscriber::SetGlobalDefaultError),
    #[error("metrics can't be recorded")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    #[error("traces can't be exported (OTEL_EXPORTER_OTLP_ENDPOINT and its like)")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    #[error("traces can't be exported: no HTTP client could be made")]
    Client(#[from] reqwest::Error),
}

/// Seconds: from a cached GPU batch to a queue at its limits.
const SECONDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0,
];
/// How often [`keep_up`] gathers.
const KEEP_UP_EVERY: Duration = Duration::from_secs(5);
/// Images in a GPU batch.
const IMAGES: [f64; 8] = [1.0, 2.0, 3.0, 4.0, 8.0, 16.0, 32.0, 64.0];
/// Triangles of a mesh: from what a game takes to the finest grid's.
const TRIANGLES: [f64; 8] = [1e3, 5e3, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6];
/// Shares of 1, finest where they should be.
const SHARES: [f64; 10] = [0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98];

/// Starts recording metrics for the whole process; the handle renders them.
///
/// # Errors
/// [`TelemetryError::Metrics`] when a recorder is installed already.
pub fn init_metrics() -> Result<PrometheusHandle, TelemetryError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_images".into()), &IMAGES)?
        .set_buckets_for_metric(Matcher::Suffix("_triangles".into()), &TRIANGLES)?
        .set_buckets_for_metric(Matcher::Suffix("_agreement".into()), &SHARES)?
        .install_recorder()?;
    process::started();
    describe();
    zeroes::begin();
    Ok(handle)
}

/// Gathers what histograms were given, until `stop`. They keep each value until then or until somebody asks for the metrics,
/// and nobody may.
pub async fn keep_up(handle: PrometheusHandle, stop: CancellationToken) {
    let mut tick = interval(KEEP_UP_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => handle.run_upkeep(),
        }
    }
}

fn describe() {
    describe_node();
    describe_histogram!(
        "orfeas_silhouette_agreement",
        "How well outlines of meshes cover those of their pictures, 0 to 1; refused meshes, too."
    );
    describe_histogram!(
        "orfeas_mesh_triangles",
        Unit::Count,
        "Triangles of the meshes made."
    );
    describe_counter!(
        "orfeas_mesh_warnings_total",
        Unit::Count,
        "Warnings told with the meshes made."
    );
    describe_histogram!(
        "orfeas_conversion_seconds",
        Unit::Seconds,
        "From submission to success."
    );
    describe_histogram!(
        "orfeas_stage_seconds",
        Unit::Seconds,
        "Time in a stage of a conversion, by stage."
    );
    describe_histogram!(
        "orfeas_graphql_request_seconds",
        Unit::Seconds,
        "GraphQL requests over HTTP, by outcome."
    );
    describe_histogram!(
        "orfeas_admission_seconds",
        Unit::Seconds,
        "Letting a request in, by step (identify: token or signature; admit: key, nonce and quota in Postgres)."
    );
    describe_histogram!(
        "orfeas_webhook_attempt_seconds",
        Unit::Seconds,
        "Attempts at webhook deliveries, from reading what is told to the receiver's answer."
    );
    describe_histogram!(
        "orfeas_gpu_batch_images",
        Unit::Count,
        "Images that shared a forward pass."
    );
    describe_histogram!(
        "orfeas_gpu_batch_wait_seconds",
        Unit::Seconds,
        "How long an image waited for its forward pass."
    );
    describe_histogram!(
        "orfeas_engine_seconds",
        Unit::Seconds,
        "Time of one pass on a device, by operation."
    );
    describe_histogram!(
        "orfeas_engine_device_seconds",
        Unit::Seconds,
        "A GPU's own time for one pass, by operation: from the moment it takes the pass up."
    );
    describe_histogram!(
        "orfeas_engine_query_conversions",
        Unit::Count,
        "Conversions that shared a pass of queries."
    );
    describe_histogram!(
        "orfeas_engine_denoise_conversions",
        Unit::Count,
        "Conversions that shared a denoising step, or the beginning of their latents, by operation."
    );
    describe_counter!(
        "orfeas_meshes_total",
        Unit::Count,
        "Meshes made, by what they are like."
    );
    describe_counter!(
        "orfeas_engine_denoise_padding_rows_total",
        Unit::Count,
        "Rows that denoising steps were filled up with to a size that runs without choosing kernels."
    );
    describe_counter!(
        "orfeas_gpu_batch_padding_images_total",
        Unit::Count,
        "Blank images that batches were filled up with to a size that runs without choosing kernels."
    );
    describe_counter!(
        "orfeas_engine_query_padding_points_total",
        Unit::Count,
        "Points that passes of queries were filled up with."
    );
    describe_counter!(
        "orfeas_gpu_batches_total",
        Unit::Count,
        "Forward passes, by the reason why they took no more images."
    );
    describe_counter!(
        "orfeas_engine_query_points_total",
        Unit::Count,
        "Points of the field that were asked for."
    );
    describe_counter!(
        "orfeas_claimed_total",
        Unit::Count,
        "Conversions that this node took from the queue."
    );
    describe_counter!(
        "orfeas_attempts_total",
        Unit::Count,
        "Attempts at conversions that ended on this node, by outcome."
    );
    describe_counter!(
        "orfeas_rescued_total",
        Unit::Count,
        "Conversions that this node took back from silent nodes."
    );
    describe_counter!(
        "orfeas_listen_reconnects_total",
        Unit::Count,
        "Times that the LISTEN connection was lost."
    );
    describe_counter!(
        "orfeas_http_panics_total",
        Unit::Count,
        "Requests whose handler panicked."
    );
    describe_counter!(
        "orfeas_webhook_attempts_total",
        Unit::Count,
        "Attempts at webhook deliveries that this node made, by outcome (delivered, retried, given_up)."
    );
    describe_counter!(
        "orfeas_audit_events_total",
        Unit::Count,
        "Audit events that this node stored, by kind."
    );
    describe_counter!(
        "orfeas_audit_sealed_total",
        Unit::Count,
        "Audit events that this node chained."
    );
    describe_counter!(
        "orfeas_audit_lost_total",
        Unit::Count,
        "Audit events that could not be kept for the database; the log tells of them."
    );
    describe_counter!(
        "orfeas_expired_conversions_total",
        Unit::Count,
        "Conversions that this node removed because they had expired."
    );
    describe_counter!(
        "orfeas_erased_assets_total",
        Unit::Count,
        "Keys that this node deleted from the store."
    );
    describe_counter!(
        "orfeas_erasure_failures_total",
        Unit::Count,
        "Times that the store did not delete a key; it is tried again."
    );
    describe_counter!(
        "orfeas_orphans_total",
        Unit::Count,
        "Keys without a row that this node found in the store and has erased."
    );
    describe_gauge!(
        "orfeas_erasure_pending",
        Unit::Count,
        "Keys that are yet to be deleted from the store, counted up to 100,000; each minute."
    );
    describe_gauge!(
        "orfeas_stored_bytes",
        Unit::Bytes,
        "Bytes of all pictures and meshes, by the database; each minute."
    );
    describe_gauge!(
        "orfeas_devices_lost",
        Unit::Count,
        "Devices of this node that failed and are no longer used; 0 when all is well."
    );
    describe_gauge!(
        "orfeas_audit_unwritten",
        Unit::Count,
        "Requests whose audit events wait because the database does not take them; 0 when all is well."
    );
    describe_gauge!(
        "orfeas_event_streams",
        Unit::Count,
        "Open event streams (graphql-sse)."
    );
    describe_gauge!(
        "orfeas_websockets",
        Unit::Count,
        "Open WebSocket connections."
    );
    describe_gauge!(
        "orfeas_queue_conversions",
        Unit::Count,
        "Conversions in the database, by status (queued, running)."
    );
}

/// What a node tells of itself rather than of its work.
fn describe_node() {
    let counters = [
        (
            "orfeas_requests_total",
            "Operations, by key (the hundred busiest; other, people, nobody), root field and error code.",
        ),
        (
            "orfeas_subscribers_dropped_total",
            "Connections with subscriptions that the server has ended, by reason.",
        ),
        (
            "orfeas_connections_stalled_total",
            "Connections given up because the other end took nothing for a minute.",
        ),
        (
            "orfeas_storage_bytes_total",
            "Bytes put into the store, and asked of it, by operation.",
        ),
        (
            "orfeas_device_busy_seconds_total",
            "Seconds in which a GPU has computed, by device.",
        ),
    ];
    for (name, text) in counters {
        describe_counter!(name, text);
    }
    let histograms = [
        (
            "orfeas_submitted_batch_images",
            "Images of submitted batches.",
        ),
        (
            "orfeas_storage_seconds",
            "Operations of the store, by operation and outcome; of reads the time to the first byte.",
        ),
        (
            "orfeas_database_wait_seconds",
            "How long a free connection to Postgres was waited for, tried once a second.",
        ),
    ];
    for (name, text) in histograms {
        describe_histogram!(name, text);
    }
    let gauges = [
        (
            "orfeas_queue_waiting_conversions",
            "Conversions that wait, by priority.",
        ),
        (
            "orfeas_queue_oldest_seconds",
            "How long the one that has waited longest has done so, by priority.",
        ),
        (
            "orfeas_database_connections",
            "Connections to Postgres, by state (in_use, idle, max).",
        ),
        ("orfeas_subscriptions", "Open subscriptions, by field."),
        (
            "orfeas_storage_free_bytes",
            "Room in the file system of a store that is a folder.",
        ),
        (
            "orfeas_device_memory_bytes",
            "A GPU's memory, by device and state (total, free, own: of this process).",
        ),
        (
            "orfeas_device_utilization_ratio",
            "The share of time in which a GPU ran kernels, by its driver.",
        ),
        (
            "orfeas_device_batch_images_max",
            "The largest batch now, by device and model: measured, and lowered by what ran out of memory.",
        ),
        ("orfeas_build_info", "1, with version and role."),
        (
            "process_start_time_seconds",
            "When the process started to record, in seconds since 1970.",
        ),
        (
            "process_cpu_seconds_total",
            "Processor time of user and system.",
        ),
        ("process_threads", "Threads."),
        ("process_resident_memory_bytes", "Memory in use."),
        ("process_virtual_memory_bytes", "Address space in use."),
        (
            "process_open_fds",
            "Open files and sockets, without those of decoders.",
        ),
        ("process_max_fds", "Files and sockets that may be open."),
    ];
    for (name, text) in gauges {
        describe_gauge!(name, text);
    }
}
