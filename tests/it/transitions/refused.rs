//! The state machine as the database keeps it: what nobody can do to a row, not even by hand.

use orfeas::{conversion::ConversionId, db::Database};

use super::database;
use crate::harness::seed::{self, try_sql};

const STATUSES: [&str; 5] = ["queued", "running", "succeeded", "failed", "canceled"];

/// The columns of a row that is sound in this status.
fn columns(status: &str) -> String {
    let (stage, lease, node) = match status {
        "running" => ("'encode'", "now() + interval '1 hour'", "gen_random_uuid()"),
        _ => ("NULL", "NULL", "NULL"),
    };
    let (error, retryable) = match status {
        "failed" => ("'INTERNAL'", "true"),
        _ => ("NULL", "NULL"),
    };
    let json = |value: serde_json::Value| format!("'{value}'");
    let (timings, quality) = match status {
        "succeeded" => (
            json(serde_json::to_value(seed::timings()).unwrap()),
            json(serde_json::to_value(seed::quality()).unwrap()),
        ),
        _ => ("NULL".into(), "NULL".into()),
    };
    let finished = match status {
        "queued" | "running" => "NULL",
        _ => "now()",
    };
    format!(
        "status = '{status}', stage = {stage}, lease_until = {lease}, node_id = {node}, started_at = now(),
         error_code = {error}, error_message = {error}, error_retryable = {retryable},
         finished_at = {finished}, timings = {timings}, quality = {quality}"
    )
}

/// Brings a new conversion to a status, one allowed step after another.
async fn row_in(database: &Database, status: &str) -> ConversionId {
    let id = seed::submit_one(database, true).await.id;
    if status != "queued" {
        change(
            database,
            id,
            &format!("{}, attempt = 1", columns("running")),
        )
        .await
        .unwrap();
    }
    if !["queued", "running"].contains(&status) {
        change(database, id, &columns(status)).await.unwrap();
    }
    id
}

async fn change(database: &Database, id: ConversionId, set: &str) -> Result<u64, sqlx::Error> {
    try_sql(
        database,
        &format!("UPDATE conversion SET {set} WHERE id = '{}'", id.0),
    )
    .await
}

/// The name of the constraint that stopped a statement.
fn refused_by(result: Result<u64, sqlx::Error>) -> String {
    let error = result.expect_err("it should have been refused");
    let error = error
        .as_database_error()
        .unwrap_or_else(|| panic!("{error}"));
    assert_eq!(error.code().as_deref(), Some("23514"), "{error}");
    error.constraint().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_refuses_what_the_state_machine_does_not_know() {
    let database = database().await;
    for from in STATUSES {
        for to in STATUSES.into_iter().filter(|to| *to != from) {
            let id = row_in(&database, from).await;
            let before = seed::row(&database, id).await;
            let claim = if from == "queued" && to == "running" {
                ", attempt = attempt + 1"
            } else {
                ""
            };
            let changed = change(&database, id, &format!("{}{claim}", columns(to))).await;
            let is_known = match from {
                "queued" => ["running", "canceled", "failed"].contains(&to),
                "running" => true,
                _ => false,
            };
            if is_known {
                assert_eq!(changed.unwrap(), 1, "{from} to {to}");
                assert_eq!(seed::row(&database, id).await.sequence, before.sequence + 1);
            } else {
                assert_eq!(
                    refused_by(changed),
                    "conversion_transition",
                    "{from} to {to}"
                );
                assert_eq!(seed::row(&database, id).await, before);
            }
        }
    }
    seed::check_all(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_begins_with_a_claim_and_at_no_other_time() {
    let database = database().await;
    let to = columns;
    let cases = [
        ("queued", "attempt = attempt + 1".to_owned()),
        ("queued", to("running")),
        (
            "queued",
            format!("{}, attempt = attempt + 2", to("running")),
        ),
        (
            "queued",
            format!("{}, attempt = attempt + 1", to("canceled")),
        ),
        ("running", "attempt = attempt + 1".to_owned()),
        (
            "running",
            "attempt = attempt - 1, stage = 'mesh'".to_owned(),
        ),
        (
            "running",
            format!("{}, attempt = attempt + 1", to("queued")),
        ),
        ("running", format!("{}, attempt = 0", to("queued"))),
        (
            "running",
            format!("{}, attempt = attempt + 1", to("succeeded")),
        ),
        ("succeeded", "attempt = attempt + 1".to_owned()),
        ("failed", "attempt = attempt + 1".to_owned()),
        ("canceled", "attempt = 0".to_owned()),
    ];
    for (from, set) in cases {
        let id = row_in(&database, from).await;
        let changed = change(&database, id, &set).await;
        assert_eq!(
            refused_by(changed),
            "conversion_attempt",
            "{from}: SET {set}"
        );
    }
    seed::check_all(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_fits_its_status() {
    let database = database().await;
    let cases = [
        ("queued", "stage = 'encode'"),
        ("queued", "lease_until = now()"),
        ("queued", "node_id = gen_random_uuid()"),
        ("queued", "finished_at = now()"),
        (
            "queued",
            "error_code = 'INTERNAL', error_message = 'x', error_retryable = true",
        ),
        ("queued", "batch_index = NULL"),
        ("queued", "batch_index = -1"),
        ("queued", "owner = ''"),
        ("queued", "priority = 'emperor'"),
        ("queued", "failures = -1"),
        ("queued", "status = 'lost'"),
        ("running", "stage = NULL"),
        ("running", "stage = 'lunch'"),
        ("running", "lease_until = NULL"),
        ("running", "node_id = NULL"),
        ("running", "started_at = NULL"),
        ("running", "finished_at = now()"),
        ("succeeded", "timings = NULL"),
        ("succeeded", "quality = NULL"),
        ("succeeded", "finished_at = NULL"),
        (
            "succeeded",
            "error_code = 'INTERNAL', error_message = 'x', error_retryable = true",
        ),
        ("failed", "error_code = NULL"),
        ("failed", "error_message = NULL"),
        ("failed", "error_retryable = NULL"),
        (
            "failed",
            "error_code = NULL, error_message = NULL, error_retryable = NULL",
        ),
        ("canceled", "finished_at = NULL"),
        ("canceled", "lease_until = now()"),
    ];
    for (status, set) in cases {
        let id = row_in(&database, status).await;
        let refused = refused_by_any(change(&database, id, set).await);
        assert!(refused, "{status}: SET {set}");
    }
}

fn refused_by_any(result: Result<u64, sqlx::Error>) -> bool {
    match result {
        Ok(_) => false,
        Err(error) => error
            .as_database_error()
            .is_some_and(|error| error.code().as_deref() == Some("23514")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_numbers_transitions_by_hand() {
    let database = database().await;
    let id = row_in(&database, "queued").await;
    change(&database, id, "sequence = 7").await.unwrap();
    let to_running = format!("{}, attempt = 1, sequence = 9", columns("running"));
    change(&database, id, &to_running).await.unwrap();
    seed::check_all(&database).await;
    assert_eq!(seed::row(&database, id).await.sequence, 2);
}
