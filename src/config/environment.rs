//! What is read of the environment besides settings.

use std::ffi::OsString;

/// How libgomp's threads wait for each other; see [`crate::cli::main`].
pub const OPENMP_WAITING: &str = "OMP_WAIT_POLICY";

/// Whether somebody has decided how libgomp's threads wait.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the place that reads the environment"
)]
pub fn is_openmp_configured() -> bool {
    std::env::var_os(OPENMP_WAITING).is_some()
}

/// Whether somebody has decided how many heaps glibc's threads share.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the place that reads the environment"
)]
pub fn is_heap_configured() -> bool {
    std::env::var_os("MALLOC_ARENA_MAX").is_some()
}

/// What a process of this program needs of the environment to find its libraries, where its own place does not tell.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the place that reads the environment"
)]
pub fn loader_environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os()
        .filter(|(name, _)| name == "LD_LIBRARY_PATH")
        .collect()
}

/// Whether somebody wants traces, by OpenTelemetry's own variables: a collector is named, and nothing says no.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the place that reads the environment"
)]
pub fn wants_traces() -> bool {
    let said = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let is_off = said("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || said("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
    let is_named = said("OTEL_EXPORTER_OTLP_ENDPOINT").is_some()
        || said("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").is_some();
    is_named && !is_off
}

/// How this program calls itself in traces, by OpenTelemetry's own variable.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the place that reads the environment"
)]
pub fn service_name() -> Option<String> {
    std::env::var("OTEL_SERVICE_NAME")
        .ok()
        .filter(|name| !name.is_empty())
}

/// What the environment says about the S3 store: the `AWS_…` variables, for [`crate::storage::Storage::open`].
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the place that reads the environment"
)]
pub fn s3_options() -> Vec<(String, String)> {
    std::env::vars()
        .filter(|(name, _)| name.starts_with("AWS_"))
        .collect()
}
