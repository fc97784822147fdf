//! Networks that fail: between a node and Postgres, and between a node and its store. Nothing that was accepted is lost, and
//! what was cut off goes on by itself when the network is back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    crashes::{Addresses, PATIENCE, Site, ledger::Ledger, load::Load},
    harness::seed::until,
};

mod bucket;
mod postgres;
mod store;

/// Within this a node works again once its network does, without a restart.
const HEALED_MAX: Duration = Duration::from_secs(60);
/// Conversions that wait or run at a time.
const PENDING_MAX: i64 = 6;

/// What `/readyz` says.
async fn readiness(nodes: &Addresses) -> (u16, String) {
    let url = format!("http://{}/readyz", nodes.pick().unwrap());
    let answer = reqwest::get(url).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn until_ready(nodes: &Addresses) {
    until("the node is ready", HEALED_MAX, async || {
        readiness(nodes).await.0 == 200
    })
    .await;
}

fn load(site: &Arc<Site>, ledger: &Arc<Ledger>, nodes: &Addresses) -> Load {
    Load::start(site, ledger, nodes, PENDING_MAX, &[("alice", 2)])
}

/// Waits until a submission is accepted and one of its conversions ended; how long the two took.
async fn until_working(site: &Site, ledger: &Ledger, nodes: &Addresses) -> (Duration, Duration) {
    let began = Instant::now();
    let ids = ledger.submit("bob", 1, nodes).await;
    let accepted = began.elapsed();
    let id = ids[0].parse().unwrap();
    until("it works again", PATIENCE, async || {
        let row = crate::harness::seed::row(&site.database, id).await;
        row.finished_at.is_some()
    })
    .await;
    (accepted, began.elapsed())
}
