//! One node: what it is made of, in which order it starts, and in which it stops.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    auth::{jwks::source::JwksError, jwt::Tokens, keyring::Keyring, link::Links},
    config::{self, ConfigError, Settings},
    conversion::NodeId,
    db::{
        Database, DatabaseError,
        api_keys::RingError,
        audit::{
            self,
            sealer::Sealer,
            writer::{Auditor, AuditorOptions},
        },
        backlog::Backlog,
        embedded::{Embedded, error::EmbeddedError},
        entities::node::Devices,
        listen::Hub,
        nodes::NodeInfo,
    },
    decoder::error::DecodeError,
    egress::Egress,
    error_chain::chain,
    graphql::{
        self, Services,
        documents::{Documents, trusted::ManifestError},
        fetching::{Fetcher, FetcherOptions},
    },
    http::{
        self, HttpParts, HttpState, UploadLimits,
        gate::{Gate, tally::Tally},
        health::Vitals,
        key_cache::KeyCache,
        key_watch::KeyWatch,
        patience::Patient,
        serve::HEAD_MAX,
        studio::Pages,
    },
    inference::{engine::Engine, error::EngineError},
    pipeline::{self, Tools},
    retention::{eraser::Eraser, orphans},
    storage::StorageError,
    telemetry,
    webhook::Deliverer,
    worker::Worker,
};

