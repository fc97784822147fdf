//! A conversion's mesh does not depend on its neighbours.

use serde_json::json;

use crate::harness::{World, client::Client, meshes, pictures};

/// A mesh as downloaded, its description freed of the conversion's id, and the GPU batch that it was made in.
async fn made(client: &Client, id: &str) -> (String, Vec<u8>, i64) {
    let ended = client.ended(id).await;
    assert_eq!(ended["status"], "SUCCEEDED", "{ended:#}");
    let bytes = client
        .download(ended["outputs"][0]["url"].as_str().unwrap())
        .await;
    meshes::glb(&bytes);
    let (description, numbers) = meshes::glb_chunks(&bytes);
    let text = description.to_string();
    assert!(text.contains(id), "the file names its conversion: {text}");
    (
        text.replace(id, "…"),
        numbers,
        ended["timings"]["gpuBatchSize"].as_i64().unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn alone_or_among_others_the_mesh_is_the_same() {
    let world = World::new().await;
    let node = world.node().await;
    let alice = node.client("alice");
    let options = json!({ "resolution": 64 });
    let mut alone = Vec::new();
    for picture in pictures::ALL {
        let id = alice.submit(picture, options.clone()).await;
        alone.push(made(&alice, &id).await);
    }
    let mut largest = 0;
    // On a busy machine each may be through before the next is ready; then they were not among others.
    for _ in 0..5 {
        let (_, items) = alice.submit_batch(&pictures::ALL, options.clone()).await;
        for (item, (description, numbers, _)) in items.iter().zip(&alone) {
            let among = made(&alice, item["conversion"]["id"].as_str().unwrap()).await;
            assert!(among.1 == *numbers, "the numbers differ");
            assert_eq!(among.0, *description);
            largest = largest.max(among.2);
        }
        if largest > 1 {
            break;
        }
    }
    assert!(alone.iter().all(|made| made.2 == 1), "alone is alone");
    assert!(
        largest > 1,
        "the five never shared a batch, so nothing was compared"
    );
    node.app.stop().await;
}
