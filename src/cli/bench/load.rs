//! `orfeas bench --load`: how much each layer carries, from the model alone to the whole server, in one run. What one
//! layer carries less than the one below is the cost of what lies between.

use std::{
    num::NonZeroUsize,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use clap::ValueEnum;
use serde_json::{Value, json};

use super::{
    super::{
        CommandError,
        demo::{PICTURES, start_node_on},
        output, program,
    },
    limits,
};
use crate::{
    app,
    config::Settings,
    conversion::options::{ConversionOptions, TextureMode},
    inference::{batcher::BatchLimits, device::DeviceInfo, engine::Engine},
    pipeline::{
        self, Job,
        shape::{ShapeOptions, shape},
        stage::{Silent, Stages},
    },
};

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
    pub resolution: Option<u32>,
    /// GPU batches pinned to these sizes; one run for each, none: as the server chooses.
    pub batches: Vec<u32>,
    /// Denoising steps of conversions in turn; none: the model's own.
    pub steps: Vec<u32>,
    /// Whether so many start together, and the next ones when all have ended.
    pub waves: bool,
    pub json: bool,
}

/// One conversion that has ended.
#[derive(Debug, Clone, Copy)]
struct Done {
    ended: Instant,
    took: Duration,
    gpu_batch: f64,
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
    if options.json {
        output::line(&Value::Array(rows).to_string());
    } else {
        table(&rows);
    }
    Ok(ExitCode::SUCCESS)
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
    let LoadOptions { seconds, waves, .. } = *options;
    let mut rows = Vec::new();
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
    let mut tell = |level: &str, clients: usize, carried: Value| {
        let mut row =
            json!({ "level": level, "gpuBatchPinned": batch, "clients": clients, "waves": waves });
        if let (Value::Object(row), Value::Object(carried)) = (&mut row, carried) {
            row.extend(carried);
        }
        output::complain(&row.to_string());
        rows.push(row);
    };
    let clocked = |clients| Loop {
        clients,
        seconds,
        waves,
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
        for &clients in &options.clients {
            let carried = closed_loop(engine, clocked(clients), |number| {
                let (engine, (request, _)) = (engine.clone(), request(number));
                async move {
                    let mut ticket = engine.enqueue(request)?;
                    let start = ticket.started().await?;
                    ticket.finished().await?;
                    Ok(start.images as f64)
                }
            });
            tell("codes", clients, carried.await?);
        }
    }
    if options.levels.contains(&Level::Engine) {
        for &clients in &options.clients {
            let carried = closed_loop(engine, clocked(clients), |number| {
                let (engine, (request, field)) = (engine.clone(), request(number));
                async move {
                    let wanted = ShapeOptions {
                        field,
                        target_triangles: None,
                        texture: TextureMode::VertexColor,
                    };
                    let ticket = engine.enqueue(request)?;
                    let shape = shape(&mut Stages::new(&Silent), &engine, ticket, wanted).await?;
                    Ok(shape.gpu_batch_size as f64)
                }
            });
            tell("engine", clients, carried.await?);
        }
    }
    if options.levels.contains(&Level::Pipeline) {
        for &clients in &options.clients {
            let carried = closed_loop(engine, clocked(clients), |picture| {
                let (tools, job) = (Arc::clone(&tools), job(picture));
                async move {
                    let product = pipeline::convert(&tools, job, &Silent).await?;
                    Ok(product.gpu_batch_size as f64)
                }
            });
            tell("pipeline", clients, carried.await?);
        }
    }
    if options.levels.contains(&Level::Server) {
        let (app, client) = start_node_on(settings, Some(engine.clone())).await?;
        let client = Arc::new(client);
        for &clients in &options.clients {
            let carried = closed_loop(engine, clocked(clients), |picture| {
                let client = Arc::clone(&client);
                let asked = json!({ "resolution": options.resolution, "steps": steps(picture) });
                async move {
                    let (_, timings) = super::one(&client, picture, 1, asked).await?;
                    Ok(timings[0]["gpuBatchSize"].as_f64().unwrap_or_default())
                }
            });
            match carried.await {
                Ok(carried) => tell("server", clients, carried),
                Err(error) => {
                    app.stop().await;
                    return Err(error);
                }
            }
        }
        app.stop().await;
    }
    Ok(rows)
}

