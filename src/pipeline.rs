//! The path of one conversion, from a picture's bytes to mesh files. It knows no database: the server's worker and
//! the command line drive it alike, each with a [`stage::Reporter`] of its own.
//!
//! decode → frame → encode (in a GPU batch) → sample the field, coarse to fine → extract → colour → write.
//! Waiting is asynchronous; whatever computes runs on the decoder's processes, the engine's threads or the pool of
//! `compute`, so that conversions overlap.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tracing::Instrument;

use crate::{
    conversion::{
        Stage,
        options::{ConversionOptions, MeshFormat, SEED_DEFAULT},
    },
    decoder::DecoderPool,
    image::{
        ImageLimits, InputImage,
        frame::{AlphaSource, FrameError, FrameOptions, Framed, frame},
        matte::{matte_alpha, matte_input},
    },
    inference::{
        engine::{EncodeRequest, Engine},
        manifest::Manifest,
        sampling::SamplingOptions,
        staging::Staged,
    },
    mesh::{
        field::{FieldOptions, Resolution},
        preview::{PreviewOptions, turntable::TurntableOptions},
        quality::Quality,
    },
};

use self::{
    compute::compute,
    error::PipelineError,
    look::Look,
    shape::{Shape, ShapeOptions},
    stage::{Reporter, StageGuard, Stages},
};

mod compute;
mod draft;
pub mod error;
pub mod export;
mod guess;
pub mod look;
pub mod paint;
pub mod shape;
pub mod stage;

pub use compute::start_soon;

/// Pictures are decoded to at most this many pixels a side: five times what the models look at, so that cutting the
/// object out leaves detail enough.
pub const DECODED_SIDE_MAX: u32 = 1024;

/// What conversions are made with; cheap to clone.
#[derive(Debug, Clone)]
pub struct Tools {
    pub engine: Engine,
    pub decoder: DecoderPool,
    pub image_limits: ImageLimits,
}

/// One conversion to be done.
#[derive(Debug, Clone)]
pub struct Job {
    /// The picture's file.
    pub picture: Bytes,
    pub model: String,
    pub options: ConversionOptions,
    /// Among those that wait for a GPU batch, the smaller goes first.
    pub rank: i64,
    /// Written into files that can hold it.
    pub name: Option<String>,
}

/// A file of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshFile {
    pub format: MeshFormat,
    /// The usual ending of its name, without the dot.
    pub extension: &'static str,
    pub media_type: &'static str,
    /// Its bytes, which follow each other.
    pub pieces: Vec<Bytes>,
}

/// One file of a conversion's, while others are still in the making.
#[derive(Debug, Clone)]
pub enum Made {
    Mesh(MeshFile),
    /// As in [`Product::preview`].
    Preview(Bytes),
    /// As in [`Product::turntable`].
    Turntable(Bytes),
}

/// What a conversion has made.
#[derive(Debug, Clone)]
pub struct Product {
    pub files: Vec<MeshFile>,
    pub triangles: usize,
    pub vertices: usize,
    /// A PNG of [`PreviewOptions`]' default size.
    pub preview: Bytes,
    pub preview_side: u32,
    /// An animated WebP of [`TurntableOptions`]' default size, if it was asked for.
    pub turntable: Option<Bytes>,
    pub turntable_side: u32,
    /// How well the mesh's outline covers the picture's, 0..=1, if that has one.
    pub silhouette_agreement: Option<f64>,
    /// Of the mesh in the scene's frame.
    pub quality: Quality,
    pub gpu_batch_size: usize,
    /// Time in each stage entered.
    pub timings: Vec<(Stage, Duration)>,
}

/// A picture ready for the model.
struct Prepared {
    image: Staged,
    touches_border: bool,
    /// If it has an outline.
    look: Option<Look>,
    manifest: Arc<Manifest>,
}

impl Prepared {
    /// What the engine is asked, at which resolution, and of which model.
    fn request(
        self,
        job: &Job,
    ) -> Result<(EncodeRequest, Resolution, Arc<Manifest>), PipelineError> {
        let Self {
            image, manifest, ..
        } = self;
        let resolution = job.options.resolution;
        let resolution = Resolution::new(resolution.unwrap_or(manifest.resolution.default))?;
        let ConversionOptions {
            steps,
            guidance,
            seed,
            ..
        } = job.options;
        let request = EncodeRequest {
            model: job.model.clone(),
            resolution: resolution.samples(),
            rank: job.rank,
            sampling: SamplingOptions {
                steps,
                guidance,
                seed: seed.unwrap_or(SEED_DEFAULT),
            },
            image,
        };
        Ok((request, resolution, manifest))
    }
}

/// What the engine is asked for a job, and the field to sample: the first stage by itself, for benchmarks.
///
/// # Errors
/// As [`convert`].
pub async fn prepared(
    tools: &Tools,
    job: &Job,
) -> Result<(EncodeRequest, FieldOptions), PipelineError> {
    let mut stages = Stages::new(&stage::Silent);
    let prepared = prepare(&stages.enter(Stage::Prepare).await?, tools, job).await?;
    let (request, resolution, manifest) = prepared.request(job)?;
    Ok((
        request,
        FieldOptions::new(resolution, manifest.field.iso_level),
    ))
}

