//! A target's inputs, in files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// A folder of `tests/corpus`.
pub(super) struct Corpus {
    folder: PathBuf,
}

impl Corpus {
    pub(super) fn of(target: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/corpus")
            .join(target);
        Self { folder }
    }

    /// What is kept, in the order of names.
    pub(super) fn inputs(&self) -> Vec<Vec<u8>> {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| fs::read(path).unwrap()).collect()
    }

    /// Keeps an input, under a name of its own.
    pub(super) fn put(&self, what: &str, input: &[u8]) -> PathBuf {
        let name = format!("{what}-{}", &hex::encode(Sha256::digest(input))[..16]);
        let path = self.folder.join(name);
        fs::create_dir_all(&self.folder).unwrap();
        fs::write(&path, input).unwrap();
        path
    }
}
