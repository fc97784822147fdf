//! `orfeas bench --load`: how much each layer carries, from the model alone to the whole server, in one run. What one
//! layer carries less than the one below is the cost of what lies between.

use std::{
    num::NonZeroUsize,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use clap::ValueEnum;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::traffic::{Traffic, drive};
use super::{
    super::{
        CommandError,
        demo::{PICTURES, start_node_on},
        output, program,
    },
    STAGES, limits, show,
};
use crate::{
    app,
    config::Settings,
    conversion::{Stage, options::ConversionOptions},
    inference::{batcher::BatchLimits, engine::Engine, limits::KernelWatch},
    pipeline::{
        self, Job,
        shape::{ShapeOptions, shape},
        stage::{Interrupt, Reporter, Silent, Stages},
    },
};

pub(super) mod traffic;

/// What is put under load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Level {
    /// The model's methods in a loop: the device's limit.
    Model,
    /// The engine up to the codes: encode and, with a model that iterates, denoise.
    Codes,
    /// The engine with its batcher: encode, sample, extract, colour; pictures prepared beforehand.
    Engine,
    /// Whole conversions in this process, from the picture's bytes to GLB, without server, database or store.
    Pipeline,
    /// Whole conversions through GraphQL, to the stored GLB.
    Server,
}

/// How the load is made.
#[derive(Debug, Clone)]
pub(super) struct LoadOptions {
    pub levels: Vec<Level>,
    /// So many clients at once, each with one conversion at a time; one run for each number.
    pub clients: Vec<usize>,
    pub seconds: f64,
    /// After each run another one, in which conversions come at these shares of the rate that it carried.
    pub arrivals: Vec<f64>,
    /// Ask the profiler how long kernels ran.
    pub kernels: bool,
    pub resolution: Option<u32>,
    /// GPU batches pinned to these sizes; one run for each, none: as the server chooses.
    pub batches: Vec<u32>,
    /// Denoising steps of conversions in turn; none: the model's own.
    pub steps: Vec<u32>,
    /// Whether so many start together, and the next ones when all have ended.
    pub waves: bool,
    pub json: bool,
}

/// Puts each level under load and shows what it carried.
///
/// # Errors
/// When something can't start, or a conversion fails.
pub(super) async fn run(
    settings: Settings,
    options: LoadOptions,
) -> Result<ExitCode, CommandError> {
    let mut rows = Vec::new();
    if options.levels.contains(&Level::Model) {
        let rows = limits::measure(&settings).await?;
        limits::show(&rows, options.json);
    }
    let pinned: Vec<_> = options.batches.iter().copied().map(Some).collect();
    for batch in if pinned.is_empty() {
        vec![None]
    } else {
        pinned
    } {
        let settings = match batch {
            None => settings.clone(),
            Some(images) => Settings {
                enable_dynamic_scaling: false,
                batch_size_min: images,
                batch_size_max: images,
                ..settings.clone()
            },
        };
        rows.extend(at_batch(&settings, &options, batch).await?);
    }
    Ok(show(rows, options.json, table))
}

async fn at_batch(
    settings: &Settings,
    options: &LoadOptions,
    batch: Option<u32>,
) -> Result<Vec<Value>, CommandError> {
    let engine = app::open::engine(settings).await?;
    let limits = app::open::batch_limits(settings);
    // A server claims no more than it can take; here every client is let in.
    let clients_max = options
        .clients
        .iter()
        .copied()
        .max()
        .and_then(NonZeroUsize::new);
    engine.set_limits(BatchLimits {
        pending_max: clients_max.map_or(limits.pending_max, |most| most.max(limits.pending_max)),
        ..limits
    });
    let rows = on_engine(settings, options, batch, &engine).await;
    // Also when something failed: a process must not end while a device works.
    engine.stop().await;
    rows
}

