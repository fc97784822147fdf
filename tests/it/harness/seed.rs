//! Rows made without a client, and the checks that hold for all rows at all times.

use std::{sync::Arc, time::Duration};

use orfeas::{
    conversion::{
        AssetId, ConversionId, Owner, Priority, Stage, Status,
        options::{ConversionOptions, MeshFormat},
        provenance::Provenance,
    },
    db::{
        Database,
        conversions::{Attempt, Success},
        entities::{
            asset,
            conversion::{Model, Quality, Timings, Warnings},
            event,
        },
        submissions::{Admitted, NewConversion, Rows, Source, Submission},
    },
};
use sea_orm::EntityTrait;
use sqlx::{AssertSqlSafe, PgPool};
use time::OffsetDateTime;

/// The model that seeded conversions name, as a claimer's list.
pub const MODEL: &str = "orfeas-mini";

pub fn models() -> Vec<String> {
    vec![MODEL.to_owned()]
}

/// A submission of so many pictures; there are no bytes behind them.
pub fn submission(owner: &str, priority: Priority, batch: bool, count: i32) -> Submission {
    let owner = Owner::user(owner);
    let item = |index| NewConversion {
        source: Source::New(source(&owner)),
        index,
    };
    Submission {
        items: (0..count).map(item).collect(),
        owner,
        priority,
        model: MODEL.to_owned(),
        options: ConversionOptions::default(),
        batch,
        retry_of: None,
        idempotency: None,
        webhook: None,
        quotas: None,
        stored_bytes_max: None,
        provenance: Provenance::default(),
    }
}

pub async fn submit(database: &Database, submission: Submission) -> Rows {
    match database.submit(submission).await.unwrap() {
        Admitted::New(rows) => rows,
        other => panic!("not new: {other:?}"),
    }
}

/// One conversion of a user, alone or as a batch of its own.
pub async fn submit_one(database: &Database, batch: bool) -> Model {
    let rows = submit(database, submission("alice", Priority::User, batch, 1)).await;
    rows.conversions.into_iter().next().unwrap()
}

pub fn attempt(row: &Model) -> Attempt {
    Attempt {
        conversion: row.id,
        number: row.attempt,
    }
}

fn source(owner: &Owner) -> asset::Model {
    let id = AssetId::new();
    asset::Model {
        id,
        owner: owner.clone(),
        kind: asset::Kind::Source,
        conversion_id: None,
        attempt: None,
        storage_key: format!("sources/{id}"),
        file_name: "source.png".into(),
        media_type: "image/png".into(),
        format: None,
        bytes: 1,
        sha256: vec![0; 32],
        width: Some(1),
        height: Some(1),
        triangles: None,
        vertices: None,
        created_at: OffsetDateTime::now_utc(),
    }
}

/// What an attempt would store.
pub fn mesh(row: &Model) -> asset::Model {
    asset::Model {
        kind: asset::Kind::Mesh,
        conversion_id: Some(row.id),
        attempt: Some(row.attempt),
        storage_key: format!("conversions/{}/{}/mesh.glb", row.id, row.attempt),
        file_name: "mesh.glb".into(),
        media_type: "model/gltf-binary".into(),
        format: Some(MeshFormat::Glb),
        width: None,
        height: None,
        triangles: Some(4),
        vertices: Some(4),
        ..source(&row.owner)
    }
}

/// A success of an attempt that stored these files.
pub fn success(attempt: Attempt, assets: Vec<asset::Model>) -> Arc<Success> {
    Arc::new(Success {
        attempt,
        assets,
        timings: timings(),
        quality: quality(),
    })
}

pub fn quality() -> Quality {
    Quality {
        watertight: true,
        manifold: true,
        volume: 0.1,
        surface_area: 1.0,
        bounding_box: [1.0; 3],
        components: 1,
        self_intersections: Some(0),
        silhouette_agreement: Some(0.9),
        thinnest_wall: Some(0.1),
        overhang_share: Some(0.2),
        triangles: Some(4),
        vertices: Some(4),
        warnings: Warnings::default(),
    }
}

