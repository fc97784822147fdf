//! What `.tools/fetch.py` brings for tests alone: one whose part is missing says so and passes.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use tokio::process::Command;

/// The checkout, whichever folder the tests run in.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Tells that a test is skipped, past the harness, which would hide it: it must not look like one that has passed.
pub fn skip(missing: &str, how: &str) {
    let told = writeln!(
        std::io::stderr().lock(),
        "skipped: {missing} is missing; {how} brings it"
    );
    told.expect("stderr is open");
}

/// Something that the script's `target` brings; tells when it isn't there.
pub fn fetched(place: &str, target: &str) -> Option<PathBuf> {
    let path = checkout().join(place);
    if !path.exists() {
        skip(place, &format!("`.tools/fetch.py {target}`"));
        return None;
    }
    Some(path)
}

/// Runs a program to its end, which must come within `max`; it doesn't outlive the test.
pub async fn output_of(mut command: Command, max: Duration) -> Output {
    command.kill_on_drop(true);
    tokio::time::timeout(max, command.output())
        .await
        .expect("it ends in time")
        .unwrap()
}
