//! The nodes' ring of master keys.

use orfeas::{
    app::AppError,
    config::{Role, Settings},
};
use serde_json::json;

use super::WHO;
use crate::harness::{MASTER_KEYS, World, agent::Agent, seed::sql};

#[tokio::test(flavor = "multi_thread")]
async fn master_keys_are_rotated_in_order_or_not_at_all() {
    let world = World::new().await;
    let ring = |keys: String| Settings {
        orfeas_role: Role::Api,
        orfeas_master_keys: Some(keys),
        ..world.settings()
    };
    let fresh = format!("fresh:{}", "cd".repeat(32));
    let both = format!("{MASTER_KEYS},{fresh}");
    let turned = format!("{fresh},{MASTER_KEYS}");
    let refused = async |keys: String| match world.try_node_with(ring(keys)).await {
        Err(AppError::Ring(error)) => orfeas::error_chain::chain(&error).to_string(),
        Err(other) => panic!("{other:?}"),
        Ok(node) => {
            node.app.stop().await;
            panic!("it started")
        }
    };
    let old = world.node_with(ring(MASTER_KEYS.into())).await;
    let agent = Agent::new(&old.admin(), json!({ "requestsPerMinute": 1000 })).await;
    let other = format!("test:{}", "ab".repeat(32));
    assert!(
        refused(other).await.contains("is another one"),
        "the same name"
    );
    assert!(
        refused(fresh.clone())
            .await
            .contains("need the master key test")
    );
    assert!(
        refused(turned.clone())
            .await
            .contains("lacks the master key fresh"),
        "too early"
    );

    // First everywhere at the end, then everywhere in front.
    let second = world.node_with(ring(both)).await;
    old.app.stop().await;
    let third = world.node_with(ring(turned)).await;
    second.app.stop().await;
    let agent = agent.at(third.app.api.unwrap());
    agent.run(WHO, json!({})).await;
    assert!(
        refused(fresh.clone())
            .await
            .contains("need the master key test"),
        "a live key still does"
    );
    let rotate = "mutation ($id: ID!) { rotateApiKey(id: $id) { secret apiKey { master } } }";
    let rotated = third.admin().run(rotate, json!({ "id": agent.key })).await;
    assert_eq!(rotated["rotateApiKey"]["apiKey"]["master"], "fresh");
    assert!(
        refused(fresh.clone())
            .await
            .contains("need the master key test"),
        "for the grace period"
    );
    let database = world.database().await;
    sql(
        &database,
        "UPDATE api_key SET previous_until = now() - interval '1 second'",
    )
    .await;
    let alone = world.node_with(ring(fresh)).await;
    let new = Agent {
        secret: rotated["rotateApiKey"]["secret"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap(),
        ..agent.at(alone.app.api.unwrap())
    };
    new.run(WHO, json!({})).await;
    third.app.stop().await;
    alone.app.stop().await;
}
