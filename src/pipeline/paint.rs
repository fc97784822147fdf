//! The colours of a surface: the model's, with what the picture shows of it laid over them.

use std::{ops::Range, sync::Arc};

use tokio::sync::Semaphore;

use super::{
    compute::{compute, compute_soon},
    error::PipelineError,
    look::Seen,
    stage::{Reporter, StageGuard},
};
use crate::{
    inference::{backend::Want, engine::Engine, handle::Codes, staging::Staged},
    mesh::{atlas::Atlas, preview::Visible, surface::Surface, texture::TextureMap},
};

/// Points asked of the field at once: of a large texture there are sixteen million.
const POINTS_MAX: usize = 1 << 18;

/// Textures in the making at once: one of the greatest size takes half a gigabyte.
static BAKES: Semaphore = Semaphore::const_new(4);

/// What a surface is painted with.
#[derive(Debug, Default)]
pub struct Paint {
    /// sRGB at each vertex.
    pub colors: Option<Vec<[u8; 3]>>,
    /// A picture laid over it.
    pub texture: Option<TextureMap>,
}

/// The model's field, and the surface to be painted by it.
pub(super) struct Painter<'a, 'r, R> {
    pub(super) stage: &'a StageGuard<'r, R>,
    pub(super) engine: &'a Engine,
    pub(super) codes: &'a Codes,
    pub(super) surface: Arc<Surface>,
}

/// How a surface looks from all sides, as far as that is known without colours.
pub(super) struct Sides {
    /// Where its vertices face.
    pub(super) normals: Arc<Vec<[f32; 3]>>,
    /// What its preview shows of it.
    pub(super) visible: Visible,
    /// How the picture shows it, if that has an outline.
    pub(super) seen: Option<Arc<Seen>>,
}

impl<R: Reporter> Painter<'_, '_, R> {
    /// What the model says of the vertices.
    pub(super) async fn vertex_colors(&self) -> Result<Vec<[u8; 3]>, PipelineError> {
        let surface = Arc::clone(&self.surface);
        let count = surface.positions().len();
        let some = move |engine: &Engine, some: Range<usize>| {
            engine.stage(surface.positions()[some].as_flattened())
        };
        self.ask(count, some, 0.0..1.0).await
    }

    /// Lays what the picture shows over the `colors` of the vertices, and paints a texture if it is to have so many pixels
    /// a side.
    pub(super) async fn paint(
        &self,
        mut colors: Vec<[u8; 3]>,
        Sides { normals, seen, .. }: &Sides,
        texture_size: Option<u32>,
    ) -> Result<Paint, PipelineError> {
        if let Some(seen) = seen.clone() {
            let (surface, normals) = (Arc::clone(&self.surface), Arc::clone(normals));
            colors = compute(move || {
                seen.overlay(surface.positions(), &normals, &mut colors);
                colors
            })
            .await?;
        }
        let texture = match texture_size {
            Some(side_px) => Some(self.bake(side_px, seen.clone()).await?),
            None => None,
        };
        Ok(Paint {
            colors: Some(colors),
            texture,
        })
    }

    async fn bake(
        &self,
        side_px: u32,
        seen: Option<Arc<Seen>>,
    ) -> Result<TextureMap, PipelineError> {
        let _one_of_few = BAKES.acquire().await.expect("it is never closed");
        let surface = Arc::clone(&self.surface);
        let (atlas, points, normals) = compute(move || {
            let atlas = Atlas::of(&surface, side_px)?;
            let (points, normals) = (Arc::new(atlas.points()), atlas.normals());
            Ok::<_, PipelineError>((atlas, points, normals))
        })
        .await??;
        self.stage.fraction(0.3);
        let asked = Arc::clone(&points);
        let some =
            move |engine: &Engine, some: Range<usize>| engine.stage(asked[some].as_flattened());
        let mut colors = self.ask(points.len(), some, 0.3..0.8).await?;
        let painted = compute(move || {
            if let Some(seen) = seen {
                seen.overlay(&points, &normals, &mut colors);
            }
            atlas.paint(&colors)
        });
        Ok(painted.await??)
    }

    /// The field's colours at `count` points, some of which `stage` lays for the engine, as sRGB bytes. The stage goes from
    /// the one to the other end of `progress` meanwhile.
    async fn ask(
        &self,
        count: usize,
        stage: impl Fn(&Engine, Range<usize>) -> Staged + Clone + Send + 'static,
        progress: Range<f32>,
    ) -> Result<Vec<[u8; 3]>, PipelineError> {
        let mut colors = Vec::new();
        let mut asked = 0;
        while asked < count {
            self.stage.check()?;
            let some = asked..count.min(asked + POINTS_MAX);
            asked = some.end;
            let (engine, stage) = (self.engine.clone(), stage.clone());
            let points = compute_soon(move || stage(&engine, some)).await?;
            let answers = self.engine.ask(self.codes, points, Want::LogitsAndColors);
            let answers = self.stage.unless_interrupted(answers).await??;
            colors = compute_soon(move || {
                let values = answers.read()?;
                colors.extend(values.rgb.into_iter().map(|color| color.map(byte)));
                Ok::<_, PipelineError>(colors)
            })
            .await??;
            let share = asked as f32 / count as f32;
            self.stage
                .fraction(progress.start + share * (progress.end - progress.start));
        }
        Ok(colors)
    }
}

/// A channel of 0..1 as a byte.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to a byte's range"
)]
fn byte(value: f32) -> u8 {
    // To the nearest: what is clamped is never below zero.
    (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8
}
