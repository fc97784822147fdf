//! GraphQL over HTTP, downloads, health and metrics.

use orfeas::{
    app::{App, AppOptions},
    config::{Role, Settings},
};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

use crate::harness::{
    self, Node, PROGRAM, World, agent::Agent, client::Client, client::SUBMIT, client::submission,
    pictures,
};

const GRAPHQL_RESPONSE: &str = "application/graphql-response+json";

fn post(client: &Client, body: impl Into<reqwest::Body>) -> RequestBuilder {
    client
        .http
        .post(client.url())
        .bearer_auth(client.token.as_deref().unwrap())
        .header("Content-Type", "application/json")
        .body(body)
}

/// The code of the first error of a refusal.
async fn code(response: Response) -> String {
    let body: Value = response.json().await.unwrap();
    harness::client::check_errors(&body);
    body["errors"][0]["extensions"]["code"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_are_those_of_the_specification() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let token = alice.token.clone().unwrap();
    let get = |parameters: &[(&str, &str)]| {
        let url = url::Url::parse_with_params(&alice.url(), parameters).unwrap();
        alice.http.get(url).bearer_auth(&token)
    };

    let response = get(&[("query", "{ viewer { name } }")])
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert!(
        response.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("application/json")
    );
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert!(response.headers().contains_key("x-request-id"));
    assert_eq!(
        response.json::<Value>().await.unwrap()["data"]["viewer"]["name"],
        "alice"
    );

    let response = get(&[("query", "mutation { pauseQueue { paused } }")])
        .send()
        .await
        .unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["allow"]),
        (405, &"POST".parse().unwrap())
    );
    let document = "query A { viewer { name } } mutation B { pauseQueue { paused } }";
    let disguised = get(&[("query", document), ("operationName", "B")]);
    assert_eq!(disguised.send().await.unwrap().status(), 405);

    let plain = alice
        .http
        .post(alice.url())
        .bearer_auth(&token)
        .header("Content-Type", "text/plain")
        .body("{ viewer { name } }");
    assert_eq!(plain.send().await.unwrap().status(), 415);
    for body in ["{ no JSON", "[]", "", "7", r#"{ "variables": {} }"#] {
        let response = post(&alice, body).send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        // A request without a document is a request all the same, and gets a GraphQL error.
        assert!(
            status == 400 || text.contains("GRAPHQL_PARSE_FAILED"),
            "{body}: {status} {text}"
        );
    }
    let one = json!({ "query": "{ viewer { name } }" });
    let response = post(&alice, json!([one, one]).to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 400, "several operations in one request");
    assert_eq!(code(response).await, "INVALID_INPUT");
    assert_eq!(
        alice
            .http
            .delete(alice.url())
            .send()
            .await
            .unwrap()
            .status(),
        405
    );
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_accepts_graphql_responses_gets_statuses() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let ask = |document: &str, accept: &str| {
        post(&alice, json!({ "query": document }).to_string())
            .header("Accept", accept)
            .send()
    };
    for (document, accept, status) in [
        ("{ viewer { name } }", GRAPHQL_RESPONSE, 200),
        ("{ viewer {", GRAPHQL_RESPONSE, 400),
        ("{ viewer { none } }", GRAPHQL_RESPONSE, 400),
        // The field was executed, and failed: that is no error of the request.
        ("{ nodes { id } }", GRAPHQL_RESPONSE, 200),
        ("{ viewer {", "application/json", 200),
        ("{ viewer {", "*/*", 200),
    ] {
        let response = ask(document, accept).await.unwrap();
        assert_eq!(response.status(), status, "{document} {accept}");
        let is_graphql = response.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with(GRAPHQL_RESPONSE);
        assert_eq!(is_graphql, accept == GRAPHQL_RESPONSE);
        let body: Value = response.json().await.unwrap();
        harness::client::check_errors(&body);
        let is_request_error =
            document.starts_with("{ viewer {") && document != "{ viewer { name } }";
        assert_eq!(body.get("data").is_none(), is_request_error, "{body}");
    }
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_bodies_are_refused() {
    let world = World::new().await;
    let settings = Settings {
        orfeas_role: Role::Api,
        orfeas_max_upload_bytes: 64 << 10,
        ..world.settings()
    };
    let node = world.node_with(settings).await;
    let alice = node.client("alice");
    let body = json!({ "query": "{ viewer { name } }", "variables": { "padding": "x".repeat(1_400_000) } }).to_string();
    let response = post(&alice, body.clone()).send().await.unwrap();
    assert_eq!(response.status(), 413);
    assert_eq!(code(response).await, "IMAGE_TOO_LARGE");
    // Without a declared length.
    let chunks: Vec<Result<Vec<u8>, std::io::Error>> = body
        .as_bytes()
        .chunks(50_000)
        .map(|part| Ok(part.to_vec()))
        .collect();
    let stream = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    let response = post(&alice, stream).send().await.unwrap();
    assert_eq!(response.status(), 413);
    let picture = vec![0; 64 << 10];
    assert_eq!(
        alice
            .refusal(
                SUBMIT,
                submission(&[&picture[..], b"!"].concat(), json!({}))
            )
            .await,
        "IMAGE_TOO_LARGE"
    );
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics() {
    let world = World::new().await;
    let options = AppOptions {
        settings: Settings {
            orfeas_role: Role::Api,
            ..world.settings()
        },
        program: PROGRAM.into(),
        engine: None,
        egress: None,
        metrics: Some(harness::metrics()),
    };
    let node = Node {
        app: App::start(options).await.unwrap(),
    };
    let alice = node.client("alice");
    alice.run("{ viewer { name } }", json!({})).await;
    let agent = Agent::new(&node.admin(), json!({})).await;
    agent.run("{ viewer { name } }", json!({})).await;
    let (api, operators) = (node.app.api.unwrap(), node.app.metrics.unwrap());
    let text = |url: String| async move {
        let response = reqwest::get(url).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    for address in [api, operators] {
        assert_eq!(
            text(format!("http://{address}/healthz")).await,
            (200, "alive\n".to_owned())
        );
        let mut ready = (0, String::new());
        for _ in 0..50 {
            ready = text(format!("http://{address}/readyz")).await;
            if ready.0 == 200 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert_eq!(ready, (200, "ready\n".to_owned()));
    }
    let (status, page) = text(format!("http://{operators}/metrics")).await;
    assert_eq!(status, 200);
    assert!(
        page.contains("orfeas_graphql_request_seconds_bucket{outcome=\"ok\""),
        "{page}"
    );
    let key = agent.key;
    let series = format!(r#"orfeas_requests_total{{key="{key}",operation="viewer",code="OK"}}"#);
    assert!(page.contains(&format!("{series} 0\n")), "{page}");
    let (_, page) = text(format!("http://{operators}/metrics")).await;
    assert!(page.contains(&format!("{series} 1\n")), "{page}");
    assert_eq!(
        text(format!("http://{api}/metrics")).await.0,
        404,
        "operators have a listener of their own"
    );
    assert_eq!(text(format!("http://{api}/")).await.0, 200);
    assert_eq!(text(format!("http://{api}/no-such")).await.0, 404);
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_need_their_signature() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let id = alice.submit(pictures::CHAIR, json!({})).await;
    let query = "query ($id: ID!) { conversion(id: $id) { source { url } } }";
    let data = alice.run(query, json!({ "id": id })).await;
    let url = data["conversion"]["source"]["url"].as_str().unwrap();
    let response = reqwest::get(url).await.unwrap();
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["content-type"], "image/png");
    assert!(
        headers["cache-control"]
            .to_str()
            .unwrap()
            .contains("private")
    );
    assert!(
        headers["content-security-policy"]
            .to_str()
            .unwrap()
            .contains("sandbox")
    );
    assert_eq!(response.bytes().await.unwrap(), pictures::CHAIR);

    let again = alice
        .http
        .get(url)
        .header("If-None-Match", &headers["etag"])
        .send()
        .await
        .unwrap();
    assert_eq!(
        (again.status().as_u16(), &again.headers()["etag"]),
        (304, &headers["etag"])
    );
    assert!(again.bytes().await.unwrap().is_empty());

    let parsed = url::Url::parse(url).unwrap();
    let part = |name: &str| {
        parsed
            .query_pairs()
            .find(|pair| pair.0 == name)
            .unwrap()
            .1
            .into_owned()
    };
    let (expires, signature) = (part("expires"), part("signature"));
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let later = (expires.parse::<i64>().unwrap() + 1).to_string();
    let forged = [
        url.replace(&signature, &format!("{flipped}{}", &signature[1..])),
        url.replace(&signature, ""),
        url.replace(&signature, "%00"),
        url.replace(&expires, &later),
        url.replace("/source.png", "/source.jpg"),
        url.replace("/source.png", "/..%2Fsource.png"),
        url.replace("/ast_", "/cnv_"),
        url.split('?').next().unwrap().to_owned(),
    ];
    for url in forged {
        assert_eq!(reqwest::get(&url).await.unwrap().status(), 404, "{url}");
    }
    alice
        .run(
            "mutation ($id: ID!) { deleteConversion(id: $id) { deletedId } }",
            json!({ "id": id }),
        )
        .await;
    assert_eq!(
        reqwest::get(url).await.unwrap().status(),
        404,
        "it is deleted"
    );
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_origins_are_not_let_in() {
    let world = World::new().await;
    let node = world.api_node().await;
    let alice = node.client("alice");
    let body = json!({ "query": "{ viewer { name } }" }).to_string();
    let asked = post(&alice, body)
        .header("Origin", "https://elsewhere.example")
        .send()
        .await
        .unwrap();
    let preflight = alice
        .http
        .request(reqwest::Method::OPTIONS, alice.url())
        .header("Origin", "https://elsewhere.example")
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "authorization");
    for response in [asked, preflight.send().await.unwrap()] {
        let names: Vec<_> = response.headers().keys().map(ToString::to_string).collect();
        assert!(
            !names.iter().any(|name| name.starts_with("access-control")),
            "{names:?}"
        );
    }
    node.app.stop().await;
}
