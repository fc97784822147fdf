//! Two machines' worth on one: nodes in network namespaces of their own, with Postgres at the other end of a cable. One is cut
//! off for longer than its lease, and comes back.

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use orfeas::{
    config::{Role, Settings},
    db::Database,
    storage::Storage,
};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::{
    crashes::{
        Addresses, PATIENCE, RECOVERY_MAX, Site, leases::Leases, ledger::Ledger, load::Load,
    },
    harness::{
        process::NodeProcess,
        proxy::Proxy,
        seed::{self, scalar, until},
    },
};

/// Within this a node that was cut off works again once the cable is plugged in: what it waits for is sent again by TCP, or
/// given up, before.
const REJOINED_MAX: Duration = Duration::from_secs(40);

/// A namespace with one cable to this one.
struct Elsewhere {
    name: String,
    /// This end of the cable.
    cable: String,
    /// The addresses of this end and of the other.
    here: SocketAddr,
    there: SocketAddr,
}

fn ip(arguments: &[&str]) -> bool {
    let done = Command::new("ip")
        .args(arguments)
        .stderr(Stdio::null())
        .status();
    done.is_ok_and(|status| status.success())
}

impl Elsewhere {
    /// `None` where this user may not make one.
    fn make(number: u8) -> Option<Self> {
        let process = std::process::id();
        let name = format!("orfeas-{process}-{number}");
        // The names of devices have 15 characters at most.
        let (cable, end) = (
            format!("of{}h{number}", process % 1_000_000),
            format!("of{}t{number}", process % 1_000_000),
        );
        if !ip(&["netns", "add", &name]) {
            return None;
        }
        // Addresses for documents, which nobody has.
        let at = |host: u8| SocketAddr::from(([198, 51, 100, number * 8 + host], 0));
        let made = Self {
            name,
            cable,
            here: at(1),
            there: at(2),
        };
        let (here, there) = (
            format!("{}/30", made.here.ip()),
            format!("{}/30", made.there.ip()),
        );
        let (cable, name) = (made.cable.as_str(), made.name.as_str());
        let is_made = [
            &["link", "add", cable, "type", "veth", "peer", "name", &end][..],
            &["link", "set", &end, "netns", name],
            &["addr", "add", &here, "dev", cable],
            &["link", "set", cable, "up"],
            &["-n", name, "addr", "add", &there, "dev", &end],
            &["-n", name, "link", "set", &end, "up"],
            &["-n", name, "link", "set", "lo", "up"],
        ]
        .into_iter()
        .all(ip);
        is_made.then_some(made)
    }

    fn plug(&self, is_in: bool) {
        assert!(ip(&[
            "link",
            "set",
            &self.cable,
            if is_in { "up" } else { "down" }
        ]));
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        // The cable goes with the namespace, once nothing runs there any more.
        ip(&["link", "del", &self.cable]);
        ip(&["netns", "del", &self.name]);
    }
}

/// A node that only computes, in a namespace, and its id.
struct Machine {
    elsewhere: Elsewhere,
    node: NodeProcess,
    id: Uuid,
    _proxy: Proxy,
}

async fn machine(site: &Site, elsewhere: Elsewhere) -> Machine {
    let proxy = Proxy::at(elsewhere.here, &site.world.database_url).await;
    let settings = Settings {
        database_url: Some(proxy.url.clone()),
        ..site.settings(Role::Worker)
    };
    let before = nodes(&site.database).await;
    let name = elsewhere.name.clone();
    let starting = move || {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &name, crate::harness::PROGRAM]);
        NodeProcess::launch(
            command,
            settings,
            &[("ORFEAS_LOG", "error")],
            Stdio::inherit(),
        )
    };
    let node = tokio::task::spawn_blocking(starting).await.unwrap();
    let mut after = nodes(&site.database).await;
    after.retain(|id| !before.contains(id));
    assert_eq!(after.len(), 1);
    Machine {
        elsewhere,
        node: node.expect("it starts"),
        id: after[0],
        _proxy: proxy,
    }
}

async fn nodes(database: &Database) -> Vec<Uuid> {
    sqlx::query_scalar("SELECT id FROM node")
        .fetch_all(seed::pool(database))
        .await
        .unwrap()
}

