//! The last stage: placing the mesh for each format, writing the files side by side, and judging the result.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use rayon::prelude::*;

use super::{Made, MeshFile, error::PipelineError, paint::Paint, shape::Shape, stage::FileSink};
use crate::{
    conversion::options::{ConversionOptions, MeshFormat, PRINT_SIZE_MM, SCENE_SIZE_MM},
    mesh::{
        Mesh, WriteError, glb,
        intersections::Intersections,
        normals::CREASE_DEG,
        obj,
        placement::{Frame, Placed, Placement, place, placed},
        ply,
        preview::turntable::{TurntableOptions, turntable},
        quality::{self, Known, Quality},
        stl, three_mf,
    },
};

/// Where every mesh is put first; most files want it so.
const AS_EXPORTED: Placement = Placement {
    frame: Frame::Scene,
    size_mm: SCENE_SIZE_MM,
};

/// What [`export`] has made.
#[derive(Debug)]
pub struct Exported {
    pub files: Vec<MeshFile>,
    /// In the scene's frame, the longest side 1 m.
    pub mesh: Arc<Mesh>,
    /// A PNG.
    pub preview: Bytes,
    /// A loop, if it was asked for.
    pub turntable: Option<Bytes>,
    pub quality: Quality,
}

/// Writes a shape in all the formats that were asked for, and draws it. Each file is given to the `sink` as soon as it is there.
///
/// # Errors
/// [`PipelineError::Mesh`] and [`PipelineError::Write`].
pub fn export(
    shape: Shape,
    options: &ConversionOptions,
    name: Option<&str>,
    sink: &FileSink,
) -> Result<Exported, PipelineError> {
    let Shape {
        surface,
        normals,
        visible,
        topology,
        simplified,
        walls,
        paint: Paint { colors, texture },
        ..
    } = shape;
    let mut mesh = Mesh::with_normals(surface, normals, colors)?;
    if simplified.is_some() {
        // What was round is flat between its edges now, and what was an edge is one vertex.
        mesh = mesh.with_creases(CREASE_DEG);
    }
    if let Some(texture) = texture {
        mesh = mesh.with_texture(texture)?;
    }
    let Placed {
        mesh,
        scale,
        bounding_box,
    } = placed(mesh, AS_EXPORTED);
    let mesh = Arc::new(mesh);
    let counted = simplified.and_then(|report| report.self_intersections);
    let quality = || {
        let known = Known {
            topology: &topology,
            self_intersections: Some(counted.unwrap_or(Intersections::NONE)),
            thinnest_wall: Some(walls.thinnest() * scale),
            bounding_box: Some(bounding_box),
        };
        quality::assess_as(&mesh, known)
    };
    let written = |formats: &[MeshFormat]| written(&mesh, formats, options, name, sink);
    // By all threads and before all else, as they are stored while the rest is made: a GLB, which most ask for and which takes
    // longest to store, and what the preview shows.
    let is_glb = |format: &MeshFormat| *format == MeshFormat::Glb;
    let (glb, others) = options
        .formats
        .split_at(options.formats.partition_point(is_glb));
    let mut files = written(glb)?;
    let pixels = visible.render(&mesh);
    let preview = || {
        let preview = Bytes::from(visible.encoded(&pixels)?);
        sink(Made::Preview(preview.clone()));
        Ok::<_, WriteError>(preview)
    };
    let turntable = || {
        if !options.turntable {
            return Ok(None);
        }
        let turntable = Bytes::from(turntable(&mesh, &TurntableOptions::default())?);
        sink(Made::Turntable(turntable.clone()));
        Ok::<_, WriteError>(Some(turntable))
    };
    // Side by side where threads of the pool are free, one after another where conversions take them all.
    let ((preview, others), (quality, turntable)) = rayon::join(
        || rayon::join(preview, || written(others)),
        || rayon::join(quality, turntable),
    );
    files.extend(others?);
    Ok(Exported {
        files,
        preview: preview?,
        turntable: turntable?,
        quality,
        mesh,
    })
}

fn written(
    mesh: &Arc<Mesh>,
    formats: &[MeshFormat],
    options: &ConversionOptions,
    name: Option<&str>,
    sink: &FileSink,
) -> Result<Vec<MeshFile>, WriteError> {
    let file = |&format: &MeshFormat| {
        let pieces = write(mesh, format, options, name)?;
        // An OBJ comes with its material and texture, where it has one.
        let is_packed = format == MeshFormat::Obj && mesh.texture().is_some();
        let (extension, media_type) = if is_packed {
            ("obj.zip", "application/zip")
        } else {
            (format.extension(), format.media_type())
        };
        let file = MeshFile {
            format,
            extension,
            media_type,
            pieces,
        };
        sink(Made::Mesh(file.clone()));
        Ok(file)
    };
    formats.par_iter().map(file).collect()
}

fn write(
    mesh: &Arc<Mesh>,
    format: MeshFormat,
    options: &ConversionOptions,
    name: Option<&str>,
) -> Result<Vec<Bytes>, WriteError> {
    let &ConversionOptions {
        size_mm, quantize, ..
    } = options;
    let (frame, size_mm) = match format {
        MeshFormat::Glb | MeshFormat::Obj | MeshFormat::Ply => {
            (Frame::Scene, size_mm.unwrap_or(SCENE_SIZE_MM))
        }
        MeshFormat::Stl | MeshFormat::ThreeMf => (Frame::Print, size_mm.unwrap_or(PRINT_SIZE_MM)),
    };
    let placement = Placement { frame, size_mm };
    let placed = if placement == AS_EXPORTED {
        Cow::Borrowed(mesh)
    } else {
        Cow::Owned(Arc::new(place(mesh, placement)))
    };
    let placed = placed.as_ref();
    let file = match format {
        MeshFormat::Glb => {
            let conversion = name;
            return glb::write(
                placed,
                glb::GlbOptions {
                    conversion,
                    quantize,
                },
            );
        }
        MeshFormat::Obj if placed.texture().is_some() => obj::write_zip(placed),
        MeshFormat::Obj => obj::write(placed),
        MeshFormat::Stl => stl::write(placed),
        MeshFormat::Ply => ply::write(placed),
        MeshFormat::ThreeMf => three_mf::write(placed),
    };
    Ok(vec![file?.into()])
}
