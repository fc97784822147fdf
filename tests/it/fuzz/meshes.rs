//! The writers of meshes: whatever mesh there can be is written so that another's reader, or ours, finds it again.

use std::{
    io::{Cursor, Read},
    sync::Arc,
};

use orfeas::mesh::{
    Mesh,
    glb::{self, GlbOptions},
    obj,
    placement::{Frame, Placement, place},
    ply, stl,
    texture::TextureMap,
    three_mf,
};

use super::{Target, plain};

/// Where floats go wrong.
const WORDS: [&[u8]; 9] = [
    &f32::MAX.to_le_bytes(),
    &f32::MIN_POSITIVE.to_le_bytes(),
    &1e-44_f32.to_le_bytes(),
    &f32::NAN.to_le_bytes(),
    &f32::INFINITY.to_le_bytes(),
    &(-0.0_f32).to_le_bytes(),
    &1e20_f32.to_le_bytes(),
    &0.5_f32.to_le_bytes(),
    &16_777_217_f32.to_le_bytes(),
];

/// A mesh made of bytes: counts, flags, an angle; then positions, normals, colours, triangles, places in a texture.
fn mesh(input: &[u8]) -> Option<Result<Mesh, String>> {
    let ([vertices, triangles, flags, angle], rest) = input.split_first_chunk()?;
    let (vertices, triangles) = (usize::from(vertices % 24), usize::from(triangles % 32));
    let mut rest = rest.iter().copied().chain(std::iter::repeat(0x3e));
    let mut byte = move || rest.next().expect("it has no end");
    let mut float = || f32::from_le_bytes(std::array::from_fn(|_| byte()));
    let positions: Vec<[f32; 3]> = (0..vertices)
        .map(|_| std::array::from_fn(|_| float()))
        .collect();
    let normals = (0..vertices)
        .map(|_| std::array::from_fn(|_| float()))
        .collect();
    let uvs: Vec<[[f32; 2]; 3]> = (0..triangles)
        .map(|_| std::array::from_fn(|_| std::array::from_fn(|_| float().abs().fract())))
        .collect();
    let colors = (flags & 1 == 1).then(|| {
        let mut color = || std::array::from_fn(|_| float().to_le_bytes()[0]);
        (0..vertices).map(|_| color()).collect()
    });
    // One index in a hundred or so leads nowhere.
    let mut index = || u32::from(float().to_le_bytes()[1]) % (4 * vertices.max(1) as u32 + 1) / 4;
    let triangles = (0..triangles)
        .map(|_| std::array::from_fn(|_| index()))
        .collect();
    let made = Mesh::new(positions, normals, colors, triangles).and_then(|mesh| {
        let mesh = match flags & 2 {
            0 => mesh,
            _ => mesh.with_creases(f32::from(*angle)),
        };
        match flags & 4 {
            0 => Ok(mesh),
            _ => mesh.with_texture(TextureMap {
                uvs,
                side_px: 1,
                png: PIXEL.into(),
            }),
        }
    });
    Some(made.map_err(plain))
}

/// A PNG of one grey pixel.
const PIXEL: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0\x3a\x7e\x9b\x55\0\0\0\x0aIDAT\x78\x9c\x63\x68\0\0\0\x82\0\x81\x4c\x17\xd7\xdf\0\0\0\0IEND\xae\x42\x60\x82";

#[test]
fn any_mesh_is_written_so_that_it_can_be_read() {
    let target = Target {
        name: "meshes",
        seeds: vec![
            tetrahedron(0),
            tetrahedron(1),
            tetrahedron(2),
            tetrahedron(4),
            tetrahedron(7),
        ],
        words: &WORDS,
    };
    target.run(|input| {
        let mesh = match mesh(input) {
            Some(Ok(mesh)) => mesh,
            Some(Err(refusal)) => return Ok(refusal),
            None => return Ok("too short".into()),
        };
        let placed = |frame, size_mm| place(&mesh, Placement { frame, size_mm });
        let scene = placed(Frame::Scene, 1000.0);
        let print = placed(Frame::Print, 100.0);
        let checks: [(&str, Result<(), String>); 6] = [
            ("GLB", read_glb(&scene, false)),
            ("quantised GLB", read_glb(&scene, true)),
            ("OBJ", read_obj(&scene)),
            ("PLY", read_ply(&scene)),
            ("STL", read_stl(&print)),
            ("3MF", read_3mf(&print)),
        ];
        for (format, read) in checks {
            read.map_err(|error| format!("{format}: {error}"))?;
        }
        let texture = mesh.texture().is_some();
        let creased = mesh.corner_normals().is_some();
        Ok(format!(
            "written: {:?} {texture} {creased}",
            mesh.colors().is_some()
        ))
    });
}

/// Four corners, four faces.
fn tetrahedron(flags: u8) -> Vec<u8> {
    let mut bytes = vec![4, 4, flags, 30];
    let corners = [
        [1.0, 1.0, 1.0],
        [-1.0, -1.0, 1.0],
        [-1.0, 1.0, -1.0],
        [1.0, -1.0, -1.0],
    ];
    for corner in [
        corners,
        corners.map(|corner| corner.map(|along: f32| along * 0.577)),
    ] {
        for along in corner.as_flattened() {
            bytes.extend_from_slice(&along.to_le_bytes());
        }
    }
    bytes.extend((0..24_u8).flat_map(|place| (f32::from(place) / 24.0).to_le_bytes()));
    if flags & 1 == 1 {
        bytes.extend((0..12_u8).flat_map(|value| [value * 20, 0, 0, 0]));
    }
    for index in [0_u8, 1, 2, 0, 3, 1, 0, 2, 3, 1, 3, 2] {
        // The second byte counts, in fourths.
        bytes.extend_from_slice(&[0, index * 4, 0, 0]);
    }
    bytes
}

