//! Somebody's endpoint for webhooks: it answers as told, keeps what came, and checks signatures by its own means.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use orfeas::conversion::webhook::{Event, Hook};
use serde_json::{Value, json};
use sha2::Sha256;
use time::OffsetDateTime;

use crate::harness::seed::until;

/// For what takes a moment, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a request is answered.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    Status(u16),
    /// With `Retry-After` in seconds.
    Later(u16, u32),
    /// 302 to a path of the same receiver.
    Elsewhere(&'static str),
    /// Never.
    Hangs,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Told {
    pub path: String,
    pub headers: HeaderMap,
    raw: Vec<u8>,
    pub body: Value,
}

impl Told {
    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// The message's id.
    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    pub fn event(&self) -> &str {
        self.body["type"].as_str().unwrap()
    }

    /// The conversion or batch that it is about.
    pub fn about(&self) -> &str {
        self.body["data"]["id"].as_str().unwrap()
    }

    /// Which of its signatures are by this secret; checked as Standard Webhooks says, with nothing of the server's own.
    pub fn signed_by(&self, secret: &str) -> Vec<bool> {
        let sent_at: i64 = self.header("webhook-timestamp").parse().unwrap();
        let age = OffsetDateTime::now_utc().unix_timestamp() - sent_at;
        assert!((-5..300).contains(&age), "sent {age} s ago");
        let key = STANDARD
            .decode(secret.strip_prefix("whsec_").unwrap())
            .unwrap();
        assert_eq!(key.len(), 32);
        let text = [format!("{}.{sent_at}.", self.id()).as_bytes(), &self.raw].concat();
        let signatures = self.header("webhook-signature").split(' ');
        signatures
            .map(|signature| {
                let digits = signature.strip_prefix("v1,").unwrap();
                let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
                mac.update(&text);
                mac.verify_slice(&STANDARD.decode(digits).unwrap()).is_ok()
            })
            .collect()
    }
}

type Answers = Arc<dyn Fn(&Told, usize) -> Answer + Send + Sync>;

pub struct Receiver {
    pub address: SocketAddr,
    told: Arc<Mutex<Vec<Told>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Receiver {
    /// Answers by the request and by how many to the same path came before it.
    pub async fn start(answers: impl Fn(&Told, usize) -> Answer + Send + Sync + 'static) -> Self {
        let told: Arc<Mutex<Vec<Told>>> = Arc::default();
        let answers: Answers = Arc::new(answers);
        let kept = told.clone();
        let routes = Router::new().fallback(move |request: Request| {
            let (kept, answers) = (kept.clone(), answers.clone());
            async move { answer(request, &kept, &answers).await }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self {
            address,
            told,
            serving,
        }
    }

    /// One that is content with everything.
    pub async fn content() -> Self {
        Self::start(|_, _| Answer::Status(204)).await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A hook as submissions of the API would make it.
    pub fn hook(&self, path: &str, events: &[Event]) -> Hook {
        Hook {
            url: self.url(path),
            host: self.address.to_string(),
            events: events.to_vec(),
        }
    }

    /// As clients write it.
    pub fn input(&self, path: &str) -> Value {
        json!({ "url": self.url(path) })
    }

    pub fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    /// Waits until so many requests have come.
    pub async fn until_told(&self, count: usize) -> Vec<Told> {
        until(&format!("{count} requests"), PATIENCE, async || {
            self.told.lock().unwrap().len() >= count
        })
        .await;
        let told = self.told();
        assert_eq!(
            told.len(),
            count,
            "{:#?}",
            told.iter().map(|told| &told.body).collect::<Vec<_>>()
        );
        told
    }
}

async fn answer(request: Request, kept: &Mutex<Vec<Told>>, answers: &Answers) -> Response {
    let (head, body) = request.into_parts();
    assert_eq!(head.method, "POST");
    let raw = axum::body::to_bytes(body, 1 << 20).await.unwrap().to_vec();
    let told = Told {
        path: head.uri.path().to_owned(),
        headers: head.headers,
        body: serde_json::from_slice(&raw).unwrap(),
        raw,
    };
    let before = {
        let mut kept = kept.lock().unwrap();
        let before = kept
            .iter()
            .filter(|earlier| earlier.path == told.path)
            .count();
        kept.push(told.clone());
        before
    };
    let status = |code: u16| StatusCode::from_u16(code).unwrap();
    match answers(&told, before) {
        Answer::Status(code) => status(code).into_response(),
        Answer::Later(code, seconds) => {
            (status(code), [(header::RETRY_AFTER, seconds.to_string())]).into_response()
        }
        Answer::Elsewhere(path) => {
            (status(302), [(header::LOCATION, path.to_owned())]).into_response()
        }
        Answer::Hangs => std::future::pending().await,
    }
}
