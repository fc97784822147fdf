//! Between a node and Postgres. The long forms:
//!
//! ```sh
//! cargo test --test it network::postgres -- --ignored --nocapture
//! ```

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use orfeas::{
    config::{Role, Settings},
    storage::Storage,
};
use serde_json::json;

use super::{HEALED_MAX, load, readiness, until_ready, until_working};
use crate::{
    crashes::{Addresses, PATIENCE, Site, ball, ledger::Ledger},
    harness::{
        Node,
        client::{SUBMIT, submission},
        proxy::{Cut, Mode, Proxy},
        seed::{scalar, until},
    },
};

/// A node that has nothing but this network.
async fn node(site: &Site, proxy: &Proxy, role: Role) -> Node {
    site.node_with(Settings {
        database_url: Some(proxy.url.clone()),
        ..site.settings(role)
    })
    .await
}

/// A network that is in a mode for so long, while clients submit.
#[expect(clippy::print_stdout, reason = "figures are what it is for")]
async fn lives_through(mode: Mode, length: Duration) {
    let site = Arc::new(Site::new().await);
    let ledger = Arc::new(Ledger::new(&site));
    let proxy = Proxy::new(&site.world.database_url).await;
    let node = node(&site, &proxy, Role::All).await;
    let nodes = Addresses::of(node.app.api.unwrap());
    until_ready(&nodes).await;
    let loading = load(&site, &ledger, &nodes);
    until("it is at work", PATIENCE, async || ledger.accepted() > 3).await;

    proxy.set(mode);
    let began = Instant::now();
    if matches!(mode, Mode::Silent | Mode::Gone) {
        until("health says why", PATIENCE, async || {
            let (status, words) = readiness(&nodes).await;
            status == 503 && words.contains("the database does not answer")
        })
        .await;
    }
    let noticed = began.elapsed();
    let before = ledger.accepted();
    tokio::time::sleep(length.saturating_sub(noticed)).await;
    let meanwhile = ledger.accepted() - before;

    proxy.set(Mode::Open);
    let healed = Instant::now();
    until_ready(&nodes).await;
    let ready = healed.elapsed();
    let (accepted, ended) = until_working(&site, &ledger, &nodes).await;
    loading.end().await;
    site.until_all_ended().await;
    let storage = Storage::open_folder(&site.world.assets).unwrap();
    let figures = ledger.check(&site, &storage, &nodes).await;
    assert_eq!(figures.given_up, 0, "{mode:?}");
    // Until something has ended again it is the machine that is measured.
    let used = ready + accepted;
    assert!(used <= HEALED_MAX, "{mode:?}: {used:?}");
    println!(
        "{mode:?} for {:.0} s: known after {:.1} s; {meanwhile} accepted meanwhile; ready {:.1} s after its end, then accepted \
         in {:.1} s and ended in {:.1} s; {} conversions, {} computed again, {} requests put off, {} in doubt",
        length.as_secs_f64(),
        noticed.as_secs_f64(),
        ready.as_secs_f64(),
        accepted.as_secs_f64(),
        ended.as_secs_f64(),
        figures.conversions,
        figures.again,
        figures.put_off,
        figures.doubts,
    );
    node.app.stop().await;
}

const MODES: [Mode; 4] = [
    Mode::Slow(Duration::from_millis(200)),
    Mode::Refusing,
    Mode::Silent,
    Mode::Gone,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_network_that_fails_in_any_way_loses_nothing_and_is_used_again() {
    join_all(MODES.map(|mode| lives_through(mode, Duration::from_secs(8)))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "a minute; see the head of this file"]
async fn a_database_that_is_gone_for_a_minute_loses_nothing() {
    let minute = Duration::from_secs(60);
    join_all([Mode::Gone, Mode::Silent].map(|mode| lives_through(mode, minute))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_whose_commit_is_cut_is_told_as_retryable_and_counts_once() {
    for (cut, stored) in [(Cut::Before, 0), (Cut::After, 1)] {
        let site = Site::new().await;
        let ledger = Ledger::new(&site);
        let proxy = Proxy::new(&site.world.database_url).await;
        let front = node(&site, &proxy, Role::Api).await;
        let api = front.app.api.unwrap();
        let mut variables = submission(&ball(7), json!({ "resolution": 32 }));
        variables["input"]["idempotencyKey"] = "cut".into();
        until_ready(&Addresses::of(api)).await;

        proxy.cut_at(b"COMMIT", cut);
        let answer = ledger.ask(api, "alice", SUBMIT, &variables).await;
        assert_eq!(answer, None, "{cut:?}: whose commit was it?");
        assert_eq!(proxy.cuts(), 1);
        let conversions = "SELECT count(*) FROM conversion";
        assert_eq!(scalar(&site.database, conversions).await, stored, "{cut:?}");
        let files = crate::mutations::files(&site.world.assets.join("sources"));
        assert_eq!(files.len() as i64, stored, "{cut:?}: {files:?}");

        let one = ledger.ask(api, "alice", SUBMIT, &variables).await.unwrap();
        let again = ledger.ask(api, "alice", SUBMIT, &variables).await.unwrap();
        assert_eq!(one, again);
        assert_eq!(scalar(&site.database, conversions).await, 1);
        let worker = site.node(Role::Worker).await;
        site.until_all_ended().await;
        let storage = Storage::open_folder(&site.world.assets).unwrap();
        let charged = "SELECT sum(conversions)::bigint FROM usage_day";
        assert_eq!(scalar(&site.database, charged).await, 1);
        for row in crate::harness::seed::all_rows(&site.database).await {
            crate::nodes::check_published_once(&storage, &site.database, &row).await;
        }
        worker.app.stop().await;
        front.app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_whose_statements_are_cut_is_published_once() {
    let site = Site::new().await;
    let ledger = Ledger::new(&site);
    let proxy = Proxy::new(&site.world.database_url).await;
    let front = site.node(Role::Api).await;
    let nodes = Addresses::of(front.app.api.unwrap());
    let worker = node(&site, &proxy, Role::Worker).await;
    assert!(worker.app.api.is_none(), "it serves no clients");
    let cuts = [
        (&b"SET status = 'succeeded'"[..], Cut::Before),
        (b"COMMIT", Cut::Before),
        (b"COMMIT", Cut::After),
        (b"COMMIT", Cut::After),
    ];
    for (at, (words, cut)) in cuts.into_iter().enumerate() {
        proxy.cut_at(words, cut);
        ledger.submit("alice", 2, &nodes).await;
        until("it is cut", PATIENCE, async || proxy.cuts() > at).await;
    }
    site.until_all_ended().await;
    let storage = Storage::open_folder(&site.world.assets).unwrap();
    let figures = ledger.check(&site, &storage, &nodes).await;
    assert_eq!((figures.given_up, figures.conversions), (0, 8));
    worker.app.stop().await;
    front.app.stop().await;
}
