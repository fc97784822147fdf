//! Calling off conversions that share passes with others, on the real model: it takes effect between passes, and the
//! others get what they get alone.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use orfeas::{
    app,
    conversion::options::ConversionOptions,
    inference::backend::{FieldValues, Want},
    pipeline::{self, Job},
};
use serde_json::{Value, json};

use crate::harness::{
    PROGRAM, World,
    client::Client,
    engines::{Bench, BenchOptions, Passes},
    meshes::{self, Shape},
    pictures,
    seed::{self, until},
};

const PATIENCE: Duration = Duration::from_secs(120);
/// How far a logit near the surface may move by the company of its row: on a processor as in
/// `inference::torch::tests::sharing`, on a GPU as in `inference::torch::tests`.
const MOVE_MAX: f32 = 2e-3;
const GPU_MOVE_MAX: f32 = 0.08;
/// The same of a mesh of a metre: fields rise by 4 logits a unit or more at the surface, so it moves by a two-thousandth,
/// and a corner may change to another edge of its sample, close to which it was.
const NEAR: f32 = 2e-3;
/// Four passes of a conversion alone, sixteen where four share them.
const POINTS: usize = 65_536;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
}

fn bench() -> Bench {
    BenchOptions::new(&models(), "orfeas-mini").sharing()
}

/// The pictures as the model gets them.
async fn images(bench: &Bench) -> Vec<Vec<f32>> {
    let settings = World::new().await.settings();
    let tools = app::open::tools(&settings, bench.engine.clone(), PathBuf::from(PROGRAM)).unwrap();
    let prepared = pictures::ALL.map(|picture| {
        let job = Job {
            picture: Bytes::from_static(picture),
            model: "orfeas-mini".into(),
            options: ConversionOptions::default(),
            rank: 0,
            name: None,
        };
        let tools = &tools;
        async move {
            pipeline::prepared(tools, &job)
                .await
                .unwrap()
                .0
                .image
                .to_vec()
        }
    });
    join_all(prepared).await
}

fn points() -> Vec<[f32; 3]> {
    let along = |at: usize| at as f32 / 15.5 - 1.0;
    let point = |at: usize| {
        [
            along(at % 32),
            along(at / 32 % 32),
            along(at / 1024 % 64 / 2),
        ]
    };
    (0..POINTS).map(point).collect()
}

