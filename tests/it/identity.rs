//! What must hold of identity as a whole.

use std::path::Path;

use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::harness::{
    MASTER_KEYS, PROGRAM, World,
    agent::Agent,
    process::NodeProcess,
    seed::{pool, scalar},
};

/// Every text in every table.
async fn everything_stored(database: &orfeas::db::Database) -> String {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT quote_ident(table_name) FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'",
    )
    .fetch_all(pool(database))
    .await
    .unwrap();
    assert!(tables.len() > 10, "{tables:?}");
    let mut all = String::new();
    for table in tables {
        let query = format!("SELECT coalesce(string_agg(t::text, E'\\n'), '') FROM {table} t");
        let rows: String = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .fetch_one(pool(database))
            .await
            .unwrap();
        all.push_str(&rows);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_written_anywhere() {
    let world = World::new().await;
    let log = world.assets.with_extension("log");
    let node = NodeProcess::start_logging(&world, "trace,hyper=info,h2=info", &log);
    let tokens = orfeas::auth::jwt::Tokens::new(&world.settings().keyring().unwrap());
    let token = tokens.issue(
        "root",
        &["admin".into()],
        std::time::Duration::from_secs(600),
    );
    let admin = crate::harness::client::Client::new(node.api, Some(token.clone()));
    let agent = Agent::new(&admin, json!({ "name": "robot" })).await;
    let good = agent.post("{ viewer { name } }", json!({}));
    let signature = good.headers["signature"].to_str().unwrap().to_owned();
    agent.send(good).await;
    // Refused in every way.
    let mut forged = agent.post("{ viewer { name } }", json!({}));
    forged.body = Some(b"{}".to_vec());
    agent.send(forged).await;
    let mut both = agent.post("{ viewer { name } }", json!({}));
    both.headers
        .insert("authorization", format!("Bearer {token}").parse().unwrap());
    agent.send(both).await;
    admin
        .send("mutation { pauseQueue { nothing } }", json!({}))
        .await;
    let rotate = "mutation ($id: ID!) { rotateApiKey(id: $id) { secret } }";
    let rotated = admin.run(rotate, json!({ "id": agent.key })).await;
    let second = rotated["rotateApiKey"]["secret"]
        .as_str()
        .unwrap()
        .to_owned();
    let told = agent.run("{ viewer { webhookSecret } }", json!({})).await;
    let webhooks = told["viewer"]["webhookSecret"].as_str().unwrap().to_owned();
    let database = world.database().await;
    // The refusals are written within a moment.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    drop(node);

    let stored = everything_stored(&database).await;
    let logged = std::fs::read_to_string(&log).unwrap();
    assert!(
        stored.contains("robot") && logged.contains("request"),
        "both are really there"
    );
    let master = MASTER_KEYS.split_once(':').unwrap().1;
    let mac = signature.split_once(':').unwrap().1.trim_end_matches(':');
    for secret in [
        agent.secret.expose(),
        second.as_str(),
        webhooks.as_str(),
        token.as_str(),
        master,
        mac,
    ] {
        for (place, text) in [("the database", &stored), ("the log", &logged)] {
            assert!(!text.contains(secret), "{place} holds {secret}");
            // Nor a part of it that would do.
            assert!(
                !text.contains(&secret[8..secret.len() - 8]),
                "{place} holds a part of {secret}"
            );
        }
    }
}

#[test]
fn keys_are_made_at_the_command_line_and_sign_there() {
    let folder = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o711))
        .tempdir()
        .unwrap();
    let run = |arguments: &[&str]| {
        std::process::Command::new(PROGRAM)
            .args(arguments)
            .env("ORFEAS_DATA_DIR", folder.path().join("data"))
            .current_dir(folder.path())
            .output()
            .unwrap()
    };
    let orfeas = |arguments: &[&str]| {
        let output = run(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let made: serde_json::Value = serde_json::from_str(&orfeas(&[
        "keys",
        "create",
        "--name",
        "robot",
        "--permissions",
        "conversions:read,conversions:submit",
        "--per-minute",
        "42",
        "--webhook",
        "https://example.com/orfeas",
        "--webhook-events",
        "conversion.failed,batch.finished",
        "--json",
    ]))
    .unwrap();
    let id = made["keyId"].as_str().unwrap();
    let secret = made["secret"].as_str().unwrap();
    assert!(
        id.starts_with("ofk_") && secret.starts_with("ofs_"),
        "{made}"
    );
    assert_eq!(
        (
            made["requestsPerMinute"].as_i64(),
            made["permissions"].as_array().unwrap().len()
        ),
        (Some(42), 2)
    );
    assert_eq!(
        made["webhook"],
        json!({ "url": "https://example.com/orfeas", "events": ["conversion.failed", "batch.finished"] })
    );
    let inside = "https://127.0.0.1/";
    let refused = run(&["keys", "create", "--name", "spy", "--webhook", inside]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("webhook.url: "),
        "{said}"
    );

    let key_file = folder.path().join("key.json");
    std::fs::write(&key_file, made.to_string()).unwrap();
    let body = folder.path().join("body.json");
    std::fs::write(&body, "{}").unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let url = "http://127.0.0.1:8080/graphql?a=b";
    let fields = orfeas(&[
        "sign",
        "--key-file",
        &path(&key_file),
        "--url",
        url,
        "--body",
        &path(&body),
    ]);
    assert!(
        fields.contains("signature-input: ")
            && fields.contains("\"@query\"")
            && fields.contains("content-digest: sha-256="),
        "{fields}"
    );
    assert!(!fields.contains(secret));

    let changed: serde_json::Value = serde_json::from_str(&orfeas(&[
        "keys",
        "update",
        id,
        "--per-minute",
        "7",
        "--json",
    ]))
    .unwrap();
    assert_eq!(
        (
            changed["requestsPerMinute"].as_i64(),
            changed["name"].as_str()
        ),
        (Some(7), Some("robot"))
    );
    assert_eq!(changed["webhook"], made["webhook"]);
    let rotated: serde_json::Value =
        serde_json::from_str(&orfeas(&["keys", "rotate", id, "--json"])).unwrap();
    assert_ne!(rotated["secret"], made["secret"]);
    let revoked: serde_json::Value =
        serde_json::from_str(&orfeas(&["keys", "revoke", id, "--json"])).unwrap();
    assert!(revoked["revokedAt"].is_string());
    let list = orfeas(&["keys", "list", "--json"]);
    assert!(list.contains(id) && !list.contains("ofs_"), "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_hangs_up_leaves_no_change_without_its_event() {
    let world = World::new().await;
    let node = world.api_node().await;
    let tokens = &node.app.tokens;
    let token = tokens.issue(
        "root",
        &["admin".into()],
        std::time::Duration::from_secs(600),
    );
    let body =
        json!({ "query": "mutation { createApiKey(input: { name: \"gone\" }) { secret } }" })
            .to_string();
    let request = format!(
        "POST /graphql HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for turn in 0..30_u64 {
        let mut socket = tokio::net::TcpStream::connect(node.app.api.unwrap())
            .await
            .unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        // Sooner or later in what the server does.
        tokio::time::sleep(std::time::Duration::from_micros(200 * turn)).await;
    }
    // A node that stops lets them end.
    node.app.stop().await;
    let database = world.database().await;
    let made = scalar(
        &database,
        "SELECT count(*) FROM api_key WHERE name = 'gone'",
    )
    .await;
    let told =
        "SELECT count(*) FROM audit_event WHERE operation = 'createApiKey' AND outcome = 'OK'";
    assert_eq!(scalar(&database, told).await, made);
    assert!(made > 0, "some got that far");
}
