//! `orfeas bench`: time in each stage, through a whole server, by how many conversions are submitted at once; or what
//! each layer carries under load; or what it costs to let requests in.

use std::{process::ExitCode, time::Instant};

use clap::Args;
use serde_json::{Value, json};

use super::{
    CommandError,
    client::Client,
    demo::{PICTURES, start_node},
    output,
};
use crate::config::Settings;

mod admission;
mod limits;
mod load;

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
    /// With --load and a model that iterates: the denoising steps of conversions, one after another in this order.
    #[arg(long, value_delimiter = ',')]
    steps: Vec<u32>,
    /// With --load: start as many conversions as there are clients together and the next ones when all have ended, as
    /// whole batches would; else a client goes on when its own has ended.
    #[arg(long)]
    waves: bool,
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
        steps,
        waves,
        json,
    } = options;
    if !load.is_empty() {
        let options = load::LoadOptions {
            levels: load,
            clients,
            seconds,
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
    let (app, client) = start_node(&settings).await?;
    let measured = measure(&client, &at_once, repeat, resolution).await;
    app.stop().await;
    let rows = measured?;
    if json {
        output::line(&Value::Array(rows).to_string());
    } else {
        table(&rows);
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure(
    client: &Client,
    at_once: &[usize],
    repeat: usize,
    resolution: Option<u32>,
) -> Result<Vec<Value>, CommandError> {
    // The first conversion of a process pays for pages and caches.
    one(client, 0, 1, json!({ "resolution": resolution })).await?;
    let mut rows = Vec::new();
    for &count in at_once {
        let mut walls = Vec::new();
        let mut stages: Vec<Vec<f64>> = vec![Vec::new(); STAGES.len()];
        let mut batch_sizes = Vec::new();
        for _ in 0..repeat {
            let (wall, timings) =
                one(client, 0, count, json!({ "resolution": resolution })).await?;
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
        let number = |value: &Value, digits: usize| {
            format!("{:.digits$}", value.as_f64().unwrap_or_default())
        };
        let stages: Vec<_> = STAGES
            .iter()
            .map(|stage| number(&row["medianMs"][stage], 0))
            .collect();
        output::line(&format!(
            "| {} | {} | {} | {} | {} |",
            row["atOnce"],
            number(&row["wallSeconds"], 2),
            number(&row["perSecond"], 2),
            number(&row["gpuBatchSize"], 0),
            stages.join(" | ")
        ));
    }
    output::line("\nStages: milliseconds, the median over all conversions of a row.");
}