async fn on_engine(
    settings: &Settings,
    options: &LoadOptions,
    batch: Option<u32>,
    engine: &Engine,
) -> Result<Vec<Value>, CommandError> {
    let steps = |number: usize| {
        let turn = number.checked_rem(options.steps.len());
        turn.map(|turn| options.steps[turn])
    };
    let tools = Arc::new(app::open::tools(settings, engine.clone(), program()?)?);
    let job = |picture: usize| Job {
        picture: PICTURES[picture % PICTURES.len()].1.into(),
        model: engine.default_model().to_owned(),
        options: ConversionOptions {
            resolution: options.resolution,
            steps: steps(picture),
            ..ConversionOptions::default()
        },
        rank: 0,
        name: None,
    };
    let mut runs = Runs {
        engine,
        options,
        batch,
        kernels: options.kernels.then(KernelWatch::begin).transpose()?,
        rows: Vec::new(),
    };
    let mut ready = Vec::new();
    for picture in 0..PICTURES.len() {
        ready.push(pipeline::prepared(&tools, &job(picture)).await?);
    }
    let request = |number: usize| {
        let (mut request, field) = ready[number % ready.len()].clone();
        request.sampling.steps = steps(number);
        (request, field)
    };
    if options.levels.contains(&Level::Codes) {
        let one = |number: usize| {
            let (engine, (request, _)) = (engine.clone(), request(number));
            async move {
                let mut ticket = engine.enqueue(request)?;
                let start = ticket.started().await?;
                ticket.finished().await?;
                Ok(json!({ "gpuBatchSize": start.images }))
            }
        };
        runs.under_load("codes", one).await?;
    }
    if options.levels.contains(&Level::Engine) {
        let one = |number: usize| {
            let (engine, (request, field)) = (engine.clone(), request(number));
            async move {
                let wanted = ShapeOptions::new(field, &ConversionOptions::default());
                let ticket = engine.enqueue(request)?;
                let shape = shape(&mut Stages::new(&Silent), &engine, ticket, None, wanted).await?;
                Ok(json!({ "gpuBatchSize": shape.gpu_batch_size }))
            }
        };
        runs.under_load("engine", one).await?;
    }
    if options.levels.contains(&Level::Pipeline) {
        let ahead = Arc::new(Semaphore::new(engine.images_ahead()));
        let one = |picture: usize| {
            let (tools, job, ahead) = (Arc::clone(&tools), job(picture), Arc::clone(&ahead));
            async move {
                let reporter = Ahead::wait(ahead).await;
                let product = pipeline::convert(&tools, job, &reporter).await?;
                let mut timings = json!({ "gpuBatchSize": product.gpu_batch_size });
                for (stage, time) in product.timings {
                    timings[format!("{}Ms", stage.as_str())] = json!(time.as_secs_f64() * 1000.0);
                }
                Ok(timings)
            }
        };
        runs.under_load("pipeline", one).await?;
    }
    if options.levels.contains(&Level::Server) {
        let (app, client) = start_node_on(settings, Some(engine.clone())).await?;
        let clients: Vec<_> = (0..PEOPLE)
            .map(|number| {
                let person = format!("bench-{number}");
                client.with_token(app.tokens.issue(&person, &[], TOKEN_LASTS))
            })
            .collect();
        let one = |picture: usize| {
            let client = clients[picture % clients.len()].clone();
            let wanted = json!({ "resolution": options.resolution, "steps": steps(picture) });
            async move {
                let (_, mut timings) = super::one(&client, picture, 1, wanted).await?;
                Ok(timings.remove(0))
            }
        };
        let carried = runs.under_load("server", one).await;
        app.stop().await;
        carried?;
    }
    Ok(runs.rows)
}

/// People whom the clients of a server speak for, in turn. Submissions of one are admitted one after another, each once
/// the one before is on the disk.
const PEOPLE: usize = 32;

/// Longer than any run.
const TOKEN_LASTS: Duration = Duration::from_secs(24 * 3600);

