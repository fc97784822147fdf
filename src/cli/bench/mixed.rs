//! `orfeas bench --mixed`: conversions of all kinds through a server, and the memory in use as they go by.

use std::{fs, process::ExitCode};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    super::{CommandError, client::Client, output},
    on_server, one, show,
};
use crate::{
    config::Settings,
    inference::{device::DeviceInfo, engine::Engine},
};

/// Conversions at a time.
const AT_ONCE: usize = 32;

/// A look at the memory after so many.
const STRIDE: usize = 100;

/// Converts so many and prints the memory after each hundred: what the devices hold, this server's and others', and
/// what this process holds of the processor's.
///
/// # Errors
/// When the server can't start, or a conversion fails.
pub(super) async fn run(
    settings: &Settings,
    conversions: usize,
    json: bool,
) -> Result<ExitCode, CommandError> {
    let rows = on_server(settings, async |engine, client| {
        measure(engine, client, conversions).await
    });
    Ok(show(rows.await?, json, table))
}

async fn measure(
    engine: &Engine,
    client: &Client,
    conversions: usize,
) -> Result<Vec<Value>, CommandError> {
    let models: Vec<String> = engine
        .models()
        .into_iter()
        .filter(|model| engine.manifest(&model.name).is_ok())
        .map(|model| model.name)
        .collect();
    let mut running = JoinSet::new();
    let mut rows = Vec::new();
    let (mut begun, mut ended) = (0, 0);
    while ended < conversions {
        while begun < conversions && running.len() < AT_ONCE {
            let (client, options) = (client.clone(), of_every_kind(begun, &models));
            running.spawn(async move { one(&client, begun, 1, options).await.map(|_| ()) });
            begun += 1;
        }
        let Some(done) = running.join_next().await else {
            break;
        };
        done.map_err(|error| error.to_string())??;
        ended += 1;
        if ended % STRIDE == 0 {
            let row = json!({
                "conversions": ended, "deviceBytes": device_bytes(engine), "processBytes": process_bytes()?,
            });
            output::complain(&row.to_string());
            rows.push(row);
        }
    }
    Ok(rows)
}

/// Options for the conversion of this number; numbers without a common divisor, so that all come together in the end.
fn of_every_kind(number: usize, models: &[String]) -> Value {
    const RESOLUTIONS: [u32; 5] = [64, 256, 128, 192, 96];
    const FORMATS: [&[&str]; 7] = [
        &["GLB"],
        &["OBJ"],
        &["STL"],
        &["GLB", "PLY"],
        &["THREE_MF"],
        &["GLB"],
        &["GLB", "STL"],
    ];
    const TEXTURES: [&str; 3] = ["VERTEX_COLOR", "VERTEX_COLOR", "NONE"];
    const TRIANGLES: [Option<u32>; 4] = [None, None, None, Some(10_000)];
    json!({
        "model": models[number / 3 % models.len()],
        "resolution": RESOLUTIONS[number % RESOLUTIONS.len()],
        "formats": FORMATS[number % FORMATS.len()],
        "texture": TEXTURES[number % TEXTURES.len()],
        "targetTriangles": TRIANGLES[number % TRIANGLES.len()],
    })
}

/// What is taken of all devices' memory, where the driver tells.
fn device_bytes(engine: &Engine) -> Option<u64> {
    let taken = |device: DeviceInfo| {
        let total = device.memory_total_bytes?;
        Some(total.saturating_sub(device.memory_free_bytes?))
    };
    engine.devices().into_iter().map(taken).sum()
}

/// What this process has in the processor's memory.
fn process_bytes() -> Result<u64, CommandError> {
    let status = fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: Option<u64> = line
        .and_then(|line| line.split_whitespace().next())
        .and_then(|kib| kib.parse().ok());
    Ok(1024 * kib.ok_or("/proc/self/status tells no VmRSS")?)
}

fn table(rows: &[Value]) {
    output::line("| conversions | device GB | process GB |");
    output::line("|---|---|---|");
    for row in rows {
        let gigabytes = |key: &str| match row[key].as_f64() {
            Some(bytes) => format!("{:.3}", bytes / 1e9),
            None => "–".to_owned(),
        };
        output::line(&format!(
            "| {} | {} | {} |",
            row["conversions"],
            gigabytes("deviceBytes"),
            gigabytes("processBytes")
        ));
    }
}
