//! The command line, as a person or a script uses it.

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{MASTER_KEYS, PROGRAM, World, client::Client, meshes, pictures};

/// A working folder with a data folder in it, which root's Postgres (another user) can pass through.
pub(crate) fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    folder
}

pub(crate) fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(arguments)
        .current_dir(folder)
        .env("ORFEAS_DATA_DIR", folder.join("data"))
        .env("ORFEAS_DEVICE", "cpu")
        .env_remove("DATABASE_URL");
    command
}

/// Runs it without holding up the other tests of this thread.
pub(crate) async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

pub(crate) fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn schema_and_config_are_printed() {
    let folder = folder();
    let printed = run(command(folder.path(), &["schema"])).await;
    let file =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("schema.graphql"))
            .unwrap();
    assert!(
        printed.status.success() && out(&printed) == file,
        "{}",
        err(&printed)
    );

    let mut config = command(folder.path(), &["config"]);
    config
        .env("ORFEAS_MASTER_KEYS", MASTER_KEYS)
        .env("DATABASE_URL", "postgres://me:geheim@db.example/orfeas")
        .env("BATCH_SIZE_MAX", "12");
    let shown = run(config).await;
    let text = out(&shown);
    let settings: toml::Table = text.parse().unwrap();
    assert_eq!(settings["batch_size_max"].as_integer(), Some(12), "{text}");
    assert!(
        !text.contains("geheim") && !text.contains("0203040506"),
        "{text}"
    );
    assert!(text.contains("db.example"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_make_no_sense_are_named() {
    let folder = folder();
    for (name, value) in [
        ("BATCH_SIZE_MAX", "lots"),
        ("BATCH_SIZE_MIN", "0"),
        ("ORFEAS_ROLE", "king"),
        ("ORFEAS_LISTEN", "everywhere"),
        ("ORFEAS_MASTER_KEYS", "short"),
    ] {
        let mut token = command(folder.path(), &["token", "--user", "alice"]);
        token.env(name, value);
        let output = run(token).await;
        let text = err(&output);
        assert_eq!(output.status.code(), Some(1), "{name}: {text}");
        assert!(text.to_uppercase().contains(name), "{name}: {text}");
        assert!(
            !text.contains("panicked") && text.lines().count() <= 3,
            "{text}"
        );
    }
    std::fs::write(folder.path().join("orfeas.toml"), "no_such_setting = 1\n").unwrap();
    let output = run(command(folder.path(), &["config"])).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("no_such_setting"), "{}", err(&output));
    let output = run(command(folder.path(), &["no-such-command"])).await;
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_a_node_with_the_same_keys() {
    let world = World::new().await;
    let node = world.api_node().await;
    let folder = folder();
    for (arguments, name, may) in [
        (vec!["token", "--user", "alice"], "alice", false),
        (
            vec!["token", "--user", "carol", "--role", "admin"],
            "carol",
            true,
        ),
    ] {
        let mut command = command(folder.path(), &arguments);
        command.env("ORFEAS_MASTER_KEYS", MASTER_KEYS);
        let printed = out(&run(command).await);
        let token = printed.lines().last().unwrap().to_owned();
        let client = Client::new(node.app.api.unwrap(), Some(token));
        assert_eq!(
            client.run("{ viewer { name } }", json!({})).await["viewer"]["name"],
            name
        );
        let nodes = client.send("{ nodes { id } }", json!({})).await;
        assert_eq!(nodes.get("errors").is_none(), may, "{nodes}");
    }
    // On an empty folder a key is made, kept, and used again.
    let first = run(command(folder.path(), &["token", "--user", "alice"])).await;
    assert!(first.status.success(), "{}", err(&first));
    assert!(folder.path().join("data/master-keys").is_file());
    // But not with another folder's.
    let token = out(&first).lines().last().unwrap().to_owned();
    let stranger = Client::new(node.app.api.unwrap(), Some(token));
    assert_eq!(
        stranger.refusal("{ viewer { name } }", json!({})).await,
        "UNAUTHENTICATED"
    );
    node.app.stop().await;
}

/// A row tells all of a mesh that the API tells, in the same words.
fn assert_reported(row: &Value, size_mm: f64) {
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{row:#}"));
    assert_eq!(
        (&row["watertight"], &row["manifold"]),
        (&json!(true), &json!(true)),
        "{row:#}"
    );
    for name in ["components", "triangles", "vertices"] {
        assert!(row[name].as_u64().unwrap() > 0, "{name}: {row:#}");
    }
    assert!(row["selfIntersections"].is_u64(), "{row:#}");
    assert!(number(&row["surfaceArea"]) > 0.0, "{row:#}");
    assert!(
        (0.5..=1.0).contains(&number(&row["silhouetteAgreement"])),
        "{row:#}"
    );
    let sides = row["boundingBox"].as_array().unwrap().iter().map(number);
    let sides: Vec<f64> = sides.collect();
    let longest = sides.iter().copied().fold(0.0, f64::max);
    assert!(sides.len() == 3 && (longest - 1.0).abs() < 1e-3, "{row:#}");
    let print = &row["print"];
    assert_eq!(number(&print["sizeMm"]), size_mm);
    let cm = size_mm / 10.0;
    for (printed, measured) in [
        ("volumeCm3", number(&row["volume"]) * cm.powi(3)),
        ("surfaceCm2", number(&row["surfaceArea"]) * cm.powi(2)),
    ] {
        assert!(
            measured > 0.0 && (number(&print[printed]) / measured - 1.0).abs() < 1e-9,
            "{printed}: {row:#}"
        );
    }
    let wall = number(&print["thinnestWallMm"]);
    assert!(wall > 0.0 && wall < size_mm, "{row:#}");
    assert!(
        (0.0..=1.0).contains(&number(&print["overhangShare"])),
        "{row:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_are_converted_without_a_server() {
    let folder = folder();
    std::fs::write(folder.path().join("chair.png"), pictures::CHAIR).unwrap();
    std::fs::write(folder.path().join("bad.png"), b"no picture").unwrap();
    let output = run(command(
        folder.path(),
        &[
            "convert",
            "chair.png",
            "-o",
            "chair.glb",
            "--resolution",
            "32",
        ],
    ))
    .await;
    assert!(output.status.success(), "{}", err(&output));
    assert!(
        out(&output).contains("chair.png -> chair.glb"),
        "{}",
        out(&output)
    );
    meshes::glb(&std::fs::read(folder.path().join("chair.glb")).unwrap()).assert_centred(1.0);

    let arguments = [
        "convert",
        "chair.png",
        "bad.png",
        "missing.png",
        "-d",
        "meshes",
        "-f",
        "stl,glb",
        "--resolution",
        "32",
        "--size-mm",
        "80",
        "--triangles",
        "500",
        "--preview",
        "--json",
    ];
    let output = run(command(folder.path(), &arguments)).await;
    assert_eq!(
        output.status.code(),
        Some(1),
        "two of them can't be converted"
    );
    let rows: Value = serde_json::from_str(out(&output).trim()).unwrap();
    // Thin legs need more than were asked for, or the mesh would come apart; then it says so.
    let is_simple = rows[0]["triangles"].as_u64().unwrap() <= 500;
    let is_told = rows[0]["warnings"]
        .to_string()
        .contains("where 500 were asked for");
    assert!(is_simple != is_told, "{rows:#}");
    assert_eq!(rows[0]["files"].as_array().unwrap().len(), 3);
    assert_reported(&rows[0], 80.0);
    for bad in [&rows[1], &rows[2]] {
        assert!(bad["error"].is_string(), "{rows:#}");
    }
    meshes::stl(&std::fs::read(folder.path().join("meshes/chair.stl")).unwrap())
        .assert_stands(80.0);
    meshes::glb(&std::fs::read(folder.path().join("meshes/chair.glb")).unwrap())
        .assert_centred(0.08);

    let output = run(command(
        folder.path(),
        &["convert", "bad.png", "-o", "bad.glb"],
    ))
    .await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err(&output).contains("bad.png: this is text, not a picture"),
        "{}",
        err(&output)
    );
    assert!(!folder.path().join("bad.glb").exists());
    let output = run(command(
        folder.path(),
        &["convert", "chair.png", "-o", "chair.xyz"],
    ))
    .await;
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("no mesh format"), "{}", err(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_models_and_migrate_do_their_work() {
    let folder = folder();
    let doctor = run(command(folder.path(), &["doctor"])).await;
    let text = out(&doctor);
    assert!(doctor.status.success(), "{text}{}", err(&doctor));
    assert!(
        text.contains("All is well") && text.contains("embedded") && text.contains("orfeas-mini"),
        "{text}"
    );
    // Each by its name, whether it is there or not.
    let decoders = text.lines().find(|line| line.contains(" decoders "));
    let decoders = decoders.unwrap_or_else(|| panic!("{text}"));
    assert!(decoders.starts_with("ok"), "{decoders}");
    assert!(
        decoders.contains("seccomp") && decoders.contains("landlock"),
        "{decoders}"
    );

    let models = out(&run(command(folder.path(), &["models", "list"])).await);
    assert!(
        models.contains("orfeas-mini") && models.contains("implicit-field/1"),
        "{models}"
    );

    let world = World::new().await;
    for _ in 0..2 {
        let mut migrate = command(folder.path(), &["migrate"]);
        migrate.env("DATABASE_URL", &world.database_url);
        let output = run(migrate).await;
        assert!(output.status.success(), "{}", err(&output));
    }
    let pool = sqlx::PgPool::connect(&world.database_url).await.unwrap();
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM conversion")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(count, 0);

    let mut doctor = command(folder.path(), &["doctor"]);
    doctor.env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none");
    let output = run(doctor).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(out(&output).contains("WRONG  postgres"), "{}", out(&output));
}
