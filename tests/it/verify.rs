//! `orfeas models verify`: the contract, promise by promise, and models measured on pictures of known meshes.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::cli::{command, err, folder, out, run};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Two pictures of known meshes.
fn views() -> PathBuf {
    root().join("tests/fixtures/views")
}

/// A tiny model that keeps the contract.
fn sound() -> PathBuf {
    root().join("tests/fixtures/models/sound")
}

async fn verify(model: &Path, arguments: &[&str]) -> Output {
    let folder = folder();
    let model = model.to_str().unwrap();
    let arguments = [&["models", "verify", model], arguments].concat();
    run(command(folder.path(), &arguments)).await
}

fn json(output: &Output) -> Value {
    serde_json::from_str(out(output).trim())
        .unwrap_or_else(|error| panic!("{error}: {}{}", out(output), err(output)))
}

/// A copy of a folder and what is in it, to be changed.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap().path();
        let to = to.join(entry.file_name().unwrap());
        if entry.is_dir() {
            copy(&entry, &to);
        } else {
            fs::copy(&entry, &to).unwrap();
        }
    }
}

/// A folder with copies of the tiny model under `sound` and of the views under `views`.
fn copies() -> TempDir {
    let copies = tempfile::tempdir().unwrap();
    copy(&sound(), &copies.path().join("sound"));
    copy(&views(), &copies.path().join("views"));
    copies
}

