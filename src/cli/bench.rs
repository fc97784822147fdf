//! `orfeas bench`: time in each stage, through a whole server, by how many conversions are submitted at once; or what
//! each layer carries under load; or what it costs to let requests in; or what the queue's statements cost.

use std::{process::ExitCode, time::Instant};

use clap::Args;
use serde_json::{Value, json};

use super::{
    CommandError,
    client::Client,
    demo::{PICTURES, start_node, start_node_on},
    output,
};
use crate::{app, config::Settings, inference::engine::Engine};

mod admission;
mod limits;
mod load;
mod meshes;
mod mixed;
mod queue;
mod together;

/// Options of `orfeas bench`.
#[derive(Debug, Args)]
pub struct Options {
    /// How many conversions to submit at once, one run after another.
    #[arg(long, value_delimiter = ',', default_value = "1,4,8")]
    at_once: Vec<usize>,
    /// How often each; the median is shown.
    #[arg(long, default_value_t = 5)]
    repeat: usize,
    /// Field samples along an axis; default: the model's.
    #[arg(long)]
    resolution: Option<u32>,
    /// Instead: what it costs to let signed requests in, from this many agents at once.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1000))]
    agents: Option<u16>,
    /// Instead: how much each of these layers carries (model, codes, engine, pipeline, server), one after another.
    #[arg(long, value_delimiter = ',', value_enum)]
    load: Vec<load::Level>,
    /// With --load: how many clients at once, each with one conversion at a time.
    #[arg(long, value_delimiter = ',', default_value = "1,8,32")]
    clients: Vec<usize>,
    /// With --load: how long each; a fifth of it isn't counted.
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    seconds: f64,
    /// With --load: pin GPU batches to these sizes, one run for each.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    gpu_batch: Vec<u32>,
    /// With --load: after each run, one in which conversions come at random at this share of the rate it carried.
    #[arg(long, value_delimiter = ',', value_parser = share)]
    arrivals: Vec<f64>,
    /// With --load: ask NVIDIA's profiler how much of the time kernels ran.
    #[arg(long)]
    kernels: bool,
    /// With --load and a model that iterates: the denoising steps of conversions, one after another in this order.
    #[arg(long, value_delimiter = ',')]
    steps: Vec<u32>,
    /// With --load: start as many conversions as there are clients together and the next ones when all have ended, as
    /// whole batches would; else a client goes on when its own has ended.
    #[arg(long)]
    waves: bool,
    /// Instead: what so many take that come together to an idle server, beside one alone.
    #[arg(long, value_parser = clap::value_parser!(u16).range(2..=100))]
    together: Option<u16>,
    /// Instead: so many conversions of all kinds, and the memory in use as they go by.
    #[arg(long)]
    mixed: Option<usize>,
    /// Instead: the steps from a field to its files, without a model, at these resolutions.
    #[arg(long, value_delimiter = ',')]
    meshes: Vec<u32>,
    /// Instead: what the queue's statements cost with so many rows in the table of an empty database, growing.
    #[arg(long, value_delimiter = ',')]
    queue: Vec<u64>,
    /// With --queue: how many callers at once, one run for each.
    #[arg(long, value_delimiter = ',', default_value = "1,16")]
    callers: Vec<usize>,
    /// With --queue: how many conversions each run takes in and ends.
    #[arg(long, default_value_t = 2000)]
    conversions: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("write 0.1 to 3600".into()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.01..=2.0).contains(&share) => Ok(share),
        _ => Err("write 0.01 to 2".into()),
    }
}

const STAGES: [&str; 7] = [
    "queuedMs",
    "prepareMs",
    "encodeMs",
    "reconstructMs",
    "meshMs",
    "textureMs",
    "exportMs",
];

/// Submits batches to a server of its own and shows where the time went.
///
/// # Errors
/// When the server can't start, or a conversion fails.
pub async fn run(settings: Settings, options: Options) -> Result<ExitCode, CommandError> {
    let Options {
        at_once,
        repeat,
        resolution,
        agents,
        load,
        clients,
        seconds,
        gpu_batch,
        arrivals,
        kernels,
        steps,
        waves,
        together,
        mixed,
        meshes,
        queue,
        callers,
        conversions,
        json,
    } = options;
    if !queue.is_empty() {
        let options = queue::QueueOptions {
            rows: queue,
            callers,
            conversions,
            json,
        };
        return queue::run(&settings, options).await;
    }
    if !meshes.is_empty() {
        return Ok(show(meshes::run(&meshes, repeat)?, json, meshes::table));
    }
    if !load.is_empty() {
        let options = load::LoadOptions {
            levels: load,
            clients,
            seconds,
            arrivals,
            kernels,
            resolution,
            batches: gpu_batch,
            steps,
            waves,
            json,
        };
        return load::run(settings, options).await;
    }
    if let Some(agents) = agents {
        return admission::run(&settings, agents.into()).await;
    }
    if let Some(conversions) = mixed {
        return mixed::run(&settings, conversions, json).await;
    }
    if repeat == 0
        || at_once
            .iter()
            .any(|&count| count == 0 || count > settings.agent_max_batch_size as usize)
    {
        return Err(format!(
            "--repeat takes 1 or more, --at-once 1 to {}",
            settings.agent_max_batch_size
        )
        .into());
    }
    if let Some(count) = together {
        let options = together::TogetherOptions {
            count: count.into(),
            repeat,
            resolution,
            json,
        };
        return together::run(&settings, options).await;
    }
    let (app, client) = start_node(&settings).await?;
    let measured = measure(&client, &at_once, repeat, resolution).await;
    app.stop().await;
    Ok(show(measured?, json, table))
}

