//! Wavefront OBJ as text: positions, normals and, if the mesh has them, colours behind the positions; in an archive
//! with its material, a texture too.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io::{Cursor, Write as _},
};

use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

use super::{Mesh, WriteError};

/// Whether the text names a material and places in its texture.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Material {
    /// The text stands alone.
    Left,
    /// `mesh.mtl` lies beside it.
    Beside,
}

/// Writes a mesh placed in [`super::placement::Frame::Scene`]. Colours follow the common extension `v x y z r g b`
/// with sRGB in 0..1. A texture is left out, having no file to lie in.
///
/// # Errors
/// None at present: text has no limit of size.
pub fn write(mesh: &Mesh) -> Result<Vec<u8>, WriteError> {
    Ok(text(mesh, Material::Left).into_bytes())
}

/// Writes a ZIP archive of `mesh.obj`, its material `mesh.mtl` and, where the mesh has a texture, `texture.png`. The same
/// mesh yields the same bytes.
///
/// # Errors
/// [`WriteError::Zip`] if the archive cannot be put together.
pub fn write_zip(mesh: &Mesh) -> Result<Vec<u8>, WriteError> {
    let deflated = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::default())
        .unix_permissions(0o644);
    // A PNG is compressed already.
    let stored = deflated.compression_method(CompressionMethod::Stored);
    let obj = text(mesh, Material::Beside);
    let mtl = material(mesh);
    let mut files = vec![
        ("mesh.obj", obj.as_bytes(), deflated),
        ("mesh.mtl", mtl.as_bytes(), deflated),
    ];
    if let Some(texture) = mesh.texture() {
        files.push(("texture.png", &texture.png, stored));
    }
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes, options) in files {
        archive.start_file(name, options)?;
        let written = archive.write_all(bytes);
        written.map_err(|source| WriteError::Io {
            format: "ZIP",
            source,
        })?;
    }
    Ok(archive.finish()?.into_inner())
}

/// The material: dull, as the GLB's is.
fn material(mesh: &Mesh) -> String {
    // A texture and vertex colours are multiplied with `Kd`; a mesh without either is light grey.
    let diffuse = if mesh.texture().is_some() || mesh.colors().is_some() {
        "1.0 1.0 1.0"
    } else {
        "0.8 0.8 0.8"
    };
    let map = if mesh.texture().is_some() {
        "map_Kd texture.png\n"
    } else {
        ""
    };
    format!(
        "# orfeas {}\nnewmtl surface\nKa 0.0 0.0 0.0\nKd {diffuse}\nKs 0.0 0.0 0.0\nNs 10.0\nd 1.0\nillum 1\n{map}",
        env!("CARGO_PKG_VERSION")
    )
}

fn text(mesh: &Mesh, material: Material) -> String {
    // About what a line of each kind takes, so that the text rarely has to move.
    let bytes = 96 * mesh.positions().len() + 40 * mesh.triangles().len();
    let mut text = String::with_capacity(bytes);
    let lines = write_lines(mesh, material, &mut text);
    lines.expect("writing to a string does not fail");
    text
}

fn write_lines(mesh: &Mesh, material: Material, text: &mut String) -> std::fmt::Result {
    let texture = mesh.texture().filter(|_| material == Material::Beside);
    writeln!(text, "# orfeas {}", env!("CARGO_PKG_VERSION"))?;
    if material == Material::Beside {
        writeln!(text, "mtllib mesh.mtl")?;
    }
    writeln!(text, "o mesh")?;
    // As in a GLB, vertex colours would tint the texture.
    let colors = mesh.colors().filter(|_| texture.is_none());
    for (vertex, [x, y, z]) in mesh.positions().iter().enumerate() {
        // Without a number of digits Rust prints the shortest text that reads back as the same number.
        write!(text, "v {x} {y} {z}")?;
        if let Some(colors) = colors {
            let [red, green, blue] = colors[vertex].map(|channel| f32::from(channel) / 255.0);
            write!(text, " {red:.4} {green:.4} {blue:.4}")?;
        }
        text.push('\n');
    }
    let uvs = texture.map(|texture| indexed(mesh.triangles(), &texture.uvs));
    if let Some(uvs) = &uvs {
        for [u, v] in &uvs.values {
            // In an OBJ `v` counts from the bottom.
            writeln!(text, "vt {u:.6} {:.6}", 1.0 - v)?;
        }
    }
    let normals = mesh.corner_normals();
    let normals = normals.map(|normals| indexed(mesh.triangles(), normals));
    let values = normals
        .as_ref()
        .map_or(mesh.normals(), |normals| &normals.values);
    for [x, y, z] in values {
        writeln!(text, "vn {x:.5} {y:.5} {z:.5}")?;
    }
    if material == Material::Beside {
        writeln!(text, "usemtl surface")?;
    }
    for (triangle, corners) in mesh.triangles().iter().enumerate() {
        text.push('f');
        for (at, vertex) in corners.iter().enumerate() {
            // Indices count from 1.
            write!(text, " {}/", vertex + 1)?;
            if let Some(uvs) = &uvs {
                write!(text, "{}", uvs.triangles[triangle][at] + 1)?;
            }
            let normal = normals
                .as_ref()
                .map_or(*vertex, |normals| normals.triangles[triangle][at]);
            write!(text, "/{}", normal + 1)?;
        }
        text.push('\n');
    }
    Ok(())
}

