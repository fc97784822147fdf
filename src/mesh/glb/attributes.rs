//! The attributes of vertices, as floats or, quantised, as short integers.

use std::{collections::BTreeMap, sync::Arc};

use gltf_json::{
    Accessor, Index,
    accessor::{ComponentType, Type},
    mesh::Semantic,
    validation::Checked::{self, Valid},
};
use serde_json::json;

use super::{
    super::{
        BoundingBox, Mesh,
        color::linear_of_srgb,
        corners::{Corner, Corners},
    },
    buffer::{Encoding, Writer},
    held::held,
};

type Described = BTreeMap<Checked<Semantic>, Index<Accessor>>;

/// What is written of each vertex.
pub(super) struct Attributes<'a> {
    mesh: &'a Arc<Mesh>,
    corners: &'a Corners<'a>,
    grid: Option<Grid>,
}

/// The lattice that quantised positions lie on: 65,535 steps along the longest side, and as long along the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    /// Where 0, 0, 0 lies.
    pub(super) origin: [f32; 3],
    /// The length that 65,535 steps stand for.
    size: f32,
}

impl Grid {
    fn around(bounds: BoundingBox) -> Self {
        Self {
            origin: bounds.min,
            size: bounds.longest_side() as f32,
        }
    }

    /// The length of a step.
    pub(super) fn step(&self) -> f32 {
        self.size / f32::from(u16::MAX)
    }

    fn nearest(&self, position: [f32; 3]) -> [u16; 3] {
        std::array::from_fn(|axis| {
            let along = f64::from(position[axis]) - f64::from(self.origin[axis]);
            unsigned(along / f64::from(self.size))
        })
    }
}

fn unsigned(share: f64) -> u16 {
    (share.clamp(0.0, 1.0) * f64::from(u16::MAX)).round() as u16
}

impl<'a> Attributes<'a> {
    pub(super) fn of(mesh: &'a Arc<Mesh>, corners: &'a Corners<'a>, quantize: bool) -> Self {
        Self {
            mesh,
            corners,
            grid: quantize.then(|| Grid::around(mesh.bounding_box())),
        }
    }

    /// Where quantised positions lie; none if they are floats.
    pub(super) fn grid(&self) -> Option<Grid> {
        self.grid
    }

    /// Adds all attributes.
    pub(super) fn write(&self, writer: &mut Writer<'a>) -> Described {
        let mut described = Described::new();
        described.insert(Valid(Semantic::Positions), self.positions(writer));
        described.insert(Valid(Semantic::Normals), self.normals(writer));
        if self.mesh.texture().is_some() {
            described.insert(Valid(Semantic::TexCoords(0)), self.uvs(writer));
        } else if let Some(colors) = self.mesh.colors() {
            described.insert(Valid(Semantic::Colors(0)), self.colors(colors, writer));
        }
        described
    }

    /// Adds an attribute: of the vertices, or of the corners that they are split into.
    fn attribute<T: Copy + Sync, const BYTES: usize>(
        &self,
        (of_vertices, of_corner): (&'a [T], impl Fn(&Corner) -> T + Send + Sync + 'a),
        encode: impl Fn(T) -> [u8; BYTES] + Send + Sync + 'a,
        encoding: Encoding,
        writer: &mut Writer<'a>,
    ) -> Index<Accessor> {
        match self.corners.split() {
            Some(corners) => {
                writer.attribute(corners, move |corner| encode(of_corner(corner)), encoding)
            }
            None => writer.attribute(of_vertices, move |&value| encode(value), encoding),
        }
    }

    /// Adds vectors of floats: those of vertices as the mesh has them.
    fn vectors(
        &self,
        of_mesh: fn(&Mesh) -> &[[f32; 3]],
        of_corner: impl Fn(&Corner) -> [f32; 3] + Send + Sync + 'a,
        writer: &mut Writer<'a>,
    ) -> Index<Accessor> {
        let floats = encoding(ComponentType::F32, Type::Vec3);
        let Some(corners) = self.corners.split() else {
            return writer.held_attribute(held(self.mesh, of_mesh), floats);
        };
        let bytes = move |corner: &Corner| little_endian::<3, 12>(of_corner(corner));
        writer.attribute(corners, bytes, floats)
    }

    /// Adds an attribute that the copies of a vertex share.
    fn shared<T: Copy + Sync, const BYTES: usize>(
        &self,
        values: &'a [T],
        encode: impl Fn(T) -> [u8; BYTES] + Send + Sync + 'a,
        encoding: Encoding,
        writer: &mut Writer<'a>,
    ) -> Index<Accessor> {
        let of_corner = move |corner: &Corner| values[corner.vertex as usize];
        self.attribute((values, of_corner), encode, encoding, writer)
    }

