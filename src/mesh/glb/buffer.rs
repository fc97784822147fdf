//! The binary part of a GLB and how the document describes it.

use gltf_json::{
    Accessor, Index, Root,
    accessor::{ComponentType, GenericComponentType, Type},
    buffer::{Stride, Target, View},
    validation::{Checked::Valid, USize64},
};

use super::super::WriteError;

/// Restarts a strip, so it is not an index.
const INDEX_U16_MAX: usize = u16::MAX as usize - 1;

/// Appends data to the file's one buffer and describes it.
pub(super) struct Writer<'a> {
    pub(super) root: &'a mut Root,
    pub(super) binary: &'a mut Vec<u8>,
}

impl Writer<'_> {
    /// Appends one value for each vertex, and describes them. `BYTES` is a multiple of four, as the specification wants
    /// it; where the values themselves are shorter, the rest is padding.
    pub(super) fn attribute<const BYTES: usize>(
        &mut self,
        values: impl ExactSizeIterator<Item = [u8; BYTES]>,
        encoding: Encoding,
    ) -> Index<Accessor> {
        let Encoding {
            component,
            shape,
            normalized,
        } = encoding;
        let count = values.len();
        let view = self.view(values, Target::ArrayBuffer);
        if BYTES != component.size() * shape.multiplicity() {
            self.root.buffer_views[view.value()].byte_stride = Some(Stride(BYTES));
        }
        let accessor = self.accessor(view, count, component, shape);
        self.root.accessors[accessor.value()].normalized = normalized;
        accessor
    }

    /// Appends a file.
    pub(super) fn file(&mut self, bytes: &[u8]) -> Index<View> {
        let start = self.binary.len();
        self.binary.extend_from_slice(bytes);
        self.described(start, None)
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
        self.described(start, Some(target))
    }

    /// Describes what was appended from `start` on.
    fn described(&mut self, start: usize, target: Option<Target>) -> Index<View> {
        let length = self.binary.len() - start;
        // Every view starts at a multiple of four bytes.
        self.binary.resize(self.binary.len().next_multiple_of(4), 0);
        self.root.push(View {
            buffer: Index::new(0),
            byte_length: USize64::from(length),
            byte_offset: Some(USize64::from(start)),
            byte_stride: None,
            name: None,
            target: target.map(Valid),
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

    /// Appends the triangles over so many vertices, with as many bits as these need.
    pub(super) fn indices(&mut self, triangles: &[[u32; 3]], vertices: usize) -> Index<Accessor> {
        let indices = triangles.as_flattened();
        let (view, component) = if vertices <= INDEX_U16_MAX + 1 {
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

/// How the values of an attribute are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Encoding {
    pub(super) component: ComponentType,
    pub(super) shape: Type,
    /// Whether integers stand for 0..=1 or -1..=1.
    pub(super) normalized: bool,
}

/// The header and the two chunks of a binary glTF. The binary one is moved behind the others in its own place.
pub(super) fn container(mut json: Vec<u8>, mut binary: Vec<u8>) -> Result<Vec<u8>, WriteError> {
    const HEADER_BYTES: usize = 12;
    const CHUNK_HEADER_BYTES: usize = 8;
    json.resize(json.len().next_multiple_of(4), b' ');
    let head_bytes = HEADER_BYTES + 2 * CHUNK_HEADER_BYTES + json.len();
    let bytes = head_bytes + binary.len();
    let Ok(length) = u32::try_from(bytes) else {
        return Err(WriteError::TooLarge {
            format: "GLB",
            bytes: bytes as u64,
        });
    };
    let mut head = Vec::with_capacity(head_bytes);
    head.extend_from_slice(b"glTF");
    head.extend_from_slice(&2u32.to_le_bytes());
    head.extend_from_slice(&length.to_le_bytes());
    head.extend_from_slice(&(json.len() as u32).to_le_bytes());
    head.extend_from_slice(b"JSON");
    head.extend_from_slice(&json);
    head.extend_from_slice(&(binary.len() as u32).to_le_bytes());
    head.extend_from_slice(b"BIN\0");
    binary.splice(..0, head);
    Ok(binary)
}
