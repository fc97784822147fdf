//! From an encoded picture to a coloured surface: the stages that ask the engine.

use std::sync::Arc;

use tracing::Instrument;

use super::{
    compute::{compute, compute_soon},
    draft::Draft,
    error::PipelineError,
    look::{Look, Seen},
    paint::{Paint, Painter},
    stage::{Reporter, StageGuard, Stages},
};
use crate::{
    conversion::{
        Stage,
        options::{ConversionOptions, TEXTURE_SIZE_DEFAULT, TextureMode},
    },
    crash::{self, Point},
    inference::{
        backend::Want,
        engine::Engine,
        handle::{Answers, Codes, Ticket},
    },
    mesh::{
        clean::{CleanOptions, CleanReport, drop_specks},
        field::{FieldOptions, FieldSampler},
        normals::vertex_normals,
        simplify::{SimplifyReport, simplify_surface},
        surface::Surface,
        topology::Topology,
    },
};

/// What is wanted of a field.
#[derive(Debug, Clone, Copy)]
pub struct ShapeOptions {
    pub field: FieldOptions,
    pub target_triangles: Option<u32>,
    pub texture: TextureMode,
    /// Pixels along a side of a baked texture.
    pub texture_size: u32,
    /// Fail rather than make a mesh whose outline agrees less with the picture's, 0..=1.
    pub min_agreement: Option<f64>,
}

impl ShapeOptions {
    /// As a conversion's options have it.
    #[must_use]
    pub fn new(field: FieldOptions, options: &ConversionOptions) -> Self {
        Self {
            field,
            target_triangles: options.triangles_wanted(),
            texture: options.texture,
            texture_size: options.texture_size.unwrap_or(TEXTURE_SIZE_DEFAULT),
            min_agreement: options.min_silhouette_agreement,
        }
    }
}

/// What the model says an object looks like.
#[derive(Debug)]
pub struct Shape {
    pub surface: Surface,
    /// Of its vertices.
    pub normals: Vec<[f32; 3]>,
    /// Of the surface.
    pub topology: Topology,
    /// How it came to have fewer triangles than the field gave; none if it has not.
    pub simplified: Option<SimplifyReport>,
    /// How thick the thinnest wall is, in the surface's unit: told by the field, before there were fewer triangles.
    pub thinnest_wall: f64,
    pub paint: Paint,
    pub cleaned: CleanReport,
    /// How well its outline covers the picture's, 0..=1, if that has one.
    pub agreement: Option<f64>,
    pub gpu_batch_size: usize,
}

/// Waits for the picture's batch, samples its field and takes the surface out; it is held against the `look` of the
/// picture, if that has an outline.
///
/// # Errors
/// [`PipelineError`].
pub async fn shape<R: Reporter>(
    stages: &mut Stages<'_, R>,
    engine: &Engine,
    mut ticket: Ticket,
    look: Option<Look>,
    options: ShapeOptions,
) -> Result<Shape, PipelineError> {
    let (codes, gpu_batch_size) = {
        let stage = stages.enter(Stage::Encode).await?;
        let batch = stage.unless_interrupted(ticket.started()).await??;
        stage.batched(&batch);
        // Whoever is interrupted drops the ticket, and leaves the steps by that.
        while let Some(share) = stage.unless_interrupted(ticket.stepped()).await? {
            stage.fraction(share);
        }
        let codes = stage.unless_interrupted(ticket.finished()).await??;
        stage.encoded();
        crash::point(Point::InBatch);
        (codes, batch.images)
    };
    let stage = stages.enter(Stage::Reconstruct).await?;
    let sampler = reconstruct(&stage, engine, &codes, options.field)
        .instrument(stage.span())
        .await?;
    drop(stage);
    let stage = stages.enter(Stage::Mesh).await?;
    let extracted = extract(&stage, sampler, look, options)
        .instrument(stage.span())
        .await?;
    drop(stage);
    let Extracted {
        surface,
        normals,
        topology,
        simplified,
        thinnest_wall,
        cleaned,
        seen,
    } = extracted;
    let agreement = seen.as_ref().map(Seen::agreement);
    let (surface, normals) = (Arc::new(surface), Arc::new(normals));
    let paint = if options.texture == TextureMode::None {
        Paint::default()
    } else {
        let stage = stages.enter(Stage::Texture).await?;
        let painter = Painter {
            stage: &stage,
            engine,
            codes: &codes,
            surface: Arc::clone(&surface),
            normals: Arc::clone(&normals),
            seen: seen.map(Arc::new),
        };
        let is_baked = options.texture == TextureMode::Baked;
        painter
            .paint(is_baked.then_some(options.texture_size))
            .instrument(stage.span())
            .await?
    };
    // The codes go here: their memory on the device is for those who wait.
    Ok(Shape {
        surface: Arc::unwrap_or_clone(surface),
        normals: Arc::unwrap_or_clone(normals),
        topology,
        simplified,
        thinnest_wall,
        paint,
        cleaned,
        agreement,
        gpu_batch_size,
    })
}

