//! `orfeas bench --together`: what several conversions take that come together to an idle server, beside one alone.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::{
    super::{CommandError, client::Client, output},
    load::traffic::{busy, processor_seconds},
    median, on_server, one,
};
use crate::{config::Settings, inference::engine::Engine};

/// How it is measured.
#[derive(Debug, Clone)]
pub(super) struct TogetherOptions {
    /// How many come together.
    pub count: usize,
    /// How often each; the median is shown.
    pub repeat: usize,
    pub resolution: Option<u32>,
    pub json: bool,
}

/// The medians of some rounds, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Took {
    /// From the submission to the last one's end.
    wall: f64,
    /// The devices' own part of it.
    device: Option<f64>,
    /// Processor time of this process, all its threads together.
    processor: f64,
}

/// Measures on a server of its own and prints the figures.
///
/// # Errors
/// When it can't start, or a conversion fails.
pub(super) async fn run(
    settings: &Settings,
    options: TogetherOptions,
) -> Result<ExitCode, CommandError> {
    let row = on_server(settings, async |engine, client| {
        measure(engine, client, &options).await
    });
    show(&row.await?, options.json);
    Ok(ExitCode::SUCCESS)
}

async fn measure(
    engine: &Engine,
    client: &Client,
    options: &TogetherOptions,
) -> Result<Value, CommandError> {
    let &TogetherOptions {
        count,
        repeat,
        resolution,
        ..
    } = options;
    // The first of each kind pay for pages and caches.
    rounds(engine, client, 1, 2, resolution).await?;
    rounds(engine, client, count, 2, resolution).await?;
    let alone = rounds(engine, client, 1, repeat, resolution).await?;
    let together = rounds(engine, client, count, repeat, resolution).await?;
    // What can't be shared: the processor's part of one conversion's path, and the device's work for all of them.
    let bound = alone
        .device
        .zip(together.device)
        .map(|(alone_device, together_device)| alone.wall - alone_device + together_device);
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let one_after_another = count as f64 * alone.wall;
    Ok(json!({
        "count": count,
        "aloneMs": alone.wall, "aloneDeviceMs": alone.device, "aloneProcessorMs": alone.processor,
        "togetherMs": together.wall, "togetherDeviceMs": together.device,
        "boundMs": bound, "ofBound": bound.map(|bound| together.wall / bound),
        "oneAfterAnotherOfTogether": one_after_another / together.wall,
    }))
}

async fn rounds(
    engine: &Engine,
    client: &Client,
    count: usize,
    rounds: usize,
    resolution: Option<u32>,
) -> Result<Took, CommandError> {
    let (mut walls, mut devices, mut processors) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let (before, processor) = (busy(engine), processor_seconds()?);
        let options = json!({ "resolution": resolution });
        let (wall, _) = one(client, round, count, options).await?;
        walls.push(wall * 1000.0);
        processors.push((processor_seconds()? - processor) * 1000.0);
        devices.extend(
            busy(engine)
                .zip(before)
                .map(|(after, before)| (after - before) * 1000.0),
        );
    }
    Ok(Took {
        wall: median(&mut walls),
        device: (!devices.is_empty()).then(|| median(&mut devices)),
        processor: median(&mut processors),
    })
}

fn show(row: &Value, json: bool) {
    if json {
        return output::line(&row.to_string());
    }
    let number = |key: &str, digits: usize| output::number(&row[key], digits);
    output::line(
        "| together | alone ms | device | processor | together ms | device | bound ms | of the bound | one after another |",
    );
    output::line("|---|---|---|---|---|---|---|---|---|");
    output::line(&format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} × |",
        row["count"],
        number("aloneMs", 0),
        number("aloneDeviceMs", 1),
        number("aloneProcessorMs", 0),
        number("togetherMs", 0),
        number("togetherDeviceMs", 1),
        number("boundMs", 0),
        number("ofBound", 2),
        number("oneAfterAnotherOfTogether", 2),
    ));
}
