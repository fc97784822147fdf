//! What leaves, leaves altogether: rows, bytes, and what refers to them.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use orfeas::{
    conversion::{AssetId, NodeId, Priority},
    db::{
        Database,
        entities::{asset, conversion},
        listen::Hub,
    },
    retention::eraser::{Eraser, Step},
    storage::Storage,
};

use crate::harness::{
    World,
    seed::{self, scalar, sql},
};

mod deletion;
mod erasing;
mod expiry;
mod orphans;
mod stored;

const PATIENCE: Duration = Duration::from_secs(20);

/// A database with tables, and a store, without a node.
struct Place {
    world: World,
    database: Database,
    storage: Storage,
}

impl Place {
    async fn new() -> Self {
        let world = World::new().await;
        let database = world.database().await;
        database.migrate().await.unwrap();
        let storage = Storage::open_folder(&world.assets).unwrap();
        Self {
            world,
            database,
            storage,
        }
    }

    fn eraser(&self) -> Eraser {
        Eraser {
            database: self.database.clone(),
            storage: self.storage.clone(),
            hub: Hub::default(),
        }
    }

    async fn put(&self, key: &str) {
        let bytes = Bytes::from_static(b"bytes");
        self.storage.put(key, bytes).await.unwrap();
    }

    /// So many conversions of somebody that have succeeded, with bytes behind their assets.
    async fn succeeded(&self, owner: &str, batch: bool, count: i32) -> Vec<conversion::Model> {
        let submission = seed::submission(owner, Priority::User, batch, count);
        for item in &submission.items {
            self.put(&item.source.asset().storage_key).await;
        }
        seed::submit(&self.database, submission).await;
        let claimed = self
            .database
            .claim(NodeId::new(), &seed::models(), count.unsigned_abs())
            .await
            .unwrap();
        for row in &claimed {
            self.succeed(row).await;
        }
        claimed
    }

    async fn succeed(&self, row: &conversion::Model) {
        let mesh = seed::mesh(row);
        let preview = asset::Model {
            id: AssetId::new(),
            kind: asset::Kind::Preview,
            storage_key: format!("conversions/{}/{}/preview.png", row.id, row.attempt),
            format: None,
            triangles: None,
            vertices: None,
            width: Some(1),
            height: Some(1),
            ..mesh.clone()
        };
        self.put(&mesh.storage_key).await;
        self.put(&preview.storage_key).await;
        self.database
            .succeed(&seed::success(seed::attempt(row), vec![mesh, preview]))
            .await
            .unwrap();
    }

    /// Lets conversions have ended so many days ago.
    async fn age(&self, rows: &[conversion::Model], days: u32) {
        let ids: Vec<String> = rows.iter().map(|row| format!("'{}'", row.id.0)).collect();
        let ids = ids.join(",");
        sql(
            &self.database,
            &format!(
                "UPDATE conversion SET finished_at = now() - interval '{days} days' WHERE id IN ({ids})"
            ),
        )
        .await;
    }

    /// The files of the store.
    fn stored(&self) -> Vec<String> {
        stored(&self.world)
    }

    async fn count(&self, table: &str) -> i64 {
        scalar(&self.database, &format!("SELECT count(*) FROM {table}")).await
    }

    /// Owners' counts are the sums of their assets.
    async fn check_counts(&self) {
        let wrong = scalar(
            &self.database,
            "SELECT count(*) FROM owner_storage FULL JOIN
                 (SELECT owner, sum(bytes) AS bytes FROM asset GROUP BY owner) summed USING (owner)
             WHERE owner_storage.bytes IS DISTINCT FROM coalesce(summed.bytes, 0)",
        )
        .await;
        assert_eq!(wrong, 0, "owners whose count is not the sum");
    }
}

fn stored(world: &World) -> Vec<String> {
    let below = |name: &str| {
        crate::mutations::files(&world.assets.join(name))
            .into_iter()
            .map(move |path| format!("{name}/{path}"))
            .collect::<Vec<_>>()
    };
    ["sources", "conversions"]
        .into_iter()
        .flat_map(below)
        .collect()
}

/// What lies in a folder of the store, folders included.
fn entries(folder: &PathBuf) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn erased(count: usize) -> Step {
    Step {
        erased: count,
        failed: 0,
    }
}
