//! The same through the API: a real server, a real Postgres.

use std::{fs, path::Path, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Fault, GOOD, models, picture};
use crate::harness::{
    Node, World,
    client::Client,
    engines::BenchOptions,
    meshes::{self, Shape},
    seed::{self, scalar, until},
};

const PATIENCE: Duration = Duration::from_secs(60);
/// Lengths of a mesh of a metre: a hundredth of the grid's cell.
const NEAR: f32 = 5e-4;

fn options() -> Value {
    json!({ "resolution": 32 })
}

async fn shape(client: &Client, ended: &Value) -> Shape {
    assert_eq!(ended["status"], "SUCCEEDED", "{ended:#}");
    let url = ended["outputs"][0]["url"].as_str().unwrap();
    meshes::glb(&client.download(url).await)
}

fn good() -> Vec<Vec<u8>> {
    let pictures = GOOD.iter().zip([60, 45, 30, 20]);
    pictures
        .map(|(&colour, wide)| picture(colour, wide))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_conversion_fails_alone_and_its_neighbours_succeed() {
    let world = World::new().await;
    let bench = BenchOptions::new(&models(), "faulty").sharing();
    let node = world.node_over(bench.engine.clone(), &models()).await;
    let alice = node.client("alice");
    let good = good();
    let mut alone = Vec::new();
    for picture in &good {
        let id = alice.submit(picture, options()).await;
        alone.push(shape(&alice, &alice.ended(&id).await).await);
    }

    let mut pictures = good;
    for (at, fault) in Fault::ALONE.into_iter().enumerate() {
        // Between the good ones, then behind them.
        let place = (2 * at + 1).min(pictures.len());
        pictures.insert(place, picture(fault.colour(), 50));
    }
    let pictures: Vec<&[u8]> = pictures.iter().map(Vec::as_slice).collect();
    // Eight go together and two behind them, however quickly the first is prepared.
    let coming = bench.engine.on_their_way();
    let (_, items) = alice.submit_batch(&pictures, options()).await;
    until("all are there", PATIENCE, async || {
        bench.log().unwrap().encodes.contains(&8) && bench.engine.pending() >= 2
    })
    .await;
    drop(coming);
    let mut ends = Vec::new();
    for item in &items {
        ends.push(
            alice
                .ended(item["conversion"]["id"].as_str().unwrap())
                .await,
        );
    }
    for (end, alone) in [0, 2, 4, 6].into_iter().map(|at| &ends[at]).zip(&alone) {
        assert!(
            end["timings"]["gpuBatchSize"].as_i64().unwrap() > 1,
            "{end:#}"
        );
        shape(&alice, end).await.assert_near(alone, NEAR);
    }
    let failed = [1, 3, 5, 7, 8, 9].map(|at| &ends[at]);
    for (fault, end) in Fault::ALONE.into_iter().zip(failed) {
        // Memory may be there another time or on another node, so that is tried three times.
        let (code, retryable, attempts) = match fault {
            Fault::EncodeNan | Fault::QueryNan => ("CONVERSION_FAILED", false, 1),
            Fault::EncodeMemory | Fault::QueryMemory => ("INTERNAL", true, 3),
            _ => ("INTERNAL", false, 1),
        };
        assert_eq!(end["status"], "FAILED", "{fault:?}: {end:#}");
        assert_eq!(end["error"]["code"], code, "{fault:?}: {end:#}");
        assert_eq!(end["error"]["retryable"], retryable, "{fault:?}: {end:#}");
        assert_eq!(end["attempts"], attempts, "{fault:?}: {end:#}");
    }
    assert_eq!(bench.images_max(), 8, "the others' batches stay as large");
    seed::check_all(&world.database().await).await;
    node.app.stop().await;
    bench.engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_too_large_for_the_memory_succeeds_in_smaller_batches() {
    let world = World::new().await;
    let bench = BenchOptions::new(&models(), "faulty").sharing();
    let node = world.node_over(bench.engine.clone(), &models()).await;
    let alice = node.client("alice");
    let picture = picture(Fault::Crowd.colour(), 40);
    let alone = alice.submit(&picture, options()).await;
    let alone = shape(&alice, &alice.ended(&alone).await).await;
    let (_, items) = alice
        .submit_batch(&[picture.as_slice(); 8], options())
        .await;
    for item in &items {
        let end = alice
            .ended(item["conversion"]["id"].as_str().unwrap())
            .await;
        assert_eq!(end["attempts"], 1, "{end:#}");
        shape(&alice, &end).await.assert_near(&alone, NEAR);
    }
    assert!(bench.images_max() <= 2, "{}", bench.images_max());
    node.app.stop().await;
    bench.engine.stop().await;
}

/// A folder with a model of the same name, in whose eyes no picture is marked.
fn without_faults() -> TempDir {
    let models = tempfile::tempdir().unwrap();
    let sound = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/sound");
    let folder = models.path().join("faulty");
    fs::create_dir(&folder).unwrap();
    fs::copy(sound.join("model.pt"), folder.join("model.pt")).unwrap();
    let manifest = fs::read_to_string(sound.join("model.toml")).unwrap();
    let manifest = manifest.replace("name = \"sound\"", "name = \"faulty\"");
    fs::write(folder.join("model.toml"), manifest).unwrap();
    models
}

async fn ready(node: &Node) -> (u16, String) {
    let url = format!("http://{}/readyz", node.app.api.unwrap());
    let answer = reqwest::get(url).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_devices_conversions_go_back_to_the_queue_and_the_next_node_takes_them() {
    let world = World::new().await;
    let database = world.database().await;
    let bench = BenchOptions::new(&models(), "faulty").sharing();
    let node = world.node_over(bench.engine.clone(), &models()).await;
    until("it is ready", PATIENCE, async || {
        ready(&node).await.0 == 200
    })
    .await;
    let alice = node.client("alice");
    let mut pictures = good();
    pictures.insert(2, picture(Fault::EncodeLost.colour(), 50));
    let pictures: Vec<&[u8]> = pictures.iter().map(Vec::as_slice).collect();
    // All of them wait for the device when it is lost: none is to end before.
    let coming = bench.engine.on_their_way();
    let (_, items) = alice.submit_batch(&pictures, options()).await;
    until("all are there", PATIENCE, async || {
        bench.engine.pending() >= 5
    })
    .await;
    drop(coming);
    until("the device is lost", PATIENCE, async || {
        !bench.engine.can_compute()
    })
    .await;
    let queued = "SELECT count(*) FROM conversion WHERE status = 'queued'";
    until("all are back in the queue", PATIENCE, async || {
        scalar(&database, queued).await == 5
    })
    .await;

    // The node says so, answers clients as before, and takes nothing more.
    let (status, text) = ready(&node).await;
    assert!(
        status == 503 && text.contains("every device is lost"),
        "{text}"
    );
    let root = node.admin();
    let nodes = "{ nodes { id degraded devices { kind lost } } }";
    until("it tells the others", PATIENCE, async || {
        root.run(nodes, json!({})).await["nodes"][0]["degraded"] == true
    })
    .await;
    let told = root.run(nodes, json!({})).await["nodes"][0]["devices"][0].take();
    assert!(
        told["lost"]
            .as_str()
            .unwrap()
            .contains("illegal memory access"),
        "{told}"
    );
    let late = alice.submit(&good()[0], options()).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let waiting = alice.conversion(&late).await;
    assert!(
        waiting["status"] == "QUEUED" && waiting["attempts"] == 0,
        "{waiting:#}"
    );

    let sound = without_faults();
    let next = BenchOptions::new(sound.path(), "faulty").sharing();
    let heir = world.node_over(next.engine.clone(), sound.path()).await;
    assert_eq!(alice.ended(&late).await["attempts"], 1);
    for item in &items {
        let end = alice
            .ended(item["conversion"]["id"].as_str().unwrap())
            .await;
        assert!(
            end["status"] == "SUCCEEDED" && end["attempts"] == 2,
            "{end:#}"
        );
    }
    assert_eq!(ready(&heir).await.0, 200);
    seed::check_all(&database).await;
    heir.app.stop().await;
    node.app.stop().await;
    next.engine.stop().await;
    bench.engine.stop().await;
}