fn assert_near(values: &FieldValues, expected: &FieldValues, move_max: f32) {
    assert_eq!(values.logits.len(), POINTS);
    let pairs = values.logits.iter().zip(&expected.logits);
    // Far from the surface only the sign counts.
    let near = pairs.filter(|(_, expected)| expected.abs() < 4.0);
    let moved = near.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(moved <= move_max, "a logit moved by {moved}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leaves_a_pass_changes_nothing_for_those_who_stay() {
    leaving(bench(), MOVE_MAX).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_gpu_whoever_leaves_a_pass_changes_nothing_for_those_who_stay() {
    if let Some(bench) = BenchOptions::new(&models(), "orfeas-mini").on_a_gpu() {
        leaving(bench, GPU_MOVE_MAX).await;
    }
}

async fn leaving(bench: Bench, move_max: f32) {
    let images = images(&bench).await;
    let mut alone = Vec::new();
    for image in &images[..3] {
        let codes = bench.encode(std::slice::from_ref(image)).await.remove(0);
        let asked = bench
            .engine
            .query(codes.as_ref().unwrap(), points(), Want::Logits);
        alone.push(asked.await.unwrap());
    }

    let coming = bench.engine.on_their_way();
    let request = |image: &Vec<f32>| bench.engine.enqueue(bench.request(image.clone())).unwrap();
    let mut tickets: Vec<_> = images.iter().map(request).collect();
    drop(coming);
    for ticket in &mut tickets {
        assert_eq!(ticket.started().await.unwrap().images, 5);
    }
    // In the middle of its encode: had that not begun, it would begin without the one who left.
    until("all are being encoded", PATIENCE, async || {
        bench
            .log()
            .is_none_or(|passes| passes.encodes.ends_with(&[5]))
    })
    .await;
    drop(tickets.pop());
    let codes = join_all(tickets.into_iter().map(|ticket| ticket.finished())).await;
    let mut codes: Vec<_> = codes.into_iter().map(Result::unwrap).collect();
    let leaves = codes.pop().unwrap();

    let shared_by_all = |passes: &Passes| {
        let of_four = |(conversions, _): &&(usize, usize)| *conversions == 4;
        passes.queries.iter().filter(of_four).count()
    };
    let hold = bench.hold(4);
    let stay = join_all(
        codes
            .iter()
            .map(|codes| bench.engine.query(codes, points(), Want::Logits)),
    );
    let leave = async {
        // Far more than the others ask, so that it is in the middle of it.
        let (many, began) = (points().repeat(100), Instant::now());
        let shared = async || match bench.log() {
            Some(passes) => shared_by_all(&passes) == 1,
            // A GPU takes 25 ms for so many.
            None => began.elapsed() > Duration::from_millis(5),
        };
        tokio::select! {
            done = bench.engine.query(&leaves, many, Want::Logits) => panic!("it was not called off: {done:?}"),
            () = until("it shares a pass", PATIENCE, shared) => {}
        }
        drop(hold);
    };
    let (fields, ()) = tokio::join!(stay, leave);
    for (field, alone) in fields.into_iter().zip(&alone) {
        assert_near(&field.unwrap(), alone, move_max);
    }
    if let Some(passes) = bench.log() {
        assert_eq!(passes.encodes, [1, 1, 1, 5]);
        assert_eq!(shared_by_all(&passes), 1, "{passes:?}");
    }
    bench.engine.stop().await;
}

async fn shape(client: &Client, ended: &Value) -> Shape {
    assert_eq!(ended["status"], "SUCCEEDED", "{ended:#}");
    let url = ended["outputs"][0]["url"].as_str().unwrap();
    meshes::glb(&client.download(url).await)
}

async fn cancel(client: &Client, id: &str) -> Value {
    let cancel = "mutation ($id: ID!) { cancelConversion(id: $id) { conversion { id } } }";
    client.run(cancel, json!({ "id": id })).await;
    client.ended(id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn neighbours_of_canceled_conversions_get_the_meshes_they_get_alone() {
    let world = World::new().await;
    let bench = bench();
    let node = world.node_over(bench.engine.clone(), &models()).await;
    let alice = node.client("alice");
    let options = json!({ "resolution": 64 });
    let mut alone = Vec::new();
    for picture in &pictures::ALL[..3] {
        let id = alice.submit(picture, options.clone()).await;
        alone.push(shape(&alice, &alice.ended(&id).await).await);
    }

    // They go together, however quickly the first is prepared.
    let coming = bench.engine.on_their_way();
    let (_, items) = alice.submit_batch(&pictures::ALL, options).await;
    until("all are there", PATIENCE, async || {
        bench.engine.pending() == 5
    })
    .await;
    drop(coming);
    let ids: Vec<&str> = items
        .iter()
        .map(|item| item["conversion"]["id"].as_str().unwrap())
        .collect();
    until("all five are being encoded", PATIENCE, async || {
        bench.log().unwrap().encodes.ends_with(&[5])
    })
    .await;
    let encoding = cancel(&alice, ids[3]).await;
    until("one is asked for", PATIENCE, async || {
        alice.conversion(ids[4]).await["stage"] == "RECONSTRUCT"
    })
    .await;
    let asking = cancel(&alice, ids[4]).await;
    for canceled in [encoding, asking] {
        assert_eq!(canceled["status"], "CANCELED", "{canceled:#}");
        assert_eq!(canceled["outputs"], json!([]), "{canceled:#}");
    }
    for (id, alone) in ids.iter().zip(&alone) {
        let ended = alice.ended(id).await;
        assert_eq!(ended["timings"]["gpuBatchSize"], 5, "{ended:#}");
        shape(&alice, &ended).await.assert_near(alone, NEAR);
    }
    assert!(bench.log().unwrap().encodes.ends_with(&[5]));
    seed::check_all(&world.database().await).await;
    node.app.stop().await;
    bench.engine.stop().await;
}