/// A conversion whose picture isn't encoded yet: there are no more of them than a worker claims.
struct Ahead(Mutex<Option<OwnedSemaphorePermit>>);

impl Ahead {
    async fn wait(permits: Arc<Semaphore>) -> Self {
        let permit = permits.acquire_owned().await;
        Self(Mutex::new(Some(permit.expect("it is never closed"))))
    }
}

impl Reporter for Ahead {
    async fn enter(&self, _stage: Stage) -> Result<(), Interrupt> {
        Ok(())
    }

    fn fraction(&self, _stage: Stage, _value: f32) {}

    fn encoded(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// The runs on one engine and what they carried.
struct Runs<'a> {
    engine: &'a Engine,
    options: &'a LoadOptions,
    batch: Option<u32>,
    kernels: Option<KernelWatch>,
    rows: Vec<Value>,
}

impl Runs<'_> {
    /// A run with each number of clients, and after each of them one at each share of its rate.
    async fn under_load<F>(
        &mut self,
        level: &str,
        one: impl Fn(usize) -> F,
    ) -> Result<(), CommandError>
    where
        F: Future<Output = Result<Value, CommandError>> + Send + 'static,
    {
        let seconds = self.options.seconds;
        for &clients in &self.options.clients {
            let full = match self.options.waves {
                true => Traffic::Waves(clients),
                false => Traffic::Clients(clients),
            };
            let carried = drive(self.engine, self.kernels, full, seconds, &one).await?;
            let rate = carried["perSecond"].as_f64().unwrap_or_default();
            let waves = self.options.waves;
            self.tell(
                level,
                json!({ "clients": clients, "waves": waves }),
                carried,
            );
            if rate == 0.0 && !self.options.arrivals.is_empty() {
                return Err(
                    "no conversion ended in the time that is counted: give it more --seconds"
                        .into(),
                );
            }
            for share in &self.options.arrivals {
                let traffic = Traffic::Arrivals(share * rate);
                let carried = drive(self.engine, self.kernels, traffic, seconds, &one).await?;
                self.tell(level, json!({ "arrivals": share * rate }), carried);
            }
        }
        Ok(())
    }

    fn tell(&mut self, level: &str, traffic: Value, carried: Value) {
        let mut row = json!({ "level": level, "gpuBatchPinned": self.batch });
        if let Value::Object(row) = &mut row {
            let parts = [traffic, carried].into_iter();
            row.extend(parts.filter_map(|part| part.as_object().cloned()).flatten());
        }
        output::complain(&row.to_string());
        self.rows.push(row);
    }
}

fn table(rows: &[Value]) {
    output::line(
        "| level | load | GPU batch at most | conversions | per s | p50 ms | p95 ms | p99 ms | GPU batch | device busy | kernels | processor s | stages ms |",
    );
    output::line("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for row in rows {
        let number = |key: &str, digits: usize| output::number(&row[key], digits);
        let load = match row["clients"].as_u64() {
            Some(clients) if row["waves"] == true => format!("{clients} in waves"),
            Some(clients) => format!("{clients} clients"),
            None => format!("{} a second", number("arrivals", 1)),
        };
        let at_most = row["gpuBatchPinned"].as_u64();
        output::line(&format!(
            "| {} | {load} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row["level"].as_str().unwrap_or_default(),
            at_most.map_or("chosen".to_owned(), |images| images.to_string()),
            row["conversions"],
            number("perSecond", 1),
            number("p50Ms", 0),
            number("p95Ms", 0),
            number("p99Ms", 0),
            number("gpuBatch", 1),
            number("deviceBusy", 2),
            number("kernelsBusy", 2),
            number("processorSeconds", 3),
            STAGES
                .map(|stage| output::number(&row["medianMs"][stage], 0))
                .join(" "),
        ));
    }
    output::line(
        "\nStages: queued, prepare, encode, reconstruct, mesh, texture and export, medians of those that ended in the time that is counted.",
    );
}
