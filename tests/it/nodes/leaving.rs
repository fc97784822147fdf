//! Nodes that stop in good order: what they run is finished or handed back, and never failed.

use std::{
    fs,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use orfeas::conversion::Status;
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, mknodat},
    process::Signal,
};
use serde_json::json;

use super::{PATIENCE, check_exactly_once, until_all_ended};
use crate::harness::{
    World, pictures,
    process::NodeProcess,
    seed::{all_rows, scalar, until},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_asked_to_stop_fails_nothing() {
    let world = World::new().await;
    let database = world.database().await;
    let mut leaving = NodeProcess::start(&world);
    let alice = world.client(leaving.api, "alice");
    for _ in 0..2 {
        alice
            .submit_batch(&[pictures::TRUCK; 12], json!({ "resolution": 48 }))
            .await;
    }
    until("it is in the middle of them", PATIENCE, async || {
        scalar(
            &database,
            "SELECT count(*) FROM conversion WHERE stage NOT IN ('prepare', 'encode')",
        )
        .await
            > 0
    })
    .await;
    leaving.signal(Signal::TERM);
    let staying = world.node().await;
    let status = leaving.wait();
    assert!(status.success(), "{status}");
    until_all_ended(&database).await;
    check_exactly_once(&world, &database).await;
    assert_eq!(
        scalar(&database, "SELECT max(failures)::bigint FROM conversion").await,
        0
    );
    let by_other = scalar(
        &database,
        &format!(
            "SELECT count(DISTINCT conversion_id) FROM conversion_event WHERE node_id = '{}'",
            staying.app.node.0
        ),
    )
    .await;
    assert!(by_other > 0, "the rest was the other's");
    assert_eq!(database.live_nodes().await.unwrap().len(), 1);
    staying.app.stop().await;
}

/// A file whose readers wait until somebody writes, in the place of a submitted picture.
struct Stuck {
    path: PathBuf,
    aside: PathBuf,
    bytes: Vec<u8>,
}

impl Stuck {
    fn new(path: PathBuf) -> Self {
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        Self {
            aside: path.with_extension("aside"),
            path,
            bytes,
        }
    }

    /// Puts the picture back, and lets those go who still wait.
    fn release(self) {
        fs::rename(&self.path, &self.aside).unwrap();
        fs::write(&self.path, self.bytes).unwrap();
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
        // Without a reader it can't be opened, and nobody has to be let go.
        let _ = fs::OpenOptions::new()
            .write(true)
            .custom_flags(flags)
            .open(&self.aside);
        fs::remove_file(&self.aside).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_end_in_time_is_handed_back() {
    let world = World::new().await;
    let database = world.database().await;
    let front = world.api_node().await;
    let alice = front.client("alice");
    for picture in [pictures::CHAIR, pictures::HOUSE] {
        alice.submit(picture, json!({ "resolution": 32 })).await;
    }
    let stuck: Vec<Stuck> = fs::read_dir(world.assets.join("sources"))
        .unwrap()
        .map(|entry| Stuck::new(entry.unwrap().path()))
        .collect();
    let stopping = world.node().await;
    until("they are claimed", PATIENCE, async || {
        scalar(
            &database,
            "SELECT count(*) FROM conversion WHERE status = 'running'",
        )
        .await
            == 2
    })
    .await;
    let asked = Instant::now();
    stopping.app.stop().await;
    let took = asked.elapsed();
    assert!(
        (Duration::from_secs(19)..Duration::from_secs(30)).contains(&took),
        "it stopped after {took:?}"
    );
    for row in all_rows(&database).await {
        assert_eq!(
            (row.status, row.attempt, row.failures),
            (Status::Queued, 1, 0),
            "{row:#?}"
        );
    }
    stuck.into_iter().for_each(Stuck::release);
    let staying = world.node().await;
    until_all_ended(&database).await;
    check_exactly_once(&world, &database).await;
    assert_eq!(
        scalar(&database, "SELECT max(failures)::bigint FROM conversion").await,
        0
    );
    staying.app.stop().await;
    front.app.stop().await;
}
