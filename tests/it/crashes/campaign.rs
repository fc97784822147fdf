//! SIGKILL at random moments, again and again, under load. The long form:
//!
//! ```sh
//! ORFEAS_TEST_KILLS=200 cargo test --test it crashes::campaign -- --ignored --nocapture
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use orfeas::{config::Role, storage::Storage};

use super::{
    Addresses, RECOVERY_MAX, Site,
    leases::Leases,
    ledger::{Figures, Ledger},
    load::Load,
};

/// How long a node serves before it is killed, in seconds.
const LIVES: std::ops::Range<f64> = 0.2..2.0;
/// Conversions that wait or run at a time, for each node.
const PENDING_MAX: i64 = 3;

/// What a round of kills came to.
struct Round {
    nodes: usize,
    kills: usize,
    took: Duration,
    figures: Figures,
    recoveries: Vec<Duration>,
}

/// Nodes that are started and killed until so many have been.
async fn kill(site: &Site, nodes: &Addresses, left: &AtomicUsize) {
    let take = |left: usize| left.checked_sub(1);
    while left
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
        .is_ok()
    {
        let mut node = site.process(&[]).await.expect("it starts");
        nodes.add(node.api);
        let life = Duration::from_secs_f64(rand::random_range(LIVES));
        tokio::time::sleep(life).await;
        node.kill();
        nodes.remove(node.api);
    }
}

async fn round(count: usize, kills: usize) -> Round {
    let began = Instant::now();
    let site = Arc::new(Site::new().await);
    // The schema, before anybody looks at rows.
    site.database.migrate().await.unwrap();
    let (ledger, nodes) = (Arc::new(Ledger::new(&site)), Addresses::default());
    let leases = Leases::watch(&site.database);
    let clients = [("alice", 1), ("bob", 3), ("carol", 1)];
    let pending_max = PENDING_MAX * i64::try_from(count).unwrap();
    let loading = Load::start(&site, &ledger, &nodes, pending_max, &clients);
    let left = AtomicUsize::new(kills);
    join_all((0..count).map(|_| kill(&site, &nodes, &left))).await;
    // One that stays, and ends what is there.
    let heir = site.node(Role::All).await;
    nodes.add(heir.app.api.unwrap());
    loading.end().await;
    loop {
        site.until_all_ended().await;
        if ledger.retry_failed(&site, &nodes).await == 0 {
            break;
        }
    }
    site.release(&heir).await;
    let storage = Storage::open_folder(&site.world.assets).unwrap();
    let figures = ledger.check(&site, &storage, &nodes).await;
    let recoveries = leases.recoveries().await;
    heir.app.stop().await;
    Round {
        nodes: count,
        kills,
        took: began.elapsed(),
        figures,
        recoveries,
    }
}

#[expect(clippy::print_stdout, reason = "figures are what it is for")]
fn print(rounds: &[Round]) {
    println!(
        "| nodes | kills | conversions | lost | doubled | computed again | given up and retried | requests in doubt | put off | told | told again, same id | files without a row | back after the lease's end: median, longest | took |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for round in rounds {
        let Figures {
            conversions,
            again,
            given_up,
            doubts,
            put_off,
            told,
            told_again,
            orphans,
        } = round.figures;
        let seconds = |at: Option<&Duration>| at.map_or(0.0, Duration::as_secs_f64);
        let recoveries = &round.recoveries;
        println!(
            "| {} | {} | {conversions} | 0 | 0 | {again} | {given_up} | {doubts} | {put_off} | {told} | {told_again} | {orphans} | {:.1} s, {:.1} s ({}) | {:.0} s |",
            round.nodes,
            round.kills,
            seconds(recoveries.get(recoveries.len() / 2)),
            seconds(recoveries.last()),
            recoveries.len(),
            round.took.as_secs_f64(),
        );
    }
}

/// Loss and doubling are looked for by the ledger, which panics; this is about the time.
fn check_recovery(round: &Round) {
    assert!(
        round.recoveries.iter().all(|after| *after <= RECOVERY_MAX),
        "{:?}",
        round.recoveries
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_killed_at_random_lose_and_double_nothing() {
    let round = round(2, 6).await;
    print(std::slice::from_ref(&round));
    check_recovery(&round);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "minutes; see the head of this file"]
#[expect(
    clippy::disallowed_methods,
    reason = "a test's own setting, which no server has"
)]
async fn two_hundred_nodes_killed_at_random_lose_and_double_nothing() {
    let kills = std::env::var("ORFEAS_TEST_KILLS").map_or(200, |text| text.parse().unwrap());
    let mut rounds = Vec::new();
    for nodes in [1, 2, 3] {
        // A third each; the last one has what is left.
        let done: usize = rounds.iter().map(|round: &Round| round.kills).sum();
        let share = if nodes == 3 { kills - done } else { kills / 3 };
        rounds.push(round(nodes, share).await);
    }
    print(&rounds);
    rounds.iter().for_each(check_recovery);
}
