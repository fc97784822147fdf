//! Models that go from noise to an object step by step: conversions share steps and don't depend on each other.

use std::path::{Path, PathBuf};

use orfeas::{
    app::{self, App, AppOptions},
    config::Settings,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Node, PROGRAM, World, client::Client, meshes, pictures};

/// A node that serves the tiny iterative model, which is its default, and the tiny one that isn't.
async fn node(world: &World) -> (Node, TempDir) {
    let models = tempfile::tempdir().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
    for name in ["stepping", "sound"] {
        std::os::unix::fs::symlink(fixtures.join(name), models.path().join(name)).unwrap();
    }
    let settings = Settings {
        orfeas_models_dir: Some(models.path().to_owned()),
        orfeas_default_model: "stepping".into(),
        ..world.settings()
    };
    let options = AppOptions {
        engine: Some(app::open::engine(&settings).await.unwrap()),
        settings,
        program: PathBuf::from(PROGRAM),
        egress: None,
        metrics: None,
    };
    let app = App::start(options).await.unwrap();
    (Node { app }, models)
}

/// A mesh's description, freed of the conversion's id, and its numbers.
async fn made(client: &Client, id: &str) -> (String, Vec<u8>) {
    let ended = client.ended(id).await;
    assert_eq!(ended["status"], "SUCCEEDED", "{ended:#}");
    let url = ended["outputs"][0]["url"].as_str().unwrap();
    let bytes = client.download(url).await;
    meshes::glb(&bytes);
    let (description, numbers) = meshes::glb_chunks(&bytes);
    (description.to_string().replace(id, "…"), numbers)
}

async fn used(client: &Client, id: &str) -> Value {
    let query = "query ($id: ID!) { conversion(id: $id) { options { steps guidance seed } } }";
    let mut data = client.run(query, json!({ "id": id })).await;
    data["conversion"]["options"].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn conversions_that_share_steps_are_what_they_are_alone() {
    let world = World::new().await;
    let (node, _models) = node(&world).await;
    let alice = node.client("alice");
    let asked = [
        json!({}),
        json!({ "steps": 2, "seed": 1 }),
        json!({ "steps": 64, "seed": 2 }),
        json!({ "steps": 8, "guidance": 0.5 }),
        json!({ "steps": 33, "guidance": 3.5, "seed": 2147483647 }),
        json!({ "seed": 2 }),
    ];
    let mut alone = Vec::new();
    for options in &asked {
        let id = alice.submit(pictures::CHEST, options.clone()).await;
        alone.push(made(&alice, &id).await);
    }
    for (at, one) in alone.iter().enumerate() {
        let twin = alone[..at].iter().position(|other| other.1 == one.1);
        assert_eq!(twin, None, "steps, guidance and seed are heeded: {at}");
    }
    let mut together = Vec::new();
    for options in asked.iter().chain(&asked) {
        together.push(alice.submit(pictures::CHEST, options.clone()).await);
    }
    for (id, alone) in together.iter().zip(alone.iter().chain(&alone)) {
        assert!(made(&alice, id).await == *alone, "the meshes differ");
    }
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_used_is_kept_and_what_is_out_of_range_is_refused() {
    let world = World::new().await;
    let (node, _models) = node(&world).await;
    let alice = node.client("alice");
    let id = alice.submit(pictures::CHEST, json!({})).await;
    let defaults = json!({ "steps": 8, "guidance": 2.0, "seed": 0 });
    assert_eq!(used(&alice, &id).await, defaults);
    let first = made(&alice, &id).await;

    let own = json!({ "steps": 9, "guidance": 1.5, "seed": 7 });
    let id = alice.submit(pictures::CHEST, own.clone()).await;
    assert_eq!(used(&alice, &id).await, own);
    assert!(made(&alice, &id).await != first);
    let retry = "mutation ($id: ID!) { retryConversion(id: $id) { conversion { id } } }";
    let retried = alice.run(retry, json!({ "id": id })).await;
    let again = retried["retryConversion"]["conversion"]["id"]
        .as_str()
        .unwrap();
    assert_eq!(used(&alice, again).await, own);
    assert!(made(&alice, again).await == made(&alice, &id).await);

    for (options, field, says) in [
        (json!({ "steps": 1 }), "options.steps", "must lie in 2..64."),
        (
            json!({ "steps": 65 }),
            "options.steps",
            "must lie in 2..64.",
        ),
        (
            json!({ "guidance": -0.5 }),
            "options.guidance",
            "must lie in 0..4.",
        ),
        (
            json!({ "guidance": 4.5 }),
            "options.guidance",
            "must lie in 0..4.",
        ),
    ] {
        let submission = crate::harness::client::submission(pictures::CHEST, options);
        let answer = alice.send(crate::harness::client::SUBMIT, submission).await;
        let error = &answer["errors"][0];
        assert_eq!(error["extensions"]["code"], "INVALID_INPUT", "{answer:#}");
        assert_eq!(error["extensions"]["field"], field, "{answer:#}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(says), "{message}");
    }

    // A model that doesn't iterate takes no notice, and none is kept.
    let options = json!({ "model": "sound", "steps": 999, "guidance": 99.0, "seed": 5 });
    let id = alice.submit(pictures::CHEST, options).await;
    assert_eq!(
        used(&alice, &id).await,
        json!({ "steps": null, "guidance": null, "seed": null })
    );
    made(&alice, &id).await;

    let query =
        "{ models { name contract steps { default min max } guidance { default min max } } }";
    let models = alice.run(query, json!({})).await["models"].take();
    assert_eq!(
        models,
        json!([
            { "name": "sound", "contract": "implicit-field/1", "steps": null, "guidance": null },
            { "name": "stepping", "contract": "implicit-field/2",
              "steps": { "default": 8, "min": 2, "max": 64 }, "guidance": { "default": 2.0, "min": 0.0, "max": 4.0 } },
        ])
    );
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_with_another_seed_is_another_submission() {
    let world = World::new().await;
    let (node, _models) = node(&world).await;
    let alice = node.client("alice");
    let submit = |options: Value| {
        let mut variables = crate::harness::client::submission(pictures::CHEST, options);
        variables["input"]["idempotencyKey"] = json!("once");
        alice.send(crate::harness::client::SUBMIT, variables)
    };
    let first = submit(json!({ "seed": 1 })).await;
    let again = submit(json!({ "seed": 1 })).await;
    let id = |answer: &Value| answer["data"]["submitConversion"]["conversion"]["id"].clone();
    assert!(id(&first).is_string() && id(&first) == id(&again));
    let other = submit(json!({ "seed": 2 })).await;
    let code = &other["errors"][0]["extensions"]["code"];
    assert_eq!(code, "IDEMPOTENCY_CONFLICT", "{other:#}");
    node.app.stop().await;
}
