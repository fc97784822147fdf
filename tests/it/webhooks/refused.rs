//! Who is not called, and who doesn't see whose log.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_inside_is_not_called() {
    let world = World::new().await;
    // No network is allowed to this one.
    let node = world.api_node().await;
    let database = world.database().await;
    let alice = node.client("alice");
    let long = format!("https://example.com/{}", "a".repeat(2048));
    for url in [
        "http://example.com/",
        "https://127.0.0.1/",
        "https://10.1.2.3/",
        "https://169.254.169.254/latest",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://0x7f000001/",
        "https://me:word@example.com/",
        "https://example.com:22/",
        "ftp://example.com/",
        "example.com",
        "",
        &long,
    ] {
        let input =
            json!({ "input": { "image": { "base64": picture(1) }, "webhook": { "url": url } } });
        let answer = alice.send(SUBMIT, input).await;
        let extensions = &answer["errors"][0]["extensions"];
        assert_eq!(
            (&extensions["code"], &extensions["field"]),
            (&json!("INVALID_INPUT"), &json!("webhook.url")),
            "{url}: {answer:#}"
        );
    }
    let nothing = json!({ "url": "https://example.com/", "events": [] });
    let input = json!({ "input": { "images": [{ "base64": picture(1) }], "webhook": nothing } });
    let answer = alice
        .send(crate::harness::client::SUBMIT_BATCH, input)
        .await;
    assert_eq!(answer["errors"][0]["extensions"]["field"], "webhook.events");
    let create =
        json!({ "input": { "name": "robot", "webhook": { "url": "https://127.0.0.1/" } } });
    let answer = node
        .admin()
        .send(crate::harness::agent::CREATE, create)
        .await;
    assert_eq!(answer["errors"][0]["extensions"]["field"], "webhook.url");
    assert_eq!(
        scalar(&database, "SELECT (SELECT count(*) FROM conversion) + (SELECT count(*) FROM asset) + (SELECT count(*) FROM api_key)").await,
        0,
        "nothing was accepted"
    );

    // A name is looked up when it is called.
    let id = submit(&alice, 1, json!({ "url": "https://localhost/" })).await;
    alice.run(CANCEL, json!({ "id": id })).await;
    until("it was tried", PATIENCE, async || {
        scalar(
            &database,
            "SELECT count(*) FROM webhook_delivery WHERE attempts = 1 AND node_id IS NULL",
        )
        .await
            == 1
    })
    .await;
    let logged = &log(&alice, json!({})).await[0];
    assert_eq!(logged["lastError"], "NOT_PUBLIC");
    assert!(logged["lastStatusCode"].is_null());
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_its_owners() {
    let world = World::new().await;
    let node = node(&world).await;
    let database = world.database().await;
    let receiver = Receiver::content().await;
    let (alice, bob, root) = (node.client("alice"), node.client("bob"), node.admin());
    for red in 1..=3 {
        let id = submit(&alice, red, receiver.input("/?secret=1")).await;
        alice.run(CANCEL, json!({ "id": id })).await;
    }
    until_status(&database, "delivered", 3).await;
    assert_eq!(log(&bob, json!({})).await, Vec::<Value>::new());
    let seen = log(&root, json!({})).await;
    assert_eq!(seen.len(), 3);
    for line in &seen {
        assert!(
            line["url"].is_null(),
            "an address may hold a secret: {line:#}"
        );
        assert_eq!(line["host"], receiver.address.to_string());
        assert_eq!(line["owner"], "user:alice");
        assert_eq!(
            bob.refusal(REDELIVER, json!({ "id": line["id"] })).await,
            "NOT_FOUND"
        );
    }
    assert_eq!(receiver.told().len(), 3);

    // Page by page it is the same.
    let first = alice.run(LOG, json!({ "first": 2 })).await;
    let page = &first["webhookDeliveries"];
    assert_eq!(page["pageInfo"]["hasNextPage"], true);
    let rest = alice
        .run(
            LOG,
            json!({ "first": 2, "after": page["pageInfo"]["endCursor"] }),
        )
        .await;
    let rest = &rest["webhookDeliveries"];
    assert_eq!(rest["pageInfo"]["hasNextPage"], false);
    let ids = |nodes: &Value| -> Vec<Value> {
        nodes["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line["id"].clone())
            .collect()
    };
    let all: Vec<Value> = seen.iter().map(|line| line["id"].clone()).collect();
    assert_eq!([ids(page), ids(rest)].concat(), all);
    for (variables, field) in [
        (json!({ "first": 101 }), "first"),
        (json!({ "after": "x" }), "after"),
        (
            json!({ "filter": { "conversion": "x" } }),
            "filter.conversion",
        ),
    ] {
        let answer = alice.send(LOG, variables).await;
        assert_eq!(
            answer["errors"][0]["extensions"]["field"], field,
            "{answer:#}"
        );
    }
    node.app.stop().await;
}
