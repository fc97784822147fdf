//! Charts and their places, by xatlas.

use xatlas_rs_v2::{ChartOptions, IndexData, MeshData, MeshDecl, PackOptions, Xatlas};

use super::super::{surface::Surface, vector};

/// Texels between charts: each needs one around it for filtering, and the coarser pictures that a viewer makes want more.
const PADDING_PX: u32 = 4;

/// xatlas drops triangles of less than a fixed area; on a surface of this size that is next to nothing.
const SIZE: f64 = 1000.0;

/// xatlas packs into about the side that it is told; so often it is told another.
const TRIES: usize = 4;

/// The place of each corner of each triangle, in texels. Triangles without area, which xatlas leaves out, lie where their
/// neighbours have the same vertices.
pub(super) fn places(surface: &Surface, side_px: u32) -> Vec<[[f32; 2]; 3]> {
    let positions = sized(surface);
    let indices = surface.triangles().as_flattened();
    let declaration = MeshDecl {
        vertex_position_data: MeshData::Contiguous(positions.as_flattened()),
        index_data: Some(IndexData::U32(indices)),
        face_count: surface.triangles().len() as u32,
        ..MeshDecl::default()
    };
    let mut xatlas = Xatlas::new();
    let added = xatlas.add_mesh(&declaration);
    added.expect("a surface has three indices in range for each triangle");
    xatlas.compute_charts(&ChartOptions::default());
    let mut resolution = side_px;
    let mut scale = 1.0;
    for _ in 0..TRIES {
        xatlas.pack_charts(&PackOptions {
            padding: PADDING_PX,
            resolution,
            bilinear: true,
            ..PackOptions::default()
        });
        let packed = xatlas.width().max(xatlas.height()).max(1);
        // What is too small is stretched over all of the picture, and what doesn't fit after the last try is made to, at
        // the price of some of the padding.
        scale = side_px as f32 / packed as f32;
        if packed <= side_px {
            break;
        }
        resolution = (u64::from(resolution) * u64::from(side_px) / u64::from(packed)) as u32;
        resolution = (resolution - resolution / 50).max(1);
    }
    let meshes = xatlas.meshes();
    let Some(mesh) = meshes.first() else {
        return vec![[[0.0; 2]; 3]; surface.triangles().len()];
    };
    let corners = mesh.index_array.iter().map(|&index| {
        let vertex = &mesh.vertex_array[index as usize];
        (vertex.atlas_index >= 0).then(|| vertex.uv.map(|along| along * scale))
    });
    let corners: Vec<Option<[f32; 2]>> = corners.collect();
    assert_eq!(corners.len(), indices.len(), "xatlas keeps the triangles");
    let mut of_vertex = vec![[0.0; 2]; positions.len()];
    for (&vertex, place) in indices.iter().zip(&corners) {
        if let Some(place) = *place {
            of_vertex[vertex as usize] = place;
        }
    }
    let placed = corners.as_chunks::<3>().0.iter().zip(surface.triangles());
    placed
        .map(|(corners, triangle)| match *corners {
            [Some(a), Some(b), Some(c)] => [a, b, c],
            // All at one place: stretched between charts it would cover what is not its own.
            _ => [of_vertex[triangle[0] as usize]; 3],
        })
        .collect()
}

/// The positions, moved and scaled to where xatlas's thresholds do no harm.
fn sized(surface: &Surface) -> Vec<[f32; 3]> {
    let bounds = surface.bounding_box();
    let (center, scale) = (bounds.center(), SIZE / bounds.longest_side());
    let positions = surface.positions().iter();
    positions
        .map(|&position| {
            let moved = vector::sub(vector::wide(position), center);
            vector::narrow(vector::scale(moved, scale))
        })
        .collect()
}