pub fn timings() -> Timings {
    Timings::default()
}

/// sqlx's pool behind a database handle, for SQL that the API does not offer.
pub fn pool(database: &Database) -> &PgPool {
    database.connection().pool()
}

/// All conversions, events and kept files.
pub async fn state(database: &Database) -> Vec<String> {
    let query = "SELECT to_jsonb(conversion)::text FROM conversion
        UNION ALL SELECT to_jsonb(conversion_event)::text FROM conversion_event
        UNION ALL SELECT to_jsonb(asset)::text FROM asset ORDER BY 1";
    sqlx::query_scalar(AssertSqlSafe(query))
        .fetch_all(pool(database))
        .await
        .unwrap()
}

/// Runs a statement as it stands.
pub async fn sql(database: &Database, statement: &str) -> u64 {
    try_sql(database, statement).await.unwrap()
}

pub async fn try_sql(database: &Database, statement: &str) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(AssertSqlSafe(statement.to_owned()))
        .execute(pool(database))
        .await?;
    Ok(done.rows_affected())
}

/// The first column of the first row.
pub async fn scalar(database: &Database, query: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
        .fetch_one(pool(database))
        .await
        .unwrap()
}

pub async fn row(database: &Database, id: ConversionId) -> Model {
    orfeas::db::entities::conversion::Entity::find_by_id(id)
        .one(database.connection())
        .await
        .unwrap()
        .unwrap()
}

pub async fn all_rows(database: &Database) -> Vec<Model> {
    orfeas::db::entities::conversion::Entity::find()
        .all(database.connection())
        .await
        .unwrap()
}

/// All events of a conversion; checked to be numbered from 1 without a gap, each telling of a change, the last of the
/// row as it is.
pub async fn events(database: &Database, id: ConversionId) -> Vec<event::Model> {
    let row = row(database, id).await;
    let mut events = Vec::new();
    loop {
        let page = database
            .events_of_conversions(&[(id, i32::try_from(events.len()).unwrap())])
            .await
            .unwrap();
        if page.is_empty() {
            break;
        }
        events.extend(page.into_iter().map(|found| found.event));
    }
    let sequences: Vec<i32> = events.iter().map(|event| event.sequence).collect();
    assert_eq!(
        sequences,
        (1..=row.sequence).collect::<Vec<_>>(),
        "the events of {row:#?}"
    );
    let state = |event: &event::Model| (event.status, event.stage, event.attempt);
    for pair in events.windows(2) {
        assert_ne!(
            state(&pair[0]),
            state(&pair[1]),
            "no event without a change"
        );
    }
    assert_eq!(
        state(events.last().unwrap()),
        (row.status, row.stage, row.attempt)
    );
    events
}

/// Checks every conversion as [`events`] does, and that every batch numbers its transitions without a gap.
pub async fn check_all(database: &Database) {
    for row in all_rows(database).await {
        events(database, row.id).await;
    }
    let broken = scalar(
        database,
        "SELECT count(*) FROM batch WHERE
             (SELECT coalesce(array_agg(batch_sequence ORDER BY batch_sequence), '{}') FROM conversion_event WHERE batch_id = batch.id)
             <> ARRAY (SELECT generate_series(1, batch.sequence))",
    )
    .await;
    assert_eq!(broken, 0, "batches whose transitions have gaps");
}

/// How often a conversion came to a state.
pub fn count(events: &[event::Model], status: Status, stage: Option<Stage>) -> usize {
    events
        .iter()
        .filter(|event| event.status == status && event.stage == stage)
        .count()
}

/// Lets the leases of everything that runs end now.
pub async fn end_leases(database: &Database) {
    sql(
        database,
        "UPDATE conversion SET lease_until = now() - interval '1 millisecond' WHERE status = 'running'",
    )
    .await;
}

/// Waits for something to become true, looking often.
pub async fn until(what: &str, patience: Duration, mut is_so: impl AsyncFnMut() -> bool) {
    let asked = std::time::Instant::now();
    while !is_so().await {
        assert!(
            asked.elapsed() < patience,
            "not within {patience:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