/// Does one conversion.
///
/// # Errors
/// [`PipelineError`]; its [`PipelineError::failure`] is what the owner reads.
pub async fn convert(
    tools: &Tools,
    job: Job,
    reporter: &impl Reporter,
) -> Result<Product, PipelineError> {
    let mut stages = Stages::new(reporter);
    let on_its_way = tools.engine.on_their_way();
    let mut prepared = {
        let stage = stages.enter(Stage::Prepare).await?;
        prepare(&stage, tools, &job)
            .instrument(stage.span())
            .await?
    };

    let touches_border = prepared.touches_border;
    let look = prepared.look.take();
    let target_triangles = job.options.triangles_wanted();
    let (request, resolution, manifest) = prepared.request(&job)?;
    let ticket = tools.engine.enqueue(request)?;
    drop(on_its_way);
    let field = FieldOptions::new(resolution, manifest.field.iso_level);
    let wanted = ShapeOptions::new(field, &job.options);
    let shape = shape::shape(&mut stages, &tools.engine, ticket, look, wanted).await?;
    let (cleaned, simplified) = (shape.cleaned, shape.simplified);
    let (silhouette_agreement, gpu_batch_size) = (shape.agreement, shape.gpu_batch_size);
    let finished = {
        let stage = stages.enter(Stage::Export).await?;
        export(&stage, shape, job.options, job.name)
            .instrument(stage.span())
            .await?
    };
    let export::Exported {
        files,
        mesh,
        preview,
        turntable,
        mut quality,
    } = finished;
    let border = "The object reaches the picture's border; what lies beyond is guessed.";
    quality
        .warnings
        .extend(touches_border.then(|| border.to_owned()));
    let unchecked = "The picture has no outline to hold the mesh against, so minSilhouetteAgreement could not be checked.";
    let is_unchecked = wanted.min_agreement.is_some() && silhouette_agreement.is_none();
    quality
        .warnings
        .extend(is_unchecked.then(|| unchecked.to_owned()));
    quality.warnings.extend(cleaned.warning());
    quality
        .warnings
        .extend(simplified.and_then(|report| report.warning()));
    let triangles = mesh.triangles().len();
    if let Some(target) = target_triangles.filter(|&target| triangles > target as usize) {
        quality.warnings.push(format!(
            "It has {triangles} triangles where {target} were asked for: with fewer it would not stay whole, or not keep its shape."
        ));
    }
    Ok(Product {
        files,
        triangles,
        vertices: mesh.positions().len(),
        preview,
        preview_side: PreviewOptions::default().side_px,
        turntable,
        turntable_side: TurntableOptions::default().side_px,
        silhouette_agreement,
        quality,
        gpu_batch_size,
        timings: stages.into_timings(),
    })
}

async fn prepare<R: Reporter>(
    stage: &StageGuard<'_, R>,
    tools: &Tools,
    job: &Job,
) -> Result<Prepared, PipelineError> {
    let manifest = tools.engine.manifest(&job.model)?;
    let picture = InputImage::parse(job.picture.clone(), &tools.image_limits)?;
    let mut decoded = tools.decoder.decode(&picture, DECODED_SIDE_MAX).await?;
    let (pixels, has_transparency) = (Arc::clone(&decoded.pixels), decoded.has_transparency);
    stage.fraction(0.5);
    let side = manifest.input.width;
    let options = FrameOptions {
        side,
        background: manifest.input.background,
        fill: manifest.input.fill,
    };
    if !matte_wanted(has_transparency, &manifest, job.options.remove_background)? {
        tools.decoder.note_framing(options, has_transparency);
        let ahead = decoded.framed(&options);
        let framed = move || match ahead {
            Some(framed) => Ok(framed),
            None => frame(
                &pixels,
                AlphaSource::without_matte(has_transparency),
                &options,
            ),
        };
        return staged(tools, framed, has_transparency, manifest).await;
    }
    let (pixels, input) = compute(move || {
        let input = matte_input(&pixels, side);
        (pixels, input)
    })
    .await?;
    let asked = tools.engine.matte(&job.model, input);
    let matte = stage.unless_interrupted(asked).await??;
    let framed = move || {
        let alpha = matte_alpha(&pixels, &matte, options.side)?;
        frame(&pixels, AlphaSource::Matte(&alpha), &options)
    };
    staged(tools, framed, true, manifest).await
}

/// Whether the model must tell the object from its background: for pictures without transparency, unless told not to.
fn matte_wanted(
    has_transparency: bool,
    manifest: &Manifest,
    asked: Option<bool>,
) -> Result<bool, PipelineError> {
    match asked {
        _ if has_transparency => Ok(false),
        Some(true) if !manifest.matte => Err(PipelineError::NoMatte {
            model: manifest.name.clone(),
        }),
        Some(wanted) => Ok(wanted),
        None => Ok(manifest.matte),
    }
}

/// Lays a framed picture for the device.
async fn staged(
    tools: &Tools,
    framed: impl FnOnce() -> Result<Framed, FrameError> + Send + 'static,
    has_outline: bool,
    manifest: Arc<Manifest>,
) -> Result<Prepared, PipelineError> {
    let engine = tools.engine.clone();
    compute(move || {
        let framed = framed()?;
        Ok(Prepared {
            image: engine.stage(&framed.rgb),
            touches_border: framed.touches_border,
            look: has_outline.then(|| Look::of(framed)),
            manifest,
        })
    })
    .await?
}

async fn export<R: Reporter>(
    stage: &StageGuard<'_, R>,
    shape: Shape,
    options: ConversionOptions,
    name: Option<String>,
) -> Result<export::Exported, PipelineError> {
    let sink = stage.file_sink();
    compute(move || export::export(shape, &options, name.as_deref(), &sink)).await?
}
