//! A program that signs its requests.

use std::net::SocketAddr;

use axum::http::{HeaderMap, Method};
use orfeas::auth::{
    api_key::{AgentSecret, KeyId},
    signature::signer::{Nonce, Unsigned, sign},
};
use serde_json::{Value, json};
use time::OffsetDateTime;
use url::Url;

use super::{
    client::{Client, check_errors},
    socket::Socket,
};

#[derive(Debug, Clone)]
pub struct Agent {
    pub http: reqwest::Client,
    pub api: SocketAddr,
    pub key: KeyId,
    pub secret: AgentSecret,
}

/// A request as it will be sent.
#[derive(Debug, Clone)]
pub struct Signed {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Option<Vec<u8>>,
}

impl Agent {
    /// An agent with a new key that an admin makes with these wishes, beside its name.
    pub async fn new(admin: &Client, wishes: Value) -> Self {
        let mut input = json!({ "name": "agent" });
        input
            .as_object_mut()
            .unwrap()
            .extend(wishes.as_object().unwrap().clone());
        let data = admin.run(CREATE, json!({ "input": input })).await;
        let made = &data["createApiKey"];
        Self {
            http: Client::new(admin.api, None).http,
            api: admin.api,
            key: made["apiKey"]["id"].as_str().unwrap().parse().unwrap(),
            secret: made["secret"].as_str().unwrap().parse().unwrap(),
        }
    }

    /// The same agent at another node.
    pub fn at(&self, api: SocketAddr) -> Self {
        Self {
            api,
            ..self.clone()
        }
    }

    pub fn url(&self) -> Url {
        format!("http://{}/graphql", self.api).parse().unwrap()
    }

    /// A request signed as of `created`, with a nonce of its own.
    pub fn sign_at(
        &self,
        created: OffsetDateTime,
        method: Method,
        url: Url,
        body: Option<Vec<u8>>,
    ) -> Signed {
        let unsigned = Unsigned {
            method: &method,
            url: &url,
            body: body.as_deref(),
            created,
            nonce: Nonce::new(),
        };
        let mut headers = sign(unsigned, &self.key, &self.secret);
        if body.is_some() {
            headers.insert("content-type", "application/json".parse().unwrap());
        }
        Signed {
            method,
            url,
            headers,
            body,
        }
    }

    pub fn sign(&self, method: Method, url: Url, body: Option<Vec<u8>>) -> Signed {
        self.sign_at(OffsetDateTime::now_utc(), method, url, body)
    }

    /// A signed POST of an operation.
    pub fn post(&self, query: &str, variables: Value) -> Signed {
        let body = json!({ "query": query, "variables": variables }).to_string();
        self.sign(Method::POST, self.url(), Some(body.into()))
    }

    pub async fn send(&self, signed: Signed) -> reqwest::Response {
        let Signed {
            method,
            url,
            headers,
            body,
        } = signed;
        let mut request = self.http.request(method, url).headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        request.send().await.unwrap()
    }

    /// The status and the whole answer.
    pub async fn ask(&self, query: &str, variables: Value) -> (u16, Value) {
        let response = self.send(self.post(query, variables)).await;
        let status = response.status().as_u16();
        let answer: Value = response.json().await.unwrap();
        check_errors(&answer);
        (status, answer)
    }

    /// The data of an answer without errors.
    pub async fn run(&self, query: &str, variables: Value) -> Value {
        let (status, mut answer) = self.ask(query, variables).await;
        assert!(
            status == 200 && answer.get("errors").is_none(),
            "{status} {answer:#}"
        );
        answer["data"].take()
    }

    /// The status, and the code of the first error.
    pub async fn refusal(&self, query: &str, variables: Value) -> (u16, String) {
        let (status, answer) = self.ask(query, variables).await;
        let code = answer["errors"][0]["extensions"]["code"].as_str();
        let code = code.unwrap_or_else(|| panic!("no error with a code: {answer:#}"));
        (status, code.to_owned())
    }

    /// A connection whose upgrade is signed.
    pub async fn socket(&self) -> Socket {
        let signed = self.sign(Method::GET, self.url(), None);
        Socket::signed(self.api, signed.headers).await
    }
}

pub const CREATE: &str = "mutation ($input: CreateApiKeyInput!) { createApiKey(input: $input) { apiKey { id } secret } }";
