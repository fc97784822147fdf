//! What tests stand on: one Postgres for the whole run with a database for each test, one engine shared by the nodes
//! of this process, and nodes as processes of their own where a test must kill them.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use metrics_exporter_prometheus::PrometheusHandle;
use orfeas::{
    app::{self, App, AppError, AppOptions},
    config::{Role, Settings},
    db::embedded::{Embedded, EmbeddedOptions},
    egress::Egress,
    inference::engine::Engine,
};
use tokio::sync::OnceCell;

pub mod agent;
pub mod client;
pub mod elsewhere;
#[cfg(feature = "torch")]
pub mod engines;
pub mod events;
pub mod fetched;
pub mod meshes;
pub mod pictures;
pub mod process;
pub mod proxy;
pub mod seed;
pub mod socket;

/// The binary under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_orfeas");
/// The key that all nodes of the tests share.
pub const MASTER_KEYS: &str =
    "test:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// What the names of the folders of runs begin with; their process follows.
const FOLDER: &str = "orfeas-it-";

struct Shared {
    embedded: Embedded,
    folder: tempfile::TempDir,
}

static SHARED: OnceCell<Shared> = OnceCell::const_new();
static ENGINE: OnceCell<Engine> = OnceCell::const_new();
static NUMBER: AtomicU32 = AtomicU32::new(1);

async fn shared() -> &'static Shared {
    SHARED
        .get_or_init(|| async {
            remove_left();
            // Root's Postgres runs as another user, who must be able to pass through.
            let passable = std::os::unix::fs::PermissionsExt::from_mode(0o711);
            let folder = tempfile::Builder::new()
                .prefix(&format!("{FOLDER}{}-", std::process::id()))
                .permissions(passable)
                .tempdir()
                .unwrap();
            let options = EmbeddedOptions {
                data_dir: folder.path().join("data"),
                postgres_dir: None,
                helper_program: PathBuf::from(PROGRAM),
                settings: vec![
                    ("max_connections".into(), "300".into()),
                    // The tests kill nodes, not Postgres: what a power cut would lose is not at stake.
                    ("fsync".into(), "off".into()),
                ],
            };
            Shared {
                embedded: Embedded::start_or_join(options).await.unwrap(),
                folder,
            }
        })
        .await
}

/// Removes the folders of runs that have ended: nobody drops what is static, and a whole run leaves gigabytes.
fn remove_left() {
    let found = std::fs::read_dir(std::env::temp_dir()).unwrap();
    for folder in found.map(|entry| entry.unwrap()) {
        let name = folder.file_name();
        let run = name.to_str().and_then(|name| name.strip_prefix(FOLDER));
        let process = run.and_then(|run| run.split('-').next()?.parse::<u32>().ok());
        let has_ended = |process| !Path::new(&format!("/proc/{process}")).exists();
        if process.is_some_and(has_ended) {
            // It may be another user's, or another run may be at it.
            drop(std::fs::remove_dir_all(folder.path()));
        }
    }
}

/// A database of its own and a folder for assets, for one test; nodes are started on them.
pub struct World {
    pub database_url: String,
    pub assets: PathBuf,
}

impl World {
    /// An empty world.
    pub async fn new() -> Self {
        let shared = shared().await;
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        shared.embedded.create_database(&name, None).await.unwrap();
        let assets = shared.folder.path().join(&name);
        Self {
            database_url: shared.embedded.url_of(&name),
            assets,
        }
    }