    fn positions(&self, writer: &mut Writer<'a>) -> Index<Accessor> {
        let positions = self.mesh.positions();
        let bounds = self.written_bounds();
        let (accessor, min, max) = if let Some(grid) = self.grid {
            let quantized = move |position| {
                let [x, y, z] = grid.nearest(position).map(u64::from);
                (x | y << 16 | z << 32).to_le_bytes()
            };
            // Whole numbers as they are: some readers know no others of positions.
            let steps = Encoding {
                normalized: false,
                ..encoding(ComponentType::U16, Type::Vec3)
            };
            let accessor = self.shared(positions, quantized, steps, writer);
            let (min, max) = (grid.nearest(bounds.min), grid.nearest(bounds.max));
            (accessor, json!(min), json!(max))
        } else {
            let of_corner = |corner: &Corner| positions[corner.vertex as usize];
            let accessor = self.vectors(Mesh::positions, of_corner, writer);
            (accessor, json!(bounds.min), json!(bounds.max))
        };
        let described = &mut writer.root.accessors[accessor.value()];
        (described.min, described.max) = (Some(min), Some(max));
        accessor
    }

    /// The box around the vertices that are written: none that no triangle has, once vertices are split.
    fn written_bounds(&self) -> BoundingBox {
        let Some(corners) = self.corners.split() else {
            return self.mesh.bounding_box();
        };
        let positions = corners
            .iter()
            .map(|corner| self.mesh.positions()[corner.vertex as usize]);
        BoundingBox::around(&positions.collect::<Vec<_>>())
    }

    fn normals(&self, writer: &mut Writer<'a>) -> Index<Accessor> {
        let normals = (self.mesh.normals(), |corner: &Corner| corner.normal);
        if self.grid.is_some() {
            let short = |along: f32| (along.clamp(-1.0, 1.0) * 127.0).round() as i8 as u8;
            let quantized = move |[x, y, z]: [f32; 3]| [short(x), short(y), short(z), 0];
            self.attribute(
                normals,
                quantized,
                encoding(ComponentType::I8, Type::Vec3),
                writer,
            )
        } else {
            self.vectors(Mesh::normals, |corner| corner.normal, writer)
        }
    }

    fn uvs(&self, writer: &mut Writer<'a>) -> Index<Accessor> {
        let split = self.corners.split();
        let corners = split.expect("a mesh with a texture has its corners split");
        if self.grid.is_some() {
            let quantized = |corner: &Corner| {
                let [u, v] = corner.uv.map(|along| u32::from(unsigned(f64::from(along))));
                (u | v << 16).to_le_bytes()
            };
            writer.attribute(corners, quantized, encoding(ComponentType::U16, Type::Vec2))
        } else {
            let floats = |corner: &Corner| little_endian::<2, 8>(corner.uv);
            writer.attribute(corners, floats, encoding(ComponentType::F32, Type::Vec2))
        }
    }

    fn colors(&self, colors: &'a [[u8; 3]], writer: &mut Writer<'a>) -> Index<Accessor> {
        let linear = linear_of_srgb();
        // Four channels, since three would break the alignment to four bytes.
        if self.grid.is_some() {
            let linear = linear.map(|linear| (linear * 255.0).round() as u8);
            let quantized = move |color: [u8; 3]| {
                let [red, green, blue] = color.map(|channel| linear[usize::from(channel)]);
                [red, green, blue, 255]
            };
            let bytes = encoding(ComponentType::U8, Type::Vec4);
            self.shared(colors, quantized, bytes, writer)
        } else {
            let linear = linear.map(|linear| (linear * 65535.0).round() as u16);
            let wide = move |color: [u8; 3]| {
                let channels = color.map(|channel| u64::from(linear[usize::from(channel)]));
                let [red, green, blue] = channels;
                (red | green << 16 | blue << 32 | 0xFFFF << 48).to_le_bytes()
            };
            let shorts = encoding(ComponentType::U16, Type::Vec4);
            self.shared(colors, wide, shorts, writer)
        }
    }
}

/// Integers stand for shares of one.
fn encoding(component: ComponentType, shape: Type) -> Encoding {
    Encoding {
        component,
        shape,
        normalized: component != ComponentType::F32,
    }
}

/// The bytes of a vector, as glTF wants them.
fn little_endian<const AXES: usize, const BYTES: usize>(vector: [f32; AXES]) -> [u8; BYTES] {
    const { assert!(BYTES == 4 * AXES) };
    let mut bytes = [0; BYTES];
    for (bytes, along) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(vector) {
        *bytes = along.to_le_bytes();
    }
    bytes
}
