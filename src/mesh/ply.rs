//! Binary PLY, little endian: positions, normals and, if the mesh has them, sRGB colours.

use super::{Mesh, WriteError};

pub mod reader;

/// Writes a mesh placed in [`super::placement::Frame::Scene`].
///
/// # Errors
/// [`WriteError::TooLarge`] if the vertices cannot be counted in the 31 bits that readers take.
pub fn write(mesh: &Mesh) -> Result<Vec<u8>, WriteError> {
    let header = header(mesh);
    let vertex_bytes = if mesh.colors().is_some() { 27 } else { 24 };
    let bytes = header.len() + vertex_bytes * mesh.positions().len() + 13 * mesh.triangles().len();
    if i32::try_from(mesh.positions().len()).is_err() {
        return Err(WriteError::TooLarge {
            format: "PLY",
            bytes: bytes as u64,
        });
    }
    let mut file = Vec::with_capacity(bytes);
    file.extend_from_slice(header.as_bytes());
    for (vertex, (position, normal)) in mesh.positions().iter().zip(mesh.normals()).enumerate() {
        for along in position.iter().chain(normal) {
            file.extend_from_slice(&along.to_le_bytes());
        }
        if let Some(colors) = mesh.colors() {
            file.extend_from_slice(&colors[vertex]);
        }
    }
    for triangle in mesh.triangles() {
        file.push(3);
        for vertex in triangle {
            file.extend_from_slice(&vertex.to_le_bytes());
        }
    }
    Ok(file)
}

fn header(mesh: &Mesh) -> String {
    let colors = if mesh.colors().is_some() {
        "property uchar red\nproperty uchar green\nproperty uchar blue\n"
    } else {
        ""
    };
    format!(
        "ply\nformat binary_little_endian 1.0\ncomment orfeas {version}\nelement vertex {vertices}\n\
         property float x\nproperty float y\nproperty float z\n\
         property float nx\nproperty float ny\nproperty float nz\n{colors}\
         element face {triangles}\nproperty list uchar int vertex_indices\nend_header\n",
        version = env!("CARGO_PKG_VERSION"),
        vertices = mesh.positions().len(),
        triangles = mesh.triangles().len(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::fixtures;

    fn header_and_body(file: &[u8]) -> (String, &[u8]) {
        let end = b"end_header\n";
        let at = file
            .windows(end.len())
            .position(|window| window == end)
            .expect("has a header")
            + end.len();
        (
            String::from_utf8(file[..at].to_vec()).expect("the header is text"),
            &file[at..],
        )
    }

    fn floats(bytes: &[u8]) -> Vec<f32> {
        bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|chunk| f32::from_le_bytes(*chunk))
            .collect()
    }

    #[test]
    fn the_bytes_hold_what_the_header_says() {
        let mesh = fixtures::colored(32, fixtures::sphere(0.6));
        let file = write(&mesh).expect("writes");
        let (header, body) = header_and_body(&file);
        let (vertices, triangles) = (mesh.positions().len(), mesh.triangles().len());
        assert!(header.starts_with("ply\nformat binary_little_endian 1.0\n"));
        assert!(header.contains(&format!("element vertex {vertices}\n")));
        assert!(header.contains(&format!("element face {triangles}\n")));
        assert_eq!(body.len(), 27 * vertices + 13 * triangles);
        for (vertex, bytes) in body[..27 * vertices].as_chunks::<27>().0.iter().enumerate() {
            let expected = [mesh.positions()[vertex], mesh.normals()[vertex]].concat();
            assert_eq!(floats(&bytes[..24]), expected);
            assert_eq!(bytes[24..], mesh.colors().expect("has colours")[vertex]);
        }
        for (triangle, bytes) in mesh
            .triangles()
            .iter()
            .zip(body[27 * vertices..].as_chunks::<13>().0)
        {
            assert_eq!(bytes[0], 3);
            let indices: Vec<u32> = bytes[1..]
                .as_chunks::<4>()
                .0
                .iter()
                .map(|chunk| u32::from_le_bytes(*chunk))
                .collect();
            assert_eq!(indices, triangle);
        }
    }

    #[test]
    fn a_mesh_without_colors_has_no_color_properties() {
        let file = write(&fixtures::cube()).expect("writes");
        let (header, body) = header_and_body(&file);
        assert!(!header.contains("uchar red"));
        assert_eq!(body.len(), 24 * 8 + 13 * 12);
    }
}
