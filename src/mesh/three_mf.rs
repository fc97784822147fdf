//! 3MF: one object in millimetres, +Z up. Without colours: `threemf2` 0.4.1 writes a group of colours behind the object
//! that refers to it, and 3MF wants it before.

use std::{error::Error, io::Cursor};

use threemf2::{
    model::{
        PathResource,
        builder::{ModelBuilder, ObjectType, Unit},
    },
    package::{ThreemfPackageBuilder, domain::relationship::RelationshipType},
};

use super::{Mesh, WriteError};

/// Writes a mesh placed in [`super::placement::Frame::Print`]. Coordinates are rounded to a nanometre, which keeps the
/// text short and is finer than a 32-bit coordinate of a few centimetres.
///
/// # Errors
/// [`WriteError::ThreeMf`] if the package cannot be put together or compressed.
pub fn write(mesh: &Mesh) -> Result<Vec<u8>, WriteError> {
    package(mesh).map_err(WriteError::ThreeMf)
}

/// Any name would do by the specification; Cura opens this one, to the letter.
const MODEL_PATH: &str = "/3D/3dmodel.model";

fn package(mesh: &Mesh) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
    const PER_MILLIMETER: f64 = 1e6;
    let round = |along: f32| (f64::from(along) * PER_MILLIMETER).round() / PER_MILLIMETER;
    let vertices: Vec<[f64; 3]> = mesh
        .positions()
        .iter()
        .map(|position| position.map(round))
        .collect();
    let triangles: Vec<[usize; 3]> = mesh
        .triangles()
        .iter()
        .map(|triangle| triangle.map(|vertex| vertex as usize))
        .collect();

    let mut builder = ModelBuilder::new(Unit::Millimeter, true);
    builder.add_metadata(
        "Application",
        Some(concat!("orfeas ", env!("CARGO_PKG_VERSION"))),
    );
    builder.add_build(None)?;
    let object = builder.add_mesh_object(|object| {
        object.object_type(ObjectType::Model).name("mesh");
        object.add_vertices(&vertices).add_triangles(&triangles);
        Ok(())
    })?;
    builder.add_build_item(object)?;
    let model = builder.build()?;

    let mut package = ThreemfPackageBuilder::new();
    package.set_root_model(model);
    let mut package = package.build()?;
    let parts = package.relationships.values_mut();
    for part in parts.flat_map(|parts| &mut parts.relationships) {
        if part.relationship_type == RelationshipType::Model {
            part.target = PathResource::new(MODEL_PATH, true)?;
        }
    }
    let mut file = Cursor::new(Vec::new());
    package.write(&mut file)?;
    Ok(file.into_inner())
}

#[cfg(test)]
mod tests {
    use threemf2::package::ThreemfPackage;

    use super::*;
    use crate::mesh::{
        fixtures,
        placement::{Frame, Placement, place},
    };

    #[test]
    fn what_is_written_reads_back_as_the_same_mesh_in_millimetres() {
        let mesh = place(
            &fixtures::colored(48, fixtures::torus()),
            Placement {
                frame: Frame::Print,
                size_mm: 80.0,
            },
        );
        let file = write(&mesh).expect("writes");
        let mut archive = zip::ZipArchive::new(Cursor::new(&file)).expect("is a ZIP");
        assert!(archive.by_name(&MODEL_PATH[1..]).is_ok());
        let package =
            ThreemfPackage::from_reader_with_memory_optimized_deserializer(Cursor::new(file), true)
                .expect("reads");
        assert_eq!(package.root.unit, Some(Unit::Millimeter));
        assert_eq!(package.root.build.item.len(), 1);
        let objects = &package.root.resources.object;
        assert_eq!(objects.len(), 1);
        assert_eq!(package.root.build.item[0].objectid, objects[0].id);
        let read = objects[0].get_mesh().expect("the object is a mesh");
        assert_eq!(read.vertices.vertex.len(), mesh.positions().len());
        for (vertex, position) in read.vertices.vertex.iter().zip(mesh.positions()) {
            let read = [vertex.x.value(), vertex.y.value(), vertex.z.value()];
            for (read, written) in read.into_iter().zip(position) {
                assert!(
                    (read - f64::from(*written)).abs() <= 0.6e-6,
                    "{read} {written}"
                );
            }
        }
        let triangles = read
            .triangles
            .triangle
            .iter()
            .map(|triangle| [triangle.v1, triangle.v2, triangle.v3]);
        assert!(triangles.eq(mesh.triangles().iter().copied()));
    }
}
