//! Rows as a server leaves them that has run for long: mostly ended conversions, and some that wait.

use serde_json::json;

use super::{super::super::CommandError, execute, work, work::Submitter};
use crate::db::Database;

/// Of so many rows one waits.
const WAITING_EACH: i64 = 100;

/// Rows by one statement, without the triggers that would record and tell each of them. The ids are in the order of their
/// time, as those of submissions are; all CHECKs hold.
const FILL: &str = "
    WITH row AS (
        SELECT place, place % $2 = 0 AS waits, now() - ($1 - place) * interval '50 ms' - interval '2 minutes' AS at,
            1 + place % cardinality($3::text[]) AS turn, md5(place::text || now()::text) AS random
        FROM generate_series(1, $1) AS place)
    INSERT INTO conversion (id, owner, priority, source_asset_id, model, options, status, sequence, attempt, rank, run_at,
        timings, quality, created_at, started_at, finished_at, charged)
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(random, 1, 3)
            || '8' || substr(random, 4, 15))::uuid,
        ($3::text[])[turn], 'agent', ($4::uuid[])[turn], $5, $6::jsonb,
        CASE WHEN waits THEN 'queued' ELSE 'succeeded' END, CASE WHEN waits THEN 1 ELSE 8 END,
        CASE WHEN waits THEN 0 ELSE 1 END, at - interval '1 minute', at,
        CASE WHEN NOT waits THEN $7::jsonb END, CASE WHEN NOT waits THEN $8::jsonb END,
        at, CASE WHEN NOT waits THEN at + interval '0.5 s' END, CASE WHEN NOT waits THEN at + interval '2 s' END, true
    FROM row";

/// Adds so many rows and lets Postgres tidy and count them.
///
/// # Errors
/// When a statement fails; the role must be a superuser.
pub(super) async fn fill(
    database: &Database,
    owners: &[Submitter],
    rows: u64,
) -> Result<(), CommandError> {
    if rows > 0 {
        let names: Vec<String> = owners
            .iter()
            .map(|owner| owner.owner.as_str().to_owned())
            .collect();
        let pictures: Vec<uuid::Uuid> = owners.iter().map(|owner| owner.picture.id.0).collect();
        // By a connection of its own: filling takes longer than a server's statements may.
        let mut connection = database.connection().pool().acquire().await?;
        sqlx::query("SET session_replication_role = replica")
            .execute(&mut *connection)
            .await?;
        sqlx::query(FILL)
            .bind(i64::try_from(rows)?)
            .bind(WAITING_EACH)
            .bind(names)
            .bind(pictures)
            .bind(work::MODEL)
            .bind(json!(work::options()))
            .bind(json!(work::timings()))
            .bind(json!(work::quality()))
            .execute(&mut *connection)
            .await?;
        sqlx::query("RESET session_replication_role")
            .execute(&mut *connection)
            .await?;
    }
    execute(database, ["VACUUM (ANALYZE) conversion", "CHECKPOINT"]).await
}
