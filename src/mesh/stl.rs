//! Binary STL: triangles alone, without colours or units. By convention millimetres, +Z up.

use stl_io::{Normal, Triangle, Vertex};

use super::{Mesh, WriteError, vector};

/// Writes a mesh placed in [`super::placement::Frame::Print`].
///
/// # Errors
/// [`WriteError::TooLarge`] beyond 2³² triangles.
pub fn write(mesh: &Mesh) -> Result<Vec<u8>, WriteError> {
    const HEADER_BYTES: usize = 84;
    const TRIANGLE_BYTES: usize = 50;
    let count = mesh.triangles().len();
    let bytes = HEADER_BYTES + TRIANGLE_BYTES * count;
    if u32::try_from(count).is_err() {
        return Err(WriteError::TooLarge {
            format: "STL",
            bytes: bytes as u64,
        });
    }
    let triangles = mesh.triangles().iter().map(|&triangle| {
        let normal = vector::unit(vector::twice_area(vector::corners(
            mesh.positions(),
            triangle,
        )));
        Triangle {
            // Readers take a zero normal as "work it out from the corners".
            normal: Normal::new(vector::narrow(normal.unwrap_or([0.0; 3]))),
            vertices: triangle.map(|vertex| Vertex::new(mesh.positions()[vertex as usize])),
        }
    });
    let mut file = Vec::with_capacity(bytes);
    stl_io::write_stl(&mut file, triangles).map_err(|source| WriteError::Io {
        format: "STL",
        source,
    })?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::mesh::{fixtures, topology::Topology};

    #[test]
    fn what_is_written_reads_back_as_the_same_closed_mesh() {
        let mesh = fixtures::colored(48, fixtures::torus());
        let file = write(&mesh).expect("writes");
        assert_eq!(file.len(), 84 + 50 * mesh.triangles().len());
        let read = stl_io::read_stl(&mut Cursor::new(file)).expect("reads");
        read.validate().expect("the reader finds it closed");
        assert_eq!(
            read.vertices.len(),
            mesh.positions().len(),
            "no two vertices fell together"
        );
        let corner = |vertex: usize| read.vertices[vertex].0;
        for (face, triangle) in read.faces.iter().zip(mesh.triangles()) {
            assert_eq!(
                face.vertices.map(corner),
                triangle.map(|vertex| mesh.positions()[vertex as usize])
            );
        }
        let triangles: Vec<_> = read
            .faces
            .iter()
            .map(|face| face.vertices.map(|vertex| vertex as u32))
            .collect();
        assert!(Topology::of(read.vertices.len(), &triangles).is_watertight());
    }
}
