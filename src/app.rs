//! One node: what it is made of, in which order it starts, and in which it stops.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    auth::{jwt::Tokens, link::Links},
    config::{ConfigError, Settings, loader_environment, s3_options},
    conversion::NodeId,
    db::{
        Database, DatabaseError, DatabaseOptions,
        embedded::{Embedded, EmbeddedOptions, error::EmbeddedError},
        listen::Hub,
        nodes::NodeInfo,
    },
    decoder::{DecoderOptions, DecoderPool, error::DecodeError},
    error_chain::chain,
    graphql::{self, Services},
    http::{self, HttpParts, HttpState, UploadLimits},
    inference::{
        batcher::BatchLimits,
        engine::{Engine, EngineOptions},
        error::EngineError,
    },
    pipeline::Tools,
    storage::{Storage, StorageError},
    worker::Worker,
};

pub mod heartbeat;
pub mod offer;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the embedded Postgres did not start (set DATABASE_URL to use another one)")]
    Embedded(#[from] EmbeddedError),
    #[error("the database can't be used (DATABASE_URL)")]
    Database(#[from] DatabaseError),
    #[error("the asset store can't be used (ORFEAS_STORAGE)")]
    Storage(#[from] StorageError),
    #[error("the engine did not start (ORFEAS_DEVICE, ORFEAS_MODELS_DIR)")]
    Engine(#[from] EngineError),
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
    engine: Option<Engine>,
    /// To be stopped with the node.
    own_engine: Option<Engine>,
    serving: JoinSet<()>,
    helping: JoinSet<()>,
    stop_serving: CancellationToken,
    stop_helping: CancellationToken,
}

/// Connections to Postgres of one node: enough for its handlers and its workers, few enough for many nodes.
const CONNECTIONS_MAX: u32 = 16;
/// How long a statement waits for a connection.
const ACQUIRE_MAX: Duration = Duration::from_secs(10);
/// How long open requests may take to end when the node stops.
const DRAIN: Duration = Duration::from_secs(10);
/// How long a picture may take to decode, and a caller to wait for a free process.
const DECODE_MAX: Duration = Duration::from_secs(15);
/// What a decoder process may allocate, at the pixel limit's worst.
const DECODE_BYTES_A_PIXEL: u64 = 12;

/// The database of the settings: the one named, or the embedded one, started or joined.
///
/// # Errors
/// [`AppError::Embedded`] and [`AppError::Database`].
pub async fn open_database(
    settings: &Settings,
    program: PathBuf,
) -> Result<(Option<Embedded>, Database), AppError> {
    let embedded = match &settings.database_url {
        Some(_) => None,
        None => Some(
            Embedded::start_or_join(EmbeddedOptions {
                data_dir: settings.orfeas_data_dir.clone(),
                postgres_dir: settings.orfeas_postgres_dir.clone(),
                helper_program: program,
                settings: Vec::new(),
            })
            .await?,
        ),
    };
    let url = settings
        .database_url
        .clone()
        .or_else(|| embedded.as_ref().map(Embedded::url));
    let options = DatabaseOptions {
        url: url.expect("either the setting or the embedded one gives it"),
        connections_max: CONNECTIONS_MAX,
        acquire_max: ACQUIRE_MAX,
    };
    let database = Database::connect(options).await?;
    database.migrate().await?;
    Ok((embedded, database))
}

/// The asset store of the settings.
///
/// # Errors
/// [`AppError::Storage`].
pub fn open_storage(settings: &Settings) -> Result<Storage, AppError> {
    Ok(match &settings.orfeas_storage {
        Some(url) => Storage::open(url, s3_options())?,
        None => Storage::open_folder(&settings.assets_dir())?,
    })
}

/// The pool of decoder processes.
///
/// # Errors
/// [`AppError::Decoder`].
pub fn open_decoder(settings: &Settings, program: PathBuf) -> Result<DecoderPool, AppError> {
    let processes_max = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .clamp(2, 8);
    Ok(DecoderPool::new(DecoderOptions {
        program,
        args: vec![OsString::from(crate::cli::DECODE_CHILD)],
        environment: loader_environment(),
        processes_max,
        wait_max: DECODE_MAX,
        time_max: DECODE_MAX,
        memory_bytes_max: settings.orfeas_max_pixels * DECODE_BYTES_A_PIXEL + (64 << 20),
        limits: settings.image_limits(),
    })?)
}

/// Starts the engine of the settings, off the async threads.
///
/// # Errors
/// [`AppError::Engine`] and [`AppError::Config`].
pub async fn open_engine(settings: &Settings) -> Result<Engine, AppError> {
    let options = EngineOptions {
        models_dir: settings.models_dir()?,
        default_model: Some(settings.orfeas_default_model.clone()),
        device: settings.device()?,
        limits: batch_limits(settings),
        dynamic_scaling: settings.enable_dynamic_scaling,
        // Its threads wait without spinning (see `cli::main`), so they may be as many as there are cores.
        cpu_threads: std::thread::available_parallelism().ok().map(usize::from),
    };
    let started = tokio::task::spawn_blocking(move || Engine::start(options)).await;
    Ok(started.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?)
}

fn batch_limits(settings: &Settings) -> BatchLimits {
    let images =
        |count: u32| std::num::NonZeroUsize::new(count as usize).expect("checked to be at least 1");
    BatchLimits {
        images_max: images(settings.batch_size_max),
        images_aim: images(settings.batch_size_min),
        wait_max: settings.batch_timeout(),
        ..BatchLimits::default()
    }
}

/// Where a client on this machine reaches a listener that may listen on all addresses.
fn reachable(listening: SocketAddr) -> String {
    let mut address = listening;
    if listening.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    format!("http://{address}")
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
            metrics,
        } = options;
        let keyring = settings.keyring()?;
        let tokens = Tokens::new(&keyring);
        let storage = open_storage(&settings)?;
        let decoder = open_decoder(&settings, program.clone())?;
        let (embedded, database) = open_database(&settings, program).await?;
        let own_engine = match &engine {
            None if settings.orfeas_role.computes() => Some(open_engine(&settings).await?),
            _ => None,
        };
        let engine = engine.or_else(|| own_engine.clone());
        let mut app = Self {
            api: None,
            metrics: None,
            tokens: tokens.clone(),
            node: NodeId::new(),
            database: database.clone(),
            embedded,
            engine: engine.clone(),
            own_engine,
            serving: JoinSet::new(),
            helping: JoinSet::new(),
            stop_serving: CancellationToken::new(),
            stop_helping: CancellationToken::new(),
        };
        let hub = Hub::default();
        let listening = database.clone();
        let (listen_hub, node, stop) = (hub.clone(), app.node, app.stop_helping.clone());
        app.helping
            .spawn(async move { listening.listen(listen_hub, node, stop).await });
        app.spawn_heartbeat(&settings);
        if let Some(handle) = metrics {
            let routes = http::metrics::router(handle, database.clone(), hub.clone());
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
            let images_max = settings.agent_max_batch_size as usize;
            let routes = |address: SocketAddr| {
                let base_url = public_url.unwrap_or_else(|| reachable(address));
                let links = Links::new(keyring, &base_url);
                let services = Services {
                    database: database.clone(),
                    storage: storage.clone(),
                    hub: hub.clone(),
                    decoder: decoder.clone(),
                    links: links.clone(),
                    models: models.into(),
                    image_limits: settings.image_limits(),
                    batch_images_max: images_max,
                };
                let uploads = UploadLimits::new(settings.image_limits(), images_max);
                let schema = graphql::schema(services);
                let parts = HttpParts {
                    schema,
                    tokens,
                    links,
                    database: database.clone(),
                    hub: hub.clone(),
                    storage: storage.clone(),
                    uploads,
                };
                http::router(HttpState(Arc::new(parts)))
            };
            app.api = Some(
                app.serve(settings.orfeas_listen, "ORFEAS_LISTEN", routes)
                    .await?,
            );
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
        let server = axum::serve(listener, routes(bound))
            .with_graceful_shutdown(async move { stop.cancelled().await });
        let stop = self.stop_serving.clone();
        self.serving.spawn(async move {
            let drained = async {
                stop.cancelled().await;
                // Subscriptions may be open for hours; whoever follows reconnects to another node.
                tokio::time::sleep(DRAIN).await;
            };
            tokio::select! {
                ended = server => if let Err(error) = ended { warn!(%error, "A listener ended") },
                () = drained => {}
            }
        });
        Ok(bound)
    }

    fn spawn_heartbeat(&mut self, settings: &Settings) {
        let node = NodeInfo {
            id: self.node,
            name: heartbeat::host_name(),
            role: settings.orfeas_role.as_str(),
            version: env!("CARGO_PKG_VERSION"),
        };
        let beat = heartbeat::beat(
            self.database.clone(),
            node,
            self.engine.clone(),
            self.stop_helping.clone(),
        );
        self.helping.spawn(beat);
    }

    /// Stops in good order: no new work, what runs is finished or handed back, then everything else.
    pub async fn stop(mut self) {
        info!("Stopping");
        self.stop_serving.cancel();
        while self.serving.join_next().await.is_some() {}
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
