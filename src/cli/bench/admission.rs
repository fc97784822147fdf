//! `orfeas bench --agents N`: what it costs to let a signed request in, held against the same request with a token, which
//! needs no statement in Postgres. Three nodes, each client at one of them.

use std::{
    net::SocketAddr,
    process::ExitCode,
    time::{Duration, Instant},
};

use axum::http::Method;
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use time::OffsetDateTime;
use url::Url;

use super::super::{CommandError, client::Client, output, program};
use crate::{
    app::{App, AppOptions},
    auth::{
        api_key::{AgentSecret, KeyId},
        signature::signer::{Nonce, Unsigned, sign},
    },
    config::{Role, Settings},
};

const NODES: usize = 3;
/// Requests of each kind by one client alone.
const ALONE: usize = 500;
/// For how long all clients ask at once.
const LOAD: Duration = Duration::from_secs(5);
/// The smallest request there is: what stands before it weighs most.
const BODY: &str = r#"{"query":"{ viewer { name } }"}"#;

/// How a client shows who it is.
#[derive(Debug, Clone)]
enum Caller {
    Token(String),
    Key(KeyId, AgentSecret),
}

/// Runs the comparison and prints it.
///
/// # Errors
/// When the nodes can't start, or a request fails.
pub(super) async fn run(settings: &Settings, agents: usize) -> Result<ExitCode, CommandError> {
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(start(settings).await?);
    }
    let measured = measure(&nodes, agents).await;
    // The first one keeps Postgres.
    while let Some(node) = nodes.pop() {
        node.stop().await;
    }
    output::line("| clients | signed by | p50 ms | p99 ms | per s |");
    output::line("|---|---|---|---|---|");
    for line in measured? {
        output::line(&line);
    }
    Ok(ExitCode::SUCCESS)
}

async fn start(settings: &Settings) -> Result<App, CommandError> {
    let settings = Settings {
        orfeas_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        orfeas_public_url: None,
        orfeas_role: Role::Api,
        ..settings.clone()
    };
    let options = AppOptions {
        settings,
        program: program()?,
        engine: None,
        egress: None,
        metrics: None,
    };
    Ok(App::start(options).await?)
}

async fn measure(nodes: &[App], agents: usize) -> Result<Vec<String>, CommandError> {
    let apis: Vec<SocketAddr> = nodes.iter().filter_map(|node| node.api).collect();
    let token = nodes[0]
        .tokens
        .issue("bench", &["admin".into()], Duration::from_secs(3600));
    let admin = Client::new(apis[0], token.clone())?;
    // Each agent has a key of its own: one key's requests take turns at its quota.
    let keys = try_join_all((0..agents.max(1)).map(|_| make_key(&admin))).await?;
    let tokens = vec![Caller::Token(token); agents.max(1)];
    let mut lines = Vec::new();
    let mut alone = [Vec::new(), Vec::new()];
    let http = reqwest::Client::new();
    // In turns, so that whatever else the machine does falls on both.
    for _ in 0..ALONE {
        for (times, caller) in alone.iter_mut().zip([&tokens[0], &keys[0]]) {
            times.push(ask(&http, apis[0], caller).await?);
        }
    }
    for (times, name) in alone.iter_mut().zip(["token", "key"]) {
        lines.push(row(1, name, times));
    }
    for (callers, name) in [(&tokens, "token"), (&keys, "key")] {
        let started = Instant::now();
        let clients = callers.iter().enumerate().map(|(client, caller)| {
            let api = apis[client % apis.len()];
            async move {
                let http = reqwest::Client::new();
                let mut times = Vec::new();
                while started.elapsed() < LOAD {
                    times.push(ask(&http, api, caller).await?);
                }
                Ok::<_, CommandError>(times)
            }
        });
        let mut times: Vec<f64> = try_join_all(clients).await?.concat();
        lines.push(row(agents, name, &mut times));
    }
    Ok(lines)
}

/// A key whose quota is no hindrance.
async fn make_key(admin: &Client) -> Result<Caller, CommandError> {
    let query = "mutation { createApiKey(input: { name: \"bench\", requestsPerMinute: 1000000 }) { apiKey { id } secret } }";
    let data = admin.query(query, json!({})).await?;
    let made = &data["createApiKey"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(Caller::Key(
        text(&made["apiKey"]["id"]).parse()?,
        text(&made["secret"]).parse()?,
    ))
}

/// One request; the seconds that it took.
async fn ask(
    http: &reqwest::Client,
    api: SocketAddr,
    caller: &Caller,
) -> Result<f64, CommandError> {
    let url: Url = format!("http://{api}/graphql").parse()?;
    let started = Instant::now();
    let request = http
        .post(url.clone())
        .header("content-type", "application/json");
    let request = match caller {
        Caller::Token(token) => request.bearer_auth(token),
        Caller::Key(id, secret) => {
            let unsigned = Unsigned {
                method: &Method::POST,
                url: &url,
                body: Some(BODY.as_bytes()),
                created: OffsetDateTime::now_utc(),
                nonce: Nonce::new(),
            };
            request.headers(sign(unsigned, id, secret))
        }
    };
    let response = request.body(BODY).send().await?.error_for_status()?;
    response.bytes().await?;
    Ok(started.elapsed().as_secs_f64())
}

fn row(clients: usize, name: &str, times: &mut [f64]) -> String {
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)] * 1e3;
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    format!(
        "| {clients} | {name} | {:.2} | {:.2} | {:.0} |",
        at(50),
        at(99),
        clients as f64 / mean
    )
}
