//! A store that takes nothing: no space, or nobody may write there.

use std::{path::Path, process::Command};

use orfeas::storage::Storage;

use super::*;

/// A store is tried every ten seconds.
const TRIED: Duration = Duration::from_secs(30);

/// A file system of its own in memory, for whoever may make one.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    /// `None` where this user may not mount.
    fn mount(folder: &'a Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder)
            .output();
        mounted
            .is_ok_and(|done| done.status.success())
            .then_some(Self(folder))
    }

    fn fill(&self) -> std::path::PathBuf {
        let path = self.0.join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        let piece = vec![1; 64 << 10];
        while std::io::Write::write_all(&mut file, &piece).is_ok() {}
        path
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_takes_nothing_half_and_is_used_again_when_there_is_room() {
    let world = World::new().await;
    let Some(disk) = SmallDisk::mount(&world.assets, "64m") else {
        eprintln!("skipped: this user can't mount a small disk (it needs root and CAP_SYS_ADMIN)");
        return;
    };
    let node = world.api_node().await;
    let (alice, database) = (node.client("alice"), world.database().await);
    alice.submit(pictures::CHAIR, json!({})).await;
    let filler = disk.fill();
    let full = std::time::Instant::now();
    let two = [pictures::CHAIR, pictures::CHEST];
    let images: Vec<Value> = two
        .iter()
        .map(|bytes| json!({ "base64": STANDARD.encode(bytes) }))
        .collect();
    for (query, variables) in [
        (SUBMIT, submission(pictures::CHAIR, json!({}))),
        (SUBMIT, keyed("again")),
        (SUBMIT_BATCH, json!({ "input": { "images": images } })),
    ] {
        let (extensions, header) = refusal(&alice, query, variables).await;
        assert_eq!(extensions["code"], "OVERLOADED");
        assert_eq!(extensions["retryable"], true);
        assert_eq!(header, extensions["retryAfterSeconds"].as_u64());
    }
    let (status, words) = ready(&alice).await;
    assert_eq!(status, 503);
    assert!(
        words.contains("the store can't be used: no space left"),
        "{words} {:?}",
        full.elapsed()
    );
    assert_eq!(files(&world.assets.join("sources")), 1, "nothing half done");
    assert_eq!(conversions(&database).await, 1);
    assert_eq!(
        scalar(&database, "SELECT count(*) FROM idempotency").await,
        0
    );

    std::fs::remove_file(filler).unwrap();
    until("it is ready again", TRIED, async || {
        ready(&alice).await.0 == 200
    })
    .await;
    alice.run(SUBMIT, keyed("again")).await;
    assert_eq!(conversions(&database).await, 2);
    node.app.stop().await;
    drop(disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_nearly_full_is_named_before_anybody_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path(), "16m") else {
        eprintln!("skipped: this user can't mount a small disk (it needs root and CAP_SYS_ADMIN)");
        return;
    };
    let storage = Storage::open_folder(folder.path()).unwrap();
    let error = storage
        .check()
        .await
        .expect_err("less than a picture's room");
    assert_eq!(error.trouble().unwrap().to_string(), "no space left");
    drop(disk);
}

/// Puts a file where the store wants a folder: nobody can write there then, root neither.
fn block(assets: &Path, name: &str) -> std::path::PathBuf {
    std::fs::create_dir_all(assets).unwrap();
    let path = assets.join(name);
    std::fs::write(&path, b"in the way").unwrap();
    path
}

#[cfg(feature = "torch")]
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_takes_no_meshes_costs_no_conversion() {
    let world = World::new().await;
    let in_the_way = block(&world.assets, "conversions");
    let node = world.node().await;
    let (alice, database) = (node.client("alice"), world.database().await);
    let id = alice
        .submit(pictures::CHAIR, json!({ "resolution": 32 }))
        .await;
    // Longer than three failures would take.
    until(
        "it was tried more often than a failure would be",
        Duration::from_secs(150),
        async || scalar(&database, "SELECT max(attempt)::int8 FROM conversion").await >= 4,
    )
    .await;
    assert_eq!(
        scalar(&database, "SELECT failures::int8 FROM conversion").await,
        0,
        "it is not the picture's fault"
    );
    std::fs::remove_file(in_the_way).unwrap();
    let ended = alice.ended(&id).await;
    assert_eq!(ended["status"], "SUCCEEDED", "{ended:#}");
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_nobody_can_write_to_makes_a_node_unready() {
    let world = World::new().await;
    let in_the_way = block(&world.assets, "checks");
    let node = world.api_node().await;
    let alice = node.client("alice");
    until("it is seen", TRIED, async || {
        let (status, words) = ready(&alice).await;
        status == 503 && words.contains("the store can't be used")
    })
    .await;
    std::fs::remove_file(in_the_way).unwrap();
    until("it is ready again", TRIED, async || {
        ready(&alice).await.0 == 200
    })
    .await;
    node.app.stop().await;
}
