//! `orfeas convert`: the pipeline without a server.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    process::ExitCode,
    slice,
    sync::Mutex,
    time::Instant,
};

use clap::{Args, ValueEnum};
use futures_util::{StreamExt, stream};

use super::{CommandError, output, output::Bars, program};
use crate::{
    app,
    config::Settings,
    conversion::{
        Stage, Status,
        options::{ConversionOptions, MeshFormat, TextureMode},
        print::{Measures, PrintReport},
        progress::overall,
    },
    pipeline::{
        self, Job, Product, Tools,
        stage::{Interrupt, Reporter},
    },
};

/// Options of `orfeas convert`.
#[derive(Debug, Args)]
pub struct Options {
    /// The pictures.
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// The file to write, for one picture; its ending tells the format.
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// The folder to write to, for several pictures or formats.
    #[arg(short = 'd', long, default_value = ".", conflicts_with = "output")]
    directory: PathBuf,
    /// Formats to write: glb, obj, stl, ply, 3mf.
    #[arg(
        short,
        long,
        value_delimiter = ',',
        conflicts_with = "output",
        default_value = "glb"
    )]
    formats: Vec<String>,
    /// The model; default: the server's.
    #[arg(long)]
    model: Option<String>,
    /// Field samples along an axis.
    #[arg(long)]
    resolution: Option<u32>,
    /// Simplify to at most this many triangles.
    #[arg(long)]
    triangles: Option<u32>,
    /// The longest side in millimetres.
    #[arg(long)]
    size_mm: Option<f64>,
    /// Denoising steps, with a model that iterates.
    #[arg(long)]
    steps: Option<u32>,
    /// How far the picture pulls at each step, with a model that iterates.
    #[arg(long)]
    guidance: Option<f64>,
    /// What the noise is made from, with a model that iterates: the same one gives the same mesh.
    #[arg(long)]
    seed: Option<u32>,
    /// How the surface is coloured.
    #[arg(long, value_enum, default_value_t = Texture::VertexColor)]
    texture: Texture,
    /// Pixels along a side of a baked texture, 256 to 4096.
    #[arg(long)]
    texture_size: Option<u32>,
    /// Write GLBs of about two thirds the size, with `KHR_mesh_quantization`.
    #[arg(long)]
    quantize: bool,
    /// Fail where the mesh's outline agrees less with the picture's, 0 to 1.
    #[arg(long)]
    min_silhouette_agreement: Option<f64>,
    /// Cut the background away (true), or take the whole picture (false).
    #[arg(long)]
    remove_background: Option<bool>,
    /// Write a PNG of each mesh, too.
    #[arg(long)]
    preview: bool,
    /// Write a loop of each mesh turning, too.
    #[arg(long)]
    turntable: bool,
    /// Print results as JSON.
    #[arg(long)]
    json: bool,
}

/// How a surface is coloured, as the command line has it.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Texture {
    /// No colours.
    None,
    /// One colour for each vertex.
    VertexColor,
    /// A picture laid over the surface.
    Baked,
}

impl From<Texture> for TextureMode {
    fn from(texture: Texture) -> Self {
        match texture {
            Texture::None => Self::None,
            Texture::VertexColor => Self::VertexColor,
            Texture::Baked => Self::Baked,
        }
    }
}

