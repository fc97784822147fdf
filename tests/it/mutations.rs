//! What clients change: submitting in every way, calling off, repeating, deleting.

use std::path::Path;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::harness::{
    World,
    client::{SUBMIT, SUBMIT_BATCH},
    pictures,
    seed::until,
};

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
const CANCEL: &str = "mutation ($id: ID!) { cancelConversion(id: $id) { conversion { id status cancelRequested } } }";
const RETRY: &str = "mutation ($id: ID!) { retryConversion(id: $id) { conversion { id status retryOf options { resolution } } } }";
const DELETE: &str = "mutation ($id: ID!) { deleteConversion(id: $id) { deletedId } }";
const PAUSE: &str = "mutation { pauseQueue { paused } }";
const RESUME: &str = "mutation { resumeQueue { paused } }";

/// The files below a folder, by their paths in it.
pub fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

/// The stored pictures and meshes of a world.
fn stored(world: &World) -> Vec<String> {
    files(&world.assets)
        .into_iter()
        .filter(|path| path.starts_with("sources/") || path.starts_with("conversions/"))
        .collect()
}

async fn rows(world: &World) -> [i64; 3] {
    let pool = sqlx::PgPool::connect(&world.database_url).await.unwrap();
    let (conversions, assets, events) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM conversion), (SELECT count(*) FROM asset), (SELECT count(*) FROM conversion_event)",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    [conversions, assets, events]
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(bytes);
    hex::encode(digest)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_comes_in_by_three_ways() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let submit = "mutation ($input: SubmitConversionInput!) { submitConversion(input: $input) {
        conversion { status source { id sha256 bytes mediaType url } } } }";
    let source = |answer: &Value| answer["submitConversion"]["conversion"]["source"].clone();
    let text = STANDARD.encode(pictures::CHAIR);
    let plain = json!({ "input": { "image": { "base64": text } } });
    let data_url =
        json!({ "input": { "image": { "base64": format!("data:image/png;base64,{text}") } } });
    let upload = json!({ "input": { "image": { "upload": null } } });
    let mut sources = vec![
        source(&alice.run(submit, plain).await),
        source(&alice.run(submit, data_url).await),
    ];
    let answer = alice
        .send_files(
            submit,
            upload,
            &[("variables.input.image.upload", pictures::CHAIR)],
        )
        .await;
    assert!(answer.get("errors").is_none(), "{answer:#}");
    sources.push(source(&answer["data"]));
    let again = json!({ "input": { "image": { "assetId": sources[0]["id"] } } });
    let by_id = source(&alice.run(submit, again).await);
    assert_eq!(by_id["id"], sources[0]["id"], "no second copy is kept");
    for source in sources {
        assert_eq!(source["sha256"], sha256(pictures::CHAIR));
        assert_eq!(source["mediaType"], "image/png");
        let bytes = alice.download(source["url"].as_str().unwrap()).await;
        assert_eq!(bytes, pictures::CHAIR);
    }
    assert_eq!(stored(&world).len(), 3);
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_uploaded_and_its_bad_pictures_fail_alone() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let variables = json!({ "input": { "images":
        [{ "upload": null }, { "upload": null }, { "upload": null }, { "upload": null }], "options": { "resolution": 32 } } });
    let mut heavy = pictures::CHAIR.to_vec();
    heavy.resize((20 << 20) + 1, 0);
    let files: [(&str, &[u8]); 4] = [
        ("variables.input.images.0.upload", pictures::CHAIR),
        ("variables.input.images.1.upload", b"no picture"),
        ("variables.input.images.2.upload", pictures::TRUCK),
        ("variables.input.images.3.upload", &heavy),
    ];
    let answer = alice.send_files(SUBMIT_BATCH, variables, &files).await;
    assert!(answer.get("errors").is_none(), "{answer:#}");
    let batch = &answer["data"]["submitBatch"];
    assert_eq!(batch["batch"]["size"], 2);
    let codes: Vec<_> = (0..4)
        .map(|index| batch["items"][index]["error"]["code"].as_str())
        .collect();
    assert_eq!(
        codes,
        [None, Some("INVALID_IMAGE"), None, Some("IMAGE_TOO_LARGE")],
        "{batch:#}"
    );
    assert_eq!(batch["items"][3]["error"]["field"], "images.3");
    assert_eq!(stored(&world).len(), 2);
    // All bad: no batch, and nothing kept.
    let (none, items) = alice.submit_batch(&[b"one", b"two"], json!({})).await;
    assert!(none.is_empty() && items.iter().all(|item| item["conversion"].is_null()));
    assert_eq!(stored(&world).len(), 2);
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_called_off_at_once() {
    let world = World::new().await;
    let node = world.node().await;
    let (alice, root) = (node.client("alice"), node.admin());
    root.run(PAUSE, json!({})).await;
    let id = alice
        .submit(pictures::CHAIR, json!({ "resolution": 32 }))
        .await;
    let (batch, _) = alice
        .submit_batch(
            &[pictures::CHAIR, pictures::CHEST, pictures::TRUCK],
            json!({ "resolution": 32 }),
        )
        .await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(
        alice.conversion(&id).await["status"],
        "QUEUED",
        "the queue is paused"
    );
    assert_eq!(
        alice.refusal(RETRY, json!({ "id": id })).await,
        "INVALID_INPUT"
    );
    let canceled = alice.run(CANCEL, json!({ "id": id })).await;
    assert_eq!(
        canceled["cancelConversion"]["conversion"]["status"],
        "CANCELED"
    );
    let again = alice.run(CANCEL, json!({ "id": id })).await;
    assert_eq!(
        again["cancelConversion"]["conversion"]["status"],
        "CANCELED"
    );
    let query = "mutation ($id: ID!) { cancelBatch(id: $id) { batch { counts { canceled queued } progress conversions { status } } } }";
    let off = alice.run(query, json!({ "id": batch })).await;
    assert_eq!(
        off["cancelBatch"]["batch"]["counts"],
        json!({ "canceled": 3, "queued": 0 }),
        "{off:#}"
    );
    // Repeating makes a new one; the old one stays as it ended.
    let retried = alice.run(RETRY, json!({ "id": id })).await;
    let new = &retried["retryConversion"]["conversion"];
    assert_eq!(
        (
            &new["status"],
            &new["retryOf"],
            &new["options"]["resolution"]
        ),
        (&json!("QUEUED"), &json!(id), &json!(32))
    );
    root.run(RESUME, json!({})).await;
    let ended = alice.ended(new["id"].as_str().unwrap()).await;
    assert_eq!(ended["status"], "SUCCEEDED", "{ended:#}");
    assert_eq!(alice.conversion(&id).await["status"], "CANCELED");
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_called_off_at_a_boundary() {
    let world = World::new().await;
    let node = world.node().await;
    let alice = node.client("alice");
    let id = alice
        .submit(pictures::HOUSE, json!({ "resolution": 256 }))
        .await;
    let mut socket = alice.socket().await;
    let query = "subscription ($id: ID!) { conversionProgress(id: $id) { sequence status stage } }";
    socket.subscribe(query, json!({ "id": id })).await;
    let mut states = Vec::new();
    while let Some(mut event) = socket.event().await {
        let state = event["conversionProgress"].take();
        if state["status"] == "RUNNING"
            && !states
                .iter()
                .any(|state: &Value| state["status"] == "RUNNING")
        {
            for refused in [RETRY, DELETE] {
                assert_eq!(
                    alice.refusal(refused, json!({ "id": id })).await,
                    "INVALID_INPUT"
                );
            }
            let asked = alice.run(CANCEL, json!({ "id": id })).await;
            assert_eq!(
                asked["cancelConversion"]["conversion"]["cancelRequested"], true,
                "{asked:#}"
            );
        }
        states.push(state);
    }
    assert_eq!(states.last().unwrap()["status"], "CANCELED", "{states:#?}");
    let conversion = alice.conversion(&id).await;
    assert_eq!(
        (&conversion["status"], &conversion["outputs"]),
        (&json!("CANCELED"), &json!([]))
    );
    assert!(conversion["error"].is_null());
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_one_is_repeated() {
    let world = World::new().await;
    let node = world.node().await;
    let alice = node.client("alice");
    let id = alice
        .submit(&pictures::empty(), json!({ "resolution": 32 }))
        .await;
    assert_eq!(alice.ended(&id).await["status"], "FAILED");
    let retried = alice.run(RETRY, json!({ "id": id })).await;
    let new = retried["retryConversion"]["conversion"]["id"]
        .as_str()
        .unwrap();
    assert_ne!(new, id);
    let ended = alice.ended(new).await;
    assert_eq!(
        (&ended["status"], &ended["retryOf"]),
        (&json!("FAILED"), &json!(id))
    );
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_removes_rows_and_files() {
    let world = World::new().await;
    let node = world.node().await;
    let alice = node.client("alice");
    let id = alice
        .submit(
            pictures::CHEST,
            json!({ "resolution": 32, "formats": ["GLB", "STL"] }),
        )
        .await;
    let ended = alice.ended(&id).await;
    assert_eq!(ended["status"], "SUCCEEDED", "{ended:#}");
    assert_eq!(
        stored(&world).len(),
        4,
        "picture, preview, two meshes: {:?}",
        stored(&world)
    );
    let url = ended["outputs"][0]["url"].as_str().unwrap();
    alice.download(url).await;

    // Another one by the same picture.
    let other = json!({ "input": { "image": { "assetId": ended["source"]["id"] }, "options": { "resolution": 32 } } });
    let other = alice.run(SUBMIT, other).await["submitConversion"]["conversion"]["id"].clone();
    let other = other.as_str().unwrap();
    assert_eq!(alice.ended(other).await["status"], "SUCCEEDED");

    let deleted = alice.run(DELETE, json!({ "id": id })).await;
    assert_eq!(deleted["deleteConversion"]["deletedId"], id);
    assert_eq!(alice.http.get(url).send().await.unwrap().status(), 404);
    assert!(
        alice
            .run(
                "query ($id: ID!) { conversion(id: $id) { id } }",
                json!({ "id": id })
            )
            .await["conversion"]
            .is_null()
    );
    assert_eq!(
        alice.refusal(DELETE, json!({ "id": id })).await,
        "NOT_FOUND"
    );
    let left = alice.conversion(other).await;
    assert_eq!(
        left["source"]["id"], ended["source"]["id"],
        "the picture is still in use"
    );
    assert_eq!(rows(&world).await[..2], [1, 3]);
    until("its files are erased", PATIENCE, async || {
        stored(&world).len() == 3
    })
    .await;

    alice.run(DELETE, json!({ "id": other })).await;
    assert_eq!(rows(&world).await, [0, 0, 0]);
    until("all files are erased", PATIENCE, async || {
        stored(&world).is_empty()
    })
    .await;
    node.app.stop().await;
}
