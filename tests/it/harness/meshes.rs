//! What every mesh file that a test gets must pass.

use std::{
    collections::HashSet,
    io::{Cursor, Read, Write},
    path::Path,
    process::Command,
    sync::Once,
};

use serde_json::Value;
use threemf2::package::ThreemfPackage;

/// Corners of a mesh, and how many triangles join them.
#[derive(Debug)]
pub struct Shape {
    pub positions: Vec<[f32; 3]>,
    pub triangles: usize,
    pub has_colors: bool,
    pub is_textured: bool,
}

impl Shape {
    /// The least and the greatest coordinate along an axis.
    fn bounds(&self, axis: usize) -> (f32, f32) {
        let along = self.positions.iter().map(|position| position[axis]);
        along.fold((f32::MAX, f32::MIN), |(low, high), value| {
            (low.min(value), high.max(value))
        })
    }

    /// Of the same form: each corner of the one has one of the other's within a distance. So it doesn't matter through
    /// which edge of the grid a surface leaves that passes a sample by a hair.
    #[cfg(feature = "torch")]
    pub fn assert_near(&self, other: &Self, distance: f32) {
        let apart = farthest(&self.positions, &other.positions)
            .max(farthest(&other.positions, &self.positions));
        assert!(
            apart <= distance,
            "a corner is {apart} from the nearest of the other mesh"
        );
    }

    fn longest_side(&self) -> f32 {
        let side = |axis| {
            let (low, high) = self.bounds(axis);
            high - low
        };
        (0..3).map(side).fold(0.0, f32::max)
    }

    /// Centred on its bounding box, and so long.
    pub fn assert_centred(&self, longest: f32) {
        self.assert_longest(longest);
        for axis in 0..3 {
            let (low, high) = self.bounds(axis);
            assert!(
                (low + high).abs() < 1e-3 * longest,
                "axis {axis} goes from {low} to {high}"
            );
        }
    }

    /// Standing on z = 0 above the origin, and so long.
    pub fn assert_stands(&self, longest: f32) {
        self.assert_longest(longest);
        let (bottom, _) = self.bounds(2);
        assert!(bottom.abs() < 1e-3 * longest, "it stands on z = {bottom}");
        for axis in 0..2 {
            let (low, high) = self.bounds(axis);
            assert!(
                (low + high).abs() < 1e-3 * longest,
                "axis {axis} goes from {low} to {high}"
            );
        }
    }

    fn assert_longest(&self, longest: f32) {
        let found = self.longest_side();
        assert!(
            (found - longest).abs() < 1e-3 * longest,
            "the longest side is {found}, not {longest}"
        );
    }
}

/// The distance of that corner of `from` which is farthest from all of `to`, as far as it matters: at most a fiftieth.
#[cfg(feature = "torch")]
fn farthest(from: &[[f32; 3]], to: &[[f32; 3]]) -> f32 {
    const REACH: f32 = 0.02;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "cells of a mesh of a metre"
    )]
    let cell = |position: [f32; 3]| position.map(|along| (along / REACH).floor() as i32);
    let mut cells: std::collections::HashMap<[i32; 3], Vec<[f32; 3]>> =
        std::collections::HashMap::new();
    for &position in to {
        cells.entry(cell(position)).or_default().push(position);
    }
    let nearest = |position: [f32; 3]| {
        let [x, y, z] = cell(position);
        let around = (-1..=1).flat_map(|dx| (-1..=1).map(move |dy| (dx, dy)));
        let around = around.flat_map(|(dx, dy)| (-1..=1).map(move |dz| [x + dx, y + dy, z + dz]));
        let near = around.filter_map(|cell| cells.get(&cell)).flatten();
        let apart = near.map(|other| {
            let axis = |axis: usize| (position[axis] - other[axis]).powi(2);
            (axis(0) + axis(1) + axis(2)).sqrt()
        });
        apart.fold(REACH, f32::min)
    };
    from.iter()
        .map(|&position| nearest(position))
        .fold(0.0, f32::max)
}

