//! Backups: made while a node works, put back into an empty folder, and gone on with.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use orfeas::{
    config::Settings,
    db::{
        Database, DatabaseOptions,
        embedded::{Embedded, EmbeddedOptions},
    },
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    cli::{command, err, folder, out, run},
    harness::{
        MASTER_KEYS, Node, PROGRAM, World,
        agent::Agent,
        client::{Client, SUBMIT, submission},
        pictures,
        seed::{self, scalar, sql, until},
    },
    webhooks::receiver::Receiver,
};

const PATIENCE: Duration = Duration::from_secs(120);
const CANCEL: &str = "mutation ($id: ID!) { cancelConversion(id: $id) { conversion { status } } }";
const DELETE: &str = "mutation ($id: ID!) { deleteConversion(id: $id) { deletedId } }";

/// A node on an embedded Postgres and a folder of its own.
async fn node(world: &World, home: &Path) -> Node {
    let settings = Settings {
        database_url: None,
        orfeas_storage: None,
        orfeas_data_dir: home.join("data"),
        orfeas_egress_allow: Some("127.0.0.0/8".into()),
        ..world.settings()
    };
    world.node_with(settings).await
}

/// A look behind a node: its Postgres is joined.
async fn database(home: &Path) -> (Embedded, Database) {
    let embedded = Embedded::start_or_join(EmbeddedOptions {
        data_dir: home.join("data"),
        postgres_dir: None,
        helper_program: PathBuf::from(PROGRAM),
        settings: Vec::new(),
    });
    let embedded = embedded.await.unwrap();
    assert!(!embedded.is_holder());
    let options = DatabaseOptions {
        url: embedded.url(),
        connections_max: 2,
        acquire_max: Duration::from_secs(30),
    };
    let database = Database::connect(options).await.unwrap();
    (embedded, database)
}

async fn cli(home: &Path, arguments: &[&str]) -> std::process::Output {
    let mut command = command(home, arguments);
    command.env("ORFEAS_MASTER_KEYS", MASTER_KEYS);
    run(command).await
}

/// What a program prints as JSON.
async fn report(home: &Path, arguments: &[&str]) -> Value {
    let output = cli(home, arguments).await;
    assert!(output.status.success(), "{}", err(&output));
    serde_json::from_str(&out(&output)).unwrap()
}

async fn submit(client: &Client, options: Value, hook: Option<&Receiver>) -> String {
    let mut variables = submission(pictures::CHAIR, options);
    if let Some(receiver) = hook {
        variables["input"]["webhook"] =
            json!({ "url": receiver.url("/hook"), "events": ["CONVERSION_SUCCEEDED"] });
    }
    let data = client.run(SUBMIT, variables).await;
    let id = data["submitConversion"]["conversion"]["id"].as_str();
    id.unwrap().to_owned()
}

/// Holds each file of a conversion against what its row says of it; returns how many there are.
async fn check_files(client: &Client, conversion: &Value) -> usize {
    let outputs = conversion["outputs"].as_array().unwrap();
    for output in outputs {
        let bytes = client.download(output["url"].as_str().unwrap()).await;
        assert_eq!(
            hex::encode(Sha256::digest(&bytes)),
            output["sha256"].as_str().unwrap()
        );
    }
    let preview = conversion["preview"]["url"].as_str().unwrap();
    assert!(!client.download(preview).await.is_empty());
    outputs.len()
}

/// That each asset's bytes lie in the folder of the store as they were stored.
async fn check_store(database: &Database, home: &Path) {
    let rows: Vec<(String, Vec<u8>)> = sqlx::query_as("SELECT storage_key, sha256 FROM asset")
        .fetch_all(seed::pool(database))
        .await
        .unwrap();
    assert!(!rows.is_empty());
    for (key, sha256) in rows {
        let bytes = fs::read(home.join("data/assets").join(&key)).unwrap();
        assert_eq!(Sha256::digest(&bytes).as_slice(), sha256, "{key}");
    }
}

/// The files below a folder by their names in it.
fn files(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            let length = entry.metadata().unwrap().len();
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => drop(found.insert(entry.path(), length)),
            }
        }
    }
    found
}

/// What a node held when the backup was made.
struct Before {
    succeeded: String,
    /// Its mesh is erased while the backup is made.
    vanishing: String,
    failed: String,
    canceled: String,
    running: String,
    queued: String,
    batch: String,
    agent: Agent,
}

