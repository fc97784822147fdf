//! Reads the PLY files that meshes are compared by: triangles with positions and, if there are any, sRGB colours.

use ply_rs_bw::{
    parser::{ParseError, Parser, Reader},
    ply::{ElementDef, Header, PropertyAccess, PropertyAccessResult, PropertyType, ScalarType},
};

use super::super::{Mesh, MeshError, surface::Surface};

/// Why a file is no mesh.
#[derive(Debug, thiserror::Error)]
pub enum PlyError {
    /// The file breaks its format, or ends too early.
    #[error("the file is no PLY")]
    Syntax(#[from] ParseError),
    /// An element or a property is not there, or of another type.
    #[error("the PLY has no {what}")]
    Missing { what: &'static str },
    /// Only triangles are compared.
    #[error("face {face} has {corners} corners, not three")]
    Polygon { face: usize, corners: usize },
    /// A face counts backwards.
    #[error("face {face} names a negative vertex")]
    NegativeIndex { face: usize },
    /// What was read is no mesh.
    #[error("the PLY holds no mesh")]
    Mesh(#[from] MeshError),
}

#[derive(Debug, Default)]
struct Vertex {
    position: [f32; 3],
    color: [u8; 3],
}

impl PropertyAccess for Vertex {
    fn new() -> Self {
        Self::default()
    }

    fn set_float(&mut self, name: &str, value: f32) -> PropertyAccessResult {
        let axis = match name {
            "x" => 0,
            "y" => 1,
            "z" => 2,
            _ => return PropertyAccessResult::Ignored,
        };
        self.position[axis] = value;
        PropertyAccessResult::Set
    }

    fn set_uchar(&mut self, name: &str, value: u8) -> PropertyAccessResult {
        let part = match name {
            "red" => 0,
            "green" => 1,
            "blue" => 2,
            _ => return PropertyAccessResult::Ignored,
        };
        self.color[part] = value;
        PropertyAccessResult::Set
    }
}

#[derive(Debug, Default)]
struct Face {
    corners: Vec<i64>,
}

impl Face {
    /// Writers call the list by either of these names.
    fn set(&mut self, name: &str, corners: Vec<i64>) -> PropertyAccessResult {
        if !matches!(name, "vertex_indices" | "vertex_index") {
            return PropertyAccessResult::Ignored;
        }
        self.corners = corners;
        PropertyAccessResult::Set
    }
}

impl PropertyAccess for Face {
    fn new() -> Self {
        Self::default()
    }

    fn set_list_int(&mut self, name: &str, value: Vec<i32>) -> PropertyAccessResult {
        self.set(name, value.into_iter().map(i64::from).collect())
    }

    fn set_list_uint(&mut self, name: &str, value: Vec<u32>) -> PropertyAccessResult {
        self.set(name, value.into_iter().map(i64::from).collect())
    }
}

/// Reads a mesh: `float` x, y, z and perhaps `uchar` red, green, blue at each vertex, and faces of three corners as
/// lists of `int` or `uint`. Whatever else the file has is passed over; normals are made anew.
///
/// # Errors
/// [`PlyError`].
pub fn read(bytes: &[u8]) -> Result<Mesh, PlyError> {
    let mut reader = Reader::new(bytes);
    let header = Parser::<Vertex>::new().read_header(&mut reader)?;
    let element = |name, what| header.elements.get(name).ok_or(PlyError::Missing { what });
    let vertex = element("vertex", "vertices")?;
    element("face", "faces")?;
    let has = |name: &str, kind: ScalarType| {
        vertex
            .properties
            .get(name)
            .is_some_and(|property| property.data_type == PropertyType::Scalar(kind))
    };
    if !["x", "y", "z"]
        .into_iter()
        .all(|axis| has(axis, ScalarType::Float))
    {
        return Err(PlyError::Missing {
            what: "x, y and z of type float",
        });
    }
    let is_colored = ["red", "green", "blue"]
        .into_iter()
        .all(|part| has(part, ScalarType::UChar));
    let (vertices, faces) = elements(&mut reader, &header)?;
    let colors = is_colored.then(|| vertices.iter().map(|vertex| vertex.color).collect());
    let positions = vertices.into_iter().map(|vertex| vertex.position).collect();
    let triangles = faces
        .into_iter()
        .enumerate()
        .map(|(face, Face { corners })| triangle(face, &corners))
        .collect::<Result<_, _>>()?;
    Ok(Mesh::from_surface(
        Surface::new(positions, triangles)?,
        colors,
    )?)
}

/// The vertices and the faces, whatever lies before and between them.
fn elements(
    reader: &mut Reader<&[u8]>,
    header: &Header,
) -> Result<(Vec<Vertex>, Vec<Face>), PlyError> {
    let (mut vertices, mut faces) = (Vec::new(), Vec::new());
    for (name, element) in &header.elements {
        match name.as_str() {
            "vertex" => vertices = payload(reader, element, header)?,
            "face" => faces = payload(reader, element, header)?,
            // Nothing of it is kept.
            _ => drop(payload::<Face>(reader, element, header)?),
        }
    }
    Ok((vertices, faces))
}

fn payload<E: PropertyAccess>(
    reader: &mut Reader<&[u8]>,
    element: &ElementDef,
    header: &Header,
) -> Result<Vec<E>, PlyError> {
    Ok(Parser::<E>::new().read_payload_for_element(reader, element, header)?)
}

fn triangle(face: usize, corners: &[i64]) -> Result<[u32; 3], PlyError> {
    let corners = <[i64; 3]>::try_from(corners).map_err(|_| PlyError::Polygon {
        face,
        corners: corners.len(),
    })?;
    let mut triangle = [0; 3];
    for (at, corner) in corners.into_iter().enumerate() {
        triangle[at] = u32::try_from(corner).map_err(|_| PlyError::NegativeIndex { face })?;
    }
    Ok(triangle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{fixtures, ply};

    #[test]
    fn what_the_writer_writes_comes_back() {
        for mesh in [
            fixtures::colored(32, fixtures::sphere(0.6)),
            fixtures::cube(),
        ] {
            let back = read(&ply::write(&mesh).unwrap()).unwrap();
            assert_eq!(back.positions(), mesh.positions());
            assert_eq!(back.triangles(), mesh.triangles());
            assert_eq!(back.colors(), mesh.colors());
        }
    }

    fn file(vertex: &str, faces: &str) -> Vec<u8> {
        format!(
            "ply\nformat ascii 1.0\nelement edge 1\nproperty int vertex1\nelement vertex 3\n{vertex}\
             element face 1\nproperty list uchar int vertex_index\nend_header\n7\n0 0 0\n1 0 0\n0 1 0\n{faces}\n"
        )
        .into_bytes()
    }

    #[test]
    fn files_that_hold_no_triangles_are_told_apart() {
        let floats = "property float x\nproperty float y\nproperty float z\n";
        let triangle = read(&file(floats, "3 0 1 2")).unwrap();
        assert_eq!(triangle.triangles(), [[0, 1, 2]]);
        assert!(triangle.colors().is_none());

        let refused = |bytes: &[u8]| read(bytes).unwrap_err();
        assert!(matches!(refused(b"solid thing"), PlyError::Syntax(_)));
        let doubles = floats.replace("float", "double");
        assert!(matches!(
            refused(&file(&doubles, "3 0 1 2")),
            PlyError::Missing { .. }
        ));
        assert!(matches!(
            refused(&file(floats, "4 0 1 2 0")),
            PlyError::Polygon {
                face: 0,
                corners: 4
            }
        ));
        assert!(matches!(
            refused(&file(floats, "3 0 1 -2")),
            PlyError::NegativeIndex { face: 0 }
        ));
        assert!(matches!(
            refused(&file(floats, "3 0 1 3")),
            PlyError::Mesh(MeshError::IndexOutOfRange { .. })
        ));
        let whole = ply::write(&fixtures::cube()).unwrap();
        assert!(matches!(
            refused(&whole[..whole.len() - 1]),
            PlyError::Syntax(_)
        ));
    }
}