pub mod devices;
pub mod heartbeat;
pub mod janitor;
pub mod offer;
pub mod open;
pub mod sign_in;
pub mod watch;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the embedded Postgres did not start (set DATABASE_URL to use another one)")]
    Embedded(#[from] EmbeddedError),
    #[error("the database can't be used (DATABASE_URL)")]
    Database(#[from] DatabaseError),
    #[error("the master keys can't be used here (ORFEAS_MASTER_KEYS)")]
    Ring(#[from] RingError),
    #[error("the asset store can't be used (ORFEAS_STORAGE)")]
    Storage(#[from] StorageError),
    #[error("the engine did not start (ORFEAS_DEVICE, ORFEAS_MODELS_DIR)")]
    Engine(#[from] EngineError),
    #[error("the trusted documents can't be used (ORFEAS_TRUSTED_DOCUMENTS)")]
    Documents(#[from] ManifestError),
    #[error("people can't sign in")]
    Jwks(#[from] JwksError),
    #[error("pictures can't be decoded")]
    Decoder(#[from] DecodeError),
    #[error("the models can't be read (ORFEAS_MODELS_DIR)")]
    Models(#[from] crate::inference::manifest::ModelError),
    #[error("can't listen on {address} ({setting}): is another server running there?")]
    Listen {
        address: SocketAddr,
        setting: &'static str,
        source: std::io::Error,
    },
}

/// What a node is started with, beside its settings.
#[derive(Debug)]
pub struct AppOptions {
    pub settings: Settings,
    /// The `orfeas` binary, for the processes that decode pictures and start Postgres.
    pub program: PathBuf,
    /// An engine to share with other nodes of this process; else one is started when the role computes.
    pub engine: Option<Engine>,
    /// What calls addresses that clients name; else one is made by the settings.
    pub egress: Option<Egress>,
    /// Renders `/metrics`; without it the operators' listener is not opened.
    pub metrics: Option<PrometheusHandle>,
}

/// A node at work.
#[derive(Debug)]
pub struct App {
    /// Where clients reach the API; unset when the role serves nobody.
    pub api: Option<SocketAddr>,
    pub metrics: Option<SocketAddr>,
    pub tokens: Tokens,
    pub node: NodeId,
    database: Database,
    embedded: Option<Embedded>,
    /// To be stopped with the node.
    own_engine: Option<Engine>,
    serving: JoinSet<()>,
    /// Mutations under way, whose clients may be gone.
    mutations: TaskTracker,
    helping: JoinSet<()>,
    stop_serving: CancellationToken,
    stop_helping: CancellationToken,
}

/// How long open requests may take to end when the node stops.
const DRAIN: Duration = Duration::from_secs(10);

/// Shows the node to the others and checks that its master keys fit theirs; strikes it off again when they don't. In
/// this order, so that of two that start at once at least one sees the other.
async fn join(database: &Database, keyring: &Keyring, node: &NodeInfo) -> Result<(), AppError> {
    database.heartbeat(node, &Devices::default()).await?;
    if let Err(error) = database.register_ring(keyring, node.id).await {
        database.sign_off(node.id).await?;
        return Err(error.into());
    }
    Ok(())
}

impl App {
    /// Starts a node: database, store, engine, listeners, in this order, so that nobody is let in too early.
    ///
    /// # Errors
    /// [`AppError`], with what to do about it; whatever had been started is stopped again.
    pub async fn start(options: AppOptions) -> Result<Self, AppError> {
        let AppOptions {
            settings,
            program,
            engine,
            egress,
            metrics,
        } = options;
        let egress = match egress {
            Some(egress) => egress,
            None => Egress::new(settings.egress()?),
        };
        let keyring = settings.keyring()?;
        let (tokens, keeper) = sign_in::tokens(&settings, &keyring).await?;
        let documents = Documents::open(settings.documents()).await?;
        let storage = open::storage(&settings)?;
        let decoder = open::decoder(&settings, program.clone())?;
        let role = settings.orfeas_role;
        let decoder = if role.serves() && role.computes() {
            decoder.remembering(pipeline::DECODED_SIDE_MAX, pipeline::start_soon)
        } else {
            decoder
        };
        let open::Opened {
            embedded, database, ..
        } = open::database(&settings, program).await?;
        let node = NodeInfo {
            id: NodeId::new(),
            name: heartbeat::host_name(),
            role: settings.orfeas_role.as_str(),
            version: env!("CARGO_PKG_VERSION"),
            master_keys: keyring.names().map(str::to_owned).collect(),
        };
        join(&database, &keyring, &node).await?;
        let backlog = Backlog::new(settings.backlog_limits());
        // Before the first client comes.
        backlog.refresh(&database).await?;
        let own_engine = match &engine {
            None if settings.orfeas_role.computes() => Some(open::engine(&settings).await?),
            _ => None,
        };
        let engine = engine.or_else(|| own_engine.clone());
        let mut app = Self {
            api: None,
            metrics: None,
            tokens: tokens.clone(),
            node: node.id,
            database: database.clone(),
            embedded,
            own_engine,
            serving: JoinSet::new(),
            mutations: TaskTracker::new(),
            helping: JoinSet::new(),
            stop_serving: CancellationToken::new(),
            stop_helping: CancellationToken::new(),
        };
        let hub = Hub::default();
        let listening = database.clone();
        let (listen_hub, id, stop) = (hub.clone(), app.node, app.stop_helping.clone());
        app.helping
            .spawn(async move { listening.listen(listen_hub, id, stop).await });
        app.helping.spawn(heartbeat::beat(
            database.clone(),
            node,
            engine.clone(),
            app.stop_helping.clone(),
        ));
        if let Some(keeper) = keeper {
            app.helping.spawn(keeper.run(app.stop_helping.clone()));
        }
        let retention = settings.retention()?;
        app.helping.spawn(janitor::sweep(
            database.clone(),
            retention,
            app.stop_helping.clone(),
        ));
        app.helping
            .spawn(storage.clone().watch(app.stop_helping.clone()));
        app.helping.spawn(watch::watch(
            database.clone(),
            backlog.clone(),
            app.stop_helping.clone(),
        ));
        let eraser = Eraser {
            database: database.clone(),
            storage: storage.clone(),
            hub: hub.clone(),
        };
        app.helping.spawn(eraser.run(app.stop_helping.clone()));
        app.helping.spawn(orphans::run(
            database.clone(),
            storage.clone(),
            app.stop_helping.clone(),
        ));
        let auditor = Auditor::new(database.clone(), app.node, AuditorOptions::default());
        app.helping.spawn(audit::keep(
            auditor.clone(),
            Sealer {
                database: database.clone(),
                keyring: keyring.clone(),
                retention_days: settings.orfeas_audit_retention_days,
            },
            app.stop_helping.clone(),
        ));
        let computing = engine.clone();
        let vitals = Vitals {
            database: database.clone(),
            hub: hub.clone(),
            storage: storage.clone(),
            can_compute: Arc::new(move || computing.as_ref().is_none_or(Engine::can_compute)),
        };
        let tally = Tally::default();
        if let Some(handle) = metrics {
            app.helping
                .spawn(telemetry::keep_up(handle.clone(), app.stop_helping.clone()));
            let routes = http::metrics::router(handle, tally.clone(), vitals.clone());
            app.metrics = Some(
                app.serve(
                    settings.orfeas_metrics_listen,
                    "ORFEAS_METRICS_LISTEN",
                    |_| routes,
                )
                .await?,
            );
        }
        if settings.orfeas_role.serves() {
            let models = offer::models(&settings.models_dir()?, &settings.orfeas_default_model)?;
            let public_url = settings.orfeas_public_url.clone();
            let keys = Arc::new(KeyCache::new(database.clone(), keyring.clone()));
            let watch = KeyWatch::default();
            app.helping.spawn(watch.clone().run(
                database.clone(),
                hub.clone(),
                keys.clone(),
                app.stop_helping.clone(),
            ));
            let gate = Gate {
                tokens,
                user_quotas: settings.user_quotas(),
                keys: settings.enable_agent_api.then_some(keys),
                public_url: settings.public_url()?,
                proxies: settings.trusted_proxies()?,
                database: database.clone(),
                auditor,
                tally,
            };
            let images_max = settings.agent_max_batch_size as usize;
            let origins = settings.cors_origins()?;
            let pages = Pages::new(settings.provider()?.as_ref());
            let mutations = app.mutations.clone();
            let stopping = app.stop_serving.clone();
            let mut told = None;
            let routes = |address: SocketAddr| {
                let base_url = public_url.unwrap_or_else(|| config::reachable(address));
                let links = Links::new(keyring.clone(), &base_url);
                let fetcher = Fetcher::new(FetcherOptions {
                    egress: egress.clone(),
                    bytes_max: settings.orfeas_max_upload_bytes,
                    time_max: settings.fetch_timeout(),
                    stop: stopping.clone(),
                });
                let services = Services {
                    fetcher,
                    database: database.clone(),
                    storage: storage.clone(),
                    backlog: backlog.clone(),
                    hub: hub.clone(),
                    decoder: decoder.clone(),
                    egress: egress.clone(),
                    links: links.clone(),
                    keyring: keyring.clone(),
                    agent_quotas: settings.agent_quotas(),
                    stored_limits: settings.stored_limits(),
                    retention,
                    models: models.into(),
                    image_limits: settings.image_limits(),
                    batch_images_max: images_max,
                    documents,
                    is_introspection_open: settings.orfeas_introspection,
                };
                let uploads = UploadLimits::new(settings.image_limits(), images_max);
                let schema = graphql::schema(services);
                told = Some(schema.clone());
                let parts = HttpParts {
                    schema,
                    gate,
                    watch,
                    mutations: mutations.clone(),
                    stopping,
                    links,
                    database: database.clone(),
                    hub: hub.clone(),
                    storage: storage.clone(),
                    vitals,
                    uploads,
                    origins,
                    pages,
                };
                http::router(HttpState(Arc::new(parts)))
            };
            app.api = Some(
                app.serve(settings.orfeas_listen, "ORFEAS_LISTEN", routes)
                    .await?,
            );
            let deliverer = Deliverer {
                node: app.node,
                database: database.clone(),
                hub: hub.clone(),
                schema: told.expect("made with the routes"),
                keyring,
                egress,
            };
            app.serving.spawn(deliverer.run(app.stop_serving.clone()));
        }
        if let Some(engine) = engine {
            let tools = Tools {
                engine,
                decoder,
                image_limits: settings.image_limits(),
            };
            let worker = Worker::new(app.node, database, storage, hub, tools);
            app.serving.spawn(worker.run(app.stop_serving.clone()));
        }
        Ok(app)
    }

    async fn serve(
        &mut self,
        address: SocketAddr,
        setting: &'static str,
        routes: impl FnOnce(SocketAddr) -> axum::Router,
    ) -> Result<SocketAddr, AppError> {
        let failed = |source| AppError::Listen {
            address,
            setting,
            source,
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let stop = self.stop_serving.clone();
        let server = http::serve::serve(Patient(listener), routes(bound), HEAD_MAX, stop);
        let stop = self.stop_serving.clone();
        self.serving.spawn(async move {
            let drained = async {
                stop.cancelled().await;
                // Subscriptions end at once; an upload or a slow download may take longer than there is time.
                tokio::time::sleep(DRAIN).await;
            };
            tokio::select! {
                () = server => {}
                () = drained => {}
            }
        });
        Ok(bound)
    }

    /// Stops in good order: no new work, what runs is finished or handed back, then everything else.
    pub async fn stop(mut self) {
        info!("Stopping");
        self.stop_serving.cancel();
        while self.serving.join_next().await.is_some() {}
        self.mutations.close();
        self.mutations.wait().await;
        self.stop_helping.cancel();
        while self.helping.join_next().await.is_some() {}
        if let Err(error) = self.database.sign_off(self.node).await {
            warn!(cause = %chain(&error), "Could not sign off; the other nodes will see the silence");
        }
        if let Some(engine) = self.own_engine {
            engine.stop().await;
        }
        self.database.close().await;
        if let Some(embedded) = self.embedded
            && let Err(error) = embedded.shutdown().await
        {
            warn!(cause = %chain(&error), "The embedded Postgres did not stop in good order; it will recover at the next start");
        }
    }
}
