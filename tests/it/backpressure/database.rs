//! A Postgres that takes no changes for a while: nothing that was accepted is lost.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::*;

/// Sets a world's database read-only, or writable again, by a connection of its own. Sessions keep what they began
/// with, as those of a server that another one has taken over from: what is `ended`, begins anew.
async fn set_read_only(world: &World, is_read_only: bool, ended: bool) {
    let mut connection = PgConnection::connect(&world.database_url).await.unwrap();
    let value = if is_read_only { "on" } else { "off" };
    let mut run = async |statement: String| {
        sqlx::query(AssertSqlSafe(statement))
            .execute(&mut connection)
            .await
            .unwrap();
    };
    run("SET default_transaction_read_only = off".into()).await;
    let name = url::Url::parse(&world.database_url).unwrap();
    let name = name.path().trim_start_matches('/').to_owned();
    run(format!(
        "ALTER DATABASE \"{name}\" SET default_transaction_read_only = {value}"
    ))
    .await;
    if ended {
        run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()"
            .into())
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_database_is_named_and_loses_nothing() {
    let world = World::new().await;
    let node = world.node().await;
    let alice = node.client("alice");
    until("it is ready", LOOK, async || ready(&alice).await.0 == 200).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(
            alice
                .submit(pictures::CHAIR, json!({ "resolution": 32 }))
                .await,
        );
    }
    set_read_only(&world, true, true).await;
    until("health names it", LOOK, async || {
        let (status, words) = ready(&alice).await;
        status == 503 && words.contains("read-only")
    })
    .await;
    let (extensions, header) = refusal(&alice, SUBMIT, keyed("meanwhile")).await;
    assert_eq!(extensions["code"], "OVERLOADED");
    assert_eq!(extensions["retryable"], true);
    assert!(header.is_some());
    assert_eq!(
        files(&world.assets.join("sources")),
        3,
        "nothing of the refused one is left"
    );
    // Reading goes on.
    alice.conversion(&ids[0]).await;
    // Longer than a lease.
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(ready(&alice).await.0, 503);

    // Its sessions stay as they are: the node leaves those by itself.
    set_read_only(&world, false, false).await;
    until("it is ready again", LOOK, async || {
        ready(&alice).await.0 == 200
    })
    .await;
    alice.run(SUBMIT, keyed("meanwhile")).await;
    for id in &ids {
        let ended = alice.ended(id).await;
        assert_eq!(ended["status"], "SUCCEEDED", "{ended:#}");
    }
    let database = world.database().await;
    assert_eq!(
        scalar(&database, "SELECT max(failures)::int8 FROM conversion").await,
        0,
        "an outage is no failure of theirs"
    );
    seed::check_all(&database).await;
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_room_is_named_and_loses_nothing() {
    let world = World::new().await;
    let node = world.node().await;
    let alice = node.client("alice");
    until("it is ready", LOOK, async || ready(&alice).await.0 == 200).await;
    let id = alice
        .submit(pictures::CHAIR, json!({ "resolution": 32 }))
        .await;
    let database = world.database().await;
    // As Postgres itself says it, where a table needs another page.
    seed::sql(
        &database,
        "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$",
    )
    .await;
    seed::sql(
        &database,
        "CREATE TRIGGER no_room BEFORE INSERT ON conversion EXECUTE FUNCTION no_room()",
    )
    .await;
    let (extensions, header) = refusal(&alice, SUBMIT, keyed("meanwhile")).await;
    assert_eq!(extensions["code"], "OVERLOADED");
    assert!(header.is_some());
    let (status, words) = ready(&alice).await;
    assert!(
        status == 503 && words.contains("its disk is full"),
        "{words}"
    );
    let ended = alice.ended(&id).await;
    assert_eq!(ended["status"], "SUCCEEDED", "{ended:#}");

    seed::sql(&database, "DROP TRIGGER no_room ON conversion").await;
    until("it is ready again", LOOK * 3, async || {
        ready(&alice).await.0 == 200
    })
    .await;
    alice.run(SUBMIT, keyed("meanwhile")).await;
    seed::check_all(&database).await;
    node.app.stop().await;
}
