//! The manifests of models.

use std::path::Path;

use orfeas::inference::manifest::{Manifest, ModelError};

use super::{Target, files, plain};

const WORDS: [&[u8]; 14] = [
    b"nan",
    b"inf",
    b"-1",
    b"0",
    b"1e308",
    b"[batch]\n",
    b"[steps]\n",
    b"contract = ",
    b"sha256 = ",
    b"\"../x\"",
    b"'''",
    b"[[",
    b"{ a = ",
    b"# ",
];

#[test]
fn any_text_is_a_manifest_or_refused() {
    let folder = Path::new("models/somewhere/model.toml");
    let mut seeds = files("models/orfeas-mini", "model.toml");
    for name in ["sound", "stepping", "seeking"] {
        seeds.extend(files(&format!("tests/fixtures/models/{name}"), ".toml"));
    }
    let target = Target {
        name: "manifests",
        seeds,
        words: &WORDS,
    };
    target.run(|input| {
        let Ok(text) = std::str::from_utf8(input) else {
            return Ok("no text".into());
        };
        let manifest = match Manifest::parse(text, folder) {
            Ok(manifest) => manifest,
            Err(ModelError::Value { key, .. }) => return Ok(format!("a value of {key}")),
            Err(ModelError::Syntax { source, .. }) => return Ok(plain(source.message())),
            Err(other) => return Err(format!("no error of a text: {other}")),
        };
        // What the server does with it without asking again.
        let Manifest { input, file, .. } = &manifest;
        let is_in_range = |share: f32| (0.0..=1.0).contains(&share);
        if input.values() == 0 || !input.background.into_iter().all(is_in_range) {
            return Err(format!("it asks for impossible pictures: {input:?}"));
        }
        if Path::new(&file.name).components().count() != 1 || file.name.contains('/') {
            return Err(format!("its file is elsewhere: {}", file.name));
        }
        let written = toml::to_string(&manifest).map_err(|error| error.to_string())?;
        match Manifest::parse(&written, folder) {
            Ok(_) => Ok(format!("taken, {}", manifest.sampling().is_some())),
            Err(error) => Err(format!("written again it is refused: {error}")),
        }
    });
}
