//! The colours of a surface: the model's, with what the picture shows of it laid over them.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{
    compute::compute,
    error::PipelineError,
    look::Seen,
    stage::{Reporter, StageGuard},
};
use crate::{
    inference::{backend::Want, engine::Engine, handle::Codes},
    mesh::{atlas::Atlas, normals::vertex_normals, surface::Surface, texture::TextureMap},
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

/// The model's field, and the picture to look up what it shows of the surface.
pub(super) struct Painter<'a, 'r, R> {
    pub(super) stage: &'a StageGuard<'r, R>,
    pub(super) engine: &'a Engine,
    pub(super) codes: &'a Codes,
    pub(super) surface: Arc<Surface>,
    pub(super) seen: Option<Arc<Seen>>,
}

impl<R: Reporter> Painter<'_, '_, R> {
    /// Paints the vertices, and a texture if it is to have so many pixels a side.
    pub(super) async fn paint(&self, texture_size: Option<u32>) -> Result<Paint, PipelineError> {
        let colors = Some(self.vertex_colors().await?);
        let texture = match texture_size {
            Some(side_px) => Some(self.bake(side_px).await?),
            None => None,
        };
        Ok(Paint { colors, texture })
    }

    async fn vertex_colors(&self) -> Result<Vec<[u8; 3]>, PipelineError> {
        let points = self.surface.positions().to_vec();
        let colors = self.ask(&points, 0.0..1.0).await?;
        let surface = Arc::clone(&self.surface);
        self.overlaid(points, colors, move |points| {
            vertex_normals(points, surface.triangles())
        })
        .await
    }

    async fn bake(&self, side_px: u32) -> Result<TextureMap, PipelineError> {
        let _one_of_few = BAKES.acquire().await.expect("it is never closed");
        let surface = Arc::clone(&self.surface);
        let (atlas, points, normals) = compute(move || {
            let atlas = Atlas::of(&surface, side_px)?;
            let (points, normals) = (atlas.points(), atlas.normals());
            Ok::<_, PipelineError>((atlas, points, normals))
        })
        .await??;
        self.stage.fraction(0.3);
        let colors = self.ask(&points, 0.3..0.8).await?;
        let colors = self.overlaid(points, colors, move |_| normals).await?;
        Ok(compute(move || atlas.paint(&colors)).await??)
    }

    /// The field's colours, as sRGB bytes; the stage goes from the one to the other end of `progress` meanwhile.
    async fn ask(
        &self,
        points: &[[f32; 3]],
        progress: std::ops::Range<f32>,
    ) -> Result<Vec<[u8; 3]>, PipelineError> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to a byte's range"
        )]
        let byte = |value: f32| (value.clamp(0.0, 1.0) * 255.0).round() as u8;
        let mut colors = Vec::with_capacity(points.len());
        for some in points.chunks(POINTS_MAX) {
            self.stage.check()?;
            let asked = self
                .engine
                .query(self.codes, some.to_vec(), Want::LogitsAndColors);
            let values = self.stage.unless_interrupted(asked).await??;
            colors.extend(values.rgb.into_iter().map(|color| color.map(byte)));
            let share = colors.len() as f32 / points.len() as f32;
            self.stage
                .fraction(progress.start + share * (progress.end - progress.start));
        }
        Ok(colors)
    }

    /// The colours, with the picture's own where it shows the points well.
    async fn overlaid(
        &self,
        points: Vec<[f32; 3]>,
        mut colors: Vec<[u8; 3]>,
        normals: impl FnOnce(&[[f32; 3]]) -> Vec<[f32; 3]> + Send + 'static,
    ) -> Result<Vec<[u8; 3]>, PipelineError> {
        let Some(seen) = self.seen.clone() else {
            return Ok(colors);
        };
        compute(move || {
            let normals = normals(&points);
            seen.overlay(&points, &normals, &mut colors);
            colors
        })
        .await
    }
}
