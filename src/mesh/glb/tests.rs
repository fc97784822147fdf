use super::*;
use crate::mesh::fixtures;

/// A file in one piece.
fn whole(mesh: &Mesh, options: GlbOptions<'_>) -> Vec<u8> {
    let pieces = write(&Arc::new(mesh.clone()), options).expect("writes");
    pieces.concat()
}

fn assert_read_back(mesh: &Mesh) -> gltf::Document {
    let file = whole(
        mesh,
        GlbOptions {
            conversion: Some("cnv_1"),
            quantize: false,
        },
    );
    let (document, buffers, _) = gltf::import_slice(&file).expect("the reader accepts it");
    let meshes: Vec<_> = document.meshes().collect();
    assert_eq!(meshes.len(), 1);
    let primitives: Vec<_> = meshes[0].primitives().collect();
    assert_eq!(primitives.len(), 1);
    let reader = primitives[0].reader(|buffer| Some(&buffers[buffer.index()]));
    assert!(
        reader
            .read_positions()
            .expect("has positions")
            .eq(mesh.positions().iter().copied())
    );
    assert!(
        reader
            .read_normals()
            .expect("has normals")
            .eq(mesh.normals().iter().copied())
    );
    let indices = reader.read_indices().expect("has indices").into_u32();
    assert!(indices.eq(mesh.triangles().as_flattened().iter().copied()));
    let bounds = primitives[0].bounding_box();
    assert_eq!(
        (bounds.min, bounds.max),
        (mesh.bounding_box().min, mesh.bounding_box().max)
    );
    match (reader.read_colors(0), mesh.colors()) {
        (Some(read), Some(colors)) => {
            for (read, color) in read.into_rgba_f32().zip(colors) {
                let encoded = |linear: f32| {
                    if linear <= 0.003_130_8 {
                        12.92 * linear
                    } else {
                        1.055 * linear.powf(1.0 / 2.4) - 0.055
                    }
                };
                let back = [read[0], read[1], read[2]]
                    .map(|channel| (255.0 * encoded(channel)).round() as u8);
                assert_eq!(back, *color);
                assert_eq!(read[3], 1.0);
            }
        }
        (None, None) => (),
        _ => panic!("colours came or went"),
    }
    document
}

#[test]
fn an_independent_reader_gets_the_same_mesh() {
    assert_read_back(&fixtures::colored(32, fixtures::torus()));
    assert_read_back(&fixtures::cube());
}

#[test]
fn more_than_65535_vertices_are_written_with_wide_indices() {
    let mesh = fixtures::colored(192, fixtures::sphere(0.8));
    assert!(mesh.positions().len() > 65_535);
    assert_read_back(&mesh);
}

