//! An agent of orfeas: submits pictures as one batch, follows it to its end and downloads the meshes.
//!
//! ```text
//! cargo run --example agent -- --out DIR PICTURE...
//! ```
//!
//! `ORFEAS_URL` is where the server is (`http://127.0.0.1:8080`), `ORFEAS_KEY_FILE` a file with what
//! `orfeas keys create --name NAME --json` has printed. Each request is signed by RFC 9421 with the key's secret.
//!
//! It uses nothing of the server's own code, so it can be copied with the folder `agent-rs` and
//! `schema.graphql`. For an `https://` server, switch on TLS in tokio-tungstenite, too (`rustls-tls-native-roots`).
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "it is a program of its own: it reads its environment and talks to whoever started it"
)]

use std::{
    collections::HashMap,
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use graphql_client::{GraphQLQuery, Response};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{
    StatusCode,
    header::{self, HeaderMap, HeaderValue},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{self, Message, client::IntoClientRequest},
};
use url::Url;
use uuid::Uuid;

/// How often a refused or broken request is tried again before the program gives up.
const ATTEMPTS_MAX: u32 = 8;
/// What a server that is silent for so long is taken for. It pings every 20 s.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Bytes of a file, for multipart requests; this program sends base64.
type Upload = ();

#[derive(GraphQLQuery)]
#[graphql(
    schema_path = "schema.graphql",
    query_path = "examples/agent-rs/submit.graphql",
    response_derives = "Debug"
)]
struct Submit;

#[derive(GraphQLQuery)]
#[graphql(
    schema_path = "schema.graphql",
    query_path = "examples/agent-rs/follow.graphql"
)]
struct Follow;

#[derive(GraphQLQuery)]
#[graphql(
    schema_path = "schema.graphql",
    query_path = "examples/agent-rs/outputs.graphql",
    response_derives = "Debug, PartialEq"
)]
struct Outputs;

#[derive(Debug, thiserror::Error)]
enum AgentError {
    /// The server's verdict, for good.
    #[error("{code}: {message}")]
    Refused {
        code: String,
        message: String,
        retry_after: Option<u64>,
    },
    #[error("the answer is of no use: {0}")]
    Answer(&'static str),
    #[error("set {0}")]
    Setting(&'static str),
    #[error("{path} can't be read or written")]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    #[error(transparent)]
    Socket(#[from] Box<tungstenite::Error>),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

type Outcome<T> = Result<T, AgentError>;

/// What `orfeas keys create --json` prints, as far as it is needed here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Key {
    key_id: String,
    secret: String,
}

/// Submits pictures as one batch, follows it to its end and downloads the meshes.
#[derive(Parser)]
struct Arguments {
    /// The folder that the meshes go to.
    #[arg(long, default_value = ".")]
    out: PathBuf,
    #[arg(required = true)]
    pictures: Vec<PathBuf>,
}

/// A client that signs with one key.
struct Agent {
    url: Url,
    key: Key,
    http: reqwest::Client,
}

impl Agent {
    /// The headers that sign a request to the API. Each signature has a nonce of its own and works once.
    fn sign(&self, method: &str, body: Option<&[u8]>) -> HeaderMap {
        let mut covered = vec![
            ("@method", method.to_owned()),
            ("@path", self.url.path().to_owned()),
        ];
        if let Some(query) = self.url.query() {
            covered.push(("@query", format!("?{query}")));
        }
        let mut headers = HeaderMap::new();
        if let Some(body) = body {
            let digest = format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(body)));
            headers.insert("content-digest", value(&digest));
            covered.push(("content-digest", digest));
        }
        let names: Vec<_> = covered
            .iter()
            .map(|(name, _)| format!("\"{name}\""))
            .collect();
        let created = OffsetDateTime::now_utc().unix_timestamp();
        let parameters = format!(
            "({});created={created};nonce=\"{}\";keyid=\"{}\"",
            names.join(" "),
            Uuid::new_v4().simple(),
            self.key.key_id
        );
        covered.push(("@signature-params", parameters.clone()));
        let lines: Vec<_> = covered
            .iter()
            .map(|(name, value)| format!("\"{name}\": {value}"))
            .collect();
        // The secret's text is the HMAC key as it stands; nothing is decoded.
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.secret.as_bytes())
            .expect("HMAC takes keys of any length");
        mac.update(lines.join("\n").as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        headers.insert("signature-input", value(&format!("sig={parameters}")));
        headers.insert("signature", value(&format!("sig=:{signature}:")));
        headers
    }

    /// Sends a query or a mutation and returns its data.
    async fn run<Q: GraphQLQuery>(&self, variables: Q::Variables) -> Outcome<Q::ResponseData> {
        let body = serde_json::to_vec(&Q::build_query(variables))?;
        let mut attempt = 1;
        loop {
            let request = self
                .http
                .post(self.url.clone())
                .header(header::CONTENT_TYPE, "application/json")
                .headers(self.sign("POST", Some(&body)))
                .body(body.clone());
            let response = request.send().await?;
            if response.status() == StatusCode::TOO_MANY_REQUESTS && attempt < ATTEMPTS_MAX {
                attempt += 1;
                wait(retry_after(response.headers())).await;
                continue;
            }
            return data(serde_json::from_slice(&response.bytes().await?)?);
        }
    }

    /// Follows a batch until it has ended; reconnects where it was.
    async fn follow(&self, batch: &str) -> Outcome<()> {
        let (mut after, mut broken) = (None, 0);
        loop {
            let before = after;
            let error = match self.listen(batch, &mut after).await {
                Err(AgentError::Socket(error)) => error,
                ended => return ended,
            };
            broken = if after == before { broken + 1 } else { 1 };
            match *error {
                error if broken >= ATTEMPTS_MAX => return Err(Box::new(error).into()),
                tungstenite::Error::Http(response)
                    if response.status() == StatusCode::TOO_MANY_REQUESTS =>
                {
                    wait(retry_after(response.headers())).await;
                }
                tungstenite::Error::Http(response) => {
                    let body = response.body().clone().unwrap_or_default();
                    return data::<Value>(serde_json::from_slice(&body)?).map(drop);
                }
                _ => tokio::time::sleep(Duration::from_secs(1 << broken.min(5))).await,
            }
        }
    }

    /// Opens a WebSocket by a signed upgrade request.
    async fn connect(&self) -> Outcome<Socket> {
        let url = format!("ws{}", &self.url.as_str()["http".len()..]);
        let mut request = url.into_client_request().map_err(Box::new)?;
        request.headers_mut().extend(self.sign("GET", None));
        request.headers_mut().insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static("graphql-transport-ws"),
        );
        let (socket, _) = tokio_tungstenite::connect_async(request)
            .await
            .map_err(Box::new)?;
        Ok(socket)
    }

