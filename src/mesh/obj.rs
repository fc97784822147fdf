//! Wavefront OBJ as text: positions, normals and, if the mesh has them, colours behind the positions.

use std::fmt::Write;

use super::{Mesh, WriteError};

/// Writes a mesh placed in [`super::placement::Frame::Scene`]. Colours follow the common extension `v x y z r g b`
/// with sRGB in 0..1.
///
/// # Errors
/// None at present: text has no limit of size.
pub fn write(mesh: &Mesh) -> Result<Vec<u8>, WriteError> {
    // About what a line of each kind takes, so that the text rarely has to move.
    let bytes = 96 * mesh.positions().len() + 40 * mesh.triangles().len();
    let mut text = String::with_capacity(bytes);
    let lines = write_lines(mesh, &mut text);
    lines.expect("writing to a string does not fail");
    Ok(text.into_bytes())
}

fn write_lines(mesh: &Mesh, text: &mut String) -> std::fmt::Result {
    writeln!(text, "# orfeas {}\no mesh", env!("CARGO_PKG_VERSION"))?;
    for (vertex, [x, y, z]) in mesh.positions().iter().enumerate() {
        // Without a number of digits Rust prints the shortest text that reads back as the same number.
        write!(text, "v {x} {y} {z}")?;
        if let Some(colors) = mesh.colors() {
            let [red, green, blue] = colors[vertex].map(|channel| f32::from(channel) / 255.0);
            write!(text, " {red:.4} {green:.4} {blue:.4}")?;
        }
        text.push('\n');
    }
    for [x, y, z] in mesh.normals() {
        writeln!(text, "vn {x:.5} {y:.5} {z:.5}")?;
    }
    for triangle in mesh.triangles() {
        let [a, b, c] = triangle.map(|vertex| u64::from(vertex) + 1);
        writeln!(text, "f {a}//{a} {b}//{b} {c}//{c}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::fixtures;

    fn numbers(line: &str) -> Vec<f32> {
        line.split(' ')
            .skip(1)
            .map(|number| number.parse().expect("a number"))
            .collect()
    }

    #[test]
    fn the_text_reads_back_as_the_same_mesh() {
        let mesh = fixtures::colored(32, fixtures::torus());
        let text = String::from_utf8(write(&mesh).expect("writes")).expect("is text");
        let of_kind = |kind: &str| {
            text.lines()
                .filter(|line| line.starts_with(kind))
                .collect::<Vec<_>>()
        };
        let (positions, normals, faces) = (of_kind("v "), of_kind("vn "), of_kind("f "));
        assert_eq!(positions.len(), mesh.positions().len());
        for (vertex, line) in positions.iter().enumerate() {
            let read = numbers(line);
            assert_eq!(read[..3], mesh.positions()[vertex]);
            for (read, color) in read[3..]
                .iter()
                .zip(mesh.colors().expect("has colours")[vertex])
            {
                assert_eq!((read * 255.0).round() as u8, color);
            }
        }
        assert_eq!(normals.len(), mesh.normals().len());
        for (line, normal) in normals.iter().zip(mesh.normals()) {
            let read = numbers(line);
            assert!(fixtures::distance([read[0], read[1], read[2]], *normal) < 1e-4);
        }
        assert_eq!(faces.len(), mesh.triangles().len());
        for (line, triangle) in faces.iter().zip(mesh.triangles()) {
            let read: Vec<u32> = line
                .split(' ')
                .skip(1)
                .map(|corner| {
                    let (position, normal) = corner.split_once("//").expect("position and normal");
                    assert_eq!(position, normal);
                    position.parse::<u32>().expect("an index") - 1
                })
                .collect();
            assert_eq!(read, triangle);
        }
    }

    #[test]
    fn a_mesh_without_colors_has_three_numbers_a_vertex() {
        let text = String::from_utf8(write(&fixtures::cube()).expect("writes")).expect("is text");
        assert!(
            text.lines()
                .filter(|line| line.starts_with("v "))
                .all(|line| numbers(line).len() == 3)
        );
    }
}
