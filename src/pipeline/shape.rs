//! From an encoded picture to a coloured surface: the stages that ask the engine.

use std::sync::Arc;

use tracing::Instrument;

use super::{
    compute::{compute, compute_soon},
    draft::Draft,
    error::PipelineError,
    guess::Guessing,
    look::{Look, Seen},
    paint::{Paint, Painter, Sides},
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
        staging::Staged,
    },
    mesh::{
        clean::{CleanOptions, CleanReport, drop_specks},
        field::{FieldOptions, FieldSampler, Walls},
        normals::vertex_normals,
        preview::{PreviewOptions, Visible},
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
    /// What its preview shows of it.
    pub visible: Visible,
    /// Of the surface.
    pub topology: Topology,
    /// How it came to have fewer triangles than the field gave; none if it has not.
    pub simplified: Option<SimplifyReport>,
    /// How thick its walls were before there were fewer triangles.
    pub walls: Walls,
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
    let (codes, gpu_batch_size, sampling) = {
        let stage = stages.enter(Stage::Encode).await?;
        let encoded = async {
            let batch = stage.unless_interrupted(ticket.started()).await??;
            stage.batched(&batch);
            // Whoever is interrupted drops the ticket, and leaves the steps by that.
            while let Some(share) = stage.unless_interrupted(ticket.stepped()).await? {
                stage.fraction(share);
            }
            let codes = stage.unless_interrupted(ticket.finished()).await??;
            stage.encoded();
            Ok::<_, PipelineError>((codes, batch.images))
        };
        // The first points are the same whatever the picture shows.
        let sampling = Sampling::begin(options.field, engine);
        let ((codes, images), sampling) = tokio::try_join!(encoded, sampling)?;
        crash::point(Point::InBatch);
        (codes, images, sampling)
    };
    let stage = stages.enter(Stage::Reconstruct).await?;
    let mut guessing = Guessing::new(look.as_ref());
    let sampler = reconstruct(&stage, engine, &codes, sampling, &mut guessing)
        .instrument(stage.span())
        .await?;
    drop(stage);
    let stage = stages.enter(Stage::Mesh).await?;
    let extracted = extract(&stage, sampler, options.target_triangles)
        .instrument(stage.span())
        .await?;
    let Extracted {
        surface,
        topology,
        simplified,
        cleaned,
        walls,
    } = extracted;
    let surface = Arc::new(surface);
    let look = look.map(|look| (look, guessing));
    let measured = measure(Arc::clone(&surface), look, options.min_agreement);
    let (sides, paint) = if options.texture == TextureMode::None {
        let measured = measured.instrument(stage.span()).await?;
        (measured, Paint::default())
    } else {
        drop(stage);
        let stage = stages.enter(Stage::Texture).await?;
        let painter = Painter {
            stage: &stage,
            engine,
            codes: &codes,
            surface: Arc::clone(&surface),
        };
        let is_baked = options.texture == TextureMode::Baked;
        let texture_size = is_baked.then_some(options.texture_size);
        let painted = async {
            // The device looks colours up while the processors measure.
            let (sides, colors) = tokio::try_join!(measured, painter.vertex_colors())?;
            let paint = painter.paint(colors, &sides, texture_size).await?;
            Ok::<_, PipelineError>((sides, paint))
        };
        painted.instrument(stage.span()).await?
    };
    let Sides {
        normals,
        visible,
        seen,
    } = sides;
    let agreement = seen.as_deref().map(Seen::agreement);
    // The codes go here: their memory on the device is for those who wait.
    Ok(Shape {
        surface: Arc::unwrap_or_clone(surface),
        normals: Arc::unwrap_or_clone(normals),
        visible,
        topology,
        simplified,
        walls,
        paint,
        cleaned,
        agreement,
        gpu_batch_size,
    })
}

/// A field being sampled, and the points to ask next, laid for the device; none when it is complete.
struct Sampling {
    sampler: FieldSampler,
    points: Option<Staged>,
}

impl Sampling {
    async fn begin(field: FieldOptions, engine: &Engine) -> Result<Self, PipelineError> {
        Self::of(engine, move || Ok(FieldSampler::new(field))).await
    }

