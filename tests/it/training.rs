//! The smoke run of `models/orfeas-mini/train`: what trains the server's model runs on a CPU, goes on from where it
//! stopped, and leaves a file that the server loads. Half a minute on two idle cores.

use std::{
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::process::Command;

use crate::harness::{
    PROGRAM,
    fetched::{checkout, fetched, output_of},
};

/// Thirty times what the longest step takes alone: other tests run beside it.
const STEP_MAX: Duration = Duration::from_secs(300);
const MODEL: &str = "orfeas-mini";

/// The training's programs, and where they leave what they write.
struct Training {
    python: PathBuf,
    folder: TempDir,
}

impl Training {
    fn new() -> Option<Self> {
        let python = fetched(
            ".deps/training/python",
            "training` with Python 3.11, or `make fetch-tests PYTHON=python3.11",
        )?;
        // A full checkpoint has 360 MB, and the system's temporary folder may be in memory.
        let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Some(Self { python, folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a program of the training's to its end; what it printed.
    async fn run(&self, program: &str, arguments: &[&str]) -> String {
        self.run_in(&format!("{MODEL}/train"), program, arguments)
            .await
    }

    /// The same in another folder of `models`.
    async fn run_in(&self, folder: &str, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.python);
        command
            .arg(program)
            .args(arguments)
            .current_dir(checkout().join("models").join(folder))
            // The kernels are compiled into it: those of today.
            .env("TMPDIR", self.folder.path());
        succeed(command).await
    }

    /// What `orfeas models verify` says of a folder whose models all keep their contract.
    async fn verified(&self, folder: &Path, default: &str) -> String {
        let mut verify = Command::new(PROGRAM);
        verify
            .args(["models", "verify"])
            .arg(folder)
            .current_dir(self.folder.path())
            .env("ORFEAS_DATA_DIR", self.path("data"))
            .env("ORFEAS_DEVICE", "cpu")
            .env("ORFEAS_DEFAULT_MODEL", default)
            .env_remove("DATABASE_URL");
        succeed(verify).await
    }

    /// The log's steps, whose losses are all numbers (JSON has no other).
    fn steps(&self) -> Vec<u64> {
        let log = std::fs::read_to_string(self.path("log.jsonl")).unwrap();
        let rows = log.lines().filter_map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            // Other rows hold what was measured between steps.
            row.get("occupancy")?;
            for part in ["occupancy", "colour", "mask", "camera"] {
                assert!(row[part].as_f64().is_some_and(|loss| loss > 0.0), "{line}");
            }
            Some(row["step"].as_u64().unwrap())
        });
        rows.collect()
    }
}

async fn succeed(command: Command) -> String {
    let program = format!("{command:?}");
    let Output {
        status,
        stdout,
        stderr,
    } = output_of(command, STEP_MAX).await;
    let told = String::from_utf8_lossy(&stdout).into_owned();
    let complaints = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{program}: {told}{complaints}");
    told
}

/// A models folder with `file` under the released model's manifest, but for the hash.
fn models_folder(file: &Path, folder: PathBuf) -> PathBuf {
    let place = folder.join(MODEL);
    std::fs::create_dir_all(&place).unwrap();
    let digest = Sha256::digest(std::fs::read(file).unwrap());
    let released = checkout().join("models").join(MODEL).join("model.toml");
    let mut manifest: toml::Table = std::fs::read_to_string(released).unwrap().parse().unwrap();
    let about = manifest["file"].as_table_mut().unwrap();
    about.insert("sha256".into(), hex::encode(digest).into());
    let name = about["name"].as_str().unwrap();
    std::fs::rename(file, place.join(name)).unwrap();
    std::fs::write(place.join("model.toml"), manifest.to_string()).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_is_trained_resumed_exported_and_served() {
    let Some(training) = Training::new() else {
        return;
    };
    let path = |name: &str| training.path(name).to_str().unwrap().to_owned();
    let (out, full, exported) = (path(""), path("full.pt"), path("exported.pt"));

    let told = training
        .run("train.py", &["--out", &out, "--smoke", "--full", &full])
        .await;
    assert!(told.contains("stopped at step 2"), "{told}");
    assert_eq!(training.steps(), [1, 2]);

    let resume = ["--out", &out, "--resume", &full, "--smoke", "--steps", "3"];
    let told = training.run("train.py", &resume).await;
    assert!(told.contains("from step 2"), "{told}");
    assert!(told.contains("stopped at step 3"), "{told}");
    assert_eq!(training.steps(), [1, 2, 3]);

    // The averaged weights, which are what is released.
    let weights = path("half.pt");
    training
        .run("export.py", &["--weights", &weights, "--out", &exported])
        .await;
    let models = models_folder(Path::new(&exported), training.path("models"));
    let told = training.verified(&models, MODEL).await;
    assert!(told.contains(MODEL), "{told}");
}

/// The exports of the big models, with random weights at a fraction of their size: names, frames and TorchScript are the
/// same as with the real ones.
#[tokio::test(flavor = "multi_thread")]
async fn big_models_are_exported_and_served() {
    let Some(training) = Training::new() else {
        return;
    };
    for model in ["triposr", "instantmesh"] {
        let folder = training.path("models").join(model);
        let out = folder.to_str().unwrap();
        training
            .run_in(
                model,
                "export.py",
                &["--random", "1", "--small", "--out", out],
            )
            .await;
        let told = training.verified(&folder, model).await;
        assert!(told.contains(model), "{told}");
    }
}
