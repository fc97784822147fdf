//! Binary glTF 2.0: metres, +Y up, facing +Z; normals, vertex colours or a texture, one material.

use std::sync::Arc;

use bytes::Bytes;
use gltf_json::{
    Asset, Buffer, Index, Material, Mesh as MeshNode, Node, Root, Scene,
    image::{Image, MimeType},
    material::{PbrBaseColorFactor, PbrMetallicRoughness, StrengthFactor},
    mesh::{Mode, Primitive},
    texture::{Info, MagFilter, MinFilter, Sampler, Texture, WrappingMode},
    validation::{Checked::Valid, USize64},
};
use serde_json::json;

use super::{Mesh, WriteError, color::linear_of_srgb, corners::Corners, texture::TextureMap};

mod attributes;
mod buffer;
mod held;

use attributes::Attributes;
use buffer::{Binary, Writer, container};
use held::held;

/// What the file says about itself, and how its numbers are written.
#[derive(Debug, Clone, Copy, Default)]
pub struct GlbOptions<'a> {
    /// The conversion that made the mesh; kept as `asset.extras.conversion`.
    pub conversion: Option<&'a str>,
    /// Whether to write short integers (`KHR_mesh_quantization`, which a reader must know): positions to 1/131070 of the
    /// longest side, normals to half a degree, places in the texture to 1/131070, colours as 8 bits of linear light.
    pub quantize: bool,
}

/// What a mesh without colours is painted with, sRGB: a light neutral grey that shows its shading.
const BARE_COLOR: [u8; 3] = [204; 3];

/// Rough, as most things in pictures are; without an environment a glossier surface looks black.
const ROUGHNESS: f32 = 0.9;

/// Writes a mesh placed in [`super::placement::Frame::Scene`], in pieces that follow each other: what lies in the mesh as the file
/// wants it is not copied.
///
/// Vertices are split where the corners around them differ. Vertex colours are left out where there is a texture, which
/// they would tint. They are linear in glTF; they are converted from sRGB and, unless quantised, written with 16 bits a
/// channel, as 8 would lose half of the dark shades.
///
/// # Errors
/// [`WriteError::TooLarge`] if the file would not fit the format's 32-bit lengths, [`WriteError::Json`].
pub fn write(mesh: &Arc<Mesh>, options: GlbOptions<'_>) -> Result<Vec<Bytes>, WriteError> {
    let GlbOptions {
        conversion,
        quantize,
    } = options;
    let corners = Corners::of(mesh);
    let attributes = Attributes::of(mesh, &corners, quantize);
    let mut writer = Writer {
        root: Root {
            asset: asset(conversion)?,
            ..Root::default()
        },
        binary: Binary::default(),
    };
    let triangles = corners
        .split()
        .is_none()
        .then(|| held(mesh, Mesh::triangles));
    let primitive = Primitive {
        attributes: attributes.write(&mut writer),
        indices: Some(writer.indices(corners.triangles(), corners.len(), triangles)),
        material: Some(material(mesh, &mut writer)),
        mode: Valid(Mode::Triangles),
        targets: None,
        extensions: None,
        extras: None,
    };
    let Writer { mut root, binary } = writer;
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
    let mut node = Node {
        mesh: Some(mesh),
        ..Node::default()
    };
    if let Some(grid) = attributes.grid() {
        (node.translation, node.scale) = (Some(grid.origin), Some([grid.step(); 3]));
        let extension = "KHR_mesh_quantization".to_owned();
        root.extensions_used.push(extension.clone());
        root.extensions_required.push(extension);
    }
    let node = root.push(node);
    let scene = root.push(Scene {
        nodes: vec![node],
        name: None,
        extensions: None,
        extras: None,
    });
    root.scene = Some(scene);
    container(root.to_vec()?, binary)
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

fn material<'a>(mesh: &'a Mesh, writer: &mut Writer<'a>) -> Index<Material> {
    let texture = mesh.texture().map(|texture| add_texture(texture, writer));
    let base_color = if texture.is_some() || mesh.colors().is_some() {
        [1.0; 4]
    } else {
        let [red, green, blue] = BARE_COLOR.map(|channel| linear_of_srgb()[channel as usize]);
        [red, green, blue, 1.0]
    };
    writer.root.push(Material {
        name: Some("surface".to_owned()),
        double_sided: false,
        pbr_metallic_roughness: PbrMetallicRoughness {
            base_color_factor: PbrBaseColorFactor(base_color),
            base_color_texture: texture,
            metallic_factor: StrengthFactor(0.0),
            roughness_factor: StrengthFactor(ROUGHNESS),
            ..PbrMetallicRoughness::default()
        },
        ..Material::default()
    })
}

/// Adds the picture and how to filter it.
fn add_texture<'a>(texture: &'a TextureMap, writer: &mut Writer<'a>) -> Info {
    let view = writer.file(&texture.png);
    let source = writer.root.push(Image {
        buffer_view: Some(view),
        mime_type: Some(MimeType("image/png".to_owned())),
        name: Some("texture".to_owned()),
        uri: None,
        extensions: None,
        extras: None,
    });
    let sampler = writer.root.push(Sampler {
        mag_filter: Some(Valid(MagFilter::Linear)),
        min_filter: Some(Valid(MinFilter::LinearMipmapLinear)),
        wrap_s: Valid(WrappingMode::ClampToEdge),
        wrap_t: Valid(WrappingMode::ClampToEdge),
        ..Sampler::default()
    });
    let index = writer.root.push(Texture {
        name: None,
        sampler: Some(sampler),
        source,
        extensions: None,
        extras: None,
    });
    Info {
        index,
        tex_coord: 0,
        extensions: None,
        extras: None,
    }
}

#[cfg(test)]
mod tests;
