//! Between a node and an S3 store, and the store itself.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::TryStreamExt;
use orfeas::{
    config::{Role, Settings},
    storage::Storage,
};

use super::{HEALED_MAX, bucket::Bucket, load, readiness, until_ready, until_working};
use crate::{
    crashes::{Addresses, PATIENCE, Site, ledger::Ledger},
    harness::{
        proxy::{Mode, Place, Proxy},
        seed::{scalar, until},
    },
};

/// A store is tried every ten seconds, and may take ten.
const KNOWN_MAX: Duration = Duration::from_secs(25);

async fn listed(storage: &Storage, prefix: &str) -> Vec<(String, u64)> {
    let found: Vec<_> = storage.list(prefix).try_collect().await.unwrap();
    let mut keys: Vec<_> = found
        .into_iter()
        .map(|found| (found.key, found.bytes))
        .collect();
    keys.sort();
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_keeps_lists_and_forgets_as_a_folder_does() {
    let bucket = Bucket::start().await;
    let storage = bucket.storage();
    storage.check().await.unwrap();
    let put = async |key: &str| {
        let bytes = Bytes::from(format!("bytes of {key}"));
        storage.put(key, bytes).await.unwrap();
    };
    let keys: Vec<String> = (0..30)
        .map(|at| format!("conversions/x/{at}/mesh.glb"))
        .collect();
    for key in &keys {
        put(key).await;
    }
    for key in ["sources/a", "sources/b", "sources-elsewhere/c"] {
        put(key).await;
    }
    assert_eq!(
        storage.get("sources/a").await.unwrap(),
        "bytes of sources/a"
    );
    assert!(storage.find("sources/none").await.unwrap().is_none());
    let part = storage.open_part("sources/a", 6..8).await.unwrap();
    assert_eq!(part.bytes().await.unwrap(), "of");
    assert_eq!(
        listed(&storage, "sources").await,
        [("sources/a".to_owned(), 18), ("sources/b".to_owned(), 18)],
        "whole parts alone"
    );
    assert_eq!(listed(&storage, "conversions").await.len(), 30);

    // A folder, keys, and one that was never there.
    let going = [
        "conversions/x/7/",
        "conversions/x/8/mesh.glb",
        "sources/a",
        "sources/none",
    ];
    let mut removal = storage
        .remove_all(going.map(str::to_owned).to_vec(), PATIENCE)
        .await;
    removal.gone.sort();
    assert!(removal.error.is_none(), "{removal:?}");
    assert_eq!(removal.gone, going);
    assert_eq!(listed(&storage, "conversions").await.len(), 28);
    assert_eq!(
        listed(&storage, "sources").await,
        [("sources/b".to_owned(), 18)]
    );
    storage.delete("sources/none").await.unwrap();
    assert_eq!(
        storage
            .remove_unfinished("sources", Duration::ZERO)
            .await
            .unwrap(),
        0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_behind_a_network_that_fails_costs_no_conversion() {
    let site = Arc::new(Site::new().await);
    let ledger = Arc::new(Ledger::new(&site));
    let bucket = Bucket::start().await;
    let proxy = Proxy::to(bucket.address).await;
    let Place::Tcp(address) = proxy.place else {
        unreachable!("it was asked for an address")
    };
    let settings = Settings {
        orfeas_storage: Some(Bucket::url()),
        ..site.settings(Role::All)
    };
    let variables = Bucket::variables(address);
    let variables = variables
        .each_ref()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let node = site.process_with(settings, &variables).await.unwrap();
    let nodes = Addresses::of(node.api);
    until_ready(&nodes).await;
    let loading = load(&site, &ledger, &nodes);
    for (mode, length) in [
        (Mode::Slow(Duration::from_millis(200)), 4),
        (Mode::Gone, 6),
        (Mode::Silent, 6),
    ] {
        let before = ledger.accepted();
        until("it is at work", PATIENCE, async || {
            ledger.accepted() > before + 3
        })
        .await;
        proxy.set(mode);
        let began = Instant::now();
        if !matches!(mode, Mode::Slow(_)) {
            until("health says why", KNOWN_MAX, async || {
                let (status, words) = readiness(&nodes).await;
                status == 503 && words.contains("the store can't be used")
            })
            .await;
        }
        let known = began.elapsed();
        tokio::time::sleep(Duration::from_secs(length).saturating_sub(known)).await;
        proxy.set(Mode::Open);
        let healed = Instant::now();
        until_ready(&nodes).await;
        let ready = healed.elapsed();
        let (accepted, ended) = until_working(&site, &ledger, &nodes).await;
        let used = ready + accepted;
        assert!(used < HEALED_MAX, "{used:?}");
        println!(
            "the store, {mode:?}: known after {:.1} s; ready {:.1} s after its end, then accepted in {:.1} s and ended in {:.1} s",
            known.as_secs_f64(),
            ready.as_secs_f64(),
            accepted.as_secs_f64(),
            ended.as_secs_f64()
        );
    }
    loading.end().await;
    site.until_all_ended().await;
    assert_eq!(
        scalar(&site.database, "SELECT max(failures)::int8 FROM conversion").await,
        0,
        "it is no fault of theirs"
    );
    let figures = ledger.check(&site, &bucket.storage(), &nodes).await;
    println!(
        "{} conversions, {} computed again, {} requests put off, {} in doubt, {} files without a row",
        figures.conversions, figures.again, figures.put_off, figures.doubts, figures.orphans
    );
}
