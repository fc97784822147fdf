//! A client that shows answers as they come.

use std::{net::SocketAddr, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::socket::Socket;

/// Everything a test asks of a conversion.
pub const CONVERSION: &str = "id status stage progress attempts sequence cancelRequested retryOf error { code message retryable }
    outputs { format url bytes sha256 triangles vertices } preview { url width }
    quality { watertight manifold volume boundingBox components warnings }
    timings { queuedMs prepareMs encodeMs reconstructMs meshMs textureMs exportMs gpuBatchSize }
    source { id mediaType width height }";

#[derive(Debug, Clone)]
pub struct Client {
    pub http: reqwest::Client,
    pub api: SocketAddr,
    pub token: Option<String>,
}

impl Client {
    pub fn new(api: SocketAddr, token: Option<String>) -> Self {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(60))
            .build()
            .unwrap();
        Self { http, api, token }
    }

    pub fn url(&self) -> String {
        format!("http://{}/graphql", self.api)
    }

    /// The whole answer: data and errors.
    pub async fn send(&self, query: &str, variables: Value) -> Value {
        let mut request = self
            .http
            .post(self.url())
            .json(&json!({ "query": query, "variables": variables }));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        request.send().await.unwrap().json().await.unwrap()
    }

    /// The data of an answer without errors.
    pub async fn run(&self, query: &str, variables: Value) -> Value {
        let mut answer = self.send(query, variables).await;
        assert!(answer.get("errors").is_none(), "{answer:#}");
        answer["data"].take()
    }

    /// The code of the first error of an answer.
    pub async fn refusal(&self, query: &str, variables: Value) -> String {
        let answer = self.send(query, variables).await;
        let code = answer["errors"][0]["extensions"]["code"].as_str();
        code.unwrap_or_else(|| panic!("no error with a code: {answer:#}"))
            .to_owned()
    }

    /// Submits one picture and returns the conversion's id.
    pub async fn submit(&self, picture: &[u8], options: Value) -> String {
        let data = self.run(SUBMIT, submission(picture, options)).await;
        data["submitConversion"]["conversion"]["id"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Submits pictures together; the batch's id, and the items as answered.
    pub async fn submit_batch(&self, pictures: &[&[u8]], options: Value) -> (String, Vec<Value>) {
        let images: Vec<Value> = pictures
            .iter()
            .map(|bytes| json!({ "base64": STANDARD.encode(bytes) }))
            .collect();
        let data = self
            .run(
                SUBMIT_BATCH,
                json!({ "input": { "images": images, "options": options } }),
            )
            .await;
        let batch = data["submitBatch"]["batch"]["id"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        (
            batch,
            data["submitBatch"]["items"].as_array().unwrap().clone(),
        )
    }

    pub async fn conversion(&self, id: &str) -> Value {
        let query = format!("query ($id: ID!) {{ conversion(id: $id) {{ {CONVERSION} }} }}");
        self.run(&query, json!({ "id": id })).await["conversion"].take()
    }

    /// Waits until a conversion has ended, by asking again and again.
    pub async fn ended(&self, id: &str) -> Value {
        for _ in 0..1200 {
            let conversion = self.conversion(id).await;
            if ["SUCCEEDED", "FAILED", "CANCELED"].contains(&conversion["status"].as_str().unwrap())
            {
                return conversion;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("conversion {id} did not end within two minutes");
    }

    pub async fn download(&self, url: &str) -> Vec<u8> {
        let response = self
            .http
            .get(url)
            .send()
            .await
            .unwrap()
            .error_for_status()
            .unwrap();
        response.bytes().await.unwrap().to_vec()
    }

    /// A signed-in WebSocket.
    pub async fn socket(&self) -> Socket {
        Socket::open(self.api, self.token.as_deref()).await
    }
}

pub const SUBMIT: &str = "mutation ($input: SubmitConversionInput!) { submitConversion(input: $input) { conversion { id status } } }";
pub const SUBMIT_BATCH: &str = "mutation ($input: SubmitBatchInput!) { submitBatch(input: $input) {
    batch { id size } items { index conversion { id status } error { code message field } } } }";

/// The variables of [`SUBMIT`].
pub fn submission(picture: &[u8], options: Value) -> Value {
    json!({ "input": { "image": { "base64": STANDARD.encode(picture) }, "options": options } })
}