async fn reconstruct<R: Reporter>(
    stage: &StageGuard<'_, R>,
    engine: &Engine,
    codes: &Codes,
    field: FieldOptions,
) -> Result<FieldSampler, PipelineError> {
    let mut sampler = FieldSampler::new(field);
    let mut draft = Draft::new(stage);
    let mut answers: Option<Answers> = None;
    loop {
        let own = engine.clone();
        let supplied = compute_soon(move || {
            if let Some(answers) = answers {
                sampler.supply(&answers.read()?.logits)?;
            }
            let points = sampler.request();
            let points = points.map(|points| own.stage(points.into_flattened()));
            Ok::<_, PipelineError>((sampler, points))
        });
        let (returned, points) = supplied.await??;
        stage.fraction(returned.fraction());
        let Some(points) = points else {
            return Ok(returned);
        };
        stage.check()?;
        sampler = draft.look_at(returned).await?;
        let asked = engine.ask(codes, points, Want::Logits);
        answers = Some(stage.unless_interrupted(asked).await??);
    }
}

/// A surface, what became of it, and how the picture shows it.
struct Extracted {
    surface: Surface,
    normals: Vec<[f32; 3]>,
    topology: Topology,
    simplified: Option<SimplifyReport>,
    thinnest_wall: f64,
    cleaned: CleanReport,
    seen: Option<Seen>,
}

async fn extract<R: Reporter>(
    _stage: &StageGuard<'_, R>,
    sampler: FieldSampler,
    look: Option<Look>,
    options: ShapeOptions,
) -> Result<Extracted, PipelineError> {
    let ShapeOptions {
        target_triangles,
        min_agreement,
        ..
    } = options;
    let extracted = compute(move || {
        let surface = sampler.surface()?;
        let (mut surface, mut topology, cleaned) = drop_specks(surface, CleanOptions::default());
        let mut simplified = None;
        let mut thinnest_wall = None;
        if let Some(target) = target_triangles {
            // The surface is the field's for this long.
            thinnest_wall = Some(sampler.thinnest_wall(&surface));
            let report;
            (surface, report) = simplify_surface(surface, target as usize);
            topology = Topology::of(surface.positions().len(), surface.triangles());
            // None where it had no more than that.
            simplified = Some(report).filter(|report| report.self_intersections.is_some());
        }
        // Side by side where threads of the pool are free.
        let (seen, (normals, thinnest_wall)) = rayon::join(
            || look.and_then(|look| Seen::fit(&surface, look)),
            || {
                rayon::join(
                    || vertex_normals(surface.positions(), surface.triangles()),
                    || thinnest_wall.unwrap_or_else(|| sampler.thinnest_wall(&surface)),
                )
            },
        );
        Ok::<_, PipelineError>(Extracted {
            normals,
            surface,
            topology,
            simplified,
            thinnest_wall,
            cleaned,
            seen,
        })
    });
    let extracted = extracted.await??;
    match (min_agreement, extracted.seen.as_ref().map(Seen::agreement)) {
        (Some(least), Some(agreement)) if agreement < least => {
            Err(PipelineError::Unlike { agreement, least })
        }
        _ => Ok(extracted),
    }
}
