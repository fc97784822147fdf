//! Binary glTF 2.0: metres, +Y up, facing +Z; normals, vertex colours, one material.

use std::borrow::Cow;

use gltf_json::{
    Accessor, Asset, Buffer, Index, Material, Mesh as MeshNode, Node, Root, Scene,
    accessor::{ComponentType, GenericComponentType, Type},
    buffer::{Target, View},
    material::{PbrBaseColorFactor, PbrMetallicRoughness, StrengthFactor},
    mesh::{Mode, Primitive, Semantic},
    validation::{Checked::Valid, USize64},
};
use serde_json::json;

use super::{Mesh, WriteError, color::linear_of_srgb};

/// What the file says about itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct GlbOptions<'a> {
    /// The conversion that made the mesh; kept as `asset.extras.conversion`.
    pub conversion: Option<&'a str>,
}

/// What a mesh without colours is painted with, sRGB: a light neutral grey that shows its shading.
const BARE_COLOR: [u8; 3] = [204; 3];

/// Rough, as most things in pictures are; without an environment a glossier surface looks black.
const ROUGHNESS: f32 = 0.9;

/// Restarts a strip, so it is not an index.
const INDEX_U16_MAX: usize = u16::MAX as usize - 1;

/// Writes a mesh placed in [`super::placement::Frame::Scene`].
///
/// Colours are linear in glTF; they are converted from sRGB and written with 16 bits a channel, as 8 would lose half of
/// the dark shades.
///
/// # Errors
/// [`WriteError::TooLarge`] if the file would not fit the format's 32-bit lengths, [`WriteError::Json`].
pub fn write(mesh: &Mesh, options: GlbOptions<'_>) -> Result<Vec<u8>, WriteError> {
    let GlbOptions { conversion } = options;
    let mut root = Root {
        asset: asset(conversion)?,
        ..Root::default()
    };
    // Twelve bytes each of position, normal and triangle, eight of colour.
    let mut binary = Vec::with_capacity(32 * mesh.positions().len() + 12 * mesh.triangles().len());
    let primitive = primitive(mesh, &mut root, &mut binary);
    root.buffers.push(Buffer {
        byte_length: USize64::from(binary.len()),
        name: None,
        uri: None,
        extensions: None,
        extras: None,
    });
    let mesh = root.push(MeshNode {
        primitives: vec![primitive],
        name: Some("mesh".to_owned()),
        weights: None,
        extensions: None,
        extras: None,
    });
    let node = root.push(Node {
        mesh: Some(mesh),
        ..Node::default()
    });
    let scene = root.push(Scene {
        nodes: vec![node],
        name: None,
        extensions: None,
        extras: None,
    });
    root.scene = Some(scene);
    container(&root.to_vec()?, &binary)
}

fn asset(conversion: Option<&str>) -> Result<Asset, WriteError> {
    let extras = match conversion {
        Some(id) => Some(serde_json::value::to_raw_value(
            &json!({ "conversion": id }),
        )?),
        None => None,
    };
    Ok(Asset {
        generator: Some(concat!("orfeas ", env!("CARGO_PKG_VERSION")).to_owned()),
        extras,
        ..Asset::default()
    })
}

/// Adds the mesh's data, accessors and material.
fn primitive(mesh: &Mesh, root: &mut Root, binary: &mut Vec<u8>) -> Primitive {
    let bounds = mesh.bounding_box();
    let mut writer = Writer { root, binary };
    let vertices = mesh.positions().len();
    let positions = writer.attribute(mesh.positions().iter().map(little_endian));
    let positions = writer.accessor(positions, vertices, ComponentType::F32, Type::Vec3);
    let accessor = &mut writer.root.accessors[positions.value()];
    (accessor.min, accessor.max) = (Some(json!(bounds.min)), Some(json!(bounds.max)));
    let normals = writer.attribute(mesh.normals().iter().map(little_endian));
    let normals = writer.accessor(normals, vertices, ComponentType::F32, Type::Vec3);
    let mut attributes = vec![
        (Valid(Semantic::Positions), positions),
        (Valid(Semantic::Normals), normals),
    ];
    if let Some(colors) = mesh.colors() {
        let linear = linear_of_srgb().map(|linear| (linear * 65535.0).round() as u16);
        // Four channels, since three of 16 bits would break the alignment to four bytes.
        let view = writer.attribute(colors.iter().map(|color| {
            let [red, green, blue] = color.map(|channel| u64::from(linear[usize::from(channel)]));
            (red | green << 16 | blue << 32 | 0xFFFF << 48).to_le_bytes()
        }));
        let colors = writer.accessor(view, vertices, ComponentType::U16, Type::Vec4);
        writer.root.accessors[colors.value()].normalized = true;
        attributes.push((Valid(Semantic::Colors(0)), colors));
    }
    let indices = writer.indices(mesh);
    let material = writer.root.push(material(mesh.colors().is_some()));
    Primitive {
        attributes: attributes.into_iter().collect(),
        indices: Some(indices),
        material: Some(material),
        mode: Valid(Mode::Triangles),
        targets: None,
        extensions: None,
        extras: None,
    }
}

