//! Every file of every kind is what it says.

use std::io::Cursor;

use image::{AnimationDecoder, codecs::webp::WebPDecoder};
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
    let (wants_colors, is_baked) = (options["texture"] != "NONE", options["texture"] == "BAKED");
    // What is repeated where the light or the texture breaks.
    let may_repeat = is_baked || options["targetTriangles"].is_u64();
    let assert_vertices = |found: usize, vertices: usize| {
        assert!(
            found == vertices || (may_repeat && found > vertices),
            "{found} vertices in a file of {vertices}: {options}"
        );
    };
    for output in ended["outputs"].as_array().unwrap() {
        let bytes = client.download(output["url"].as_str().unwrap()).await;
        assert_eq!(output["bytes"], bytes.len());
        let triangles = output["triangles"].as_u64().unwrap() as usize;
        let vertices = output["vertices"].as_u64().unwrap() as usize;
        match output["format"].as_str().unwrap() {
            "GLB" => {
                let shape = if options["quantize"] == true {
                    meshes::quantized_glb(&bytes)
                } else {
                    meshes::glb(&bytes)
                };
                shape.assert_centred(metres);
                assert_eq!((shape.triangles, shape.is_textured), (triangles, is_baked));
                // A texture takes the place of the vertices' colours.
                assert_eq!(shape.has_colors, wants_colors && !is_baked);
                assert_vertices(shape.positions.len(), vertices);
            }
            "OBJ" => {
                let shape = if is_baked {
                    meshes::packed_obj(&bytes)
                } else {
                    meshes::obj(&bytes)
                };
                assert_eq!(shape.is_textured, is_baked);
                shape.assert_centred(metres);
                assert_eq!(
                    (shape.triangles, shape.positions.len(), shape.has_colors),
                    (triangles, vertices, wants_colors && !is_baked)
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
            let warnings = ended["quality"]["warnings"].to_string();
            let is_told = warnings.contains(&format!("where {target} were asked for"));
            assert!(
                (triangles as u64 <= target) != is_told,
                "{triangles} triangles where {target} were asked for: {warnings}"
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
    check_report(&ended, options);
    let turntable = &ended["turntable"];
    assert_eq!(turntable.is_object(), options["turntable"] == true);
    if let Some(url) = turntable["url"].as_str() {
        let loop_of_it = Cursor::new(client.download(url).await);
        let frames = WebPDecoder::new(loop_of_it).unwrap().into_frames();
        let frames = frames.collect_frames().unwrap();
        assert!(frames.len() >= 12, "{} frames", frames.len());
        assert_eq!(turntable["width"], frames[0].buffer().width());
        let half = frames.len() / 2;
        assert_ne!(frames[0].buffer(), frames[half].buffer(), "it turns");
    }
}

/// The report fits the mesh and itself.
fn check_report(ended: &Value, options: &Value) {
    let quality = &ended["quality"];
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{quality:#}"));
    assert_eq!(
        (&quality["watertight"], &quality["manifold"]),
        (&json!(true), &json!(true))
    );
    let outputs = ended["outputs"].as_array().unwrap();
    assert_eq!(quality["triangles"], outputs[0]["triangles"]);
    assert_eq!(quality["vertices"], outputs[0]["vertices"]);
    let agreement = &quality["silhouetteAgreement"];
    if options["removeBackground"] == false {
        assert!(agreement.is_null(), "there is no outline: {agreement}");
    } else {
        let agreement = number(agreement);
        assert!((0.5..=1.0).contains(&agreement), "{options}: {agreement}");
    }
    let warnings = quality["warnings"].to_string();
    let is_unchecked = agreement.is_null() && options["minSilhouetteAgreement"].is_number();
    assert_eq!(
        warnings.contains("minSilhouetteAgreement could not be checked"),
        is_unchecked,
        "{options}: {warnings}"
    );
    let print = &quality["print"];
    let size = options["sizeMm"].as_f64().unwrap_or(100.0);
    assert_eq!(number(&print["sizeMm"]), size);
    let volume = number(&quality["volume"]) * (size / 10.0).powi(3);
    assert!(
        (number(&print["volumeCm3"]) / volume - 1.0).abs() < 1e-9,
        "{print:#}"
    );
    let wall = number(&print["thinnestWallMm"]);
    assert!(wall > 0.0 && wall < size, "{print:#}");
    assert!(
        (0.0..=1.0).contains(&number(&print["overhangShare"])),
        "{print:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_kind_keep_their_promises() {
    let world = World::new().await;
    let node = world.node().await;
    let alice = node.client("alice");
    let all = json!(["GLB", "OBJ", "PLY", "STL", "THREE_MF"]);
    let opaque = pictures::over_grey(pictures::HOUSE);
    let cases: [(&[u8], Value); 13] = [
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
            json!({ "resolution": 32, "removeBackground": true }),
        ),
        (
            &opaque,
            json!({ "resolution": 32, "removeBackground": false, "minSilhouetteAgreement": 0.9 }),
        ),
        (
            pictures::CHAIR,
            json!({ "resolution": 64, "texture": "BAKED", "textureSize": 512, "targetTriangles": 2000, "formats": all, "turntable": true }),
        ),
        (
            pictures::TRUCK,
            json!({ "resolution": 48, "texture": "BAKED", "textureSize": 256, "targetTriangles": 1000, "quantize": true }),
        ),
        (
            pictures::HOUSE,
            json!({ "resolution": 64, "quantize": true, "sizeMm": 40.0, "minSilhouetteAgreement": 0.5 }),
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

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_unlike_its_picture_is_not_delivered_to_who_says_so() {
    let world = World::new().await;
    let node = world.node().await;
    let alice = node.client("alice");
    let options = json!({ "resolution": 32, "minSilhouetteAgreement": 1.0 });
    let id = alice.submit(pictures::CHAIR, options).await;
    let ended = alice.ended(&id).await;
    let error = &ended["error"];
    assert_eq!(
        (&ended["status"], &error["code"]),
        (&json!("FAILED"), &json!("CONVERSION_FAILED"))
    );
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("minSilhouetteAgreement"), "{message}");
    assert_eq!(error["retryable"], false);
    node.app.stop().await;
}
