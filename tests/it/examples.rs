//! The programs in `examples/`, as somebody who copies them runs them: as processes, with a key from the command line.

use std::{
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use orfeas::auth::api_key::AgentSecret;
use tempfile::TempDir;
use tokio::process::Command;

use crate::harness::{
    MASTER_KEYS, PROGRAM, World,
    fetched::{checkout, fetched, output_of, skip},
    meshes,
};

/// Two conversions on a busy machine, and some waits for the quota.
const RUN_MAX: Duration = Duration::from_secs(300);
/// With a burst of one request every 6 s, whoever does not wait when told to does not get through.
const PER_MINUTE: &str = "10";

async fn run(command: Command) -> Output {
    output_of(command, RUN_MAX).await
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A key of this world, as the command line prints it, in a file.
async fn key_file(world: &World, folder: &Path) -> PathBuf {
    let mut create = Command::new(PROGRAM);
    create
        .args(["keys", "create", "--name", "example", "--json"])
        .args(["--per-minute", PER_MINUTE])
        .env("DATABASE_URL", &world.database_url)
        .env("ORFEAS_DATA_DIR", folder.join("data"))
        .env("ORFEAS_MASTER_KEYS", MASTER_KEYS)
        .current_dir(folder);
    let created = run(create).await;
    assert!(created.status.success(), "{}", text(&created.stderr));
    let path = folder.join("key.json");
    std::fs::write(&path, &created.stdout).unwrap();
    path
}

/// Runs an example on two pictures and looks at what it leaves; then with a key that is not known.
async fn check(example: impl Fn() -> Command) {
    let world = World::new().await;
    let node = world.node().await;
    let folder = TempDir::new().unwrap();
    let key = key_file(&world, folder.path()).await;
    let out = folder.path().join("meshes");
    let command = |key: &Path| {
        let mut command = example();
        for name in ["chair", "chest"] {
            command.arg(checkout().join(format!("examples/pictures/{name}.png")));
        }
        command
            .arg("--out")
            .arg(&out)
            .env("ORFEAS_URL", format!("http://{}", node.app.api.unwrap()))
            .env("ORFEAS_KEY_FILE", key);
        command
    };

    let converted = run(command(&key)).await;
    let told = text(&converted.stderr);
    assert!(converted.status.success(), "{told}");
    assert!(told.contains("RATE_LIMITED"), "it had to wait: {told}");
    assert!(told.contains("100%"), "it follows to the end: {told}");
    for name in ["chair", "chest"] {
        let mesh = std::fs::read(out.join(format!("{name}.glb"))).unwrap();
        meshes::glb(&mesh).assert_centred(1.0);
        assert!(text(&converted.stdout).contains(&format!("{name}.glb")));
    }

    let mut stranger: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&key).unwrap()).unwrap();
    stranger["secret"] = AgentSecret::from_bytes(&[7; 32]).expose().into();
    std::fs::write(&key, stranger.to_string()).unwrap();
    let refused = run(command(&key)).await;
    assert!(!refused.status.success());
    let told = text(&refused.stderr);
    assert!(told.contains("UNAUTHENTICATED"), "{told}");
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_example_converts() {
    let Some(packages) = fetched(".deps/python", "examples") else {
        return;
    };
    check(|| {
        let mut python = Command::new("python3");
        python
            .arg(checkout().join("examples/agent.py"))
            .env("PYTHONPATH", &packages);
        python
    })
    .await;
}

/// Node, and a folder in which `agent.mjs` lies as in a copy: its packages beside it.
fn node_copy() -> Option<(PathBuf, TempDir)> {
    let node = fetched(".deps/node/bin/node", "examples")?;
    let packages = fetched(".deps/agent-mjs/node_modules", "examples")?;
    let folder = TempDir::new().unwrap();
    let examples = checkout().join("examples");
    let typed = folder.path().join("examples/agent-mjs");
    std::fs::create_dir_all(typed.join("generated")).unwrap();
    for name in [
        "agent.mjs",
        "agent-mjs/package.json",
        "agent-mjs/codegen.json",
        "agent-mjs/tsconfig.json",
        "agent-mjs/generated/gql.ts",
        "agent-mjs/generated/graphql.ts",
        "agent-mjs/generated/index.ts",
    ] {
        std::fs::copy(
            examples.join(name),
            folder.path().join("examples").join(name),
        )
        .unwrap();
    }
    std::fs::copy(
        checkout().join("schema.graphql"),
        folder.path().join("schema.graphql"),
    )
    .unwrap();
    for place in [typed, folder.path().join("examples")] {
        std::os::unix::fs::symlink(&packages, place.join("node_modules")).unwrap();
    }
    Some((node, folder))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_example_converts() {
    let Some((node, folder)) = node_copy() else {
        return;
    };
    check(|| {
        let mut command = Command::new(&node);
        command.arg(folder.path().join("examples/agent.mjs"));
        command
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_example_s_types_are_those_of_the_schema() {
    let Some((node, folder)) = node_copy() else {
        return;
    };
    let typed = folder.path().join("examples/agent-mjs");
    let program = |arguments: &[&str]| {
        let mut command = Command::new(&node);
        command.args(arguments).current_dir(&typed);
        command
    };
    let generated = run(program(&[
        "node_modules/@graphql-codegen/cli/esm/bin.js",
        "--config",
        "codegen.json",
        "--check",
    ]))
    .await;
    assert!(
        generated.status.success(),
        "run `npm ci && npm run codegen` in examples/agent-mjs: {}{}",
        text(&generated.stdout),
        text(&generated.stderr)
    );
    let checked = run(program(&[
        "node_modules/typescript/bin/tsc",
        "--project",
        "tsconfig.json",
    ]))
    .await;
    assert!(checked.status.success(), "{}", text(&checked.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_example_converts() {
    // `cargo test --workspace` builds it beside the program; `cargo test --test it` does not.
    let built = Path::new(PROGRAM).with_file_name("examples").join("agent");
    if !built.exists() {
        skip("the Rust example", "`cargo build --example agent`");
        return;
    }
    check(|| Command::new(&built)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shell_example_converts() {
    for tool in ["curl", "jq"] {
        let found = Command::new(tool).arg("--version").output().await;
        if found.is_err() {
            skip(tool, "the distribution's package of this name");
            return;
        }
    }
    check(|| {
        let mut command = Command::new(checkout().join("examples/agent.sh"));
        command.env("ORFEAS", PROGRAM);
        command
    })
    .await;
}
