//! The last stage: placing the mesh for each format, writing the files side by side, and judging the result.

use std::borrow::Cow;

use bytes::Bytes;
use rayon::prelude::*;

use super::{MeshFile, error::PipelineError, shape::Shape};
use crate::{
    conversion::options::{ConversionOptions, MeshFormat},
    mesh::{
        Mesh, WriteError, glb, obj,
        placement::{Frame, Placement, place},
        ply,
        preview::{self, PreviewOptions},
        quality::{self, Quality},
        stl, three_mf,
    },
};

/// Where every mesh is put first; most files want it so.
const AS_EXPORTED: Placement = Placement {
    frame: Frame::Scene,
    size_mm: None,
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

/// Writes a shape in all the formats that were asked for.
///
/// # Errors
/// [`PipelineError::Mesh`] and [`PipelineError::Write`].
pub fn export(
    shape: Shape,
    options: &ConversionOptions,
    name: Option<&str>,
) -> Result<Exported, PipelineError> {
    let mesh = place(
        &Mesh::from_surface(shape.surface, shape.colors)?,
        AS_EXPORTED,
    );
    // Side by side where threads of the pool are free, one after another where conversions take them all.
    let ((files, preview), quality) = rayon::join(
        || {
            rayon::join(
                || written(&mesh, options, name),
                || preview::png(&mesh, &PreviewOptions::default()),
            )
        },
        || quality::assess_as(&mesh, &shape.topology),
    );
    Ok(Exported {
        files: files?,
        preview: preview?,
        quality,
        mesh,
    })
}

fn written(
    mesh: &Mesh,
    options: &ConversionOptions,
    name: Option<&str>,
) -> Result<Vec<MeshFile>, WriteError> {
    let file = |&format: &MeshFormat| {
        let bytes = Bytes::from(write(mesh, format, options.size_mm, name)?);
        Ok(MeshFile { format, bytes })
    };
    options.formats.par_iter().map(file).collect()
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
    let placement = Placement { frame, size_mm };
    let placed = if placement == AS_EXPORTED {
        Cow::Borrowed(mesh)
    } else {
        Cow::Owned(place(mesh, placement))
    };
    let placed = placed.as_ref();
    match format {
        MeshFormat::Glb => glb::write(placed, glb::GlbOptions { conversion: name }),
        MeshFormat::Obj => obj::write(placed),
        MeshFormat::Stl => stl::write(placed),
        MeshFormat::Ply => ply::write(placed),
        MeshFormat::ThreeMf => three_mf::write(placed),
    }
}
