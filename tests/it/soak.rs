//! A node that has worked for a while holds no more of the machine than before. `benches/load/soak.py` asks the same of ten
//! thousand conversions, and of the tables.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::future::join_all;
use orfeas::{auth::jwt::Tokens, config::Settings};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::harness::{World, agent::Agent, client::Client, pictures, process::NodeProcess};

/// Agents at once.
const AGENTS: usize = 8;
/// Conversions of each agent in a round.
const CONVERSIONS: usize = 12;
/// Rounds that are compared; the one before them fills pools, caches and heaps.
const ROUNDS: usize = 3;
/// Connections of a node: the pool of 16, LISTEN, its ping, the sender of notices.
const CONNECTIONS_MAX: i64 = 19;
/// So much of the heap may come after the first round: its arenas go on filling for some thousand conversions. A hundred
/// kilobytes lost with each conversion are more.
const GROWTH_MAX: u64 = 24 << 20;
/// How long what has ended may take to be let go: a closed connection, a decoder that was replaced.
const SETTLED_BY: Duration = Duration::from_secs(10);

const SUBMIT: &str = "mutation ($input: SubmitConversionInput!) { submitConversion(input: $input) { conversion { id source { id } } } }";
const LOOK: &str = "query ($id: ID!) { conversion(id: $id) { status } }";

/// What a node holds at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    /// Files, pipes and sockets, but for those to Postgres.
    files: i64,
    /// Processes that it has started.
    children: usize,
    /// Its connections, as Postgres counts them.
    connections: i64,
    resident_bytes: u64,
}

impl Held {
    async fn of(node: &NodeProcess, postgres: &mut PgConnection) -> Self {
        let proc = PathBuf::from(format!("/proc/{}", node.id()));
        let status = fs::read_to_string(proc.join("status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.unwrap().trim().strip_suffix(" kB").unwrap();
        let connections = connections(postgres).await;
        let files = fs::read_dir(proc.join("fd")).unwrap().count();
        Self {
            files: i64::try_from(files).unwrap() - connections,
            children: children(&proc),
            connections,
            resident_bytes: kib.parse::<u64>().unwrap() << 10,
        }
    }

    /// Whether no more is held than before, but for the memory that may come.
    fn is_no_more_than(self, before: Self) -> bool {
        self.files <= before.files
            && self.children <= before.children
            && self.connections <= CONNECTIONS_MAX
            && self.resident_bytes <= before.resident_bytes + GROWTH_MAX
    }
}

fn children(proc: &Path) -> usize {
    let threads = fs::read_dir(proc.join("task")).unwrap();
    // A thread that ends meanwhile has no children any more.
    let of = |thread: PathBuf| fs::read_to_string(thread.join("children")).unwrap_or_default();
    let children = threads.map(|thread| of(thread.unwrap().path()));
    children.map(|list| list.split_whitespace().count()).sum()
}

/// But for the one that asks.
async fn connections(postgres: &mut PgConnection) -> i64 {
    let query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let count = sqlx::query_scalar(query).fetch_one(postgres);
    count.await.unwrap()
}

/// What is held as soon as it is no more than `before`, or when that would have had to be.
async fn settled(node: &NodeProcess, postgres: &mut PgConnection, before: Held) -> Held {
    let began = Instant::now();
    loop {
        let held = Held::of(node, postgres).await;
        if held.is_no_more_than(before) || began.elapsed() > SETTLED_BY {
            return held;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Each agent converts the same picture over and over; then all of them hang up.
async fn round(agents: &[Agent], asset: &[String]) {
    let convert = |agent: Agent, asset: String| async move {
        for _ in 0..CONVERSIONS {
            let input = json!({ "image": { "assetId": asset } });
            let data = agent.run(SUBMIT, json!({ "input": input })).await;
            end(&agent, &data["submitConversion"]["conversion"]["id"]).await;
        }
    };
    let here = agents.iter().map(calling_anew);
    let converting = here
        .zip(asset)
        .map(|(agent, asset)| convert(agent, asset.clone()));
    join_all(converting).await;
}

/// The same agent with connections of its own, which end with it.
fn calling_anew(agent: &Agent) -> Agent {
    Agent {
        http: Client::new(agent.api, None).http,
        ..agent.clone()
    }
}

async fn end(agent: &Agent, id: &Value) {
    let began = Instant::now();
    loop {
        let data = agent.run(LOOK, json!({ "id": id })).await;
        match data["conversion"]["status"].as_str().unwrap() {
            "SUCCEEDED" => return,
            "QUEUED" | "RUNNING" => assert!(began.elapsed() < Duration::from_secs(60)),
            other => panic!("{other}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A world whose only model is the tests' quickest.
fn start(world: &World) -> NodeProcess {
    let models = world.assets.with_extension("models");
    fs::create_dir_all(&models).unwrap();
    let sound = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/sound");
    std::os::unix::fs::symlink(sound, models.join("sound")).unwrap();
    let settings = Settings {
        orfeas_models_dir: Some(models),
        ..world.settings()
    };
    NodeProcess::with_variables(settings, &[("ORFEAS_DEFAULT_MODEL", "sound")])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_has_worked_holds_no_more_than_before() {
    let world = World::new().await;
    let node = start(&world);
    // One by itself: a pool opens another where the one it has is being looked after.
    let mut postgres = PgConnection::connect(&world.database_url).await.unwrap();
    let admin = Client::new(node.api, Some(admin_token(&world)));
    let quota = json!({ "requestsPerMinute": 1_000_000 });
    let agents = join_all((0..AGENTS).map(|_| Agent::new(&admin, quota.clone()))).await;
    let picture = json!({ "image": { "base64": STANDARD.encode(pictures::CHAIR) } });
    let upload = |agent: Agent, input: Value| async move {
        let mut data = agent.run(SUBMIT, json!({ "input": input })).await;
        let conversion = data["submitConversion"]["conversion"].take();
        end(&agent, &conversion["id"]).await;
        conversion["source"]["id"].as_str().unwrap().to_owned()
    };
    let assets = join_all(
        agents
            .iter()
            .map(|agent| upload(calling_anew(agent), picture.clone())),
    )
    .await;
    round(&agents, &assets).await;
    drop(admin);

    // What the first round has left open is let go by then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = Held::of(&node, &mut postgres).await;
    for _ in 0..ROUNDS {
        round(&agents, &assets).await;
        let after = settled(&node, &mut postgres, before).await;
        assert!(after.is_no_more_than(before), "{after:?} after {before:?}");
    }

    // And this would have been seen: connections that nobody closes.
    let held_open: Vec<_> = (0..3).map(|_| open(node.api)).collect();
    let after = settled(&node, &mut postgres, before).await;
    assert!(!after.is_no_more_than(before), "{after:?} after {before:?}");
    drop(held_open);
    let after = settled(&node, &mut postgres, before).await;
    assert!(after.is_no_more_than(before), "{after:?} after {before:?}");
}

fn admin_token(world: &World) -> String {
    let tokens = Tokens::new(&world.settings().keyring().unwrap());
    tokens.issue("root", &["admin".to_owned()], Duration::from_secs(600))
}

fn open(api: SocketAddr) -> TcpStream {
    TcpStream::connect(api).unwrap()
}
