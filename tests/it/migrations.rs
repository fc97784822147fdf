//! The schema: made, taken back, and made by several nodes at once.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use orfeas::{
    conversion::{NodeId, Priority},
    db::Database,
    error_chain::chain,
};
use orfeas_migrations::{Migrator, MigratorTrait};
use serde_json::json;

use crate::harness::{
    World, pictures,
    seed::{self, scalar},
};

/// Every table, column, constraint, index, trigger and function of ours, one line each.
async fn schema(database: &Database) -> BTreeSet<String> {
    let lines: Vec<String> = sqlx::query_scalar(
        "SELECT format('column %s.%s %s %s %s', table_name, column_name, data_type, is_nullable, column_default)
             FROM information_schema.columns WHERE table_schema = 'public'
         UNION ALL SELECT format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
             FROM pg_constraint WHERE connamespace = 'public'::regnamespace
         UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public'
         UNION ALL SELECT 'trigger ' || pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
         UNION ALL SELECT 'function ' || pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
    )
    .fetch_all(seed::pool(database))
    .await
    .unwrap();
    lines
        .into_iter()
        .filter(|line| !line.contains("seaql_migrations"))
        .collect()
}

/// A batch in every state that it can be in, and a single one that succeeded.
async fn fill(database: &Database) {
    let rows = seed::submit(database, seed::submission("alice", Priority::User, true, 4)).await;
    seed::submit(database, seed::submission("bob", Priority::Agent, false, 1)).await;
    let claimed = database
        .claim(NodeId::new(), &seed::models(), 3)
        .await
        .unwrap();
    assert_eq!(claimed.len(), 3);
    database
        .succeed(&seed::success(
            seed::attempt(&claimed[0]),
            vec![seed::mesh(&claimed[0])],
        ))
        .await
        .unwrap();
    database
        .cancel(rows.conversions.last().unwrap().id)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_can_be_taken_back_and_forth_with_rows_in_the_tables() {
    let world = World::new().await;
    let database = world.database().await;
    database.migrate().await.unwrap();
    let first = schema(&database).await;
    assert!(
        first.iter().any(|line| line.starts_with("trigger "))
            && first.iter().any(|line| line.contains("conversion_claim")),
        "{first:#?}"
    );
    fill(&database).await;

    // Nothing is left to do, and nothing is touched.
    database.migrate().await.unwrap();
    assert_eq!(
        scalar(&database, "SELECT count(*) FROM conversion").await,
        5
    );

    database.unmigrate().await.unwrap();
    assert_eq!(schema(&database).await, BTreeSet::new());
    database.migrate().await.unwrap();
    assert_eq!(schema(&database).await, first);
    fill(&database).await;
    seed::check_all(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_at_once_take_turns() {
    let world = World::new().await;
    let nodes = join_all((0..6).map(|_| world.database())).await;
    for migrated in join_all(nodes.iter().map(Database::migrate)).await {
        migrated.unwrap();
    }
    let database = &nodes[0];
    assert_eq!(
        scalar(database, "SELECT count(*) FROM seaql_migrations").await,
        i64::try_from(Migrator::migrations().len()).unwrap(),
        "one row a step"
    );
    assert_eq!(
        scalar(database, "SELECT count(*) FROM queue_control").await,
        1
    );
    fill(database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_the_version_before_starts_beside_a_later_one() {
    let world = World::new().await;
    let database = world.database().await;
    database.migrate().await.unwrap();
    let later = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_later', 0)";
    seed::sql(&database, later).await;
    let node = world.node().await;
    let alice = node.client("alice");
    let id = alice
        .submit(pictures::CHAIR, json!({ "resolution": 32 }))
        .await;
    let ended = alice.ended(&id).await;
    assert_eq!(ended["status"], "SUCCEEDED", "{ended:#}");
    node.app.stop().await;

    // But not where a step of its own is missing: then it can't know what the later one has changed.
    let mine = "DELETE FROM seaql_migrations WHERE version = 'm0008_notices'";
    assert_eq!(seed::sql(&database, mine).await, 1);
    let refused = database.migrate().await.unwrap_err();
    assert!(chain(&refused).to_string().contains("m9999_later"));
}
