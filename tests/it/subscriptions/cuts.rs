//! Sockets that a network cuts a thousand times, in the middle of whatever they carry.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt, future::join_all};
use orfeas::{
    conversion::{ConversionId, NodeId, Priority, Stage},
    db::{Database, entities::conversion},
};
use rand::RngExt;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest, http::HeaderValue};

use super::{FOLLOW, FOLLOW_BATCH, Step, is_terminal, step, table};
use crate::harness::{
    World,
    seed::{self, attempt},
};

const CUTS: usize = 1_000;
/// Conversions of a round; each is followed twice, as itself and as one of its batch.
const CONVERSIONS: i32 = 50;
/// Of what the server sends on one connection, at most so much goes through: the answer to the upgrade, and some ten
/// events.
const BYTES_MAX: u64 = 3_000;
const PATIENCE: Duration = Duration::from_secs(120);

/// A network in front of a node.
struct Cutter {
    address: SocketAddr,
    cuts: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Cutter {
    async fn new(api: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&cuts);
        let accepting = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(carry(client, api, Arc::clone(&counted)));
            }
        });
        Self {
            address,
            cuts,
            accepting,
        }
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Carries a connection until the server has sent so many bytes, then cuts it: with a goodbye of TCP, or as a router
/// does that has forgotten it.
async fn carry(mut client: TcpStream, api: SocketAddr, cuts: Arc<AtomicUsize>) {
    let mut server = TcpStream::connect(api).await.unwrap();
    let (is_rude, bytes) = {
        let mut random = rand::rng();
        (random.random_bool(0.5), random.random_range(0..BYTES_MAX))
    };
    let is_cut = {
        let (mut from_client, mut to_client) = client.split();
        let (from_server, mut to_server) = server.split();
        let mut some = from_server.take(bytes);
        tokio::select! {
            // It ended by itself.
            _ = copy(&mut from_client, &mut to_server) => false,
            carried = copy(&mut some, &mut to_client) => {
                to_client.flush().await.is_ok() && carried.is_ok_and(|carried| carried == bytes)
            }
        }
    };
    if is_cut {
        cuts.fetch_add(1, Ordering::SeqCst);
        if is_rude {
            client.set_zero_linger().unwrap();
            server.set_zero_linger().unwrap();
        }
    }
}

/// What somebody follows, over as many connections as it takes.
struct Follower {
    through: SocketAddr,
    token: String,
    query: &'static str,
    id: String,
}

impl Follower {
    /// Every event, in the order of arrival.
    async fn follow(self) -> Vec<Value> {
        let mut seen = Vec::new();
        let complete = async { while self.connection(&mut seen).await.is_none() {} };
        tokio::time::timeout(PATIENCE, complete)
            .await
            .expect("it comes to its end");
        seen
    }

    /// Follows on over one connection; `None` when that is lost before the subscription is complete.
    async fn connection(&self, seen: &mut Vec<Value>) -> Option<()> {
        let mut request = format!("ws://{}/graphql", self.through)
            .into_client_request()
            .unwrap();
        let protocol = HeaderValue::from_static("graphql-transport-ws");
        request
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", protocol);
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.ok()?;
        let after = seen
            .last()
            .map_or(0, |state| state["sequence"].as_i64().unwrap());
        let authorization = format!("Bearer {}", self.token);
        let variables = json!({ "id": self.id, "after": after });
        for message in [
            json!({ "type": "connection_init", "payload": { "authorization": authorization } }),
            json!({ "type": "subscribe", "id": "1", "payload": { "query": self.query, "variables": variables } }),
        ] {
            socket.send(Message::text(message.to_string())).await.ok()?;
        }
        loop {
            let Message::Text(text) = socket.next().await?.ok()? else {
                continue;
            };
            let mut message: Value = serde_json::from_str(&text).unwrap();
            match message["type"].as_str().unwrap() {
                "connection_ack" => {}
                "next" => {
                    let Some(data) = message["payload"]["data"].as_object_mut() else {
                        panic!("{message}");
                    };
                    seen.extend(data.values_mut().map(Value::take));
                }
                "complete" => return Some(()),
                _ => panic!("{message}"),
            }
        }
    }
}

/// Does what workers do to a batch, with attempts that fail or are handed back, until all of it has ended.
async fn work(database: &Database, node: NodeId) {
    let mut left = CONVERSIONS;
    while left > 0 {
        let claimed = database.claim(node, &seed::models(), 100).await.unwrap();
        let ends = claimed.iter().map(|row| attempt_at(database, row));
        let ended = join_all(ends).await.into_iter().filter(|ended| *ended);
        left -= i32::try_from(ended.count()).unwrap();
    }
}

/// One attempt; whether it was the last.
async fn attempt_at(database: &Database, row: &conversion::Model) -> bool {
    let pause = || Duration::from_millis(rand::rng().random_range(0..60));
    for stage in [
        Stage::Encode,
        Stage::Reconstruct,
        Stage::Mesh,
        Stage::Texture,
        Stage::Export,
    ] {
        tokio::time::sleep(pause()).await;
        database.enter_stage(attempt(row), stage).await.unwrap();
        if row.attempt < 3 && rand::rng().random_bool(0.1) {
            database.hand_back(attempt(row)).await.unwrap();
            return false;
        }
    }
    tokio::time::sleep(pause()).await;
    let files = vec![seed::mesh(row)];
    let success = seed::success(attempt(row), files);
    database.succeed(&success).await.unwrap();
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_cuts_lose_nothing_and_repeat_nothing() {
    let world = World::new().await;
    let node = world.api_node().await;
    let cutter = Cutter::new(node.app.api.unwrap()).await;
    let database = world.database().await;
    let token = node.client("alice").token.unwrap();
    let followed = |query, id: String| {
        let follower = Follower {
            through: cutter.address,
            token: token.clone(),
            query,
            id,
        };
        tokio::spawn(follower.follow())
    };
    while cutter.cuts.load(Ordering::SeqCst) < CUTS {
        let submission = seed::submission("alice", Priority::User, true, CONVERSIONS);
        let rows = seed::submit(&database, submission).await;
        let ids: Vec<ConversionId> = rows.conversions.iter().map(|row| row.id).collect();
        let batch = rows.batch.unwrap().id;
        let singles: Vec<_> = ids
            .iter()
            .map(|id| followed(FOLLOW, id.to_string()))
            .collect();
        let wholes: Vec<_> = (0..5)
            .map(|_| followed(FOLLOW_BATCH, batch.to_string()))
            .collect();
        work(&database, NodeId::new()).await;

        for (id, follower) in ids.iter().zip(singles) {
            let seen = follower.await.unwrap();
            let steps: Vec<Step> = seen.iter().map(step).collect();
            assert_eq!(steps, table(&world, &id.to_string()).await);
            assert_eq!(seen.iter().filter(|state| is_terminal(state)).count(), 1);
        }
        let count = format!(
            "SELECT sequence::bigint FROM batch WHERE id = '{}'",
            batch.0
        );
        let stored = seed::scalar(&database, &count).await;
        for follower in wholes {
            let seen = follower.await.unwrap();
            let sequences = seen.iter().map(|event| event["sequence"].as_i64().unwrap());
            assert!(sequences.eq(1..=seen.len() as i64), "{seen:#?}");
            let ended = |event: &&Value| is_terminal(&event["conversions"][0]);
            assert_eq!(seen.iter().filter(ended).count(), ids.len());
            assert_eq!(seen.len() as i64, stored);
        }
    }
    node.app.stop().await;
}
