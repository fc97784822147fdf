//! The binary part of a GLB and how the document describes it.

use bytes::Bytes;
use gltf_json::{
    Accessor, Index, Root,
    accessor::{ComponentType, GenericComponentType, Type},
    buffer::{Stride, Target, View},
    validation::{Checked::Valid, USize64},
};
use rayon::prelude::*;

use super::super::WriteError;

/// Restarts a strip, so it is not an index.
const INDEX_U16_MAX: usize = u16::MAX as usize - 1;

/// The fewest values that are worth another thread.
const RUN: usize = 4096;

/// Lays out the file's one buffer and describes it. Its parts are filled at the end, in their places in the file: these
/// are known once the description is, which comes first.
pub(super) struct Writer<'a> {
    pub(super) root: Root,
    pub(super) binary: Binary<'a>,
}

/// The parts of the buffer, each from a multiple of four bytes on.
#[derive(Default)]
pub(super) struct Binary<'a> {
    parts: Vec<Part<'a>>,
    length: usize,
}

/// A part of the buffer.
struct Part<'a> {
    /// In bytes.
    length: usize,
    content: Content<'a>,
}

/// What a part of the buffer is made of.
enum Content<'a> {
    /// Written to as many bytes as it has.
    Filled(Fill<'a>),
    /// As it lies in memory already: a whole number of four bytes.
    Held(Bytes),
}

type Fill<'a> = Box<dyn FnOnce(&mut [u8]) + Send + 'a>;

impl<'a> Binary<'a> {
    /// In bytes, with the padding of the last part.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Adds a part and returns where it starts.
    fn push(&mut self, length: usize, content: Content<'a>) -> usize {
        let start = self.length;
        self.length += length.next_multiple_of(4);
        self.parts.push(Part { length, content });
        start
    }

    /// Adds a part that is yet to be written.
    fn push_filled(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) + Send + 'a) -> usize {
        self.push(length, Content::Filled(Box::new(fill)))
    }

    /// The bytes of all parts, in pieces; those that are yet to be written are, side by side.
    fn into_pieces(self) -> Vec<Bytes> {
        let piece = |Part { length, content }| match content {
            Content::Held(bytes) => bytes,
            Content::Filled(fill) => {
                // Fresh memory is zero without a write to it, so that each thread is the first to touch the pages that it fills.
                let mut bytes = vec![0; length.next_multiple_of(4)];
                fill(&mut bytes[..length]);
                bytes.into()
            }
        };
        self.parts.into_par_iter().map(piece).collect()
    }
}

impl<'a> Writer<'a> {
    /// Adds what `encode` makes of each vertex's item, and describes it. `BYTES` is a multiple of four, as the
    /// specification wants it; where the values themselves are shorter, the rest is padding.
    pub(super) fn attribute<T: Sync, const BYTES: usize>(
        &mut self,
        items: &'a [T],
        encode: impl Fn(&T) -> [u8; BYTES] + Send + Sync + 'a,
        encoding: Encoding,
    ) -> Index<Accessor> {
        let view = self.view(items, encode, Target::ArrayBuffer);
        if BYTES != encoding.bytes() {
            self.root.buffer_views[view.value()].byte_stride = Some(Stride(BYTES));
        }
        self.encoded(view, items.len(), encoding)
    }

    /// Adds each vertex's item as they lie in memory, and describes it.
    pub(super) fn held_attribute(&mut self, items: Bytes, encoding: Encoding) -> Index<Accessor> {
        let count = items.len() / encoding.bytes();
        let view = self.held(items, Target::ArrayBuffer);
        self.encoded(view, count, encoding)
    }

    /// Describes so many items.
    fn encoded(&mut self, view: Index<View>, count: usize, encoding: Encoding) -> Index<Accessor> {
        let accessor = self.accessor(view, count, encoding.component, encoding.shape);
        self.root.accessors[accessor.value()].normalized = encoding.normalized;
        accessor
    }

    /// Adds a part as it lies in memory.
    fn held(&mut self, bytes: Bytes, target: Target) -> Index<View> {
        let length = bytes.len();
        let start = self.binary.push(length, Content::Held(bytes));
        self.described(start, length, Some(target))
    }

    /// Adds a file.
    pub(super) fn file(&mut self, file: &'a [u8]) -> Index<View> {
        let start = self
            .binary
            .push_filled(file.len(), |place| place.copy_from_slice(file));
        self.described(start, file.len(), None)
    }

    /// Adds values of so many bytes each.
    fn view<T: Sync, const BYTES: usize>(
        &mut self,
        items: &'a [T],
        encode: impl Fn(&T) -> [u8; BYTES] + Send + Sync + 'a,
        target: Target,
    ) -> Index<View> {
        let length = BYTES * items.len();
        let start = self.binary.push_filled(length, move |place| {
            let places = place.as_chunks_mut().0.par_iter_mut();
            places
                .zip(items)
                .with_min_len(RUN)
                .for_each(|(place, item)| *place = encode(item));
        });
        self.described(start, length, Some(target))
    }

    /// Describes a part.
    fn described(&mut self, start: usize, length: usize, target: Option<Target>) -> Index<View> {
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

    /// Adds the triangles over so many vertices, with as many bits as these need; `held` are they as they lie in memory, if
    /// that lasts.
    pub(super) fn indices(
        &mut self,
        triangles: &'a [[u32; 3]],
        vertices: usize,
        held: Option<Bytes>,
    ) -> Index<Accessor> {
        let indices = triangles.as_flattened();
        let target = Target::ElementArrayBuffer;
        let (view, component) = if vertices <= INDEX_U16_MAX + 1 {
            let narrow = |&vertex: &u32| (vertex as u16).to_le_bytes();
            (self.view(indices, narrow, target), ComponentType::U16)
        } else if let Some(held) = held {
            (self.held(held, target), ComponentType::U32)
        } else {
            let wide = |vertex: &u32| vertex.to_le_bytes();
            (self.view(indices, wide, target), ComponentType::U32)
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

impl Encoding {
    /// Of an item.
    fn bytes(&self) -> usize {
        self.component.size() * self.shape.multiplicity()
    }
}

/// The header and the two chunks of a binary glTF, in pieces.
pub(super) fn container(mut json: Vec<u8>, binary: Binary<'_>) -> Result<Vec<Bytes>, WriteError> {
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
    let mut pieces = vec![Bytes::from(head)];
    pieces.extend(binary.into_pieces());
    Ok(pieces)
}
