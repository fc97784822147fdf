//! A small GraphQL client over HTTP and WebSocket, for the demonstration and the benchmark: they use the server as
//! any other client would.

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};

use super::CommandError;

/// A signed-in client of one server; cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    api: SocketAddr,
    token: String,
}

/// One event of `batchProgress`.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct ProgressEvent {
    #[serde(rename = "conversionId")]
    pub conversion: String,
    pub status: String,
    pub stage: Option<String>,
    pub progress: f64,
}

/// No answer takes longer than this.
const ANSWER_MAX: Duration = Duration::from_secs(60);

impl Client {
    /// A client of the server at `api`.
    ///
    /// # Errors
    /// When the HTTP client can't be made.
    pub fn new(api: SocketAddr, token: String) -> Result<Self, CommandError> {
        Ok(Self {
            http: reqwest::Client::builder().timeout(ANSWER_MAX).build()?,
            api,
            token,
        })
    }

    /// The same for whoever `token` names.
    #[must_use]
    pub fn with_token(&self, token: String) -> Self {
        Self {
            token,
            ..self.clone()
        }
    }

    /// Submits pictures as one batch, by the multipart request specification, and returns the batch's id and the
    /// conversions' ids in order.
    ///
    /// # Errors
    /// When the server refuses any of them.
    pub async fn submit(
        &self,
        pictures: Vec<(String, Vec<u8>)>,
        options: Value,
    ) -> Result<(String, Vec<String>), CommandError> {
        let nothing: Vec<Value> = pictures.iter().map(|_| json!({ "upload": null })).collect();
        let operations = json!({
            "query": "mutation ($input: SubmitBatchInput!) { submitBatch(input: $input) {
                batch { id } items { conversion { id } error { code message } } } }",
            "variables": { "input": { "images": nothing, "options": options } },
        });
        let map: serde_json::Map<_, _> = (0..pictures.len())
            .map(|index| {
                (
                    index.to_string(),
                    json!([format!("variables.input.images.{index}.upload")]),
                )
            })
            .collect();
        let mut form = reqwest::multipart::Form::new()
            .text("operations", operations.to_string())
            .text("map", Value::Object(map).to_string());
        for (index, (name, bytes)) in pictures.into_iter().enumerate() {
            form = form.part(
                index.to_string(),
                reqwest::multipart::Part::bytes(bytes).file_name(name),
            );
        }
        let request = self
            .http
            .post(format!("http://{}/graphql", self.api))
            .multipart(form);
        let data = answer(request.bearer_auth(&self.token).send().await?).await?;
        let payload = &data["submitBatch"];
        let ids: Result<Vec<String>, CommandError> = payload["items"]
            .as_array()
            .ok_or("the answer lists no items")?
            .iter()
            .map(|item| match item["conversion"]["id"].as_str() {
                Some(id) => Ok(id.to_owned()),
                None => Err(format!("a picture was refused: {}", item["error"]).into()),
            })
            .collect();
        Ok((
            payload["batch"]["id"]
                .as_str()
                .ok_or("the answer names no batch")?
                .to_owned(),
            ids?,
        ))
    }

    /// Runs a query.
    ///
    /// # Errors
    /// When the server answers with errors.
    pub async fn query(&self, query: &str, variables: Value) -> Result<Value, CommandError> {
        let body = json!({ "query": query, "variables": variables });
        let request = self
            .http
            .post(format!("http://{}/graphql", self.api))
            .json(&body);
        answer(request.bearer_auth(&self.token).send().await?).await
    }

    /// Follows a batch to its end over a WebSocket.
    ///
    /// # Errors
    /// When the connection breaks or the server answers with an error.
    pub async fn follow(
        &self,
        batch: &str,
        mut seen: impl FnMut(ProgressEvent),
    ) -> Result<(), CommandError> {
        let mut request = format!("ws://{}/graphql", self.api).into_client_request()?;
        request.headers_mut().insert(
            "Sec-WebSocket-Protocol",
            HeaderValue::from_static("graphql-transport-ws"),
        );
        let (mut socket, _) = connect_async(request).await?;
        let init = json!({ "type": "connection_init", "payload": { "authorization": format!("Bearer {}", self.token) } });
        socket.send(Message::text(init.to_string())).await?;
        let query = "subscription ($id: ID!) { batchProgress(id: $id) {
            conversions { conversionId status stage progress } } }";
        let subscribe = json!({ "id": "1", "type": "subscribe", "payload": { "query": query, "variables": { "id": batch } } });
        while let Some(message) = socket.next().await {
            let text = match message? {
                Message::Text(text) => text,
                Message::Close(frame) => {
                    return Err(format!("the server closed the connection: {frame:?}").into());
                }
                _ => continue,
            };
            let message: Value = serde_json::from_str(&text)?;
            match message["type"].as_str() {
                Some("connection_ack") => socket.send(Message::text(subscribe.to_string())).await?,
                Some("next") => {
                    if let Some(errors) = message["payload"].get("errors") {
                        return Err(format!("the server reports {errors}").into());
                    }
                    let events = message["payload"]["data"]["batchProgress"]["conversions"].clone();
                    serde_json::from_value::<Vec<ProgressEvent>>(events)?
                        .into_iter()
                        .for_each(&mut seen);
                }
                Some("error") => {
                    return Err(format!("the server reports {}", message["payload"]).into());
                }
                Some("complete") => {
                    socket.close(None).await?;
                    return Ok(());
                }
                _ => {}
            }
        }
        Err("the connection ended before the batch did".into())
    }

    /// Fetches a file by its signed URL.
    ///
    /// # Errors
    /// When the server does not give it.
    pub async fn download(&self, url: &str) -> Result<Vec<u8>, CommandError> {
        Ok(self
            .http
            .get(url)
            .send()
            .await?
            .error_for_status()?
            .bytes()
            .await?
            .to_vec())
    }
}

async fn answer(response: reqwest::Response) -> Result<Value, CommandError> {
    let status = response.status();
    let mut body: Value = serde_json::from_slice(&response.bytes().await?)
        .map_err(|_| format!("the server answers {status}"))?;
    if let Some(errors) = body.get("errors") {
        return Err(format!("the server reports {errors}").into());
    }
    Ok(body["data"].take())
}