/// The bytes of a vector, as glTF wants them.
fn little_endian(vector: &[f32; 3]) -> [u8; 12] {
    let mut bytes = [0; 12];
    for (bytes, along) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(vector) {
        *bytes = along.to_le_bytes();
    }
    bytes
}

fn material(has_colors: bool) -> Material {
    let base_color = if has_colors {
        [1.0; 4]
    } else {
        let [red, green, blue] = BARE_COLOR.map(|channel| linear_of_srgb()[channel as usize]);
        [red, green, blue, 1.0]
    };
    Material {
        name: Some("surface".to_owned()),
        double_sided: false,
        pbr_metallic_roughness: PbrMetallicRoughness {
            base_color_factor: PbrBaseColorFactor(base_color),
            metallic_factor: StrengthFactor(0.0),
            roughness_factor: StrengthFactor(ROUGHNESS),
            ..PbrMetallicRoughness::default()
        },
        ..Material::default()
    }
}

/// Appends data to the file's one buffer and describes it.
struct Writer<'a> {
    root: &'a mut Root,
    binary: &'a mut Vec<u8>,
}

impl Writer<'_> {
    fn attribute<const BYTES: usize>(
        &mut self,
        values: impl ExactSizeIterator<Item = [u8; BYTES]>,
    ) -> Index<View> {
        self.view(values, Target::ArrayBuffer)
    }

    /// Appends values of so many bytes each.
    fn view<const BYTES: usize>(
        &mut self,
        values: impl ExactSizeIterator<Item = [u8; BYTES]>,
        target: Target,
    ) -> Index<View> {
        let start = self.binary.len();
        let length = BYTES * values.len();
        // Room first, so that the values are copied without a look at the length for each.
        self.binary.resize(start + length, 0);
        let places = self.binary[start..].as_chunks_mut().0;
        places
            .iter_mut()
            .zip(values)
            .for_each(|(place, value)| *place = value);
        // Every view starts at a multiple of four bytes.
        self.binary.resize(self.binary.len().next_multiple_of(4), 0);
        self.root.push(View {
            buffer: Index::new(0),
            byte_length: USize64::from(length),
            byte_offset: Some(USize64::from(start)),
            byte_stride: None,
            name: None,
            target: Some(Valid(target)),
            extensions: None,
            extras: None,
        })
    }

    fn accessor(
        &mut self,
        view: Index<View>,
        count: usize,
        component: ComponentType,
        shape: Type,
    ) -> Index<Accessor> {
        self.root.push(Accessor {
            buffer_view: Some(view),
            byte_offset: None,
            count: USize64::from(count),
            component_type: Valid(GenericComponentType(component)),
            type_: Valid(shape),
            min: None,
            max: None,
            name: None,
            normalized: false,
            sparse: None,
            extensions: None,
            extras: None,
        })
    }

    fn indices(&mut self, mesh: &Mesh) -> Index<Accessor> {
        let indices = mesh.triangles().as_flattened();
        let (view, component) = if mesh.positions().len() <= INDEX_U16_MAX + 1 {
            let narrow = indices.iter().map(|&vertex| (vertex as u16).to_le_bytes());
            (
                self.view(narrow, Target::ElementArrayBuffer),
                ComponentType::U16,
            )
        } else {
            let wide = indices.iter().map(|vertex| vertex.to_le_bytes());
            (
                self.view(wide, Target::ElementArrayBuffer),
                ComponentType::U32,
            )
        };
        self.accessor(view, indices.len(), component, Type::Scalar)
    }
}

/// The header and the two chunks of a binary glTF.
fn container(json: &[u8], binary: &[u8]) -> Result<Vec<u8>, WriteError> {
    const HEADER_BYTES: usize = 12;
    const CHUNK_HEADER_BYTES: usize = 8;
    let mut json = Cow::Borrowed(json);
    let padded = json.len().next_multiple_of(4);
    json.to_mut().resize(padded, b' ');
    let bytes = HEADER_BYTES + 2 * CHUNK_HEADER_BYTES + json.len() + binary.len();
    let Ok(length) = u32::try_from(bytes) else {
        return Err(WriteError::TooLarge {
            format: "GLB",
            bytes: bytes as u64,
        });
    };
    let mut file = Vec::with_capacity(bytes);
    file.extend_from_slice(b"glTF");
    file.extend_from_slice(&2u32.to_le_bytes());
    file.extend_from_slice(&length.to_le_bytes());
    for (kind, chunk) in [(b"JSON", &json[..]), (b"BIN\0", binary)] {
        file.extend_from_slice(&(chunk.len() as u32).to_le_bytes());
        file.extend_from_slice(kind);
        file.extend_from_slice(chunk);
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::fixtures;

    fn assert_read_back(mesh: &Mesh) -> gltf::Document {
        let file = write(
            mesh,
            GlbOptions {
                conversion: Some("cnv_1"),
            },
        )
        .expect("writes");
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
        let file = write(&open, GlbOptions::default()).expect("writes");
        assert_eq!(file.len() % 4, 0);
        let document = gltf::Gltf::from_slice(&file).expect("parses");
        assert!(document.views().all(|view| view.offset() % 4 == 0));
        assert!(document.as_json().asset.extras.is_none());
        assert_eq!(
            u32::from_le_bytes([file[8], file[9], file[10], file[11]]) as usize,
            file.len()
        );
    }
}
