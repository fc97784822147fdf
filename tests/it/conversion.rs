//! The path of one conversion, from the mutation to the downloaded mesh.

use serde_json::json;

use crate::harness::{World, pictures};

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_becomes_a_mesh_and_a_subscription_shows_it() {
    let world = World::new().await;
    let node = world.node().await;
    let alice = node.client("alice");
    let id = alice
        .submit(
            pictures::CHEST,
            json!({ "formats": ["GLB", "STL", "OBJ", "PLY", "THREE_MF"], "resolution": 64 }),
        )
        .await;
    let mut socket = alice.socket().await;
    let query = "subscription ($id: ID!) { conversionProgress(id: $id) { sequence status stage progress } }";
    let events = socket.events(query, json!({ "id": id })).await;
    let steps: Vec<_> = events
        .iter()
        .map(|event| &event["conversionProgress"])
        .collect();
    let last = steps.last().unwrap();
    assert_eq!(
        (last["status"].as_str(), last["progress"].as_f64()),
        (Some("SUCCEEDED"), Some(1.0)),
        "{steps:#?}"
    );
    let progress: Vec<f64> = steps
        .iter()
        .map(|step| step["progress"].as_f64().unwrap())
        .collect();
    assert!(progress.is_sorted(), "progress never falls: {progress:?}");

    let conversion = alice.conversion(&id).await;
    assert_eq!(conversion["attempts"], 1);
    assert_eq!(conversion["outputs"].as_array().unwrap().len(), 5);
    assert_eq!(conversion["quality"]["watertight"], true, "{conversion:#}");
    for output in conversion["outputs"].as_array().unwrap() {
        let bytes = alice.download(output["url"].as_str().unwrap()).await;
        assert_eq!(
            bytes.len() as u64,
            output["bytes"].as_u64().unwrap(),
            "{output}"
        );
    }
    let glb = alice
        .download(conversion["outputs"][0]["url"].as_str().unwrap())
        .await;
    let (document, buffers, _) = gltf::import_slice(&glb).unwrap();
    let primitive = document
        .meshes()
        .next()
        .unwrap()
        .primitives()
        .next()
        .unwrap();
    let reader = primitive.reader(|buffer| Some(&buffers[buffer.index()]));
    let positions: Vec<[f32; 3]> = reader.read_positions().unwrap().collect();
    assert_eq!(
        positions.len() as u64,
        conversion["outputs"][0]["vertices"].as_u64().unwrap()
    );
    assert!(reader.read_normals().is_some() && reader.read_colors(0).is_some());
    let extent = |axis: usize| {
        let values = positions.iter().map(|position| position[axis]);
        values.clone().fold(f32::MIN, f32::max) - values.fold(f32::MAX, f32::min)
    };
    let longest = (0..3).map(extent).fold(0.0, f32::max);
    assert!(
        (longest - 1.0).abs() < 1e-4,
        "the longest side is 1 m, not {longest}"
    );
    node.app.stop().await;
}
