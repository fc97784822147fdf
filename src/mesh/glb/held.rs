//! What a mesh has, as bytes of a file that are not copied.

use std::sync::Arc;

use bytemuck::NoUninit;
use bytes::Bytes;

use crate::mesh::Mesh;

// Of the byte order of glTF.
const _: () = assert!(cfg!(target_endian = "little"));

/// Some of a mesh, which lasts as long as its bytes are needed.
struct Held<T: 'static> {
    mesh: Arc<Mesh>,
    some: fn(&Mesh) -> &[T],
}

impl<T: NoUninit> AsRef<[u8]> for Held<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice((self.some)(&self.mesh))
    }
}

/// The bytes of `some` of a mesh, as they lie in memory.
pub(super) fn held<T: NoUninit>(mesh: &Arc<Mesh>, some: fn(&Mesh) -> &[T]) -> Bytes {
    Bytes::from_owner(Held {
        mesh: Arc::clone(mesh),
        some,
    })
}
