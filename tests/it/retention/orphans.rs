//! Bytes that no row tells of.

use std::{
    path::Path,
    process::Output,
    time::{Duration, SystemTime},
};

use orfeas::{
    conversion::{AssetId, ConversionId},
    retention::orphans::{SweepError, SweepOptions, SweepReport, sweep},
};
use serde_json::Value;

use super::Place;
use crate::harness::{MASTER_KEYS, PROGRAM, World, seed::sql};

fn age(path: &Path, hours: u64) {
    let past = SystemTime::now() - Duration::from_secs(hours * 3_600);
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(past).unwrap();
}

impl Place {
    /// Bytes of so many hours without a row.
    async fn orphan(&self, key: &str, hours: u64) {
        self.put(key).await;
        age(&self.world.assets.join(key), hours);
    }

    async fn swept(&self, options: SweepOptions) -> SweepReport {
        sweep(&self.database, &self.storage, options).await.unwrap()
    }

    async fn refused(&self, options: SweepOptions) -> SweepError {
        sweep(&self.database, &self.storage, options)
            .await
            .unwrap_err()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_without_a_row_are_found_and_no_others() {
    let place = Place::new().await;
    let rows = place.succeeded("alice", true, 2).await;
    for path in place.stored() {
        age(&place.world.assets.join(path), 100);
    }
    let kept = place.stored();
    let (asset, conversion) = (AssetId::new(), ConversionId::new());
    let orphans = [
        format!("sources/{asset}"),
        format!("conversions/{conversion}/2/mesh.glb"),
        // Of an attempt before the one that succeeded.
        format!("conversions/{}/7/mesh.glb", rows[0].id),
    ];
    for key in &orphans {
        place.orphan(key, 25).await;
    }
    place
        .orphan(&format!("checks/{}", uuid::Uuid::now_v7()), 25)
        .await;
    let young = format!("sources/{}", AssetId::new());
    place.orphan(&young, 23).await;
    place.orphan("sources/notes.txt", 1_000).await;
    place.orphan("elsewhere/notes.txt", 1_000).await;
    let cut_off = place.world.assets.join(format!("sources/{asset}#1"));
    std::fs::write(&cut_off, b"half").unwrap();
    age(&cut_off, 25);

    let dry = SweepOptions {
        is_dry: true,
        ..SweepOptions::default()
    };
    let found = SweepReport {
        looked: 12,
        young: 1,
        strange: 1,
        orphans: 4,
        orphan_bytes: 20,
        unfinished: 0,
    };
    assert_eq!(place.swept(dry).await, found);
    assert_eq!(place.count("erasure").await, 0);
    assert!(place.storage.find("belongs-to").await.unwrap().is_none());
    let done = place.swept(SweepOptions::default()).await;
    assert_eq!(
        done,
        SweepReport {
            unfinished: 1,
            ..found
        }
    );
    assert_eq!(place.count("erasure").await, 4);
    // What is to be erased is not found again.
    assert_eq!(place.swept(SweepOptions::default()).await.orphans, 0);
    assert_eq!(place.eraser().step().await.unwrap(), super::erased(4));
    let mut left = place.stored();
    left.retain(|path| !kept.contains(path));
    left.sort();
    let mut expected = [young, "sources/notes.txt".to_owned()];
    expected.sort();
    assert_eq!(left, expected);
    assert!(place.world.assets.join("elsewhere/notes.txt").exists());
    assert_eq!(place.stored().len(), kept.len() + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_page_is_looked_through() {
    let place = Place::new().await;
    place.succeeded("alice", false, 1).await;
    for _ in 0..1_200 {
        place
            .orphan(&format!("sources/{}", AssetId::new()), 25)
            .await;
    }
    assert_eq!(place.swept(SweepOptions::default()).await.orphans, 1_200);
    let node = place.world.api_node().await;
    crate::harness::seed::until("all are erased", super::PATIENCE, async || {
        place.count("erasure").await == 0
    })
    .await;
    assert_eq!(place.stored().len(), 3);
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_another_database_is_left_alone() {
    let place = Place::new().await;
    place.succeeded("alice", false, 1).await;
    for path in place.stored() {
        age(&place.world.assets.join(path), 100);
    }
    // A new database over it, before the store has a mark.
    let other = World::new().await;
    let foreign = Place {
        database: other.database().await,
        storage: place.storage.clone(),
        world: other,
    };
    foreign.database.migrate().await.unwrap();
    let plain = SweepOptions::default();
    let refused = foreign.refused(plain).await;
    assert!(matches!(refused, SweepError::Unknown), "{refused:?}");

    assert_eq!(place.swept(plain).await.orphans, 0);
    let refused = foreign.refused(plain).await;
    assert!(matches!(refused, SweepError::Foreign { .. }), "{refused:?}");

    // A folder where the store was, as when a disk is not mounted.
    let away = place.world.assets.with_extension("away");
    std::fs::rename(&place.world.assets, &away).unwrap();
    place.put(&format!("sources/{}", AssetId::new())).await;
    let refused = place.refused(plain).await;
    assert!(matches!(refused, SweepError::Exchanged), "{refused:?}");
    std::fs::remove_dir_all(&place.world.assets).unwrap();
    std::fs::rename(&away, &place.world.assets).unwrap();
    assert_eq!(place.swept(plain).await.looked, 3);
    assert_eq!(place.stored().len(), 3);

    // On purpose.
    let adopting = SweepOptions {
        is_adopting: true,
        ..plain
    };
    assert_eq!(foreign.swept(adopting).await.orphans, 3);
    let refused = place.refused(plain).await;
    assert!(matches!(refused, SweepError::Foreign { .. }), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_looks_in_six_hours() {
    let place = Place::new().await;
    let every = Duration::from_secs(6 * 3_600);
    let take = || place.database.take_store_sweep(every);
    assert!(!take().await.unwrap(), "not as the first thing");
    sql(&place.database, "UPDATE store_sweep SET next_at = now()").await;
    let (one, other) = tokio::join!(take(), take());
    assert!(one.unwrap() ^ other.unwrap());
    assert!(!take().await.unwrap());

    // A node that starts when it is time.
    sql(&place.database, "UPDATE store_sweep SET next_at = now()").await;
    place.succeeded("alice", false, 1).await;
    place
        .orphan(&format!("sources/{}", AssetId::new()), 25)
        .await;
    let node = place.world.api_node().await;
    crate::harness::seed::until("it is found and erased", super::PATIENCE, async || {
        place.stored().len() == 3
    })
    .await;
    node.app.stop().await;
}

async fn orfeas(place: &Place, arguments: &[&str]) -> Output {
    let mut command = std::process::Command::new(PROGRAM);
    command
        .args(arguments)
        .current_dir(place.world.assets.parent().unwrap())
        .env("DATABASE_URL", &place.world.database_url)
        .env(
            "ORFEAS_STORAGE",
            place.world.settings().orfeas_storage.unwrap(),
        )
        .env("ORFEAS_MASTER_KEYS", MASTER_KEYS);
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_says_what_it_would_erase_and_erases_it() {
    let place = Place::new().await;
    place.succeeded("alice", false, 1).await;
    place
        .orphan(&format!("sources/{}", AssetId::new()), 25)
        .await;
    let dry = orfeas(&place, &["store", "sweep", "--dry-run"]).await;
    assert!(dry.status.success(), "{dry:?}");
    let text = String::from_utf8(dry.stdout).unwrap();
    assert!(
        text.contains("1 without a row (5 bytes) would be erased"),
        "{text}"
    );
    assert_eq!(place.stored().len(), 4);
    let done = orfeas(&place, &["store", "sweep", "--json"]).await;
    assert!(done.status.success(), "{done:?}");
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(
        (&report["orphans"], &report["looked"]),
        (&1.into(), &4.into())
    );
    assert_eq!(place.stored().len(), 3);
    sql(
        &place.database,
        "UPDATE store_sweep SET store_id = gen_random_uuid()",
    )
    .await;
    let refused = orfeas(&place, &["store", "sweep"]).await;
    assert!(!refused.status.success(), "{refused:?}");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("belongs to another database"), "{said}");
}
