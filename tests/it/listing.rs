//! Lists and single things, by the conventions of Relay.

use serde_json::{Value, json};

use crate::harness::{World, client::Client, client::SUBMIT, client::SUBMIT_BATCH, pictures};

const PAGE: &str =
    "query ($first: Int, $after: String, $last: Int, $before: String, $filter: ConversionFilter) {
    conversions(first: $first, after: $after, last: $last, before: $before, filter: $filter) {
        edges { cursor node { id createdAt } } nodes { id }
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }";

async fn page(client: &Client, variables: Value) -> (Vec<String>, Value) {
    let mut data = client.run(PAGE, variables).await;
    let connection = data["conversions"].take();
    let edges = connection["edges"].as_array().unwrap();
    let ids: Vec<String> = edges
        .iter()
        .map(|edge| edge["node"]["id"].as_str().unwrap().to_owned())
        .collect();
    let info = connection["pageInfo"].clone();
    assert_eq!(
        info["startCursor"],
        edges
            .first()
            .map_or(Value::Null, |edge| edge["cursor"].clone())
    );
    assert_eq!(
        info["endCursor"],
        edges
            .last()
            .map_or(Value::Null, |edge| edge["cursor"].clone())
    );
    (ids, info)
}

async fn filtered(client: &Client, filter: Value) -> Vec<String> {
    page(client, json!({ "first": 100, "filter": filter }))
        .await
        .0
}