fn labels<'a>(model: &'a Value, result: &str) -> Vec<&'a str> {
    let checks = model["checks"].as_array().unwrap().iter();
    checks
        .filter(|check| check["result"] == result)
        .map(|check| check["check"].as_str().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_broken_promise_is_told_by_its_name() {
    let output = verify(&root().join("tests/fixtures/models"), &["--json"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    let report = json(&output);
    let broken: BTreeMap<&str, Vec<&str>> = report["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| (model["name"].as_str().unwrap(), labels(model, "broken")))
        .collect();
    let expected = [
        ("crowding", "points"),
        ("drifting", "in-flight"),
        ("endless", "logits"),
        ("first-row", "join"),
        ("flat", "matte"),
        ("glaring", "colours"),
        ("mixing", "split"),
        ("restless", "repeat"),
        ("rewriting", "denoise"),
        ("seedless", "seed"),
        ("seeking", "blank"),
        ("tied", "code"),
    ];
    assert_eq!(broken.len(), expected.len() + 2, "{broken:?}");
    for (model, check) in expected {
        assert_eq!(broken[model], [check], "{broken:?}");
    }
    assert!(broken["sound"].is_empty(), "{report:#}");
    assert!(broken["stepping"].is_empty(), "{report:#}");
    let kept = |name: &str| {
        let models = report["models"].as_array().unwrap();
        let model = models.iter().find(|model| model["name"] == name).unwrap();
        labels(model, "kept").join(" ")
    };
    assert_eq!(
        kept("sound"),
        "manifest file code load encode query logits colours matte blank repeat split join points"
    );
    assert_eq!(
        kept("stepping"),
        "manifest file code load encode begin denoise query logits colours matte seed in-flight blank repeat split join \
         points"
    );
    let models = report["models"].as_array().unwrap();
    let sound = models
        .iter()
        .find(|model| model["name"] == "sound")
        .unwrap();
    assert!(sound["keepsContract"] == true && sound["measured"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_models_own_folder_will_do_and_one_without_models_will_not() {
    let output = verify(&sound(), &[]).await;
    let text = out(&output);
    assert!(output.status.success(), "{text}{}", err(&output));
    assert!(
        text.contains("sound on cpu")
            && text.contains("  ok     split ")
            && text.contains("It keeps its contract."),
        "{text}"
    );
    assert!(
        text.contains("sound was only checked, not measured"),
        "{text}"
    );

    let copies = copies();
    let model = copies.path().join("sound");
    let file = model.join("model.pt");
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    let output = verify(&model, &[]).await;
    let text = out(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("  WRONG  file ")
            && text.contains("has sha256")
            && text.contains("  -      load "),
        "{text}"
    );

    for (wrong, told) in [("views", "holds no model"), ("none", "could not list")] {
        let output = verify(&copies.path().join(wrong), &[]).await;
        assert_eq!(output.status.code(), Some(1));
        assert!(err(&output).contains(told), "{}", err(&output));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_model_is_measured_on_a_known_mesh() {
    let views = views();
    let arguments = ["--set", views.to_str().unwrap(), "--limit", "1", "--json"];
    let output = verify(&root().join("models/orfeas-mini"), &arguments).await;
    assert!(output.status.success(), "{}", err(&output));
    let report = json(&output);
    assert_eq!(report["device"], "cpu");
    let measured = &report["models"][0]["measured"];
    assert_eq!(measured["set"], "two-views");
    assert_eq!(measured["overall"]["views"], 1);
    assert_eq!(measured["resolution"], 128);
    let view = &measured["views"][0];
    assert!(
        view["name"] == "cargo_A_packed" && view["licence"] == "CC0-1.0" && view["error"].is_null(),
        "{view:#}"
    );
    // A box that it reconstructs well; a turn or a mirroring on the way would cost most of this.
    let figure = |key: &str| view[key].as_f64().unwrap();
    assert!(figure("iou") > 0.6, "{view:#}");
    assert!(figure("chamfer") < 0.06, "{view:#}");
    assert!(figure("fScore01") > 0.8, "{view:#}");
    assert!(figure("silhouetteIou") > 0.9, "{view:#}");
    assert!(figure("colorError") < 0.2, "{view:#}");
    assert!(figure("seconds") > 0.0, "{view:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_set_gives_the_same_figures() {
    let copies = copies();
    // Its own set is found without being named.
    copy(&views(), &copies.path().join("sound/validation"));
    let mut runs = Vec::new();
    for arguments in [
        vec!["--json"],
        vec![
            "--json",
            "--set",
            copies.path().join("views").to_str().unwrap(),
        ],
    ] {
        let output = verify(&copies.path().join("sound"), &arguments).await;
        assert!(output.status.success(), "{}", err(&output));
        let mut views = json(&output)["models"][0]["measured"]["views"].take();
        for view in views.as_array_mut().unwrap() {
            view["seconds"].take();
        }
        runs.push(views);
    }
    assert_eq!(runs[0].as_array().unwrap().len(), 2);
    assert!(runs[0][0]["iou"].as_f64().unwrap() > 0.2, "{:#}", runs[0]);
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_conversions_count_and_an_asked_iou_is_held() {
    let copies = copies();
    let set = copies.path().join("views");
    fs::write(set.join("pictures/k0666.png"), b"no picture").unwrap();
    let set = set.to_str().unwrap();
    let output = verify(
        &sound(),
        &["--set", set, "--resolution", "48", "--min-iou", "0.9"],
    )
    .await;
    let text = out(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        err(&output).contains("the mean IoU is 0.") && err(&output).contains("less than 0.9"),
        "{}",
        err(&output)
    );
    assert!(
        text.contains("sound on two-views: 2 views at resolution 48")
            && text.contains("0.000  cargo_A_packed (props), pictures/k0666.png")
            && text.contains("Without a mesh, counted as IoU 0:"),
        "{text}"
    );
    let row = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        let cells = line.split_whitespace().skip(1);
        cells
            .map(|cell| cell.parse::<f64>().unwrap())
            .collect::<Vec<_>>()
    };
    let (props, furniture, overall) = (row("props"), row("furniture"), row("overall"));
    assert_eq!(props[..3], [1.0, 1.0, 0.0]);
    assert_eq!(furniture[..2], [1.0, 0.0]);
    assert_eq!(overall[..2], [2.0, 1.0]);
    for (at, mean) in overall.iter().enumerate().skip(2) {
        let expected = f64::midpoint(props[at], furniture[at]);
        assert!((mean - expected).abs() <= 0.001, "column {at}: {text}");
    }

    // Nothing to hold it against.
    let output = verify(&sound(), &["--min-iou", "0.1"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err(&output).contains("was not measured"),
        "{}",
        err(&output)
    );
    // The set is at fault, not the model.
    fs::remove_file(copies.path().join("views/meshes/k0232.ply")).unwrap();
    let output = verify(&sound(), &["--set", set]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("k0232.ply"), "{}", err(&output));
    for bad in [["--min-iou", "2"], ["--resolution", "8"], ["--limit", "0"]] {
        let output = verify(&sound(), &bad).await;
        assert_eq!(output.status.code(), Some(2), "{bad:?}");
    }
}