/// How conversions follow each other.
#[derive(Debug, Clone, Copy)]
struct Loop {
    clients: usize,
    seconds: f64,
    waves: bool,
}

/// Keeps so many conversions going; the first fifth of the time is for getting there and isn't counted.
async fn closed_loop<F>(
    engine: &Engine,
    clocked: Loop,
    one: impl Fn(usize) -> F,
) -> Result<Value, CommandError>
where
    F: Future<Output = Result<f64, CommandError>> + Send + 'static,
{
    let Loop {
        clients,
        seconds,
        waves,
    } = clocked;
    let started = Instant::now();
    let counted = started + Duration::from_secs_f64(seconds * 0.2);
    let end = started + Duration::from_secs_f64(seconds);
    let done = Arc::new(Mutex::new(Vec::new()));
    let mut running = tokio::task::JoinSet::new();
    let mut number = 0;
    let mut start = |running: &mut tokio::task::JoinSet<_>| {
        let (conversion, done) = (one(number), Arc::clone(&done));
        number += 1;
        running.spawn(async move {
            let began = Instant::now();
            let gpu_batch = conversion.await?;
            let ended = Instant::now();
            let row = Done {
                ended,
                took: ended - began,
                gpu_batch,
            };
            done.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(row);
            Ok::<(), CommandError>(())
        });
    };
    (0..clients).for_each(|_| start(&mut running));
    let busy_from = busy(engine);
    while let Some(ended) = running.join_next().await {
        ended.map_err(|error| error.to_string())??;
        if Instant::now() >= end {
            continue;
        }
        match (waves, running.is_empty()) {
            (false, _) => start(&mut running),
            (true, true) => (0..clients).for_each(|_| start(&mut running)),
            (true, false) => {}
        }
    }
    // Over all of the time: at its end it runs dry.
    let busy = busy(engine)
        .zip(busy_from)
        .map(|(to, from)| (to - from) / started.elapsed().as_secs_f64());
    let done = std::mem::take(&mut *done.lock().unwrap_or_else(PoisonError::into_inner));
    let within = done
        .iter()
        .filter(|done| (counted..end).contains(&done.ended));
    let mut row = summary(
        &within.copied().collect::<Vec<_>>(),
        (end - counted).as_secs_f64(),
    );
    row["deviceBusy"] = json!(busy);
    Ok(row)
}

/// Seconds that the devices have worked, all together.
fn busy(engine: &Engine) -> Option<f64> {
    let busy = |device: DeviceInfo| device.busy.map(|busy| busy.as_secs_f64());
    engine.devices().into_iter().map(busy).sum()
}

fn summary(done: &[Done], seconds: f64) -> Value {
    let mut took: Vec<f64> = done
        .iter()
        .map(|done| done.took.as_secs_f64() * 1000.0)
        .collect();
    took.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts of a benchmark"
    )]
    let at = |share: f64| {
        let place = (share * took.len() as f64).ceil() as usize;
        took.get(place.clamp(1, took.len().max(1)) - 1).copied()
    };
    #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
    let count = done.len() as f64;
    json!({
        "conversions": done.len(), "perSecond": count / seconds, "p50Ms": at(0.5), "p95Ms": at(0.95), "p99Ms": at(0.99),
        "gpuBatch": done.iter().map(|done| done.gpu_batch).sum::<f64>() / count.max(1.0),
    })
}

fn table(rows: &[Value]) {
    output::line(
        "| level | clients | GPU batch at most | conversions | per s | p50 ms | p95 ms | p99 ms | GPU batch | device busy |",
    );
    output::line("|---|---|---|---|---|---|---|---|---|---|");
    for row in rows {
        let number = |key: &str, digits: usize| {
            row[key]
                .as_f64()
                .map_or("–".to_owned(), |value| format!("{value:.digits$}"))
        };
        output::line(&format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row["level"].as_str().unwrap_or_default(),
            row["clients"],
            row["gpuBatchPinned"]
                .as_u64()
                .map_or("chosen".to_owned(), |images| images.to_string()),
            row["conversions"],
            number("perSecond", 1),
            number("p50Ms", 0),
            number("p95Ms", 0),
            number("p99Ms", 0),
            number("gpuBatch", 1),
            number("deviceBusy", 2),
        ));
    }
}
