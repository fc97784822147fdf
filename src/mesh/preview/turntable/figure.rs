//! What is drawn in place of a mesh when a small picture can't show all of its triangles.

use std::borrow::Cow;

use meshopt::VertexDataAdapter;

use crate::mesh::{Mesh, surface::compact};

/// Triangles that are drawn: those in front have about five pixels each, and fewer would show at the outlines.
const TRIANGLES_MAX: usize = 12_000;

/// A mesh of few triangles that looks like `mesh` from afar: vertices that lie close together become one of them, which
/// keeps its colour and normal. Neither closed nor manifold, but done in a fraction of the time that
/// [`crate::mesh::simplify`] takes.
pub(super) fn figure(mesh: &Mesh) -> Cow<'_, Mesh> {
    if mesh.triangles().len() <= TRIANGLES_MAX {
        return Cow::Borrowed(mesh);
    }
    let positions = mesh.positions();
    let vertices =
        VertexDataAdapter::new(meshopt::typed_to_bytes(positions), size_of::<[f32; 3]>(), 0)
            .expect("three coordinates for each vertex");
    // The number of triangles alone decides, so the error allowed is the whole size of the mesh.
    let error_max = 1.0;
    let simplified = meshopt::simplify_sloppy(
        mesh.triangles().as_flattened(),
        &vertices,
        3 * TRIANGLES_MAX,
        error_max,
        None,
    );
    let (triangles, rest) = simplified.as_chunks::<3>();
    debug_assert!(rest.is_empty(), "the simplifier yields whole triangles");
    let compacted = compact(positions.len(), triangles);
    let figure = Mesh::new(
        compacted.of_kept(positions),
        compacted.of_kept(mesh.normals()),
        mesh.colors().map(|colors| compacted.of_kept(colors)),
        compacted.triangles,
    );
    // A mesh of crumbs, each smaller than what becomes one vertex, leaves nothing.
    figure.map_or(Cow::Borrowed(mesh), Cow::Owned)
}