/// What corners carry, each value of a vertex once, and the index of each corner's.
struct Indexed<const AXES: usize> {
    values: Vec<[f32; AXES]>,
    triangles: Vec<[u32; 3]>,
}

fn indexed<const AXES: usize>(
    triangles: &[[u32; 3]],
    corners: &[[[f32; AXES]; 3]],
) -> Indexed<AXES> {
    let mut indices = HashMap::new();
    let mut values = Vec::new();
    let numbered = triangles.iter().zip(corners).map(|(triangle, corners)| {
        std::array::from_fn(|at| {
            let key = (triangle[at], corners[at].map(f32::to_bits));
            *indices.entry(key).or_insert_with(|| {
                values.push(corners[at]);
                values.len() as u32 - 1
            })
        })
    });
    let triangles = numbered.collect();
    Indexed { values, triangles }
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

    fn unzipped(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut archive = zip::ZipArchive::new(Cursor::new(archive)).expect("an archive");
        (0..archive.len())
            .map(|index| {
                let mut file = archive.by_index(index).expect("is there");
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut file, &mut bytes).expect("reads");
                (file.name().to_owned(), bytes)
            })
            .collect()
    }

    #[test]
    fn the_archive_holds_the_material_and_the_texture() {
        let texture = fixtures::texture(12);
        let cube = fixtures::cube().with_creases(40.0);
        let cube = cube.with_texture(texture.clone()).expect("fits");
        let archive = write_zip(&cube).expect("writes");
        assert_eq!(write_zip(&cube).expect("writes"), archive);
        let [obj, mtl, png] = unzipped(&archive).try_into().expect("three files");
        assert_eq!(
            (&obj.0[..], &mtl.0[..], &png.0[..]),
            ("mesh.obj", "mesh.mtl", "texture.png")
        );
        assert_eq!(png.1, texture.png);
        let mtl = String::from_utf8(mtl.1).expect("is text");
        assert!(mtl.contains("newmtl surface\n") && mtl.contains("map_Kd texture.png\n"));
        let obj = String::from_utf8(obj.1).expect("is text");
        assert!(obj.contains("mtllib mesh.mtl\n") && obj.contains("usemtl surface\n"));
        let of_kind = |kind: &str| {
            let lines = obj.lines().filter(|line| line.starts_with(kind));
            lines.map(numbers).collect::<Vec<_>>()
        };
        let (uvs, normals) = (of_kind("vt "), of_kind("vn "));
        assert_eq!((of_kind("v ").len(), uvs.len(), normals.len()), (8, 36, 24));
        let faces = obj.lines().filter(|line| line.starts_with("f "));
        for (triangle, face) in faces.enumerate() {
            for (at, corner) in face.split(' ').skip(1).enumerate() {
                let indices = corner
                    .split('/')
                    .map(|index| index.parse::<usize>().expect("an index"));
                let [vertex, uv, normal] = indices.collect::<Vec<_>>().try_into().expect("three");
                assert_eq!(vertex as u32 - 1, cube.triangles()[triangle][at]);
                let [u, v] = texture.uvs[triangle][at];
                assert!((uvs[uv - 1][0] - u).abs() < 1e-5);
                assert!((uvs[uv - 1][1] - (1.0 - v)).abs() < 1e-5);
                let wanted = cube.corner_normals().expect("has creases")[triangle][at];
                assert_eq!(normals[normal - 1], wanted);
            }
        }
    }

    #[test]
    fn an_archive_without_a_texture_is_the_same_text_with_a_material() {
        let mesh = fixtures::colored(32, fixtures::sphere(0.6));
        let [obj, mtl] = unzipped(&write_zip(&mesh).expect("writes"))
            .try_into()
            .expect("two files");
        let obj = String::from_utf8(obj.1).expect("is text");
        let bare = obj
            .replace("mtllib mesh.mtl\n", "")
            .replace("usemtl surface\n", "");
        assert_eq!(bare.into_bytes(), write(&mesh).expect("writes"));
        assert!(
            !String::from_utf8(mtl.1)
                .expect("is text")
                .contains("map_Kd")
        );
    }
}
