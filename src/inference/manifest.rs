//! What a model says of itself: `models/<name>/model.toml`, read and checked once.

use std::{
    fmt, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::sampling::{SamplingLimits, Span};

mod check;

/// The manifest's file name inside a model's folder.
pub const MANIFEST_FILE: &str = "model.toml";

/// A manifest is a page of text; anything larger is another file under its name.
const MANIFEST_BYTES_MAX: u64 = 256 * 1024;

/// Why a model cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The models folder itself cannot be listed.
    #[error("could not list the models folder {}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    /// The manifest or the model's file cannot be read.
    #[error("could not read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The manifest is far larger than a manifest is.
    #[error("{} is larger than {bytes_max} bytes", path.display())]
    ManifestTooLarge { path: PathBuf, bytes_max: u64 },
    /// The manifest is not TOML, lacks a key, or has one that no manifest has.
    #[error("{} is not a model manifest", path.display())]
    Syntax {
        path: PathBuf,
        source: Box<toml::de::Error>,
    },
    /// A value of the manifest is outside what it may be.
    #[error("`{key}` is {value}; it must be {expected}")]
    Value {
        key: &'static str,
        value: String,
        expected: String,
    },
    /// The folder and the manifest name different models.
    #[error("the folder is called `{folder}` and its manifest names `{name}`: they must agree")]
    FolderName { folder: String, name: String },
    /// There is a manifest and no file beside it.
    #[error("the model's file {} is missing", path.display())]
    FileMissing { path: PathBuf },
    /// The file is not the one that the manifest was written for.
    #[error("{} has sha256 {actual}; its manifest says {expected}", path.display())]
    Hash {
        path: PathBuf,
        expected: String,
        actual: String,
    },
    /// The file is there and does not keep the contract.
    #[error("the model breaks its contract: {reason}")]
    Contract { reason: String },
    /// The file could not be loaded onto the device.
    #[error("the model could not be loaded: {reason}")]
    Load { reason: String },
}

/// The contracts between a model's file and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Contract {
    /// `encode(images) -> codes`, `query(codes, points) -> (logit, rgb)`, optionally `matte(images) -> alpha`.
    #[serde(rename = "implicit-field/1")]
    ImplicitField1,
    /// As before, and in between `begin(codes, seed) -> latents` and, step by step,
    /// `denoise(latents, codes, step, steps, guidance) -> latents`; the last latents are what `query` gets.
    #[serde(rename = "implicit-field/2")]
    ImplicitField2,
}

impl Contract {
    /// The methods that a file must have.
    #[must_use]
    pub fn methods(self) -> &'static [&'static str] {
        match self {
            Self::ImplicitField1 => &["encode", "query"],
            Self::ImplicitField2 => &["encode", "begin", "denoise", "query"],
        }
    }
}

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ImplicitField1 => "implicit-field/1",
            Self::ImplicitField2 => "implicit-field/2",
        })
    }
}

/// The number format a model's floating-point buffers are converted to on a kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    Float32,
    Half,
    Bfloat16,
}

/// The TorchScript file beside the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// A plain file name, without folders.
    pub name: String,
    /// 64 lower-case hex digits.
    pub sha256: String,
}

/// What the model expects of a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Pixels.
    pub height: u32,
    /// Pixels.
    pub width: u32,
    /// What transparent pixels are composited over, sRGB in 0..1.
    pub background: [f32; 3],
    /// The share of the crop's side that the object's longer side fills, in 0.1..=1.
    pub fill: f32,
}

impl Input {
    /// Values of one image: three planes of `height * width`.
    #[must_use]
    pub fn values(&self) -> usize {
        3 * self.pixels()
    }

    /// Pixels of one image.
    #[must_use]
    pub fn pixels(&self) -> usize {
        self.height as usize * self.width as usize
    }
}

/// How the field is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// The surface is where the logit has this value; inside is above it.
    pub iso_level: f32,
}

/// Field samples along the longest axis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolution {
    pub default: u32,
    pub min: u32,
    pub max: u32,
}

/// How large GPU batches may become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchPlan {
    pub images_max: usize,
}

/// How the model runs on one kind of device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevicePlan {
    pub dtype: Dtype,
    /// Points of one `query` call; longer queries are cut.
    pub points_per_pass: usize,
}

/// A checked `model.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Lower-case letters, digits and hyphens; the folder has the same name.
    pub name: String,
    pub contract: Contract,
    pub description: String,
    /// An SPDX expression.
    pub licence: String,
    /// Whether the file has the contract's optional method `matte`.
    pub matte: bool,
    pub file: ModelFile,
    pub input: Input,
    pub field: Field,
    pub resolution: Resolution,
    pub batch: BatchPlan,
    pub cpu: DevicePlan,
    pub cuda: DevicePlan,
    /// Denoising steps; there if and only if the contract has them.
    pub steps: Option<Span<u32>>,
    /// How far the picture pulls at the latents; only beside `steps`.
    pub guidance: Option<Span<f64>>,
    /// What was measured of the model, under names of its author's choice.
    #[serde(default)]
    pub accuracy: toml::Table,
}