/// Reads a GLB as a client would, and has the Khronos validator look at it.
pub fn glb(bytes: &[u8]) -> Shape {
    assert_valid(bytes);
    let (document, buffers, _) = gltf::import_slice(bytes).unwrap();
    let meshes: Vec<_> = document.meshes().collect();
    assert_eq!(meshes.len(), 1, "one picture, one mesh");
    let primitives: Vec<_> = meshes[0].primitives().collect();
    assert_eq!(primitives.len(), 1);
    let reader = primitives[0].reader(|buffer| Some(&buffers[buffer.index()]));
    let positions: Vec<[f32; 3]> = reader.read_positions().unwrap().collect();
    let normals: Vec<[f32; 3]> = reader.read_normals().unwrap().collect();
    let indices: Vec<u32> = reader.read_indices().unwrap().into_u32().collect();
    assert_eq!(normals.len(), positions.len());
    assert_eq!(indices.len() % 3, 0);
    assert!(
        indices
            .iter()
            .all(|&index| (index as usize) < positions.len())
    );
    Shape {
        triangles: indices.len() / 3,
        has_colors: reader.read_colors(0).is_some(),
        is_textured: reader.read_tex_coords(0).is_some() && document.textures().count() == 1,
        positions,
    }
}

/// The two chunks of a GLB: the description, and the numbers.
pub fn glb_chunks(bytes: &[u8]) -> (Value, Vec<u8>) {
    let file = gltf::binary::Glb::from_slice(bytes).unwrap();
    let description = serde_json::from_slice(&file.json).unwrap();
    (description, file.bin.unwrap().into_owned())
}

/// Reads an STL; its corners come once for each triangle.
pub fn stl(bytes: &[u8]) -> Shape {
    let mesh = stl_io::read_stl(&mut Cursor::new(bytes)).unwrap();
    Shape {
        triangles: mesh.faces.len(),
        positions: mesh.vertices.iter().map(|vertex| vertex.0).collect(),
        has_colors: false,
        is_textured: false,
    }
}

/// Reads a 3MF.
pub fn three_mf(bytes: &[u8]) -> Shape {
    let package =
        ThreemfPackage::from_reader_with_memory_optimized_deserializer(Cursor::new(bytes), true)
            .unwrap();
    let mesh = package.root.resources.object[0].get_mesh().unwrap();
    #[expect(clippy::cast_possible_truncation, reason = "lengths in millimetres")]
    let position = |[x, y, z]: [f64; 3]| [x as f32, y as f32, z as f32];
    let vertices = mesh.vertices.vertex.iter();
    Shape {
        triangles: mesh.triangles.triangle.len(),
        positions: vertices
            .map(|vertex| position([vertex.x.value(), vertex.y.value(), vertex.z.value()]))
            .collect(),
        has_colors: false,
        is_textured: false,
    }
}

/// Reads an OBJ that comes in a ZIP with its material and texture.
pub fn packed_obj(bytes: &[u8]) -> Shape {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    let mut file = |name: &str| {
        let mut content = Vec::new();
        archive
            .by_name(name)
            .unwrap()
            .read_to_end(&mut content)
            .unwrap();
        content
    };
    let text = file("mesh.obj");
    let material = String::from_utf8(file("mesh.mtl")).unwrap();
    assert!(
        std::str::from_utf8(&text)
            .unwrap()
            .contains("mtllib mesh.mtl")
    );
    assert!(material.contains("map_Kd texture.png"), "{material}");
    image::load_from_memory(&file("texture.png")).unwrap();
    obj(&text)
}

