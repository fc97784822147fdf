//! A client that shows answers as they come.

use std::{net::SocketAddr, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::socket::Socket;

/// Everything a test asks of a conversion.
pub const CONVERSION: &str = "id status stage progress attempts sequence cancelRequested retryOf error { code message retryable }
    outputs { format url bytes sha256 triangles vertices } preview { url width } turntable { url width }
    quality { watertight manifold volume boundingBox components warnings selfIntersections silhouetteAgreement triangles vertices
        print { sizeMm volumeCm3 surfaceCm2 thinnestWallMm overhangShare } }
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
        let answer = request.send().await.unwrap().json().await.unwrap();
        check_errors(&answer);
        answer
    }

    /// The whole answer to a multipart request: the operation, and files with the places of their variables.
    pub async fn send_files(
        &self,
        query: &str,
        variables: Value,
        files: &[(&str, &[u8])],
    ) -> Value {
        let mut form = reqwest::multipart::Form::new().text(
            "operations",
            json!({ "query": query, "variables": variables }).to_string(),
        );
        let places = files.iter().enumerate();
        let map: serde_json::Map<String, Value> = places
            .map(|(index, (place, _))| (index.to_string(), json!([place])))
            .collect();
        form = form.text("map", Value::Object(map).to_string());
        for (index, (_, bytes)) in files.iter().enumerate() {
            let part = reqwest::multipart::Part::bytes(bytes.to_vec()).file_name("picture");
            form = form.part(index.to_string(), part);
        }
        let mut request = self.http.post(self.url()).multipart(form);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap().json().await.unwrap();
        check_errors(&answer);
        answer
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

/// Every error has a code of the contract, says whether to try again, and tells nothing of the server's inside.
pub fn check_errors(answer: &Value) {
    let errors = answer["errors"].as_array().cloned().unwrap_or_default();
    for error in &errors {
        let code = error["extensions"]["code"].as_str().unwrap_or_default();
        assert!(CODES.contains(&code), "{answer:#}");
        assert!(error["extensions"]["retryable"].is_boolean(), "{answer:#}");
        check_text(error["message"].as_str().unwrap());
    }
}

/// What a stranger reads holds no path, no SQL and no trace.
pub fn check_text(text: &str) {
    let inside = [
        env!("CARGO_MANIFEST_DIR"),
        "/tmp",
        "/home",
        ".rs:",
        "sqlx",
        "sea_orm",
        "SELECT ",
        "UPDATE ",
        "INSERT ",
        "relation \"",
        "panicked",
        "backtrace",
        "Caused by",
        "storage_key",
    ];
    let found = inside.iter().find(|word| text.contains(**word));
    assert!(!text.is_empty() && found.is_none(), "{found:?} in: {text}");
}

const CODES: [&str; 19] = [
    "UNAUTHENTICATED",
    "FORBIDDEN",
    "NOT_FOUND",
    "INVALID_INPUT",
    "INVALID_IMAGE",
    "IMAGE_TOO_LARGE",
    "UNSUPPORTED_IMAGE",
    "IDEMPOTENCY_CONFLICT",
    "RATE_LIMITED",
    "QUOTA_EXCEEDED",
    "QUERY_TOO_COMPLEX",
    "PERSISTED_QUERY_NOT_FOUND",
    "IMAGE_FETCH_FAILED",
    "OVERLOADED",
    "MODEL_UNAVAILABLE",
    "CONVERSION_FAILED",
    "GRAPHQL_PARSE_FAILED",
    "GRAPHQL_VALIDATION_FAILED",
    "INTERNAL",
];

pub const SUBMIT: &str = "mutation ($input: SubmitConversionInput!) { submitConversion(input: $input) { conversion { id status } } }";
pub const SUBMIT_BATCH: &str = "mutation ($input: SubmitBatchInput!) { submitBatch(input: $input) {
    batch { id size } items { index conversion { id status } error { code message field } } } }";

/// The variables of [`SUBMIT`].
pub fn submission(picture: &[u8], options: Value) -> Value {
    json!({ "input": { "image": { "base64": STANDARD.encode(picture) }, "options": options } })
}
