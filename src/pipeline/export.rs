//! The last stage: placing the mesh for each format, writing the files side by side, and judging the result.

use bytes::Bytes;

use super::{MeshFile, error::PipelineError};
use crate::{
    conversion::options::{ConversionOptions, MeshFormat},
    mesh::{
        Mesh, WriteError, glb, obj,
        placement::{Frame, Placement, place},
        ply,
        preview::{self, PreviewOptions},
        quality::{self, Quality},
        stl,
        surface::Surface,
        three_mf,
    },
};

/// What [`export`] has made.
#[derive(Debug)]
pub struct Exported {
    pub files: Vec<MeshFile>,
    /// In the scene's frame, the longest side 1 m.
    pub mesh: Mesh,
    /// A PNG.
    pub preview: Vec<u8>,
    pub quality: Quality,
}

/// Writes a surface in all the formats that were asked for.
///
/// # Errors
/// [`PipelineError::Mesh`] and [`PipelineError::Write`].
pub fn export(
    surface: Surface,
    colors: Option<Vec<[u8; 3]>>,
    options: &ConversionOptions,
    name: Option<&str>,
) -> Result<Exported, PipelineError> {
    let mesh = place(
        &Mesh::from_surface(surface, colors)?,
        Placement {
            frame: Frame::Scene,
            size_mm: None,
        },
    );
    let (files, preview, quality) = std::thread::scope(|scope| {
        let writers: Vec<_> = options
            .formats
            .iter()
            .map(|&format| {
                let mesh = &mesh;
                (
                    format,
                    scope.spawn(move || write(mesh, format, options.size_mm, name)),
                )
            })
            .collect();
        let preview = scope.spawn(|| preview::png(&mesh, &PreviewOptions::default()));
        let quality = quality::assess(&mesh);
        let join =
            |format, writer: std::thread::ScopedJoinHandle<'_, Result<Vec<u8>, WriteError>>| {
                let bytes = writer
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                Ok::<_, PipelineError>(MeshFile {
                    format,
                    bytes: Bytes::from(bytes),
                })
            };
        let files: Result<Vec<_>, _> = writers
            .into_iter()
            .map(|(format, writer)| join(format, writer))
            .collect();
        let preview = preview
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (files, preview, quality)
    });
    Ok(Exported {
        files: files?,
        preview: preview?,
        quality,
        mesh,
    })
}

fn write(
    mesh: &Mesh,
    format: MeshFormat,
    size_mm: Option<f64>,
    name: Option<&str>,
) -> Result<Vec<u8>, WriteError> {
    let frame = match format {
        MeshFormat::Glb | MeshFormat::Obj | MeshFormat::Ply => Frame::Scene,
        MeshFormat::Stl | MeshFormat::ThreeMf => Frame::Print,
    };
    let placed = place(mesh, Placement { frame, size_mm });
    match format {
        MeshFormat::Glb => glb::write(&placed, glb::GlbOptions { conversion: name }),
        MeshFormat::Obj => obj::write(&placed),
        MeshFormat::Stl => stl::write(&placed),
        MeshFormat::Ply => ply::write(&placed),
        MeshFormat::ThreeMf => three_mf::write(&placed),
    }
}