/// Converts pictures and writes the meshes.
///
/// # Errors
/// When options are wrong or the engine does not start; a picture that fails is told and counted instead.
pub async fn run(settings: Settings, options: Options) -> Result<ExitCode, CommandError> {
    if options.output.is_some() && options.images.len() > 1 {
        return Err("-o names one file: use -d FOLDER for several pictures".into());
    }
    let mut stems = HashSet::new();
    if let Some(twin) = options
        .images
        .iter()
        .find(|image| !stems.insert(image.file_stem()))
    {
        let advice = "give one of them another name, or convert them one by one with -o";
        return Err(format!(
            "{}: another picture has this name, so their meshes would, too: {advice}",
            twin.display()
        )
        .into());
    }
    let formats = formats(&options)?;
    let conversion = ConversionOptions {
        formats,
        resolution: options.resolution,
        target_triangles: options.triangles,
        texture: options.texture.into(),
        texture_size: options.texture_size,
        quantize: options.quantize,
        min_silhouette_agreement: options.min_silhouette_agreement,
        turntable: options.turntable,
        remove_background: options.remove_background,
        size_mm: options.size_mm,
        steps: options.steps,
        guidance: options.guidance,
        seed: options.seed,
    }
    .checked()?;
    let engine = app::open::engine(&settings).await?;
    let model = options
        .model
        .clone()
        .unwrap_or_else(|| engine.default_model().to_owned());
    let tools = app::open::tools(&settings, engine.clone(), program()?)?;
    std::fs::create_dir_all(&options.directory)?;
    let names: Vec<String> = options
        .images
        .iter()
        .map(|image| image.display().to_string())
        .collect();
    let bars = Mutex::new(if options.json {
        None
    } else {
        Some(Bars::new(&names))
    });
    let results: Vec<Result<Written, String>> = stream::iter(options.images.iter().enumerate())
        .map(|(index, image)| {
            one(
                &tools,
                &options,
                image,
                &model,
                &conversion,
                Bar { bars: &bars, index },
            )
        })
        .buffered(8)
        .collect()
        .await;
    if let Some(bars) = bars.lock().ok().and_then(|mut bars| bars.take()) {
        bars.finish();
    }
    engine.stop().await;
    report(&names, &results, &options);
    Ok(if results.iter().all(Result::is_ok) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn formats(options: &Options) -> Result<Vec<MeshFormat>, CommandError> {
    let parse = |ending: &str| {
        MeshFormat::from_extension(ending)
            .ok_or_else(|| format!("`{ending}` is no mesh format: use glb, obj, stl, ply or 3mf"))
    };
    match &options.output {
        Some(file) => Ok(vec![parse(
            &file.extension().unwrap_or_default().to_string_lossy(),
        )?]),
        None => Ok(options
            .formats
            .iter()
            .map(|ending| parse(ending))
            .collect::<Result<_, _>>()?),
    }
}

/// What one picture has become.
#[derive(Debug)]
struct Written {
    files: Vec<PathBuf>,
    product: Product,
    seconds: f64,
}

async fn one(
    tools: &Tools,
    options: &Options,
    image: &Path,
    model: &str,
    conversion: &ConversionOptions,
    bar: Bar<'_>,
) -> Result<Written, String> {
    let started = Instant::now();
    let picture = tokio::fs::read(image)
        .await
        .map_err(|error| format!("can't be read: {error}"))?;
    let job = Job {
        picture: picture.into(),
        model: model.to_owned(),
        options: conversion.clone(),
        rank: i64::try_from(bar.index).unwrap_or(i64::MAX),
        name: None,
    };
    let converted = pipeline::convert(tools, job, &bar).await;
    let product = converted.map_err(|error| {
        tracing::debug!(cause = %crate::error_chain::chain(&error), "A picture was not converted");
        error.failure().message
    })?;
    // The stem may have dots of its own, so endings are added, not replaced.
    let base = match &options.output {
        Some(file) => file.with_extension(""),
        None => options
            .directory
            .join(image.file_stem().unwrap_or_default()),
    };
    let named = |ending: &str| {
        let mut path = base.clone().into_os_string();
        path.push(".");
        path.push(ending);
        PathBuf::from(path)
    };
    let is_as_typed = |output: &PathBuf, extension: &str| {
        output
            .extension()
            .is_some_and(|typed| typed.eq_ignore_ascii_case(extension))
    };
    let meshes = product.files.iter().map(|file| {
        let typed = options.output.clone();
        let typed = typed.filter(|output| is_as_typed(output, file.extension));
        (
            typed.unwrap_or_else(|| named(file.extension)),
            &file.pieces[..],
        )
    });
    let preview = options
        .preview
        .then(|| (named("preview.png"), slice::from_ref(&product.preview)));
    let turntable = product
        .turntable
        .as_ref()
        .map(|turntable| (named("turntable.webp"), slice::from_ref(turntable)));
    let mut files = Vec::new();
    for (path, pieces) in meshes.chain(preview).chain(turntable) {
        write(&path, &pieces.concat()).await?;
        files.push(path);
    }
    bar.show(1.0, "done");
    Ok(Written {
        files,
        product,
        seconds: started.elapsed().as_secs_f64(),
    })
}

async fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    tokio::fs::write(path, bytes)
        .await
        .map_err(|error| format!("{} can't be written: {error}", path.display()))
}

fn report(names: &[String], results: &[Result<Written, String>], options: &Options) {
    if options.json {
        let rows: Vec<_> = names
            .iter()
            .zip(results)
            .map(|(name, result)| row(name, result, options.size_mm))
            .collect();
        output::line(&serde_json::Value::Array(rows).to_string());
        return;
    }
    for (name, result) in names.iter().zip(results) {
        match result {
            Ok(written) => {
                let files: Vec<_> = written
                    .files
                    .iter()
                    .map(|file| file.display().to_string())
                    .collect();
                let Product { triangles, .. } = written.product;
                output::line(&format!(
                    "{name} -> {} ({triangles} triangles, {:.1} s)",
                    files.join(", "),
                    written.seconds
                ));
                for warning in &written.product.quality.warnings {
                    output::line(&format!("  note: {warning}"));
                }
            }
            Err(message) => output::complain(&format!("{name}: {message}")),
        }
    }
}

/// What became of a picture; names are those of GraphQL's `QualityReport`. `size_mm` is the longest side that was asked for.
fn row(name: &str, result: &Result<Written, String>, size_mm: Option<f64>) -> serde_json::Value {
    match result {
        Err(message) => serde_json::json!({ "image": name, "error": message }),
        Ok(Written {
            files,
            product,
            seconds,
        }) => {
            let timings: serde_json::Map<_, _> = product
                .timings
                .iter()
                .map(|(stage, took)| {
                    (
                        stage.as_str().to_owned(),
                        serde_json::json!(took.as_secs_f64()),
                    )
                })
                .collect();
            let quality = &product.quality;
            let measures = Measures {
                volume: quality.volume,
                surface_area: quality.surface_area,
                thinnest_wall: quality.thinnest_wall,
                overhang_share: quality.overhang_share,
            };
            serde_json::json!({
                "image": name,
                "files": files,
                "triangles": product.triangles,
                "vertices": product.vertices,
                "watertight": quality.watertight,
                "manifold": quality.manifold,
                "components": quality.components,
                "volume": quality.volume,
                "surfaceArea": quality.surface_area,
                "boundingBox": quality.bounding_box.size(),
                "silhouetteAgreement": product.silhouette_agreement,
                "selfIntersections": quality.self_intersections.pairs,
                "print": PrintReport::of(measures, size_mm),
                "warnings": quality.warnings,
                "seconds": seconds,
                "stageSeconds": timings,
                "gpuBatchSize": product.gpu_batch_size,
            })
        }
    }
}

/// Shows one conversion's progress on its bar.
struct Bar<'a> {
    bars: &'a Mutex<Option<Bars>>,
    index: usize,
}

impl Bar<'_> {
    fn show(&self, progress: f64, what: &str) {
        if let Ok(mut bars) = self.bars.lock()
            && let Some(bars) = bars.as_mut()
        {
            bars.set(self.index, progress, what);
        }
    }
}

impl Reporter for Bar<'_> {
    async fn enter(&self, stage: Stage) -> Result<(), Interrupt> {
        self.fraction(stage, 0.0);
        Ok(())
    }

    fn fraction(&self, stage: Stage, value: f32) {
        self.show(
            overall(Status::Running, Some(stage), value).into(),
            stage.as_str(),
        );
    }
}