    /// Shows what the subscription says, until it completes.
    async fn listen(&self, batch: &str, after: &mut Option<i64>) -> Outcome<()> {
        let mut socket = self.connect().await?;
        // The upgrade has said who we are, so there is no payload.
        let mut say = Some(json!({ "type": "connection_init" }));
        let variables = follow::Variables {
            id: batch.to_owned(),
            after: *after,
        };
        let payload = Follow::build_query(variables);
        let subscribe = json!({ "type": "subscribe", "id": "1", "payload": payload });
        let mut attempt = 1;
        loop {
            if let Some(message) = say.take() {
                let text = Message::text(message.to_string());
                socket.send(text).await.map_err(Box::new)?;
            }
            let closed = || Box::new(tungstenite::Error::ConnectionClosed);
            let received = tokio::time::timeout(SILENCE_MAX, socket.next()).await;
            let text = match received.map_err(|_| closed())?.ok_or_else(closed)? {
                Ok(Message::Text(text)) => text,
                Ok(Message::Close(_)) => return Err(closed().into()),
                Ok(_) => continue,
                Err(error) => return Err(Box::new(error).into()),
            };
            let mut message: Value = serde_json::from_str(&text)?;
            match message["type"].as_str() {
                Some("connection_ack") => say = Some(subscribe.clone()),
                Some("ping") => say = Some(json!({ "type": "pong" })),
                Some("next") => {
                    let event = serde_json::from_value(message["payload"].take())?;
                    let progress = data::<follow::ResponseData>(event)?.batch_progress;
                    *after = Some(progress.sequence);
                    eprintln!("{batch}: {:.0}%", progress.progress * 100.0);
                }
                Some("error") => {
                    let refused = json!({ "errors": message["payload"].take() });
                    match data::<Value>(serde_json::from_value(refused)?) {
                        // Each operation is charged by itself, so this may be too early although the upgrade was not.
                        Err(AgentError::Refused {
                            code, retry_after, ..
                        }) if code == "RATE_LIMITED" && attempt < ATTEMPTS_MAX => {
                            attempt += 1;
                            wait(retry_after).await;
                            say = Some(subscribe.clone());
                        }
                        ended => return ended.map(drop),
                    }
                }
                Some("complete") => return Ok(()),
                _ => {}
            }
        }
    }

    /// Fetches a file by its URL, which needs no signature, and checks that it is whole.
    async fn download(&self, url: &str, sha256: &str, path: &Path) -> Outcome<()> {
        let response = self.http.get(url).send().await?.error_for_status()?;
        let bytes = response.bytes().await?;
        let digest: String = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        if digest != sha256 {
            return Err(AgentError::Answer("a download came damaged"));
        }
        std::fs::write(path, bytes).map_err(at(path))
    }