/// 20 single conversions and a batch of 5, nobody working on them; ids newest first, and the batch's id.
async fn twenty_five(alice: &Client) -> (Vec<String>, String) {
    let first = alice.submit(pictures::CHAIR, json!({})).await;
    let image = json!({ "assetId": alice.conversion(&first).await["source"]["id"] });
    let mut ids = vec![first];
    for _ in 0..19 {
        let mut data = alice
            .run(SUBMIT, json!({ "input": { "image": image } }))
            .await;
        let id = data["submitConversion"]["conversion"]["id"].take();
        ids.push(id.as_str().unwrap().to_owned());
    }
    let images = [&image; 5];
    let data = alice
        .run(SUBMIT_BATCH, json!({ "input": { "images": images } }))
        .await;
    for item in data["submitBatch"]["items"].as_array().unwrap() {
        ids.push(item["conversion"]["id"].as_str().unwrap().to_owned());
    }
    ids.reverse();
    (
        ids,
        data["submitBatch"]["batch"]["id"]
            .as_str()
            .unwrap()
            .to_owned(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_each_other_both_ways() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let (ids, batch) = twenty_five(&alice).await;
    let mut seen = Vec::new();
    let mut after = Value::Null;
    for (count, more) in [(10, true), (10, true), (5, false)] {
        let (part, info) = page(&alice, json!({ "first": 10, "after": after })).await;
        assert_eq!(part.len(), count);
        assert_eq!(info["hasNextPage"], more);
        assert_eq!(info["hasPreviousPage"], !after.is_null());
        after = info["endCursor"].clone();
        seen.extend(part);
    }
    assert_eq!(seen, ids, "newest first, each once");
    assert!(
        page(&alice, json!({ "first": 10, "after": after }))
            .await
            .0
            .is_empty()
    );

    let mut seen = Vec::new();
    let mut before = Value::Null;
    for (count, more) in [(10, true), (10, true), (5, false)] {
        let (part, info) = page(&alice, json!({ "last": 10, "before": before })).await;
        assert_eq!(part.len(), count);
        assert_eq!(info["hasPreviousPage"], more);
        assert_eq!(info["hasNextPage"], !before.is_null());
        before = info["startCursor"].clone();
        seen.splice(0..0, part);
    }
    assert_eq!(seen, ids, "the order is the same backwards");
    let (between, _) = page(
        &alice,
        json!({ "first": 50, "after": ids[3], "before": ids[8] }),
    )
    .await;
    assert_eq!(between, ids[4..8]);
    assert_eq!(
        page(&alice, json!({})).await.0.len(),
        20,
        "a page unless asked"
    );

    for id in &ids[..3] {
        alice
            .run(
                "mutation ($id: ID!) { cancelConversion(id: $id) { conversion { id } } }",
                json!({ "id": id }),
            )
            .await;
    }
    assert_eq!(
        filtered(&alice, json!({ "status": ["CANCELED"] })).await,
        ids[..3]
    );
    assert_eq!(
        filtered(&alice, json!({ "status": ["QUEUED"] })).await,
        ids[3..]
    );
    assert_eq!(
        filtered(&alice, json!({ "status": ["CANCELED", "QUEUED"] }))
            .await
            .len(),
        25
    );
    assert_eq!(filtered(&alice, json!({ "batch": batch })).await, ids[..5]);
    assert_eq!(
        filtered(&alice, json!({ "batch": batch, "status": ["QUEUED"] })).await,
        ids[3..5]
    );
    assert_eq!(
        filtered(&alice, json!({ "model": "orfeas-mini" }))
            .await
            .len(),
        25
    );
    assert!(
        filtered(&alice, json!({ "model": "another" }))
            .await
            .is_empty()
    );
    let row = alice
        .run(
            "query ($id: ID!) { conversion(id: $id) { createdAt } }",
            json!({ "id": ids[15] }),
        )
        .await;
    let time = &row["conversion"]["createdAt"];
    assert_eq!(
        filtered(&alice, json!({ "createdSince": time })).await,
        ids[..=15]
    );
    assert_eq!(
        filtered(&alice, json!({ "createdBefore": time })).await,
        ids[16..]
    );
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn senseless_pages_are_refused() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    for (variables, field) in [
        (json!({ "first": 101 }), Some("first")),
        (json!({ "last": 101 }), Some("last")),
        (json!({ "first": 5, "after": "rubbish" }), Some("after")),
        (json!({ "last": 5, "before": "rubbish" }), Some("before")),
        (
            json!({ "filter": { "batch": "rubbish" } }),
            Some("filter.batch"),
        ),
        (json!({ "first": -1 }), None),
        (json!({ "first": 5, "last": 5 }), Some("last")),
    ] {
        let answer = alice.send(PAGE, variables.clone()).await;
        let extensions = &answer["errors"][0]["extensions"];
        assert_eq!(
            extensions["code"], "INVALID_INPUT",
            "{variables}: {answer:#}"
        );
        assert_eq!(extensions["field"].as_str(), field, "{variables}");
    }
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_with_an_id_is_a_node() {
    let world = World::new().await;
    let node = world.api_node().await;
    let (alice, root) = (node.client("alice"), node.admin());
    let (batch, items) = alice
        .submit_batch(&[pictures::CHAIR, pictures::CHEST], json!({}))
        .await;
    let conversion = items[1]["conversion"]["id"].as_str().unwrap();
    let asset = alice.conversion(conversion).await["source"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let query = "query ($id: ID!) { node(id: $id) { __typename id
        ... on Conversion { queuePosition priority owner model batch { id size } } ... on Asset { width height } ... on Model { isDefault } } }";
    for (id, kind) in [
        (conversion, "Conversion"),
        (&batch, "Batch"),
        (&asset, "Asset"),
        ("mdl_orfeas-mini", "Model"),
    ] {
        let node = alice.run(query, json!({ "id": id })).await["node"].take();
        assert_eq!(
            (&node["__typename"], &node["id"]),
            (&json!(kind), &json!(id))
        );
        if kind == "Conversion" {
            assert_eq!(node["batch"], json!({ "id": batch, "size": 2 }));
            assert_eq!(
                (&node["queuePosition"], &node["priority"]),
                (&json!(1), &json!("USER")),
                "{node:#}"
            );
        }
    }
    for id in [
        "",
        "rubbish",
        "cnv_",
        "mdl_none",
        "cnv_00000000000000000000000000000000",
    ] {
        assert!(
            alice.run(query, json!({ "id": id })).await["node"].is_null(),
            "{id}"
        );
    }
    let about = "{ viewer { owner name permissions priority expiresAt } models { id name isDefault resolutionMax contract }
        queue { paused queued running depth { priority queued } estimatedWaitSeconds } }";
    let seen = alice.run(about, json!({})).await;
    assert_eq!(seen["viewer"]["name"], "alice");
    assert_eq!(
        seen["viewer"]["permissions"],
        json!(["SUBMIT", "BATCH", "READ", "CANCEL"])
    );
    assert_eq!(
        seen["models"][0]["contract"], "implicit-field/1",
        "{seen:#}"
    );
    assert_eq!(seen["models"][0]["isDefault"], true);
    assert_eq!(
        seen["queue"]["depth"],
        json!([{ "priority": "AGENT", "queued": 0 }, { "priority": "USER", "queued": 2 }])
    );
    let seen = root.run(about, json!({})).await;
    assert!(
        seen["viewer"]["permissions"]
            .as_array()
            .unwrap()
            .contains(&json!("ADMIN"))
    );
    let nodes = root
        .run("{ nodes { id role version devices { kind } } }", json!({}))
        .await;
    assert_eq!(nodes["nodes"][0]["role"], "api", "{nodes:#}");
    node.app.stop().await;
}