impl Machine {
    async fn running(&self, database: &Database) -> i64 {
        let query = format!(
            "SELECT count(*) FROM conversion WHERE status = 'running' AND node_id = '{}'",
            self.id
        );
        scalar(database, &query).await
    }

    async fn ended(&self, database: &Database) -> i64 {
        let query = format!(
            "SELECT count(*) FROM conversion_event ended WHERE status = 'succeeded' AND EXISTS (
                 SELECT FROM conversion_event begun WHERE begun.conversion_id = ended.conversion_id
                     AND begun.attempt = ended.attempt AND begun.node_id = '{}')",
            self.id
        );
        scalar(database, &query).await
    }
}

/// Everything about what has ended.
async fn ends(database: &Database) -> Vec<String> {
    let query = "SELECT to_jsonb(conversion)::text FROM conversion WHERE status = 'succeeded'
        UNION ALL SELECT to_jsonb(event)::text FROM conversion_event event JOIN conversion ON conversion.id = event.conversion_id
            WHERE conversion.status = 'succeeded'
        UNION ALL SELECT to_jsonb(asset)::text FROM asset JOIN conversion ON conversion.id = asset.conversion_id
            WHERE conversion.status = 'succeeded' ORDER BY 1";
    sqlx::query_scalar(AssertSqlSafe(query))
        .fetch_all(seed::pool(database))
        .await
        .unwrap()
}

fn load(site: &Arc<Site>, ledger: &Arc<Ledger>, nodes: &Addresses) -> Load {
    Load::start(site, ledger, nodes, 24, &[("alice", 4)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_is_cut_off_loses_its_work_to_another_and_takes_part_again() {
    let (Some(one), Some(other)) = (Elsewhere::make(1), Elsewhere::make(2)) else {
        eprintln!(
            "skipped: no network namespaces here (it needs root, CAP_NET_ADMIN, and `ip` of iproute2)"
        );
        return;
    };
    let site = Arc::new(Site::new().await);
    let ledger = Arc::new(Ledger::new(&site));
    let leases = Leases::watch(&site.database);
    let front = site.node(Role::Api).await;
    let nodes = Addresses::of(front.app.api.unwrap());
    let (cut, kept) = (machine(&site, one).await, machine(&site, other).await);
    let loading = load(&site, &ledger, &nodes);
    until("both are at work", PATIENCE, async || {
        cut.ended(&site.database).await > 0
            && kept.ended(&site.database).await > 0
            && cut.running(&site.database).await > 1
    })
    .await;

    cut.elsewhere.plug(false);
    let unplugged = Instant::now();
    loading.end().await;
    let held = cut.running(&site.database).await;
    // The other one ends what the queue has, and then what the one that was cut off held.
    site.until_all_ended().await;
    let taken_over = unplugged.elapsed();
    let recoveries = leases.recoveries().await;
    assert!(!recoveries.is_empty() || held == 0, "{held} were held");
    assert!(
        recoveries.iter().all(|after| *after <= RECOVERY_MAX),
        "{recoveries:?}"
    );
    let (before, ended) = (ends(&site.database).await, cut.ended(&site.database).await);

    cut.elsewhere.plug(true);
    let plugged = Instant::now();
    let loading = load(&site, &ledger, &nodes);
    until("it takes part again", REJOINED_MAX, async || {
        cut.ended(&site.database).await > ended
    })
    .await;
    let rejoined = plugged.elapsed();
    loading.end().await;
    site.until_all_ended().await;
    let after = ends(&site.database).await;
    assert!(
        before.iter().all(|line| after.contains(line)),
        "what had ended was changed by a late writer"
    );
    let storage = Storage::open_folder(&site.world.assets).unwrap();
    let figures = ledger.check(&site, &storage, &nodes).await;
    assert_eq!(figures.given_up, 0);
    println!(
        "cut off with {held} in hand: back {:.1} s after the lease's end at the latest, all ended {:.1} s after the cut; plugged \
         in again it ended one of its own after {:.1} s; {} conversions, {} computed again",
        recoveries.last().map_or(0.0, Duration::as_secs_f64),
        taken_over.as_secs_f64(),
        rejoined.as_secs_f64(),
        figures.conversions,
        figures.again
    );
    drop((cut.node, kept.node));
    front.app.stop().await;
}