fn expect(what: &str, found: usize, expected: usize) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{found} {what} of {expected}"))
}

fn read_glb(mesh: &Mesh, quantize: bool) -> Result<(), String> {
    let options = GlbOptions {
        conversion: Some("cnv_1"),
        quantize,
    };
    let pieces = glb::write(&Arc::new(mesh.clone()), options);
    let bytes = pieces
        .map_err(|error| format!("not written: {error:?}"))?
        .concat();
    let gltf =
        gltf::Gltf::from_slice_without_validation(&bytes).map_err(|error| error.to_string())?;
    let blob = gltf.blob.as_deref().ok_or("no bytes")?;
    let primitive = gltf
        .meshes()
        .next()
        .and_then(|mesh| mesh.primitives().next());
    let primitive = primitive.ok_or("no mesh")?;
    let reader = primitive.reader(|_| Some(blob));
    let indices = reader.read_indices().ok_or("no indices")?.into_u32();
    expect("indices", indices.len(), 3 * mesh.triangles().len())?;
    let positions = primitive
        .get(&gltf::Semantic::Positions)
        .ok_or("no positions")?;
    if indices
        .clone()
        .any(|index| index as usize >= positions.count())
    {
        return Err("an index leads nowhere".into());
    }
    if !quantize {
        let positions = reader.read_positions().ok_or("no positions")?;
        if !positions.flatten().all(f32::is_finite) {
            return Err("a position isn't finite".into());
        }
    }
    Ok(())
}

fn read_obj(mesh: &Mesh) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("not written: {error}");
    let text = match mesh.texture() {
        None => obj::write(mesh).map_err(|error| failed(&error))?,
        Some(_) => {
            let packed = obj::write_zip(mesh).map_err(|error| failed(&error))?;
            unpacked(&packed, ".obj")?
        }
    };
    let text = String::from_utf8(text).map_err(|error| error.to_string())?;
    let of_kind = |kind: &'static str| {
        text.lines()
            .filter_map(move |line| line.strip_prefix(kind)?.strip_prefix(' '))
    };
    expect("vertices", of_kind("v").count(), mesh.positions().len())?;
    expect("faces", of_kind("f").count(), mesh.triangles().len())?;
    for line in of_kind("v").chain(of_kind("vn")).chain(of_kind("vt")) {
        let is_number = |word: &str| word.parse().is_ok_and(f64::is_finite);
        if !line.split_whitespace().all(is_number) {
            return Err(format!("no numbers: {line}"));
        }
    }
    let vertices = mesh.positions().len();
    for line in of_kind("f") {
        for corner in line.split_whitespace() {
            let first = corner
                .split('/')
                .next()
                .and_then(|index| index.parse().ok());
            if !first.is_some_and(|index: usize| (1..=vertices).contains(&index)) {
                return Err(format!("no corner: {line}"));
            }
        }
    }
    Ok(())
}

fn read_ply(mesh: &Mesh) -> Result<(), String> {
    let bytes = ply::write(mesh).map_err(|error| format!("not written: {error}"))?;
    let read = ply::reader::read(&bytes).map_err(|error| format!("{error:?}"))?;
    expect("vertices", read.positions().len(), mesh.positions().len())?;
    if read.triangles() != mesh.triangles() || read.positions() != mesh.positions() {
        return Err("it is another mesh".into());
    }
    Ok(())
}

fn read_stl(mesh: &Mesh) -> Result<(), String> {
    let bytes = stl::write(mesh).map_err(|error| format!("not written: {error}"))?;
    let read = stl_io::create_stl_reader(&mut Cursor::new(&bytes))
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| error.to_string())?;
    expect("triangles", read.len(), mesh.triangles().len())
}

fn read_3mf(mesh: &Mesh) -> Result<(), String> {
    let bytes = three_mf::write(mesh).map_err(|error| format!("not written: {error}"))?;
    let text = unpacked(&bytes, ".model")?;
    let text = String::from_utf8(text).map_err(|error| error.to_string())?;
    expect(
        "vertices",
        text.matches("<vertex ").count(),
        mesh.positions().len(),
    )?;
    expect(
        "triangles",
        text.matches("<triangle ").count(),
        mesh.triangles().len(),
    )?;
    let finite = ["\"inf", "\"-inf", "\"NaN"];
    match finite.iter().find(|word| text.contains(**word)) {
        Some(word) => Err(format!("a coordinate is {word}\"")),
        None => Ok(()),
    }
}

/// The file with this ending in a ZIP.
fn unpacked(bytes: &[u8], ending: &str) -> Result<Vec<u8>, String> {
    let mut archive =
        zip::ZipArchive::new(Cursor::new(bytes)).map_err(|error| error.to_string())?;
    let name = archive
        .file_names()
        .find(|name| name.ends_with(ending))
        .map(str::to_owned)
        .ok_or("the file isn't in it")?;
    let mut file = archive.by_name(&name).map_err(|error| error.to_string())?;
    let mut content = Vec::new();
    file.read_to_end(&mut content)
        .map_err(|error| error.to_string())?;
    Ok(content)
}
