//! From an encoded picture to a coloured surface: the stages that ask the engine.

use super::{
    compute::{compute, compute_soon},
    error::PipelineError,
    stage::{Reporter, StageGuard, Stages},
};
use crate::{
    conversion::{Stage, options::TextureMode},
    inference::{
        backend::Want,
        engine::Engine,
        handle::{Codes, Ticket},
    },
    mesh::{
        clean::{CleanOptions, CleanReport, drop_specks},
        field::{FieldOptions, FieldSampler},
        simplify::simplify_surface,
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
}

/// What the model says an object looks like.
#[derive(Debug)]
pub struct Shape {
    pub surface: Surface,
    /// Of the surface.
    pub topology: Topology,
    /// sRGB at each vertex.
    pub colors: Option<Vec<[u8; 3]>>,
    pub cleaned: CleanReport,
    pub gpu_batch_size: usize,
}

/// Waits for the picture's batch, samples its field and takes the surface out.
///
/// # Errors
/// [`PipelineError`].
pub async fn shape<R: Reporter>(
    stages: &mut Stages<'_, R>,
    engine: &Engine,
    mut ticket: Ticket,
    options: ShapeOptions,
) -> Result<Shape, PipelineError> {
    let (codes, gpu_batch_size) = {
        let stage = stages.enter(Stage::Encode).await?;
        let batch = stage.unless_interrupted(ticket.started()).await??;
        // Whoever is interrupted drops the ticket, and leaves the steps by that.
        while let Some(share) = stage.unless_interrupted(ticket.stepped()).await? {
            stage.fraction(share);
        }
        let codes = stage.unless_interrupted(ticket.finished()).await??;
        stage.encoded();
        (codes, batch.images)
    };
    let ShapeOptions {
        field,
        target_triangles,
        texture,
    } = options;
    let sampler = reconstruct(
        &stages.enter(Stage::Reconstruct).await?,
        engine,
        &codes,
        field,
    )
    .await?;
    let (surface, topology, cleaned) =
        extract(&stages.enter(Stage::Mesh).await?, sampler, target_triangles).await?;
    let colors = match texture {
        TextureMode::None => None,
        TextureMode::VertexColor => Some(
            paint(
                &stages.enter(Stage::Texture).await?,
                engine,
                &codes,
                &surface,
            )
            .await?,
        ),
    };
    // The codes go here: their memory on the device is for those who wait.
    Ok(Shape {
        surface,
        topology,
        colors,
        cleaned,
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
    loop {
        let (returned, points) = compute_soon(move || {
            let points = sampler.request();
            (sampler, points)
        })
        .await?;
        sampler = returned;
        let Some(points) = points else {
            return Ok(sampler);
        };
        stage.check()?;
        let asked = engine.query(codes, points, Want::Logits);
        let values = stage.unless_interrupted(asked).await??;
        sampler = compute_soon(move || sampler.supply(&values.logits).map(|()| sampler)).await??;
        stage.fraction(sampler.fraction());
    }
}

async fn extract<R: Reporter>(
    _stage: &StageGuard<'_, R>,
    sampler: FieldSampler,
    target_triangles: Option<u32>,
) -> Result<(Surface, Topology, CleanReport), PipelineError> {
    let extracted = compute(move || {
        let surface = sampler.into_surface()?;
        let (surface, topology, cleaned) = drop_specks(surface, CleanOptions::default());
        let Some(target) = target_triangles else {
            return Ok::<_, PipelineError>((surface, topology, cleaned));
        };
        let (surface, _) = simplify_surface(surface, target as usize);
        let topology = Topology::of(surface.positions().len(), surface.triangles());
        Ok((surface, topology, cleaned))
    });
    extracted.await?
}

/// The field's colour at each vertex, as sRGB bytes.
async fn paint<R: Reporter>(
    stage: &StageGuard<'_, R>,
    engine: &Engine,
    codes: &Codes,
    surface: &Surface,
) -> Result<Vec<[u8; 3]>, PipelineError> {
    let asked = engine.query(codes, surface.positions().to_vec(), Want::LogitsAndColors);
    let values = stage.unless_interrupted(asked).await??;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to a byte's range"
    )]
    let byte = |value: f32| (value.clamp(0.0, 1.0) * 255.0).round() as u8;
    Ok(values
        .rgb
        .into_iter()
        .map(|color| color.map(byte))
        .collect())
}
