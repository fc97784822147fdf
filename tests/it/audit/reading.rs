//! The log as admins read it, and the command line on it.

use std::process::Output;

use orfeas::{
    auth::api_key::KeyId,
    conversion::{ConversionId, NodeId},
    db::audit::{
        details::Details,
        event::{AuditEvent, Kind, Outcome},
        listing::AuditFilter,
    },
};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{fill, mutation, person, refusal};
use crate::harness::{MASTER_KEYS, PROGRAM, World, seed::sql};

const LIST: &str = "query ($first: Int, $after: String, $filter: AuditFilter) {
    auditEvents(first: $first, after: $after, filter: $filter) {
        pageInfo { hasNextPage hasPreviousPage endCursor }
        nodes { id at kind actor keyId operation outcome address requestId nodeId count details { name value } } } }";

#[tokio::test(flavor = "multi_thread")]
async fn admins_page_through_the_log_newest_first() {
    let world = World::new().await;
    let node = world.api_node().await;
    let database = world.database().await;
    fill(&database, 5).await;
    let (admin, alice) = (node.admin(), node.client("alice"));
    assert_eq!(alice.refusal(LIST, json!({})).await, "FORBIDDEN");

    let (mut names, mut after) = (Vec::new(), Value::Null);
    for (page, (length, more)) in [(2, true), (2, true), (1, false)].into_iter().enumerate() {
        let filter = json!({ "operation": "submitConversion" });
        let variables = json!({ "first": 2, "after": after, "filter": filter });
        let mut data = admin.run(LIST, variables).await;
        let list = data["auditEvents"].take();
        let nodes = list["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), length);
        assert_eq!(list["pageInfo"]["hasNextPage"], more);
        assert_eq!(list["pageInfo"]["hasPreviousPage"], page > 0);
        names.extend(nodes.iter().map(|event| event["actor"].clone()));
        after = list["pageInfo"]["endCursor"].clone();
    }
    let expected: Vec<String> = (0..5)
        .rev()
        .map(|index| format!("user:person-{index}"))
        .collect();
    assert_eq!(json!(names), json!(expected));

    for (field, variables) in [
        ("first", json!({ "first": 101 })),
        ("after", json!({ "after": "1_2" })),
    ] {
        let answer = admin.send(LIST, variables).await;
        let extensions = &answer["errors"][0]["extensions"];
        assert_eq!(extensions["code"], "INVALID_INPUT", "{answer}");
        assert_eq!(extensions["field"], field, "{answer}");
    }
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_shown_as_it_was_written() {
    let world = World::new().await;
    let node = world.api_node().await;
    let database = world.database().await;
    let conversion = ConversionId::new();
    let mut event = mutation("bob").details(Details::default().conversion(conversion).images(1));
    let node_id = NodeId::new();
    event.node = Some(node_id);
    let id = event.id;
    database.insert_audit(&[event]).await.unwrap();
    let variables =
        json!({ "filter": { "actor": "user:bob", "kind": ["MUTATION"], "outcome": "OK" } });
    let mut data = node.admin().run(LIST, variables).await;
    let mut shown = data["auditEvents"]["nodes"][0].take();
    assert!(shown["at"].take().is_string());
    let expected = json!({
        "id": id.to_string(), "at": null, "kind": "MUTATION", "actor": "user:bob", "keyId": null,
        "operation": "submitConversion", "outcome": "OK", "address": "192.0.2.1", "requestId": "request-1",
        "nodeId": node_id.to_string(), "count": 1,
        "details": [
            { "name": "conversion", "value": conversion.to_string() },
            { "name": "images", "value": "1" },
        ],
    });
    assert_eq!(shown, expected);
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_filter_narrows() {
    let database = super::database().await;
    let key = KeyId::new();
    let before = OffsetDateTime::now_utc() - std::time::Duration::from_secs(60);
    let after = OffsetDateTime::now_utc() + std::time::Duration::from_secs(60);
    let cancel = AuditEvent::refusal(Outcome::code("FORBIDDEN"))
        .by(&person("carol"))
        .operation("cancelConversion");
    database
        .insert_audit(&[mutation("bob"), refusal(&key), cancel])
        .await
        .unwrap();
    let all = AuditFilter::default;
    let text = |text: &str| Some(text.to_owned());
    let cases = [
        (all(), 3),
        (
            AuditFilter {
                kinds: Some(vec![Kind::Refusal]),
                ..all()
            },
            2,
        ),
        (
            AuditFilter {
                kinds: Some(vec![]),
                ..all()
            },
            0,
        ),
        (
            AuditFilter {
                actor: text("user:bob"),
                ..all()
            },
            1,
        ),
        (
            AuditFilter {
                actor: text("user:bo"),
                ..all()
            },
            0,
        ),
        (
            AuditFilter {
                key_id: text(key.as_str()),
                ..all()
            },
            1,
        ),
        (
            AuditFilter {
                operation: text("cancelConversion"),
                ..all()
            },
            1,
        ),
        (
            AuditFilter {
                outcome: text("RATE_LIMITED"),
                ..all()
            },
            1,
        ),
        (
            AuditFilter {
                since: Some(before),
                ..all()
            },
            3,
        ),
        (
            AuditFilter {
                since: Some(after),
                ..all()
            },
            0,
        ),
        (
            AuditFilter {
                before: Some(before),
                ..all()
            },
            0,
        ),
        (
            AuditFilter {
                before: Some(after),
                actor: text("user:carol"),
                outcome: text("FORBIDDEN"),
                ..all()
            },
            1,
        ),
    ];
    for (filter, count) in cases {
        let listed = database
            .audit_events(filter.clone(), None, 10)
            .await
            .unwrap();
        assert_eq!(listed.len(), count, "{filter:?}");
    }
}

async fn orfeas(world: &World, arguments: &[&str]) -> Output {
    let mut command = std::process::Command::new(PROGRAM);
    command
        .args(arguments)
        .current_dir(world.assets.parent().unwrap())
        .env("DATABASE_URL", &world.database_url)
        .env("ORFEAS_MASTER_KEYS", MASTER_KEYS);
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_verifies_and_exports_the_head() {
    let world = World::new().await;
    let empty = orfeas(&world, &["audit", "verify"]).await;
    assert!(empty.status.success(), "{empty:?}");
    let database = world.database().await;
    fill(&database, 4).await;
    let head = orfeas(&world, &["audit", "head"]).await;
    assert!(head.status.success(), "{head:?}");
    let parsed: Value = serde_json::from_str(out(&head)).unwrap();
    assert_eq!(parsed["seq"], 4);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("head.json");
    std::fs::write(&file, &head.stdout).unwrap();
    let file = file.to_str().unwrap();
    let verify = ["audit", "verify", "--head", file];
    let good = orfeas(&world, &verify).await;
    assert!(good.status.success(), "{good:?}");
    assert_eq!(
        out(&good),
        "The audit log is as it was written: 4 events, seals 1 to 4.\nThe head lies on the chain.\n"
    );

    for statement in [
        "ALTER TABLE audit_event DISABLE TRIGGER ALL",
        "ALTER TABLE audit_seal DISABLE TRIGGER ALL",
        "UPDATE audit_event SET actor = 'user:bob' WHERE id = (SELECT event_id FROM audit_seal WHERE seq = 2)",
        "DELETE FROM audit_event WHERE id = (SELECT event_id FROM audit_seal WHERE seq = 4)",
        "DELETE FROM audit_seal WHERE seq = 4",
    ] {
        sql(&database, statement).await;
    }
    let bad = orfeas(&world, &verify).await;
    assert_eq!(bad.status.code(), Some(1), "{bad:?}");
    let lines: Vec<&str> = out(&bad).lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with("seal 2: the event aud_"), "{lines:?}");
    assert!(
        lines[1].contains("the head names seal 4, the last one is 3"),
        "{lines:?}"
    );
    let bad = orfeas(&world, &["audit", "verify", "--json", "--head", file]).await;
    assert_eq!(bad.status.code(), Some(1), "{bad:?}");
    let report: Value = serde_json::from_str(out(&bad)).unwrap();
    assert_eq!(report["clean"], false);
    assert_eq!(report["eventsVerified"], 2);
    assert_eq!(report["findings"][0]["kind"], "changed");
    assert_eq!(report["findings"][1]["headSeq"], 4);
    assert!(report["findings"][0]["text"].is_string());

    let no_head = orfeas(&world, &["audit", "verify", "--head", "no-such-file"]).await;
    assert!(
        !no_head.status.success() && no_head.stdout.is_empty(),
        "{no_head:?}"
    );
}