    /// Converts the pictures; returns how many have no mesh.
    async fn convert(&self, pictures: &[PathBuf], out: &Path) -> Outcome<usize> {
        let input = submission(pictures)?;
        let submitted = self
            .run::<Submit>(submit::Variables { input })
            .await?
            .submit_batch;
        let mut places = HashMap::new();
        let mut failures = 0;
        for item in submitted.items {
            let index = usize::try_from(item.index).ok();
            let Some(picture) = index.and_then(|index| pictures.get(index)) else {
                continue;
            };
            if let Some(conversion) = item.conversion {
                places.insert(conversion.id, picture);
            } else if let Some(error) = item.error {
                failures += 1;
                let (code, message) = (error.code, error.message);
                eprintln!("{}: {code:?}: {message}", picture.display());
            }
        }
        let Some(batch) = submitted.batch else {
            return Ok(failures);
        };
        self.follow(&batch.id).await?;

        std::fs::create_dir_all(out).map_err(at(out))?;
        let result = self
            .run::<Outputs>(outputs::Variables { id: batch.id })
            .await?;
        for conversion in result
            .batch
            .map_or_else(Vec::new, |batch| batch.conversions)
        {
            let Some(picture) = places.get(&conversion.id) else {
                continue;
            };
            let mut outputs = conversion.outputs.iter();
            let glb = outputs.find(|output| output.format == Some(outputs::MeshFormat::GLB));
            if let Some(output) = glb {
                let name = picture.file_stem().unwrap_or_default();
                let path = out.join(name).with_extension("glb");
                self.download(&output.url, &output.sha256, &path).await?;
                println!("{} -> {}", picture.display(), path.display());
            } else {
                failures += 1;
                let error = conversion
                    .error
                    .map(|error| format!("{}: {}", error.code, error.message))
                    .unwrap_or_else(|| format!("{:?}", conversion.status));
                eprintln!("{}: {error}", picture.display());
            }
        }
        Ok(failures)
    }
}

/// What is submitted. With its key, a submission that is sent twice is one batch.
fn submission(pictures: &[PathBuf]) -> Outcome<submit::SubmitBatchInput> {
    let read = |path: &PathBuf| {
        let bytes = std::fs::read(path).map_err(at(path))?;
        Ok(submit::ImageInput::Base64(STANDARD.encode(bytes)))
    };
    Ok(submit::SubmitBatchInput {
        images: pictures.iter().map(read).collect::<Outcome<_>>()?,
        options: None,
        idempotency_key: Some(Uuid::new_v4().to_string()),
        webhook: None,
    })
}

/// The data of an answer, or its first error.
fn data<T: DeserializeOwned>(answer: Response<T>) -> Outcome<T> {
    if let Some(error) = answer.errors.into_iter().flatten().next() {
        let extensions = error.extensions.unwrap_or_default();
        let code = extensions.get("code").and_then(Value::as_str);
        return Err(AgentError::Refused {
            code: code.unwrap_or("INTERNAL").to_owned(),
            message: error.message,
            retry_after: extensions.get("retryAfterSeconds").and_then(Value::as_u64),
        });
    }
    answer
        .data
        .ok_or(AgentError::Answer("it holds neither data nor errors"))
}

/// What a refusal says in its header, in seconds.
fn retry_after(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    text.parse().ok()
}

/// Waits for as long as a refusal says. The next request is signed anew: a signature works once.
async fn wait(retry_after: Option<u64>) {
    let seconds = retry_after.unwrap_or(1).max(1);
    eprintln!("RATE_LIMITED: trying again in {seconds} s");
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("base64, digits and an id are visible ASCII")
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> AgentError {
    move |source| AgentError::File {
        path: path.to_owned(),
        source,
    }
}

fn setting(name: &'static str) -> Outcome<String> {
    std::env::var(name).map_err(|_| AgentError::Setting(name))
}

async fn convert(arguments: Arguments) -> Outcome<usize> {
    let key_file = PathBuf::from(setting("ORFEAS_KEY_FILE")?);
    let key = std::fs::read(&key_file).map_err(at(&key_file))?;
    let url = format!("{}/graphql", setting("ORFEAS_URL")?.trim_end_matches('/'));
    let agent = Agent {
        url: url.parse().map_err(|_| AgentError::Setting("ORFEAS_URL"))?,
        key: serde_json::from_slice(&key)?,
        http: reqwest::Client::builder()
            .read_timeout(SILENCE_MAX)
            .build()?,
    };
    agent.convert(&arguments.pictures, &arguments.out).await
}

#[tokio::main]
async fn main() -> ExitCode {
    match convert(Arguments::parse()).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprint!("{error}");
            let causes = std::iter::successors(error.source(), |&cause| cause.source());
            causes.for_each(|cause| eprint!(": {cause}"));
            eprintln!();
            ExitCode::FAILURE
        }
    }
}
