//! The coarse shape, seen before the mesh is there.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::harness::{World, pictures};

const FOLLOW: &str = "subscription ($id: ID!) { conversionProgress(id: $id) { status stage sequence draft preview { url } } }";

#[tokio::test(flavor = "multi_thread")]
async fn the_coarse_shape_is_shown_on_any_node_while_the_mesh_is_made() {
    let world = World::new().await;
    let worker = world.node().await;
    // Its followers are told by way of Postgres alone.
    let elsewhere = world.api_node().await;
    let alice = elsewhere.client("alice");
    // Fine enough that the coarse shape is drawn long before the last level is sampled.
    let id = alice
        .submit(pictures::HOUSE, json!({ "resolution": 256 }))
        .await;
    let events = alice
        .socket()
        .await
        .events(FOLLOW, json!({ "id": id }))
        .await;
    let states: Vec<_> = events
        .iter()
        .map(|event| &event["conversionProgress"])
        .collect();
    let drafted: Vec<_> = states
        .iter()
        .filter(|state| state["draft"].is_string())
        .collect();
    assert!(!drafted.is_empty(), "{states:#?}");
    for state in drafted {
        assert_eq!(
            (&state["status"], &state["preview"]),
            (&json!("RUNNING"), &json!(null))
        );
        let url = state["draft"].as_str().unwrap();
        let webp = url.strip_prefix("data:image/webp;base64,").unwrap();
        let picture = image::load_from_memory(&STANDARD.decode(webp).unwrap())
            .unwrap()
            .into_rgba8();
        let solid = picture.pixels().filter(|pixel| pixel.0[3] > 200).count();
        let share = solid as f64 / f64::from(picture.width() * picture.height());
        assert!(share > 0.05, "something is to be seen: {share}");
    }
    let last = states.last().unwrap();
    assert_eq!(last["status"], "SUCCEEDED");
    assert!(last["draft"].is_null() && last["preview"]["url"].is_string());
    elsewhere.app.stop().await;
    worker.app.stop().await;
}