/// A conversion in each state, a batch, a key and a hook that is yet to be told. The queue is paused.
async fn fill(node: &Node, database: &Database, receiver: &Receiver) -> Before {
    let (alice, admin) = (node.client("alice"), node.admin());
    let small = || json!({ "resolution": 32 });
    let succeeded = submit(&alice, small(), None).await;
    let vanishing = submit(&alice, small(), None).await;
    let unlike = json!({ "resolution": 32, "minSilhouetteAgreement": 1.0 });
    let failed = submit(&alice, unlike, None).await;
    for (id, status) in [
        (&succeeded, "SUCCEEDED"),
        (&vanishing, "SUCCEEDED"),
        (&failed, "FAILED"),
    ] {
        assert_eq!(alice.ended(id).await["status"], status);
    }
    database.set_paused(true, "test").await.unwrap();
    let canceled = submit(&alice, small(), None).await;
    alice.run(CANCEL, json!({ "id": canceled })).await;
    let running = submit(&alice, small(), None).await;
    // A node has it that no restored database will ever hear of.
    let uuid = running.trim_start_matches("cnv_");
    let claimed = format!(
        "UPDATE conversion SET status = 'running', stage = 'prepare', attempt = 1, node_id = gen_random_uuid(),
             started_at = now(), lease_until = now() + interval '1 hour' WHERE id = '{uuid}'"
    );
    assert_eq!(sql(database, &claimed).await, 1);
    let queued = submit(&alice, small(), Some(receiver)).await;
    let pictures = [pictures::CHAIR, pictures::CHEST];
    let (batch, items) = alice.submit_batch(&pictures, small()).await;
    assert_eq!(items.len(), 2);
    let agent = Agent::new(&admin, json!({})).await;
    Before {
        succeeded,
        vanishing,
        failed,
        canceled,
        running,
        queued,
        batch,
        agent,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_is_back_and_goes_on() {
    let (world, receiver) = (World::new().await, Receiver::content().await);
    let (old_home, new_home) = (folder(), folder());
    let kept = tempfile::tempdir().unwrap();
    let backup = kept.path().join("backup");
    let backup_path = backup.to_str().unwrap();
    let old = node(&world, old_home.path()).await;
    let (joined, database_then) = database(old_home.path()).await;
    let before = fill(&old, &database_then, &receiver).await;

    let made = report(old_home.path(), &["backup", backup_path, "--json"]).await;
    let assets = scalar(&database_then, "SELECT count(*) FROM asset").await;
    assert_eq!(
        (&made["assets"], &made["damaged"]),
        (&json!(assets), &json!([]))
    );
    let again = cli(old_home.path(), &["backup", backup_path]).await;
    assert!(!again.status.success() && err(&again).contains("holds something already"));
    // As if its owner had deleted it between the database's copy and the store's.
    let of_vanishing = |path: &PathBuf| path.to_str().unwrap().contains(&before.vanishing);
    let vanished: Vec<_> = files(&backup).into_keys().filter(of_vanishing).collect();
    fs::remove_file(&vanished[0]).unwrap();

    // What comes later: more work, a deletion, and a store that loses something.
    let alice = old.client("alice");
    let later = submit(&alice, json!({ "resolution": 32 }), None).await;
    alice.run(DELETE, json!({ "id": before.succeeded })).await;
    database_then.set_paused(false, "test").await.unwrap();
    assert_eq!(alice.ended(&later).await["status"], "SUCCEEDED");
    receiver.until_told(1).await;
    let of_later = |path: &PathBuf| {
        path.extension().is_some_and(|end| end == "glb") && path.to_str().unwrap().contains(&later)
    };
    let mesh = files(&old_home.path().join("data/assets"))
        .into_keys()
        .find(of_later);
    fs::remove_file(mesh.unwrap()).unwrap();
    let damaged = kept.path().join("damaged");
    let damaged = cli(old_home.path(), &["backup", damaged.to_str().unwrap()]).await;
    assert_eq!(damaged.status.code(), Some(1));
    assert!(
        err(&damaged).contains(&format!("{later}.glb is missing")),
        "{}",
        err(&damaged)
    );
    let checked = cli(old_home.path(), &["store", "check", "--json"]).await;
    assert_eq!(checked.status.code(), Some(1), "{}", err(&checked));
    let removed = report(old_home.path(), &["store", "check", "--remove", "--json"]).await;
    assert_eq!(
        (
            &removed["removed"],
            removed["damaged"].as_array().unwrap().len()
        ),
        (&json!(1), 1)
    );
    database_then.close().await;
    joined.shutdown().await.unwrap();
    old.app.stop().await;
    drop(old_home);

    let restored = report(new_home.path(), &["restore", backup_path, "--json"]).await;
    assert_eq!(
        (&restored["handedBack"], &restored["removed"]),
        (&json!(1), &json!(1))
    );
    let again = cli(new_home.path(), &["restore", backup_path]).await;
    assert!(
        !again.status.success() && err(&again).contains("in use"),
        "{}",
        err(&again)
    );

    let new = node(&world, new_home.path()).await;
    let (joined, database_now) = database(new_home.path()).await;
    let alice = new.client("alice");
    for (id, status) in [
        (&before.succeeded, "SUCCEEDED"),
        (&before.failed, "FAILED"),
        (&before.canceled, "CANCELED"),
        (&before.queued, "QUEUED"),
        (&before.running, "QUEUED"),
    ] {
        assert_eq!(alice.conversion(id).await["status"], status);
    }
    for gone in [&later, &before.vanishing] {
        let found = alice
            .run(
                "query ($id: ID!) { conversion(id: $id) { id } }",
                json!({ "id": gone }),
            )
            .await;
        assert_eq!(found["conversion"], Value::Null, "{gone}");
    }
    check_store(&database_now, new_home.path()).await;
    seed::check_all(&database_now).await;
    // It was paused then, and is.
    new.admin()
        .run("mutation { resumeQueue { paused } }", json!({}))
        .await;
    for id in [&before.succeeded, &before.queued, &before.running] {
        let conversion = alice.ended(id).await;
        assert_eq!(conversion["status"], "SUCCEEDED");
        assert_eq!(check_files(&alice, &conversion).await, 1);
    }
    let failures = format!(
        "SELECT failures::bigint FROM conversion WHERE id = '{}'",
        before.running.trim_start_matches("cnv_")
    );
    assert_eq!(
        scalar(&database_now, &failures).await,
        0,
        "it was no fault of its own"
    );
    until("the batch has ended", PATIENCE, async || {
        let query = "query ($id: ID!) { batch(id: $id) { conversions { status } } }";
        let data = alice.run(query, json!({ "id": before.batch })).await;
        let rows = data["batch"]["conversions"].as_array().unwrap().clone();
        rows.len() == 2 && rows.iter().all(|row| row["status"] == "SUCCEEDED")
    })
    .await;
    let told = receiver.until_told(2).await;
    assert_eq!(
        told[1].about(),
        before.queued,
        "the hook was to be told still"
    );
    let answer = before
        .agent
        .at(new.app.api.unwrap())
        .run("{ viewer { name } }", json!({}))
        .await;
    assert_eq!(answer["viewer"]["name"], "agent");
    until("the audit log verifies", PATIENCE, async || {
        cli(new_home.path(), &["audit", "verify"])
            .await
            .status
            .success()
    })
    .await;
    check_store(&database_now, new_home.path()).await;
    database_now.close().await;
    joined.shutdown().await.unwrap();
    new.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_whole_backup_or_no_place_for_one_is_refused() {
    let home = folder();
    let kept = tempfile::tempdir().unwrap();
    let cut_off = kept.path().join("cut-off");
    fs::create_dir(&cut_off).unwrap();
    fs::write(cut_off.join("database.dump"), "half").unwrap();
    let refused = cli(home.path(), &["restore", cut_off.to_str().unwrap()]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        err(&refused).contains("no whole backup"),
        "{}",
        err(&refused)
    );

    // A migrated database without anything in it is in use as well: a node may be about to fill it.
    let migrated = cli(home.path(), &["migrate"]).await;
    assert!(migrated.status.success(), "{}", err(&migrated));
    let backup = kept.path().join("backup");
    let made = report(
        home.path(),
        &[
            "backup",
            backup.to_str().unwrap(),
            "--database-only",
            "--json",
        ],
    )
    .await;
    assert_eq!(made["assets"], 0);
    assert!(!backup.join("store").exists());
    let refused = cli(home.path(), &["restore", backup.to_str().unwrap()]).await;
    assert!(err(&refused).contains("in use"), "{}", err(&refused));

    // Another database's store.
    let other = folder();
    fs::create_dir_all(other.path().join("data/assets")).unwrap();
    fs::write(other.path().join("data/assets/belongs-to"), "somebody").unwrap();
    let whole = kept.path().join("whole");
    report(home.path(), &["backup", whole.to_str().unwrap(), "--json"]).await;
    let refused = cli(other.path(), &["restore", whole.to_str().unwrap()]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        err(&refused).contains("another database's"),
        "{}",
        err(&refused)
    );
}
