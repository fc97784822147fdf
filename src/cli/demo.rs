//! `orfeas demo`: three pictures through a server of its own, as a client would send them.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration, time::Instant};

use clap::Args;
use serde_json::json;

use super::{CommandError, client::Client, output, output::Bars, program};
use crate::{
    app::{App, AppOptions},
    config::{Role, Settings},
    inference::engine::Engine,
};

/// The pictures that travel in the binary; `examples/pictures/README.md` tells where they are from.
pub const PICTURES: [(&str, &[u8]); 3] = [
    ("truck", include_bytes!("../../examples/pictures/truck.png")),
    ("chest", include_bytes!("../../examples/pictures/chest.png")),
    ("house", include_bytes!("../../examples/pictures/house.png")),
];

/// Options of `orfeas demo`.
#[derive(Debug, Args)]
pub struct Options {
    /// The folder to write to.
    #[arg(short, long, default_value = "out")]
    directory: PathBuf,
    /// Field samples along an axis; default: the model's.
    #[arg(long)]
    resolution: Option<u32>,
    /// Print the conversions as JSON at the end.
    #[arg(long)]
    json: bool,
}

/// Starts a node on a free loopback port, with the settings' database and store.
///
/// # Errors
/// When it can't start.
pub async fn start_node(settings: &Settings) -> Result<(App, Client), CommandError> {
    start_node_on(settings, None).await
}

/// The same on an engine that runs already, if there is one.
///
/// # Errors
/// When the server can't start.
pub async fn start_node_on(
    settings: &Settings,
    engine: Option<Engine>,
) -> Result<(App, Client), CommandError> {
    let free_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let settings = Settings {
        orfeas_listen: free_port,
        orfeas_public_url: None,
        orfeas_role: Role::All,
        // Its one client is the program itself.
        user_max_requests_per_minute: 1_000_000,
        user_max_conversions_at_once: 1_000_000,
        user_max_conversions_per_day: 1_000_000,
        orfeas_trusted_documents_only: false,
        ..settings.clone()
    };
    let app = App::start(AppOptions {
        settings,
        program: program()?,
        engine,
        egress: None,
        metrics: None,
    })
    .await?;
    let api = app.api.ok_or("a node of all roles serves clients")?;
    let token = app.tokens.issue("demo", &[], Duration::from_secs(3600));
    Ok((app, Client::new(api, token)?))
}

/// Converts the sample pictures and writes meshes and pictures of them.
///
/// # Errors
/// When the server can't start, or a conversion fails.
pub async fn run(settings: Settings, options: Options) -> Result<ExitCode, CommandError> {
    let Options {
        directory,
        resolution,
        json,
    } = options;
    std::fs::create_dir_all(&directory)?;
    let started = Instant::now();
    output::complain("Starting Postgres, the engine and the API …");
    let (app, client) = start_node(&settings).await?;
    output::complain(&format!(
        "Ready after {:.1} s. Submitting {} pictures as one batch.",
        started.elapsed().as_secs_f64(),
        PICTURES.len()
    ));
    let outcome = convert(&client, &directory, resolution, json).await;
    output::complain(
        "To go on in a browser: `orfeas serve` prints a link that signs it in with one click.",
    );
    app.stop().await;
    outcome
}

async fn convert(
    client: &Client,
    directory: &std::path::Path,
    resolution: Option<u32>,
    json: bool,
) -> Result<ExitCode, CommandError> {
    let pictures = PICTURES
        .iter()
        .map(|(name, bytes)| (format!("{name}.png"), bytes.to_vec()))
        .collect();
    let submitted = Instant::now();
    let (batch, ids) = client
        .submit(pictures, json!({ "resolution": resolution }))
        .await?;
    let names: Vec<String> = PICTURES
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    let mut bars = Bars::new(&names);
    let seen = |event: super::client::ProgressEvent| {
        if let Some(index) = ids.iter().position(|id| *id == event.conversion) {
            let what = event
                .stage
                .as_deref()
                .unwrap_or(&event.status)
                .to_lowercase();
            bars.set(index, event.progress, &what);
        }
    };
    client.follow(&batch, seen).await?;
    bars.finish();
    let took = submitted.elapsed();
    let data = client
        .query(
            "query ($id: ID!) { batch(id: $id) { conversions {
                 id status error { message } outputs { format url triangles bytes } preview { url }
                 quality { watertight warnings }
                 timings { queuedMs prepareMs encodeMs reconstructMs meshMs textureMs exportMs gpuBatchSize } } } }",
            json!({ "id": batch }),
        )
        .await?;
    let conversions = data["batch"]["conversions"]
        .as_array()
        .ok_or("the batch lists no conversions")?;
    output::line(&format!(
        "\n{} conversions in {:.2} s:",
        conversions.len(),
        took.as_secs_f64()
    ));
    let mut failed = false;
    for ((name, _), conversion) in PICTURES.iter().zip(conversions) {
        let (Some(mesh), Some(preview)) = (
            conversion["outputs"][0]["url"].as_str(),
            conversion["preview"]["url"].as_str(),
        ) else {
            failed = true;
            output::complain(&format!(
                "  {name}: {} {}",
                conversion["status"], conversion["error"]["message"]
            ));
            continue;
        };
        let (glb, png) = (
            directory.join(format!("{name}.glb")),
            directory.join(format!("{name}.png")),
        );
        std::fs::write(&glb, client.download(mesh).await?)?;
        std::fs::write(&png, client.download(preview).await?)?;
        let triangles = &conversion["outputs"][0]["triangles"];
        output::line(&format!(
            "  {}  {triangles} triangles\n  {}",
            glb.display(),
            png.display()
        ));
    }
    if json {
        output::line(&data["batch"].to_string());
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
