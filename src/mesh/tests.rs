use super::{surface::Surface, *};

const CORNERS: [[f32; 3]; 3] = [[0.0; 3], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]];
const UP: [[f32; 3]; 3] = [[0.0, 0.0, 1.0]; 3];

fn new(
    positions: &[[f32; 3]],
    normals: &[[f32; 3]],
    colors: Option<Vec<[u8; 3]>>,
    triangles: &[[u32; 3]],
) -> Result<Mesh, MeshError> {
    Mesh::new(
        positions.to_vec(),
        normals.to_vec(),
        colors,
        triangles.to_vec(),
    )
}

#[test]
fn a_valid_mesh_keeps_its_parts() {
    let mesh = new(&CORNERS, &UP, Some(vec![[1, 2, 3]; 3]), &[[0, 1, 2]]).expect("valid");
    assert_eq!(mesh.positions(), CORNERS);
    assert_eq!(mesh.normals(), UP);
    assert_eq!(mesh.colors(), Some(&[[1, 2, 3]; 3][..]));
    assert_eq!(mesh.triangles(), [[0, 1, 2]]);
    assert_eq!(
        mesh.bounding_box(),
        BoundingBox {
            min: [0.0; 3],
            max: [1.0, 1.0, 0.0]
        }
    );
}

#[test]
fn each_fault_is_named_with_its_place() {
    assert_eq!(new(&CORNERS, &UP, None, &[]), Err(MeshError::Empty));
    assert_eq!(
        new(&CORNERS, &UP, None, &[[0, 1, 2], [0, 1, 3]]),
        Err(MeshError::IndexOutOfRange {
            triangle: 1,
            vertex: 3,
            vertices: 3
        })
    );
    assert_eq!(
        new(&CORNERS, &UP[1..], None, &[[0, 1, 2]]),
        Err(MeshError::AttributeLength {
            attribute: "normals",
            count: 2,
            vertices: 3
        })
    );
    assert_eq!(
        new(&CORNERS, &UP, Some(vec![[0; 3]; 4]), &[[0, 1, 2]]),
        Err(MeshError::AttributeLength {
            attribute: "colors",
            count: 4,
            vertices: 3
        })
    );
    let mut broken = CORNERS;
    broken[2][1] = f32::NAN;
    let fault = |attribute| {
        Err(MeshError::NonFiniteVertex {
            attribute,
            vertex: 2,
        })
    };
    assert_eq!(new(&broken, &UP, None, &[[0, 1, 2]]), fault("position"));
    let mut broken = UP;
    broken[2][0] = f32::INFINITY;
    assert_eq!(new(&CORNERS, &broken, None, &[[0, 1, 2]]), fault("normal"));
    assert_eq!(
        new(&[[0.5; 3]; 3], &UP, None, &[[0, 1, 2]]),
        Err(MeshError::NoExtent)
    );
}

#[test]
fn surfaces_are_checked_alike() {
    assert_eq!(
        Surface::new(CORNERS.to_vec(), Vec::new()),
        Err(MeshError::Empty)
    );
    assert_eq!(
        Surface::new(CORNERS.to_vec(), vec![[3, 0, 1]]),
        Err(MeshError::IndexOutOfRange {
            triangle: 0,
            vertex: 3,
            vertices: 3
        })
    );
}

#[test]
fn a_box_knows_its_middle_and_longest_side() {
    let bounds = BoundingBox::around(&[[1.0, 2.0, 3.0], [2.0, 6.0, 1.0]]);
    assert_eq!(
        bounds,
        BoundingBox {
            min: [1.0, 2.0, 1.0],
            max: [2.0, 6.0, 3.0]
        }
    );
    assert_eq!(bounds.size(), [1.0, 4.0, 2.0]);
    assert_eq!(bounds.longest_side(), 4.0);
    assert_eq!(bounds.center(), [1.5, 4.0, 2.0]);
}