#[test]
fn the_file_says_where_it_is_from_and_how_to_shade_it() {
    let document = assert_read_back(&fixtures::colored(32, fixtures::sphere(0.5)));
    let asset = document.as_json().asset.clone();
    assert_eq!(
        asset.generator.as_deref(),
        Some(concat!("orfeas ", env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(
        asset.extras.expect("has extras").get(),
        r#"{"conversion":"cnv_1"}"#
    );
    let material = document.materials().next().expect("has a material");
    assert!(!material.double_sided());
    assert_eq!(material.pbr_metallic_roughness().metallic_factor(), 0.0);
    assert_eq!(
        material.pbr_metallic_roughness().roughness_factor(),
        ROUGHNESS
    );
}

#[test]
fn every_part_of_the_file_is_aligned_to_four_bytes() {
    // A cube has 36 indices of two bytes; with 11 triangles there are 33, which end off the alignment.
    let cube = fixtures::cube();
    let open = Mesh::new(
        cube.positions().to_vec(),
        cube.normals().to_vec(),
        None,
        cube.triangles()[1..].to_vec(),
    )
    .expect("valid");
    let file = whole(&open, GlbOptions::default());
    assert_eq!(file.len() % 4, 0);
    let document = gltf::Gltf::from_slice(&file).expect("parses");
    assert!(document.views().all(|view| view.offset() % 4 == 0));
    assert!(document.as_json().asset.extras.is_none());
    assert_eq!(
        u32::from_le_bytes([file[8], file[9], file[10], file[11]]) as usize,
        file.len()
    );
}

/// All kinds of meshes and both ways to write numbers.
fn kinds() -> Vec<(&'static str, Mesh)> {
    let creased = fixtures::cube().with_creases(40.0);
    let textured = fixtures::cube().with_texture(fixtures::texture(12));
    let both = creased.clone().with_texture(fixtures::texture(12));
    vec![
        ("bare", fixtures::cube()),
        ("coloured", fixtures::colored(32, fixtures::torus())),
        ("fine", fixtures::colored(256, fixtures::sphere(0.8))),
        ("textured", textured.expect("fits")),
        ("creased", creased),
        ("both", both.expect("fits")),
    ]
}

fn written(mesh: &Mesh, quantize: bool) -> Vec<u8> {
    let options = GlbOptions {
        conversion: None,
        quantize,
    };
    whole(mesh, options)
}

#[test]
fn what_the_file_wants_as_the_mesh_has_it_is_not_copied() {
    let mesh = Arc::new(fixtures::colored(256, fixtures::sphere(0.8)));
    assert!(mesh.positions().len() > usize::from(u16::MAX));
    let pieces = write(&mesh, GlbOptions::default()).expect("writes");
    let held: [&[u8]; 3] = [
        bytemuck::cast_slice(mesh.positions()),
        bytemuck::cast_slice(mesh.normals()),
        bytemuck::cast_slice(mesh.triangles()),
    ];
    for held in held {
        assert!(
            pieces
                .iter()
                .any(|piece| piece.as_ptr_range() == held.as_ptr_range())
        );
    }
    // They outlive whoever has written them.
    let file = pieces.concat();
    drop(mesh);
    assert_eq!(pieces.concat(), file);
}

/// The first primitive of a file, whatever extensions it requires.
fn opened(file: &[u8]) -> (gltf::Document, Vec<u8>) {
    let gltf = gltf::Gltf::from_slice_without_validation(file).expect("parses");
    (gltf.document, gltf.blob.expect("has a buffer"))
}

#[test]
fn the_khronos_validator_finds_nothing() {
    let root = env!("CARGO_MANIFEST_DIR");
    let node = format!("{root}/.deps/node/bin/node");
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = std::process::Command::new(node);
    command.arg(format!("{root}/.tools/node/validate-gltf.mjs"));
    for (name, mesh) in kinds() {
        for quantize in [false, true] {
            let path = folder.path().join(format!("{name}-{quantize}.glb"));
            std::fs::write(&path, written(&mesh, quantize)).expect("writes");
            command.arg(path);
        }
    }
    let output = command
        .output()
        .expect("`make fetch-tests` has brought Node");
    let text = String::from_utf8(output.stdout).expect("is text");
    assert_eq!(text.lines().count(), 2 * kinds().len(), "{text}");
    for line in text.lines() {
        let report: serde_json::Value = serde_json::from_str(line).expect("is JSON");
        assert_eq!(
            (&report["errors"], &report["warnings"]),
            (&json!(0), &json!(0)),
            "{line}"
        );
    }
}

#[test]
fn a_creased_cube_has_twenty_four_corners_and_a_round_thing_no_more_than_before() {
    let count = |mesh: &Mesh| {
        let (document, _) = opened(&written(mesh, false));
        document.accessors().next().expect("has positions").count()
    };
    assert_eq!(count(&fixtures::cube().with_creases(40.0)), 24);
    let sphere = fixtures::colored(32, fixtures::sphere(0.6));
    let vertices = sphere.positions().len();
    assert_eq!(count(&sphere.with_creases(40.0)), vertices);
}

#[test]
fn a_texture_is_in_the_file_with_its_places() {
    let (_, mesh) = kinds().pop().expect("there are some");
    let texture = mesh.texture().expect("has a texture");
    let file = written(&mesh, false);
    let (document, buffers, images) = gltf::import_slice(&file).expect("the reader accepts it");
    assert_eq!((images.len(), images[0].width), (1, texture.side_px));
    let primitive = document
        .meshes()
        .next()
        .expect("a mesh")
        .primitives()
        .next();
    let primitive = primitive.expect("a primitive");
    let pbr = primitive.material().pbr_metallic_roughness();
    assert_eq!(pbr.base_color_factor(), [1.0; 4]);
    let sampler = pbr
        .base_color_texture()
        .expect("has a texture")
        .texture()
        .sampler();
    assert_eq!(sampler.wrap_s(), gltf::texture::WrappingMode::ClampToEdge);
    let reader = primitive.reader(|buffer| Some(&buffers[buffer.index()]));
    let uvs: Vec<_> = reader
        .read_tex_coords(0)
        .expect("has them")
        .into_f32()
        .collect();
    let positions: Vec<_> = reader.read_positions().expect("has them").collect();
    let normals: Vec<_> = reader.read_normals().expect("has them").collect();
    let indices: Vec<_> = reader
        .read_indices()
        .expect("has them")
        .into_u32()
        .collect();
    for (corner, &index) in indices.iter().enumerate() {
        let (triangle, at) = (corner / 3, corner % 3);
        let index = index as usize;
        assert_eq!(uvs[index], texture.uvs[triangle][at]);
        assert_eq!(
            normals[index],
            mesh.corner_normals().expect("has creases")[triangle][at]
        );
        let vertex = mesh.triangles()[triangle][at] as usize;
        assert_eq!(positions[index], mesh.positions()[vertex]);
    }
}

#[test]
fn quantised_positions_are_near_and_vertices_stay_welded() {
    let mesh = fixtures::colored(48, fixtures::torus());
    let file = written(&mesh, true);
    let (document, buffer) = opened(&file);
    let node = document.nodes().next().expect("has a node");
    let (translation, _, scale) = node.transform().decomposed();
    let primitive = node
        .mesh()
        .expect("a mesh")
        .primitives()
        .next()
        .expect("one");
    let view = primitive
        .get(&gltf::Semantic::Positions)
        .expect("has positions");
    let view = view.view().expect("has a view");
    let bytes = &buffer[view.offset()..view.offset() + view.length()];
    let step = mesh.bounding_box().longest_side() / 65_535.0;
    assert_eq!(bytes.len(), 8 * mesh.positions().len());
    for (bytes, position) in bytes.as_chunks::<8>().0.iter().zip(mesh.positions()) {
        for axis in 0..3 {
            let step_count = u16::from_le_bytes([bytes[2 * axis], bytes[2 * axis + 1]]);
            let read = f32::from(step_count) * scale[axis] + translation[axis];
            assert!(f64::from((read - position[axis]).abs()) <= 0.51 * step);
        }
    }
    let reader = primitive.reader(|_| Some(&buffer[..]));
    let indices = reader.read_indices().expect("has indices").into_u32();
    assert!(indices.eq(mesh.triangles().as_flattened().iter().copied()));
    // Sixteen bytes a vertex instead of thirty-two; the descriptions differ by less than that of ten vertices.
    let shorter = written(&mesh, false).len() - file.len();
    assert!(shorter.abs_diff(16 * mesh.positions().len()) < 320);
}
