//! Ten thousand who follow at once: what each costs, and how soon they hear. A measurement, not run with the others:
//!
//! ```sh
//! cargo test --release --test it subscriptions::crowd -- --ignored --nocapture
//! ```
//!
//! With `ORFEAS_TEST_YOGA` naming a folder in which `npm install` has put `graphql-yoga`, `graphql`, `graphql-ws`, `ws` and
//! `pg`, the same crowd follows the same rows through `benches/peers/serve_yoga.mjs`.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all, stream};
use orfeas::{
    config::{Role, Settings},
    conversion::{ConversionId, NodeId, Priority, Stage},
    db::{Database, entities::conversion},
};
use serde_json::json;
use tokio::sync::Barrier;

use super::FOLLOW;
use crate::harness::{
    World,
    fetched::checkout,
    process::NodeProcess,
    seed::{self, attempt},
    socket::Socket,
};

const SUBSCRIBERS: usize = 10_000;
const CONNECTING_AT_ONCE: usize = 64;
/// The stages that a claimed conversion is moved through, each a change that everybody who follows it hears of.
const CHANGES: [Stage; 4] = [
    Stage::Encode,
    Stage::Reconstruct,
    Stage::Mesh,
    Stage::Texture,
];

/// How the crowd is spread.
struct Shape {
    conversions: usize,
    /// All conversions' changes together.
    changes_per_second: f64,
}

const SHAPES: [Shape; 3] = [
    Shape {
        conversions: SUBSCRIBERS,
        changes_per_second: 1_000.0,
    },
    Shape {
        conversions: 100,
        changes_per_second: 10.0,
    },
    Shape {
        conversions: 1,
        changes_per_second: 0.2,
    },
];

/// When each change of each conversion was asked for.
type Times = Arc<Vec<[OnceLock<Instant>; CHANGES.len()]>>;

/// A server in a process of its own.
enum Server {
    Ours(NodeProcess),
    Yoga(Child, SocketAddr),
}

impl Server {
    fn api(&self) -> SocketAddr {
        match self {
            Self::Ours(node) => node.api,
            Self::Yoga(_, api) => *api,
        }
    }

    fn process(&self) -> u32 {
        match self {
            Self::Ours(node) => node.id(),
            Self::Yoga(child, _) => child.id(),
        }
    }

