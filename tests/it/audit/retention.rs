//! Old events go, and what stays can be verified.

use orfeas::db::{
    Database,
    audit::{
        sealer::ChainError,
        verify::{Finding, HeadState},
    },
};

use super::{check_clean, database, fill, ring, seal, verify};
use crate::harness::seed::{scalar, sql};

/// Events that happened so many days ago, by the database's clock; sealed.
async fn fill_past(database: &Database, count: u32, days: u32) {
    sql(
        database,
        &format!(
            "INSERT INTO audit_event (id, at, kind, outcome, actor)
             SELECT gen_random_uuid(), now() - interval '{days} days', 'mutation', 'OK', 'user:alice' FROM generate_series(1, {count})"
        ),
    )
    .await;
    seal(database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_leaves_can_be_verified() {
    let database = database().await;
    assert_eq!(database.prune_audit(&ring(), 30).await.unwrap(), 0);
    // More than one step of the pruning and of the verification.
    fill_past(&database, 2_500, 40).await;
    let old_head = database.audit_head(&ring()).await.unwrap();
    fill_past(&database, 3, 20).await;
    // Sealed after a younger one: it stays until that one goes.
    fill_past(&database, 1, 40).await;
    let head = database.audit_head(&ring()).await.unwrap();
    check_clean(&database, 2_504).await;
    assert_eq!(database.prune_audit(&ring(), 50).await.unwrap(), 0);
    assert_eq!(database.prune_audit(&ring(), 30).await.unwrap(), 2_500);
    check_clean(&database, 4).await;
    for table in ["audit_event", "audit_seal"] {
        let count = scalar(&database, &format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(count, 4, "{table}");
    }
    let report = verify(&database, Some(&old_head)).await;
    assert_eq!((report.begins_after, report.last_seq), (2_500, 2_504));
    // The checkpoint is where this head lay.
    assert_eq!(report.head, Some(HeadState::OnChain));

    assert_eq!(database.prune_audit(&ring(), 10).await.unwrap(), 4);
    check_clean(&database, 0).await;
    assert_eq!(
        scalar(&database, "SELECT count(*) FROM audit_checkpoint").await,
        1
    );
    assert_eq!(
        verify(&database, Some(&old_head)).await.head,
        Some(HeadState::Pruned)
    );
    // The chain goes on where it was.
    fill(&database, 2).await;
    check_clean(&database, 2).await;
    let report = verify(&database, Some(&head)).await;
    assert_eq!(
        (report.head, report.last_seq),
        (Some(HeadState::OnChain), 2_506)
    );

    sql(&database, "SELECT audit_prune(2505)").await;
    assert_eq!(
        verify(&database, None).await.findings,
        [Finding::SealsRemoved { from: 1, to: 2_505 }],
        "without the key nobody makes a checkpoint"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_tampered_with_is_not_pruned_away() {
    let database = database().await;
    fill_past(&database, 5, 40).await;
    sql(
        &database,
        "ALTER TABLE audit_event DISABLE TRIGGER audit_event_append_only",
    )
    .await;
    sql(
        &database,
        "UPDATE audit_event SET actor = 'user:bob' WHERE id = (SELECT event_id FROM audit_seal WHERE seq = 3)",
    )
    .await;
    let refused = database.prune_audit(&ring(), 30).await.unwrap_err();
    assert!(
        matches!(refused, ChainError::Broken { seq: 3 }),
        "{refused:?}"
    );
    assert_eq!(verify(&database, None).await.findings.len(), 1);
    sql(
        &database,
        "DELETE FROM audit_event WHERE id = (SELECT event_id FROM audit_seal WHERE seq = 3)",
    )
    .await;
    let refused = database.prune_audit(&ring(), 30).await.unwrap_err();
    assert!(
        matches!(refused, ChainError::Broken { seq: 3 }),
        "{refused:?}"
    );
    assert_eq!(
        scalar(&database, "SELECT count(*) FROM audit_event").await,
        4
    );
}
