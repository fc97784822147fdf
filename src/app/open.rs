//! What a node stands on, opened by its settings: database, store, decoders, engine.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use super::AppError;
use crate::{
    config::{
        Settings,
        environment::{loader_environment, s3_options},
    },
    db::{
        Database, DatabaseOptions,
        embedded::{Embedded, EmbeddedOptions, error::EmbeddedError},
    },
    decoder::{DecoderOptions, DecoderPool},
    inference::{
        batcher::BatchLimits,
        engine::{Engine, EngineOptions},
        measurements::Measurements,
    },
    pipeline::Tools,
    storage::Storage,
};

/// Connections to Postgres of one node: enough for its handlers and its workers, few enough for many nodes.
const CONNECTIONS_MAX: u32 = 16;
/// How long a statement waits for a connection.
const ACQUIRE_MAX: Duration = Duration::from_secs(10);
/// How long a picture may take to decode, and a caller to wait for a free process.
const DECODE_MAX: Duration = Duration::from_secs(15);
/// What a decoder process may allocate, at the pixel limit's worst.
const DECODE_BYTES_A_PIXEL: u64 = 12;

/// The database of the settings: the one named, or the embedded one, started or joined.
///
/// # Errors
/// [`AppError::Embedded`] and [`AppError::Database`].
pub async fn database(settings: &Settings, program: PathBuf) -> Result<Opened, AppError> {
    let opened = unmigrated(settings, program).await?;
    opened.database.migrate().await?;
    Ok(opened)
}

/// A database, and the Postgres that was started or joined for it.
#[derive(Debug)]
pub struct Opened {
    pub url: String,
    pub database: Database,
    /// None where the settings name another one.
    pub embedded: Option<Embedded>,
}

impl Opened {
    /// Lets go of it.
    ///
    /// # Errors
    /// [`EmbeddedError`] when the embedded one does not stop.
    pub async fn close(self) -> Result<(), EmbeddedError> {
        self.database.close().await;
        match self.embedded {
            Some(embedded) => embedded.shutdown().await,
            None => Ok(()),
        }
    }
}

/// As [`database`], with its schema as it was left: for programs that read it as a whole.
///
/// # Errors
/// [`AppError::Embedded`] and [`AppError::Database`].
pub async fn unmigrated(settings: &Settings, program: PathBuf) -> Result<Opened, AppError> {
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
    let url = url.expect("either the setting or the embedded one gives it");
    let options = DatabaseOptions {
        url: url.clone(),
        connections_max: CONNECTIONS_MAX,
        acquire_max: ACQUIRE_MAX,
    };
    let database = Database::connect(options).await?;
    Ok(Opened {
        url,
        database,
        embedded,
    })
}

/// The asset store of the settings.
///
/// # Errors
/// [`AppError::Storage`].
pub fn storage(settings: &Settings) -> Result<Storage, AppError> {
    Ok(match &settings.orfeas_storage {
        Some(url) => Storage::open(url, s3_options())?,
        None => Storage::open_folder(&settings.assets_dir())?,
    })
}

/// The pool of decoder processes.
///
/// # Errors
/// [`AppError::Decoder`].
pub fn decoder(settings: &Settings, program: PathBuf) -> Result<DecoderPool, AppError> {
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

/// What conversions are made with, by the settings.
///
/// # Errors
/// [`AppError::Decoder`].
pub fn tools(settings: &Settings, engine: Engine, program: PathBuf) -> Result<Tools, AppError> {
    Ok(Tools {
        engine,
        decoder: decoder(settings, program)?,
        image_limits: settings.image_limits(),
    })
}

/// Starts the engine of the settings, off the async threads.
///
/// # Errors
/// [`AppError::Engine`] and [`AppError::Config`].
pub async fn engine(settings: &Settings) -> Result<Engine, AppError> {
    let options = EngineOptions {
        models_dir: settings.models_dir()?,
        default_model: Some(settings.orfeas_default_model.clone()),
        device: settings.device()?,
        limits: batch_limits(settings),
        dynamic_scaling: settings.enable_dynamic_scaling,
        cpu_threads: cpu_threads(),
        measurements: Some(Measurements::in_folder(
            settings.orfeas_data_dir.join("measured"),
        )),
    };
    Ok(blocking(move || Engine::start(options)).await?)
}

/// Does what blocks off the async threads; its panic is the caller's.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// Threads of one pass on the CPU. They wait without spinning (see `cli::main`), so they may be as many as there are
/// cores.
#[must_use]
pub fn cpu_threads() -> Option<usize> {
    std::thread::available_parallelism().ok().map(usize::from)
}

/// What bounds GPU batches by the settings.
#[must_use]
pub fn batch_limits(settings: &Settings) -> BatchLimits {
    let images =
        |count: u32| std::num::NonZeroUsize::new(count as usize).expect("checked to be at least 1");
    BatchLimits {
        images_max: images(settings.batch_size_max),
        images_aim: images(settings.batch_size_min),
        wait_max: settings.batch_timeout(),
        ..BatchLimits::default()
    }
}