    /// Takes the answers to the last points, and makes the next ones.
    async fn next(
        mut sampler: FieldSampler,
        answers: Answers,
        engine: &Engine,
    ) -> Result<Self, PipelineError> {
        let supplied = move || {
            sampler.supply(&answers.read()?.logits)?;
            Ok(sampler)
        };
        Self::of(engine, supplied).await
    }

    async fn of(
        engine: &Engine,
        sampler: impl FnOnce() -> Result<FieldSampler, PipelineError> + Send + 'static,
    ) -> Result<Self, PipelineError> {
        let engine = engine.clone();
        let stepped = compute_soon(move || {
            let sampler = sampler()?;
            let points = sampler.requested().map(|points| {
                // Where the device reads them: of a fine grid there are a million.
                engine.stage_written(3 * points, |place| {
                    sampler.write_request(place.as_chunks_mut().0);
                })
            });
            Ok(Self { sampler, points })
        });
        stepped.await?
    }
}

async fn reconstruct<R: Reporter>(
    stage: &StageGuard<'_, R>,
    engine: &Engine,
    codes: &Codes,
    mut sampling: Sampling,
    guessing: &mut Guessing,
) -> Result<FieldSampler, PipelineError> {
    let mut draft = Draft::new(stage);
    loop {
        let Sampling { sampler, points } = sampling;
        stage.fraction(sampler.fraction());
        let Some(points) = points else {
            return Ok(sampler);
        };
        stage.check()?;
        let asked = engine.ask(codes, points, Want::Logits);
        let asked = stage.unless_interrupted(asked);
        // While the device computes, there is time to show what is known, and to look for the camera.
        let looked_at = async { guessing.look_at(draft.look_at(sampler).await?).await };
        let (answered, looked_at) = tokio::join!(asked, looked_at);
        sampling = Sampling::next(looked_at?, answered??, engine).await?;
    }
}

/// A surface, and what became of it.
struct Extracted {
    surface: Surface,
    topology: Topology,
    simplified: Option<SimplifyReport>,
    cleaned: CleanReport,
    walls: Walls,
}

async fn extract<R: Reporter>(
    _stage: &StageGuard<'_, R>,
    sampler: FieldSampler,
    target_triangles: Option<u32>,
) -> Result<Extracted, PipelineError> {
    let extracted = compute(move || {
        let (surface, topology, cleaned) = drop_specks(sampler.surface()?, CleanOptions::default());
        let walls = sampler.into_walls(&surface);
        let (surface, topology, simplified) = match target_triangles {
            None => (surface, topology, None),
            Some(target) => {
                let (surface, report) = simplify_surface(surface, target as usize);
                let topology = surface.topology();
                // None where it had no more than that.
                let simplified = Some(report).filter(|report| report.self_intersections.is_some());
                (surface, topology, simplified)
            }
        };
        Ok(Extracted {
            surface,
            topology,
            simplified,
            cleaned,
            walls,
        })
    });
    extracted.await?
}

/// Looks at a surface, and refuses one that agrees with the picture's outline less than `min_agreement`.
async fn measure(
    surface: Arc<Surface>,
    look: Option<(Look, Guessing)>,
    min_agreement: Option<f64>,
) -> Result<Sides, PipelineError> {
    let held_against = Arc::clone(&surface);
    let seen = async {
        let Some((look, guessing)) = look else {
            return Ok(None);
        };
        let guess = guessing.finished().await?;
        compute(move || Seen::fit(&held_against, look, guess)).await
    };
    let drawn = compute(move || {
        let (positions, triangles) = (surface.positions(), surface.triangles());
        // Side by side where threads are free.
        rayon::join(
            || Visible::of(positions, triangles, &PreviewOptions::default()),
            || vertex_normals(positions, triangles),
        )
    });
    // Each with threads of its own: the camera's looks follow each other, and would each wait for a part of the drawing.
    let (seen, (visible, normals)) = tokio::try_join!(seen, drawn)?;
    let sides = Sides {
        normals: Arc::new(normals),
        visible,
        seen: seen.map(Arc::new),
    };
    match (min_agreement, sides.seen.as_deref().map(Seen::agreement)) {
        (Some(least), Some(agreement)) if agreement < least => {
            Err(PipelineError::Unlike { agreement, least })
        }
        _ => Ok(sides),
    }
}