    /// Resident memory in KiB, and processor time in seconds.
    fn usage(&self) -> (f64, f64) {
        let of =
            |file| std::fs::read_to_string(format!("/proc/{}/{file}", self.process())).unwrap();
        let status = of("status");
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let memory = memory.unwrap().trim().trim_end_matches(" kB").trim();
        let stat = of("stat");
        // After the command's name in brackets: user and system time are the 12th and 13th field.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        (memory.parse().unwrap(), ticks / 100.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Self::Yoga(child, _) = self {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

fn yoga(world: &World, packages: &Path) -> Server {
    let program = checkout().join("benches/peers/serve_yoga.mjs");
    // Packages are looked for beside the program.
    let program_there = packages.join("serve_yoga.mjs");
    std::fs::copy(program, &program_there).unwrap();
    let mut child = Command::new("node")
        .arg(program_there)
        .env("DATABASE_URL", &world.database_url)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let api = line.trim().parse().unwrap();
    Server::Yoga(child, api)
}

/// Conversions that have been claimed, so that they can be moved on.
async fn claimed(database: &Database, count: usize) -> Vec<conversion::Model> {
    let mut rows = Vec::new();
    while rows.len() < count {
        let some = i32::try_from((count - rows.len()).min(200)).unwrap();
        let submission = seed::submission("alice", Priority::User, true, some);
        seed::submit(database, submission).await;
        let claimed = database.claim(NodeId::new(), &seed::models(), 200).await;
        rows.extend(claimed.unwrap());
    }
    rows
}

/// Follows one conversion through all its changes; how long after each it heard of it.
async fn follow(
    mut socket: Socket,
    id: ConversionId,
    place: usize,
    times: Times,
    ready: Arc<Barrier>,
) -> Vec<Duration> {
    socket
        .subscribe(FOLLOW, json!({ "id": id.to_string() }))
        .await;
    let first = socket.event().await.unwrap();
    let start = first["conversionProgress"]["sequence"].as_i64().unwrap();
    ready.wait().await;
    let mut heard = Vec::new();
    while heard.len() < CHANGES.len() {
        let event = socket.event().await.unwrap();
        let now = Instant::now();
        let sequence = event["conversionProgress"]["sequence"].as_i64().unwrap();
        assert_eq!(sequence - start, heard.len() as i64 + 1, "{event}");
        heard.push(now.duration_since(*times[place][heard.len()].get().unwrap()));
    }
    heard
}

#[expect(clippy::print_stdout, reason = "figures are what it is for")]
async fn measure(name: &str, world: &World, database: &Database, server: &Server, shape: &Shape) {
    let Shape {
        conversions,
        changes_per_second,
    } = *shape;
    let rows = claimed(database, conversions).await;
    let times: Times = Arc::new((0..conversions).map(|_| Default::default()).collect());
    let token = world.client(server.api(), "alice").token;
    let (memory_before, _) = server.usage();
    let began = Instant::now();
    let api = server.api();
    let sockets: Vec<Socket> = stream::iter(0..SUBSCRIBERS)
        .map(|_| Socket::open(api, token.as_deref()))
        .buffer_unordered(CONNECTING_AT_ONCE)
        .collect()
        .await;
    let ready = Arc::new(Barrier::new(SUBSCRIBERS + 1));
    let followers: Vec<_> = sockets
        .into_iter()
        .enumerate()
        .map(|(at, socket)| {
            let place = at % conversions;
            let (id, times, ready) = (rows[place].id, times.clone(), ready.clone());
            tokio::spawn(follow(socket, id, place, times, ready))
        })
        .collect();
    ready.wait().await;
    let connected = began.elapsed();
    let (memory, processor_before) = server.usage();

    let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / changes_per_second));
    let began = Instant::now();
    for (change, stage) in CHANGES.into_iter().enumerate() {
        for (row, times) in rows.iter().zip(times.iter()) {
            tick.tick().await;
            times[change].set(Instant::now()).unwrap();
            database.enter_stage(attempt(row), stage).await.unwrap();
        }
    }
    let heard = join_all(followers).await.into_iter();
    let mut heard: Vec<Duration> = heard.flat_map(Result::unwrap).collect();
    let (took, (_, processor)) = (began.elapsed(), server.usage());
    heard.sort_unstable();
    let at = |share: f64| heard[((heard.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{name}: {SUBSCRIBERS} follow {conversions}: connected in {:.1} s, {:.1} KiB each; {} changes in {:.1} s, {} heard: \
         p50 {:.1} ms, p99 {:.1} ms, all {:.1} ms; {:.0} us of processor each",
        connected.as_secs_f64(),
        (memory - memory_before) / SUBSCRIBERS as f64,
        CHANGES.len() * conversions,
        took.as_secs_f64(),
        heard.len(),
        at(0.5),
        at(0.99),
        at(1.0),
        (processor - processor_before) * 1e6 / heard.len() as f64,
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures; see the head of this file"]
#[expect(
    clippy::disallowed_methods,
    reason = "a test's own setting, which no server has"
)]
async fn ten_thousand_follow() {
    let world = World::new().await;
    let database = world.database().await;
    database.migrate().await.unwrap();
    for shape in &SHAPES {
        let settings = Settings {
            orfeas_role: Role::Api,
            ..world.settings()
        };
        let server = Server::Ours(NodeProcess::with(settings));
        measure("orfeas", &world, &database, &server, shape).await;
    }
    if let Some(packages) = std::env::var_os("ORFEAS_TEST_YOGA").map(PathBuf::from) {
        for shape in &SHAPES {
            let server = yoga(&world, &packages);
            measure("yoga", &world, &database, &server, shape).await;
        }
    }
}
