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
