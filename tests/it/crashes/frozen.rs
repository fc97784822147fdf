//! Nodes that freeze with a result in their hands, past their lease: the late writer is refused, and leaves nothing.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use orfeas::{config::Role, conversion::Status, crash::Point, storage::Storage};
use rustix::process::Signal;

use super::{Addresses, PATIENCE, RECOVERY_MAX, Site, leases::Leases, ledger::Ledger};
use crate::harness::seed::{self, all_rows, scalar, until};

/// Whether a process is stopped.
fn is_stopped(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, after) = stat.rsplit_once(')').unwrap();
    after.trim_start().starts_with('T')
}

#[expect(clippy::print_stdout, reason = "figures are what it is for")]
async fn freezes(at: Point) {
    let site = Arc::new(Site::new().await);
    let ledger = Ledger::new(&site);
    let leases = Leases::watch(&site.database);
    let order = format!("{}:2", at.name());
    let frozen = site.process(&[("ORFEAS_FREEZE_AT", &order)]).await.unwrap();
    // Requests hang with it: what asks is on another node.
    let front = site.node(Role::Api).await;
    ledger
        .submit("alice", 4, &Addresses::of(front.app.api.unwrap()))
        .await;
    until("it freezes", PATIENCE, async || is_stopped(frozen.id())).await;
    let held = scalar(
        &site.database,
        "SELECT count(*) FROM conversion WHERE status = 'running'",
    )
    .await;
    assert!(held > 0, "{at:?}: it held nothing");

    let awake = site.node(Role::All).await;
    let nodes = Addresses::of(awake.app.api.unwrap());
    site.until_all_ended().await;
    let recoveries = leases.recoveries().await;
    assert_eq!(recoveries.len() as i64, held, "{at:?}");
    assert!(
        recoveries.iter().all(|after| *after <= RECOVERY_MAX),
        "{at:?}: {recoveries:?}"
    );
    let before = seed::state(&site.database).await;

    frozen.signal(Signal::CONT);
    // Late files are on the list of what is to be erased, and then gone.
    let storage = Storage::open_folder(&site.world.assets).unwrap();
    until(
        "nothing of the late attempts is left",
        PATIENCE,
        async || leftovers(&site).is_empty(),
    )
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(seed::state(&site.database).await, before, "{at:?}");
    let rows = all_rows(&site.database).await;
    assert!(rows.iter().all(|row| row.status == Status::Succeeded));
    let figures = ledger.check(&site, &storage, &nodes).await;
    assert_eq!((figures.given_up, figures.orphans), (0, 0), "{at:?}");
    println!(
        "frozen at {:13} {held} held, back {:.1} s after the lease's end at the latest; the late writer was refused",
        at.name(),
        recoveries.last().unwrap().as_secs_f64()
    );
    drop(frozen);
    awake.app.stop().await;
    front.app.stop().await;
}

/// Attempts' folders but the first level: those of attempts that did not count.
fn leftovers(site: &Site) -> Vec<String> {
    let folder = site.world.assets.join("conversions");
    let files = crate::mutations::files(&folder);
    // The frozen node's attempts are the first ones of what it held.
    let mut latest = std::collections::BTreeMap::new();
    for file in &files {
        let mut parts = file.split('/');
        let (id, attempt) = (parts.next().unwrap(), parts.next().unwrap());
        let attempt: u32 = attempt.parse().unwrap();
        let known = latest.entry(id.to_owned()).or_insert(attempt);
        *known = attempt.max(*known);
    }
    files
        .into_iter()
        .filter(|file| {
            let mut parts = file.split('/');
            let (id, attempt) = (parts.next().unwrap(), parts.next().unwrap());
            latest[id].to_string() != attempt
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_late_writer_is_refused_wherever_it_froze() {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: an optimised build has no places to freeze at");
        return;
    }
    join_all(
        [
            Point::InBatch,
            Point::HalfStored,
            Point::MeshStored,
            Point::BeforeCommit,
        ]
        .map(freezes),
    )
    .await;
}
