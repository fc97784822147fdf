//! Nodes that die or freeze: at each named place, and at any moment. Nothing that was accepted is lost, and nothing is
//! published, charged or told twice.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use image::{Rgba, RgbaImage};
use orfeas::{
    app,
    config::{Role, Settings},
    db::Database,
    inference::engine::Engine,
};
use tokio::sync::OnceCell;

use crate::{
    harness::{
        Node, World, pictures,
        process::NodeProcess,
        seed::{scalar, sql, until},
    },
    webhooks::receiver::Receiver,
};

mod campaign;
mod frozen;
pub mod leases;
pub mod ledger;
pub mod load;
mod points;

/// A model that answers at once: a ball as large as the object.
const MODEL: &str = "sound";
/// For what takes computing, on a machine that does much else.
pub const PATIENCE: Duration = Duration::from_secs(300);
/// Within this time after a lease's end a dead node's conversions must be back in the queue.
pub const RECOVERY_MAX: Duration = Duration::from_secs(10);
/// A test's clients ask more than people do.
const QUOTAS: [(&str, &str); 3] = [
    ("USER_MAX_REQUESTS_PER_MINUTE", "100000"),
    ("USER_MAX_CONVERSIONS_AT_ONCE", "100000"),
    ("USER_MAX_CONVERSIONS_PER_DAY", "100000"),
];

/// A world with a fast model and somebody who wants to be told.
pub struct Site {
    pub world: World,
    pub database: Database,
    pub receiver: Receiver,
    models: PathBuf,
}

impl Site {
    pub async fn new() -> Self {
        let world = World::new().await;
        let models = world.assets.with_extension("models");
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
        std::fs::create_dir_all(models.join(MODEL)).unwrap();
        for file in ["model.pt", "model.toml"] {
            let place = Path::new(MODEL).join(file);
            std::fs::copy(fixtures.join(&place), models.join(&place)).unwrap();
        }
        Self {
            database: world.database().await,
            receiver: Receiver::content().await,
            world,
            models,
        }
    }

    pub fn settings(&self, role: Role) -> Settings {
        Settings {
            orfeas_models_dir: Some(self.models.clone()),
            orfeas_default_model: MODEL.into(),
            orfeas_egress_allow: Some("127.0.0.0/8".into()),
            orfeas_role: role,
            ..self.world.settings()
        }
    }

    /// A node of this process; those that compute share an engine.
    pub async fn node(&self, role: Role) -> Node {
        self.node_with(self.settings(role)).await
    }

    pub async fn node_with(&self, settings: Settings) -> Node {
        static ENGINE: OnceCell<Engine> = OnceCell::const_new();
        let engine = match settings.orfeas_role.computes() {
            true => {
                let started = async || app::open::engine(&settings).await.unwrap();
                Some(ENGINE.get_or_init(started).await.clone())
            }
            false => None,
        };
        World::node_of(settings, engine).await
    }

    /// A node in a process of its own, with these variables; how it ended, if it did before it served.
    pub async fn process(&self, variables: &[(&str, &str)]) -> Result<NodeProcess, ExitStatus> {
        self.process_with(self.settings(Role::All), variables).await
    }

    pub async fn process_with(
        &self,
        settings: Settings,
        variables: &[(&str, &str)],
    ) -> Result<NodeProcess, ExitStatus> {
        let variables: Vec<(String, String)> = [&[("ORFEAS_LOG", "error")], &QUOTAS[..], variables]
            .concat()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let starting = move || {
            let variables: Vec<(&str, &str)> = variables
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            NodeProcess::try_start(settings, &variables, Stdio::inherit())
        };
        tokio::task::spawn_blocking(starting).await.unwrap()
    }

    /// Waits until nothing waits or runs.
    pub async fn until_all_ended(&self) {
        until("all have ended", PATIENCE, async || {
            self.pending().await == 0
        })
        .await;
    }

    /// What a dead node was telling or erasing has leases of a minute, which tests of their own wait for: lets them end now,
    /// but for what the one that lives is at.
    pub async fn release(&self, heir: &Node) {
        let heir = heir.app.node.0;
        for statement in [
            "UPDATE erasure SET next_attempt_at = now()".to_owned(),
            format!(
                "UPDATE webhook_delivery SET next_attempt_at = now()
                 WHERE status = 'pending' AND node_id IS DISTINCT FROM '{heir}'"
            ),
        ] {
            sql(&self.database, &statement).await;
        }
    }

    pub async fn pending(&self) -> i64 {
        scalar(
            &self.database,
            "SELECT count(*) FROM conversion WHERE status IN ('queued', 'running')",
        )
        .await
    }
}

/// Where nodes serve now; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Addresses(Arc<Mutex<Vec<SocketAddr>>>);

impl Addresses {
    pub fn of(api: SocketAddr) -> Self {
        Self(Arc::new(Mutex::new(vec![api])))
    }

    pub fn add(&self, api: SocketAddr) {
        self.0.lock().unwrap().push(api);
    }

    pub fn remove(&self, api: SocketAddr) {
        self.0.lock().unwrap().retain(|known| *known != api);
    }

    /// Any of them.
    pub fn pick(&self) -> Option<SocketAddr> {
        let known = self.0.lock().unwrap();
        let at = rand::random_range(0..known.len().max(1));
        known.get(at).copied()
    }
}

/// A picture that is quick to decode: a cut-out ball.
pub fn ball(red: u8) -> Vec<u8> {
    let image = RgbaImage::from_fn(48, 48, |x, y| {
        let along = |at: u32| f64::from(at) + 0.5 - 24.0;
        let is_inside = along(x).hypot(along(y)) < 20.0;
        Rgba([red, 90, 30, if is_inside { 255 } else { 0 }])
    });
    pictures::png(&image)
}
