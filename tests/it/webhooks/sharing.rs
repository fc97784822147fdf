//! Nodes share deliveries, take over from each other, and let nobody's endpoint hold up another's.

use std::collections::BTreeSet;

use super::*;
use crate::harness::process::NodeProcess;

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_tell_everything_once() {
    let world = World::new().await;
    let database = world.database().await;
    database.migrate().await.unwrap();
    let receiver = Receiver::content().await;
    let hook = receiver.hook("/", &Event::ENDS);
    succeeded(&database, "alice", 20, &hook).await;
    let (one, other) = tokio::join!(node(&world), node(&world));
    succeeded(&database, "bob", 20, &hook).await;
    until_status(&database, "delivered", 40).await;
    let told = receiver.until_told(40).await;
    let ids: BTreeSet<&str> = told.iter().map(Told::id).collect();
    assert_eq!(ids.len(), 40);
    assert_eq!(
        scalar(
            &database,
            "SELECT max(attempts)::bigint FROM webhook_delivery"
        )
        .await,
        1
    );
    one.app.stop().await;
    other.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_nodes_delivery_is_made_by_another() {
    let world = World::new().await;
    let database = world.database().await;
    database.migrate().await.unwrap();
    let receiver = Receiver::start(|_, before| {
        if before == 0 {
            Answer::Hangs
        } else {
            Answer::Status(200)
        }
    })
    .await;
    let hook = receiver.hook("/", &Event::ENDS);
    succeeded(&database, "alice", 1, &hook).await;
    let mut doomed = NodeProcess::start_api(&world, &[("ORFEAS_EGRESS_ALLOW", NETWORK)]);
    receiver.until_told(1).await;
    doomed.kill();
    let other = node(&world).await;
    assert_eq!(
        scalar(&database, "SELECT count(*) FROM webhook_delivery WHERE node_id IS NOT NULL AND next_attempt_at > now()").await,
        1,
        "the dead node's lease holds"
    );
    sql(
        &database,
        "UPDATE webhook_delivery SET next_attempt_at = now()",
    )
    .await;
    let told = receiver.until_told(2).await;
    assert_eq!(told[0].id(), told[1].id());
    until_status(&database, "delivered", 1).await;
    assert_eq!(
        log(&other.client("alice"), json!({})).await[0]["attempts"],
        2
    );
    other.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_node_hands_its_deliveries_back() {
    let world = World::new().await;
    let database = world.database().await;
    let (one, other) = (node(&world).await, calling(&world));
    let receiver = Receiver::start(|_, before| {
        if before == 0 {
            Answer::Hangs
        } else {
            Answer::Status(200)
        }
    })
    .await;
    succeeded(&database, "alice", 1, &receiver.hook("/", &Event::ENDS)).await;
    receiver.until_told(1).await;
    one.app.stop().await;
    assert_eq!(
        scalar(&database, "SELECT count(*) FROM webhook_delivery WHERE node_id IS NULL AND next_attempt_at <= now()").await,
        1
    );
    let other = world.node_with(other).await;
    receiver.until_told(2).await;
    until_status(&database, "delivered", 1).await;
    other.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_endpoint_holds_up_nobody_else() {
    let world = World::new().await;
    let node = node(&world).await;
    let database = world.database().await;
    let (dead, living) = (
        Receiver::start(|_, _| Answer::Hangs).await,
        Receiver::content().await,
    );
    // More than a node tells side by side for one owner.
    succeeded(&database, "alice", 40, &dead.hook("/", &Event::ENDS)).await;
    until("the dead one holds what it can", PATIENCE, async || {
        dead.told().len() >= 4
    })
    .await;
    for _ in 0..3 {
        succeeded(&database, "alice", 1, &living.hook("/", &Event::ENDS)).await;
    }
    living.until_told(3).await;
    assert!(
        dead.told().len() <= 8,
        "four at a time, for 15 s: {}",
        dead.told().len()
    );
    node.app.stop().await;
}