impl Manifest {
    /// Reads and checks the manifest in a model's folder.
    ///
    /// # Errors
    /// Every variant of [`ModelError`] that concerns the manifest; the model's file is not looked at.
    pub fn load(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join(MANIFEST_FILE);
        let manifest = Self::parse(&read_text(&path)?, &path)?;
        let folder_name = folder
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if folder_name != manifest.name {
            return Err(ModelError::FolderName {
                folder: folder_name,
                name: manifest.name,
            });
        }
        Ok(manifest)
    }

    /// Parses and checks a manifest's text; `path` is what errors call it.
    ///
    /// # Errors
    /// [`ModelError::Syntax`] and [`ModelError::Value`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ModelError> {
        let manifest: Self = toml::from_str(text).map_err(|source| ModelError::Syntax {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        check::check(&manifest)?;
        Ok(manifest)
    }

    /// What conversions may ask of the denoising; `None` of a model that doesn't iterate.
    #[must_use]
    pub fn sampling(&self) -> Option<SamplingLimits> {
        self.steps.map(|steps| SamplingLimits {
            steps,
            guidance: self.guidance,
        })
    }

    /// The model's file in `folder`, once its hash is found to be the manifest's.
    ///
    /// # Errors
    /// [`ModelError::FileMissing`], [`ModelError::Read`] and [`ModelError::Hash`].
    pub fn verified_file(&self, folder: &Path) -> Result<PathBuf, ModelError> {
        let path = folder.join(&self.file.name);
        let actual = sha256_of(&path)?;
        if actual != self.file.sha256 {
            return Err(ModelError::Hash {
                path,
                expected: self.file.sha256.clone(),
                actual,
            });
        }
        Ok(path)
    }
}

/// One folder below the models folder that holds a manifest.
#[derive(Debug)]
pub struct FoundModel {
    pub folder: PathBuf,
    /// The folder's name, which a readable manifest repeats.
    pub name: String,
    /// The manifest, if it is right and its file is there (the hash is not checked here).
    pub manifest: Result<Manifest, ModelError>,
}

/// Every `<models_dir>/*/model.toml`, in the order of the folders' names; or the one model whose own folder it is. A
/// broken one is reported in its place and hides no other.
///
/// # Errors
/// [`ModelError::Folder`] if the models folder cannot be listed.
pub fn scan(models_dir: &Path) -> Result<Vec<FoundModel>, ModelError> {
    let unlisted = |source| ModelError::Folder {
        path: models_dir.to_owned(),
        source,
    };
    if models_dir.join(MANIFEST_FILE).is_file() {
        // So that `.` and a link have the folder's own name, which the manifest repeats.
        let folder = fs::canonicalize(models_dir).map_err(unlisted)?;
        return Ok(vec![found_in(folder)]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(models_dir).map_err(unlisted)? {
        let folder = entry.map_err(unlisted)?.path();
        if folder.join(MANIFEST_FILE).is_file() {
            found.push(found_in(folder));
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn found_in(folder: PathBuf) -> FoundModel {
    let name = folder
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let manifest = Manifest::load(&folder).and_then(|manifest| {
        let path = folder.join(&manifest.file.name);
        if path.is_file() {
            Ok(manifest)
        } else {
            Err(ModelError::FileMissing { path })
        }
    });
    FoundModel {
        folder,
        name,
        manifest,
    }
}

fn read_text(path: &Path) -> Result<String, ModelError> {
    let unread = |source| ModelError::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    let read = fs::File::open(path)
        .and_then(|file| file.take(MANIFEST_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(unread)?;
    if read as u64 > MANIFEST_BYTES_MAX {
        return Err(ModelError::ManifestTooLarge {
            path: path.to_owned(),
            bytes_max: MANIFEST_BYTES_MAX,
        });
    }
    Ok(text)
}

/// The file's sha256 as lower-case hex, read in pieces: a model may be larger than is good to hold twice.
fn sha256_of(path: &Path) -> Result<String, ModelError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ModelError::FileMissing {
            path: path.to_owned(),
        },
        _ => ModelError::Read {
            path: path.to_owned(),
            source,
        },
    };
    let mut file = fs::File::open(path).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0_u8; 1 << 20];
    loop {
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => hasher.update(&piece[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(hex::encode(hasher.finalize()))
}

#[cfg(test)]
mod tests;