/// Prints rows as JSON or as a table.
fn show(rows: Vec<Value>, json: bool, table: fn(&[Value])) -> ExitCode {
    if json {
        output::line(&Value::Array(rows).to_string());
    } else {
        table(&rows);
    }
    ExitCode::SUCCESS
}

async fn measure(
    client: &Client,
    at_once: &[usize],
    repeat: usize,
    resolution: Option<u32>,
) -> Result<Vec<Value>, CommandError> {
    let options = json!({ "resolution": resolution });
    // The first conversion of a process pays for pages and caches.
    one(client, 0, 1, options.clone()).await?;
    let mut rows = Vec::new();
    for &count in at_once {
        let mut walls = Vec::new();
        let mut stages: Vec<Vec<f64>> = vec![Vec::new(); STAGES.len()];
        let mut batch_sizes = Vec::new();
        for _ in 0..repeat {
            let (wall, timings) = one(client, 0, count, options.clone()).await?;
            walls.push(wall);
            for timing in &timings {
                batch_sizes.push(timing["gpuBatchSize"].as_f64().unwrap_or_default());
                for (values, stage) in stages.iter_mut().zip(STAGES) {
                    values.push(timing[stage].as_f64().unwrap_or_default());
                }
            }
        }
        let medians: serde_json::Map<_, _> = STAGES
            .iter()
            .zip(&mut stages)
            .map(|(stage, values)| ((*stage).to_owned(), json!(median(values))))
            .collect();
        let wall = median(&mut walls);
        #[expect(clippy::cast_precision_loss, reason = "a handful of conversions")]
        let per_second = count as f64 / wall;
        rows.push(json!({
            "atOnce": count, "wallSeconds": wall, "perSecond": per_second,
            "gpuBatchSize": median(&mut batch_sizes), "medianMs": medians,
        }));
    }
    Ok(rows)
}

/// Starts an engine and a server on it, does some work there, and stops both, whatever came of it.
async fn on_server<T>(
    settings: &Settings,
    work: impl AsyncFnOnce(&Engine, &Client) -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    let engine = app::open::engine(settings).await?;
    engine.set_limits(app::open::batch_limits(settings));
    let done = match start_node_on(settings, Some(engine.clone())).await {
        Ok((app, client)) => {
            let done = work(&engine, &client).await;
            app.stop().await;
            done
        }
        Err(error) => Err(error),
    };
    // A process must not end while a device works.
    engine.stop().await;
    done
}

/// Submits `count` conversions at once, of the sample pictures from the `first` on; seconds until all have ended, and
/// each one's timings.
async fn one(
    client: &Client,
    first: usize,
    count: usize,
    options: Value,
) -> Result<(f64, Vec<Value>), CommandError> {
    let pictures = PICTURES.iter().cycle();
    let pictures = pictures.skip(first % PICTURES.len()).take(count);
    let pictures = pictures
        .map(|(name, bytes)| (format!("{name}.png"), bytes.to_vec()))
        .collect();
    let started = Instant::now();
    let (batch, _) = client.submit(pictures, options).await?;
    client.follow(&batch, |_| {}).await?;
    let wall = started.elapsed().as_secs_f64();
    let query = format!(
        "query ($id: ID!) {{ batch(id: $id) {{ conversions {{ status timings {{ {} gpuBatchSize }} }} }} }}",
        STAGES.join(" ")
    );
    let mut data = client.query(&query, json!({ "id": batch })).await?;
    let Value::Array(conversions) = data["batch"]["conversions"].take() else {
        return Err("the batch lists no conversions".into());
    };
    if let Some(failed) = conversions
        .iter()
        .find(|conversion| conversion["status"] != "SUCCEEDED")
    {
        return Err(format!("a conversion ended as {}", failed["status"]).into());
    }
    Ok((
        wall,
        conversions
            .into_iter()
            .map(|mut conversion| conversion["timings"].take())
            .collect(),
    ))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn table(rows: &[Value]) {
    output::line(
        "| at once | wall s | per s | GPU batch | queued | prepare | encode | reconstruct | mesh | texture | export |",
    );
    output::line("|---|---|---|---|---|---|---|---|---|---|---|");
    for row in rows {
        let stages: Vec<_> = STAGES
            .iter()
            .map(|stage| output::number(&row["medianMs"][stage], 0))
            .collect();
        output::line(&format!(
            "| {} | {} | {} | {} | {} |",
            row["atOnce"],
            output::number(&row["wallSeconds"], 2),
            output::number(&row["perSecond"], 2),
            output::number(&row["gpuBatchSize"], 0),
            stages.join(" | ")
        ));
    }
    output::line("\nStages: milliseconds, the median over all conversions of a row.");
}