/// Reads a GLB whose coordinates are whole numbers, and has the Khronos validator look at it.
pub fn quantized_glb(bytes: &[u8]) -> Shape {
    assert_valid(bytes);
    let (description, numbers) = glb_chunks(bytes);
    assert_eq!(
        description["extensionsRequired"],
        serde_json::json!(["KHR_mesh_quantization"])
    );
    let primitive = &description["meshes"][0]["primitives"][0];
    let accessor = |name: &Value| &description["accessors"][name.as_u64().unwrap() as usize];
    let attributes = &primitive["attributes"];
    let positions = accessor(&attributes["POSITION"]);
    assert_eq!(
        (&positions["componentType"], &positions["normalized"]),
        (&serde_json::json!(5123), &Value::Null)
    );
    let view = &description["bufferViews"][positions["bufferView"].as_u64().unwrap() as usize];
    let number = |value: &Value, missing: u64| value.as_u64().unwrap_or(missing) as usize;
    let start = number(&view["byteOffset"], 0) + number(&positions["byteOffset"], 0);
    let stride = number(&view["byteStride"], 6);
    let node = &description["nodes"][0];
    #[expect(clippy::cast_possible_truncation, reason = "lengths in metres")]
    let of_node = |name: &str, axis: usize| node[name][axis].as_f64().unwrap() as f32;
    let position = |vertex: usize| {
        std::array::from_fn(|axis| {
            let at = start + vertex * stride + 2 * axis;
            let whole = u16::from_le_bytes([numbers[at], numbers[at + 1]]);
            f32::from(whole) * of_node("scale", axis) + of_node("translation", axis)
        })
    };
    Shape {
        positions: (0..number(&positions["count"], 0)).map(position).collect(),
        triangles: number(&accessor(&primitive["indices"])["count"], 0) / 3,
        has_colors: attributes["COLOR_0"].is_u64(),
        is_textured: attributes["TEXCOORD_0"].is_u64(),
    }
}

/// Reads the corners of an OBJ, and counts its faces.
pub fn obj(bytes: &[u8]) -> Shape {
    let text = std::str::from_utf8(bytes).unwrap();
    let mut positions = Vec::new();
    let (mut triangles, mut has_colors, mut is_textured) = (0, false, false);
    for line in text.lines() {
        if let Some(numbers) = line.strip_prefix("v ") {
            let numbers: Vec<f32> = numbers
                .split_whitespace()
                .map(|number| number.parse().unwrap())
                .collect();
            has_colors |= numbers.len() == 6;
            positions.push([numbers[0], numbers[1], numbers[2]]);
        } else if line.starts_with("f ") {
            triangles += 1;
        } else if line.starts_with("vt ") {
            is_textured = true;
        }
    }
    Shape {
        positions,
        triangles,
        has_colors,
        is_textured,
    }
}

/// How many vertices and faces the header of a PLY promises, and whether it has colours.
pub fn ply(bytes: &[u8]) -> (usize, usize, bool) {
    let end = bytes
        .windows(10)
        .position(|window| window == b"end_header")
        .unwrap();
    let header = std::str::from_utf8(&bytes[..end]).unwrap();
    let count = |name: &str| {
        let line = header.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().parse().unwrap()
    };
    let properties: HashSet<&str> = header.lines().collect();
    (
        count("element vertex"),
        count("element face"),
        properties.contains("property uchar red"),
    )
}

static SKIPPED: Once = Once::new();

/// Runs the Khronos validator, where it has been fetched.
fn assert_valid(glb: &[u8]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let node = root.join(".deps/node/bin/node");
    let packages = root.join(".deps/node/node_modules/gltf-validator/package.json");
    if !node.exists() || !packages.exists() {
        // Not by a macro: what those print is kept from whoever runs the tests.
        SKIPPED.call_once(|| {
            let _ = writeln!(
                std::io::stderr().lock(),
                "SKIPPED: the Khronos glTF validator is not there (make fetch-tests)"
            );
        });
        return;
    }
    let mut file = tempfile::Builder::new().suffix(".glb").tempfile().unwrap();
    file.write_all(glb).unwrap();
    let output = Command::new(node)
        .arg(root.join(".tools/node/validate-gltf.mjs"))
        .arg(file.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&told)
        .unwrap_or_else(|_| panic!("{told}{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(
        (report["errors"].as_u64(), report["warnings"].as_u64()),
        (Some(0), Some(0)),
        "{report:#}"
    );
}