    /// Settings of a node in this world.
    pub fn settings(&self) -> Settings {
        Settings {
            database_url: Some(self.database_url.clone()),
            orfeas_storage: Some(url::Url::from_directory_path(&self.assets).unwrap().into()),
            orfeas_data_dir: self.assets.join("data"),
            orfeas_listen: loopback(),
            orfeas_metrics_listen: loopback(),
            orfeas_master_keys: Some(MASTER_KEYS.into()),
            orfeas_models_dir: Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("models")),
            orfeas_device: "cpu".into(),
            // Tests submit what they like; those about quotas say which.
            user_max_requests_per_minute: 100_000,
            user_max_conversions_at_once: 100_000,
            user_max_conversions_per_day: 100_000,
            ..Settings::default()
        }
    }

    /// A node of this process that does everything.
    pub async fn node(&self) -> Node {
        self.node_with(self.settings()).await
    }

    /// A node of this process that only answers clients.
    pub async fn api_node(&self) -> Node {
        self.node_with(Settings {
            orfeas_role: Role::Api,
            ..self.settings()
        })
        .await
    }

    /// A node of this process with other settings.
    pub async fn node_with(&self, settings: Settings) -> Node {
        self.try_node_with(settings).await.unwrap()
    }

    /// The same, where it may not start.
    pub async fn try_node_with(&self, settings: Settings) -> Result<Node, AppError> {
        let engine = if settings.orfeas_role.computes() {
            Some(engine(&settings).await)
        } else {
            None
        };
        Self::start(settings, engine, None).await
    }

    /// A node of this process over an engine of its own, with that engine's models.
    #[cfg(feature = "torch")]
    pub async fn node_over(&self, engine: Engine, models_dir: &Path) -> Node {
        let settings = Settings {
            orfeas_models_dir: Some(models_dir.to_owned()),
            orfeas_default_model: engine.default_model().to_owned(),
            ..self.settings()
        };
        Self::start(settings, Some(engine), None).await.unwrap()
    }

    /// A node of this process with other settings, over an engine of its own if it computes.
    pub async fn node_of(settings: Settings, engine: Option<Engine>) -> Node {
        Self::start(settings, engine, None).await.unwrap()
    }

    /// A node of this process that only answers clients, and calls addresses that they name in its own way.
    pub async fn node_calling(&self, egress: Egress, settings: Settings) -> Node {
        let settings = Settings {
            orfeas_role: Role::Api,
            ..settings
        };
        Self::start(settings, None, Some(egress)).await.unwrap()
    }

    async fn start(
        settings: Settings,
        engine: Option<Engine>,
        egress: Option<Egress>,
    ) -> Result<Node, AppError> {
        let options = AppOptions {
            settings,
            program: PathBuf::from(PROGRAM),
            engine,
            egress,
            metrics: None,
        };
        Ok(Node {
            app: App::start(options).await?,
        })
    }

    /// A client of a node of this world, signed in as this person.
    pub fn client(&self, api: SocketAddr, user: &str) -> client::Client {
        let tokens = orfeas::auth::jwt::Tokens::new(&self.settings().keyring().unwrap());
        let token = tokens.issue(user, &[], std::time::Duration::from_secs(600));
        client::Client::new(api, Some(token))
    }

    /// A connection for looking behind the API.
    pub async fn database(&self) -> orfeas::db::Database {
        let options = orfeas::db::DatabaseOptions {
            url: self.database_url.clone(),
            connections_max: 4,
            acquire_max: std::time::Duration::from_secs(30),
        };
        orfeas::db::Database::connect(options).await.unwrap()
    }
}

/// The engine that all nodes of this process share; its threads live as long as the process.
pub async fn engine(settings: &Settings) -> Engine {
    ENGINE
        .get_or_init(|| async { app::open::engine(settings).await.unwrap() })
        .await
        .clone()
}

/// The recorder of this process, of which there can be one.
pub fn metrics() -> PrometheusHandle {
    static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();
    METRICS
        .get_or_init(|| orfeas::telemetry::init_metrics().unwrap())
        .clone()
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A node in this process.
pub struct Node {
    pub app: App,
}

impl Node {
    /// A client signed in as this person.
    pub fn client(&self, user: &str) -> client::Client {
        self.client_with(user, &[])
    }

    /// A client signed in as an admin.
    pub fn admin(&self) -> client::Client {
        self.client_with("root", &["admin".to_owned()])
    }

    fn client_with(&self, user: &str, roles: &[String]) -> client::Client {
        let token = self
            .app
            .tokens
            .issue(user, roles, std::time::Duration::from_secs(600));
        client::Client::new(self.app.api.unwrap(), Some(token))
    }
}
