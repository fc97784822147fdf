//! Every file of every kind is what it says.

use serde_json::{Value, json};

use crate::harness::{World, client::Client, meshes, pictures};

async fn check(client: &Client, id: &str, options: &Value) {
    let ended = client.ended(id).await;
    assert_eq!(ended["status"], "SUCCEEDED", "{options}: {ended:#}");
    let size_mm = options["sizeMm"].as_f64();
    #[expect(clippy::cast_possible_truncation, reason = "lengths in millimetres")]
    let (metres, millimetres) = (
        size_mm.map_or(1.0, |size| size / 1000.0) as f32,
        size_mm.unwrap_or(100.0) as f32,
    );
    let wants_colors = options["texture"] != "NONE";
    for output in ended["outputs"].as_array().unwrap() {
        let bytes = client.download(output["url"].as_str().unwrap()).await;
        assert_eq!(output["bytes"], bytes.len());
        let triangles = output["triangles"].as_u64().unwrap() as usize;
        let vertices = output["vertices"].as_u64().unwrap() as usize;
        match output["format"].as_str().unwrap() {
            "GLB" => {
                let shape = meshes::glb(&bytes);
                shape.assert_centred(metres);
                assert_eq!(
                    (shape.triangles, shape.positions.len(), shape.has_colors),
                    (triangles, vertices, wants_colors)
                );
            }
            "OBJ" => {
                let shape = meshes::obj(&bytes);
                shape.assert_centred(metres);
                assert_eq!(
                    (shape.triangles, shape.positions.len(), shape.has_colors),
                    (triangles, vertices, wants_colors)
                );
            }
            "PLY" => assert_eq!(meshes::ply(&bytes), (vertices, triangles, wants_colors)),
            "STL" => {
                let shape = meshes::stl(&bytes);
                shape.assert_stands(millimetres);
                assert_eq!(shape.triangles, triangles);
            }
            "THREE_MF" => {
                let shape = meshes::three_mf(&bytes);
                shape.assert_stands(millimetres);
                assert_eq!(
                    (shape.triangles, shape.positions.len()),
                    (triangles, vertices)
                );
            }
            other => panic!("{other}"),
        }
        if let Some(target) = options["targetTriangles"].as_u64() {
            assert!(
                triangles as u64 <= target,
                "{triangles} triangles where {target} were asked for"
            );
        }
    }
    let asked = options["formats"].as_array().map_or(1, Vec::len);
    assert_eq!(ended["outputs"].as_array().unwrap().len(), asked);
    let preview = client
        .download(ended["preview"]["url"].as_str().unwrap())
        .await;
    let preview = image::load_from_memory(&preview).unwrap();
    assert_eq!(ended["preview"]["width"], preview.width());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_kind_keep_their_promises() {
    let world = World::new().await;
    let node = world.node().await;
    let alice = node.client("alice");
    let all = json!(["GLB", "OBJ", "PLY", "STL", "THREE_MF"]);
    let cases = [
        (pictures::CHAIR, json!({ "resolution": 32 })),
        (pictures::CHAIR, json!({ "resolution": 64, "formats": all })),
        (
            pictures::CHEST,
            json!({ "resolution": 64, "formats": all, "texture": "NONE" }),
        ),
        (
            pictures::DINNER,
            json!({ "resolution": 64, "targetTriangles": 1000 }),
        ),
        (
            pictures::HOUSE,
            json!({ "resolution": 48, "targetTriangles": 300, "formats": all }),
        ),
        (
            pictures::TRUCK,
            json!({ "resolution": 64, "sizeMm": 80.0, "formats": all }),
        ),
        (
            pictures::TRUCK,
            json!({ "resolution": 48, "sizeMm": 1500.0, "texture": "NONE", "formats": ["GLB", "STL"] }),
        ),
        (
            pictures::HOUSE,
            json!({ "resolution": 64, "texture": "NONE", "targetTriangles": 2000 }),
        ),
        (
            pictures::CHEST,
            json!({ "resolution": 32, "removeBackground": false }),
        ),
    ];
    let mut ids = Vec::new();
    for (picture, options) in &cases {
        ids.push(alice.submit(picture, options.clone()).await);
    }
    for (id, (_, options)) in ids.iter().zip(&cases) {
        check(&alice, id, options).await;
    }
    node.app.stop().await;
}
