//! Pictures of known meshes: a folder with `set.json`, pictures and meshes.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use serde::Deserialize;

use crate::mesh::{Mesh, compare::View, ply::reader};

/// The list of views in a set's folder.
pub const SET_FILE: &str = "set.json";

/// Why a set can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// A file of the set can't be read.
    #[error("could not read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The list is not JSON, or lacks a key.
    #[error("{} is no list of views", path.display())]
    Syntax {
        path: PathBuf,
        source: serde_json::Error,
    },
    /// There is nothing to measure on.
    #[error("{} lists no views", path.display())]
    Empty { path: PathBuf },
    /// A value of a view is outside what it may be.
    #[error("view {view} of {}: `{key}` must be {expected}", path.display())]
    Value {
        path: PathBuf,
        /// Counts from 0.
        view: usize,
        key: &'static str,
        expected: &'static str,
    },
    /// A true mesh can't be compared with.
    #[error("{} is no mesh to compare with", path.display())]
    Mesh {
        path: PathBuf,
        source: reader::PlyError,
    },
    /// Colours are compared, so the truth must have some.
    #[error("{} has no colours", path.display())]
    NoColors { path: PathBuf },
}

/// One picture, the mesh that it shows, and from where.
#[derive(Debug, Clone, Deserialize)]
pub struct KnownView {
    /// A file with transparency, below the set's folder.
    pub picture: String,
    /// A PLY with colours, below the set's folder: in its own frame, +Y up.
    pub mesh: String,
    /// Degrees about +Y, from the mesh's +Z towards its +X.
    pub azimuth: f64,
    /// Degrees above the horizon.
    pub elevation: f64,
    /// The camera's full vertical angle in degrees.
    pub fov: f64,
    /// What kind of thing it is; results are averaged by it.
    pub category: String,
    pub name: String,
    /// Where the mesh comes from.
    pub source: String,
    /// An SPDX expression.
    pub licence: String,
}

impl KnownView {
    /// Where the picture was taken from.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            azimuth: self.azimuth,
            elevation: self.elevation,
            fov: self.fov,
        }
    }
}

#[derive(Deserialize)]
struct SetFile {
    name: String,
    views: Vec<KnownView>,
}

/// A set that was found whole: every view's values are in range and its files are there.
#[derive(Debug, Clone)]
pub struct EvaluationSet {
    pub name: String,
    pub folder: PathBuf,
    pub views: Vec<KnownView>,
}

impl EvaluationSet {
    /// Reads `set.json` in a folder and looks for every file that it names.
    ///
    /// # Errors
    /// [`SetError`], other than for what is in a mesh.
    pub fn open(folder: &Path) -> Result<Self, SetError> {
        let path = folder.join(SET_FILE);
        let SetFile { name, views } =
            serde_json::from_slice(&read(&path)?).map_err(|source| SetError::Syntax {
                path: path.clone(),
                source,
            })?;
        if views.is_empty() {
            return Err(SetError::Empty { path });
        }
        for (at, view) in views.iter().enumerate() {
            check(view).map_err(|(key, expected)| SetError::Value {
                path: path.clone(),
                view: at,
                key,
                expected,
            })?;
        }
        for file in views.iter().flat_map(|view| [&view.picture, &view.mesh]) {
            let path = folder.join(file);
            if let Err(source) = fs::metadata(&path) {
                return Err(SetError::Read { path, source });
            }
        }
        Ok(Self {
            name,
            folder: folder.to_owned(),
            views,
        })
    }

    /// Keeps `limit` views, spread evenly over the list, so that one sorted by category loses none as a whole.
    pub fn thin_out(&mut self, limit: usize) {
        let count = self.views.len();
        if limit < count {
            let kept = (0..limit).map(|at| self.views[at * count / limit].clone());
            self.views = kept.collect();
        }
    }

    /// A view's picture as it lies in the set.
    ///
    /// # Errors
    /// [`SetError::Read`].
    pub fn picture(&self, view: &KnownView) -> Result<Vec<u8>, SetError> {
        read(&self.folder.join(&view.picture))
    }

    /// A view's true mesh.
    ///
    /// # Errors
    /// [`SetError::Read`], [`SetError::Mesh`] and [`SetError::NoColors`].
    pub fn truth(&self, view: &KnownView) -> Result<Mesh, SetError> {
        let path = self.folder.join(&view.mesh);
        let mesh = reader::read(&read(&path)?).map_err(|source| SetError::Mesh {
            path: path.clone(),
            source,
        })?;
        if mesh.colors().is_none() {
            return Err(SetError::NoColors { path });
        }
        Ok(mesh)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, SetError> {
    fs::read(path).map_err(|source| SetError::Read {
        path: path.to_owned(),
        source,
    })
}

/// The key that is wrong, and what it must be.
fn check(view: &KnownView) -> Result<(), (&'static str, &'static str)> {
    let below = |file: &str| {
        let mut parts = Path::new(file).components();
        !file.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
    };
    let require = |holds, key, expected| if holds { Ok(()) } else { Err((key, expected)) };
    require(
        below(&view.picture),
        "picture",
        "a file below the set's folder",
    )?;
    require(below(&view.mesh), "mesh", "a file below the set's folder")?;
    require(view.azimuth.is_finite(), "azimuth", "a number of degrees")?;
    require(
        (-90.0..=90.0).contains(&view.elevation),
        "elevation",
        "-90 to 90 degrees",
    )?;
    require((1.0..=170.0).contains(&view.fov), "fov", "1 to 170 degrees")
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIEWS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/views");

    #[test]
    fn a_set_is_read_with_its_meshes() {
        let set = EvaluationSet::open(Path::new(VIEWS)).unwrap();
        assert_eq!((set.name.as_str(), set.views.len()), ("two-views", 2));
        let truth = set.truth(&set.views[0]).unwrap();
        assert_eq!(
            (truth.positions().len(), truth.triangles().len()),
            (156, 152)
        );
        // The frame of the models it was taken from: the longest side is 1.8.
        assert!((truth.bounding_box().longest_side() - 1.8).abs() < 1e-3);
    }

    #[test]
    fn thinning_out_spreads_over_the_list() {
        let mut set = EvaluationSet::open(Path::new(VIEWS)).unwrap();
        let view = set.views[0].clone();
        let named = |at: usize| KnownView {
            name: at.to_string(),
            ..view.clone()
        };
        set.views = (0..10).map(named).collect();
        let names = |set: &EvaluationSet| {
            let names = set.views.iter().map(|view| view.name.clone());
            names.collect::<Vec<_>>().join(" ")
        };
        set.thin_out(20);
        assert_eq!(set.views.len(), 10);
        set.thin_out(4);
        assert_eq!(names(&set), "0 2 5 7");
        set.thin_out(1);
        assert_eq!(names(&set), "0");
    }

    #[test]
    fn what_is_wrong_with_a_set_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |text: &str| {
            fs::write(folder.path().join(SET_FILE), text).unwrap();
            EvaluationSet::open(folder.path()).unwrap_err()
        };
        assert!(matches!(refused("[]"), SetError::Syntax { .. }));
        assert!(matches!(
            refused(r#"{"name": "none", "views": []}"#),
            SetError::Empty { .. }
        ));
        let whole = fs::read_to_string(Path::new(VIEWS).join(SET_FILE)).unwrap();
        let changed = |key: &str, value: serde_json::Value| {
            let mut list: serde_json::Value = serde_json::from_str(&whole).unwrap();
            list["views"][1][key] = value;
            refused(&list.to_string())
        };
        for (key, value) in [
            ("picture", "../secret.png".into()),
            ("mesh", "".into()),
            ("elevation", 91.0.into()),
            ("fov", 0.0.into()),
        ] {
            let error = changed(key, value);
            assert!(
                matches!(error, SetError::Value { view: 1, key: found, .. } if found == key),
                "{error}"
            );
        }
        // All values are right, and no file is there.
        let error = changed("fov", 40.0.into());
        assert!(matches!(error, SetError::Read { .. }), "{error}");
        fs::remove_file(folder.path().join(SET_FILE)).unwrap();
        let error = EvaluationSet::open(folder.path()).unwrap_err();
        assert!(matches!(error, SetError::Read { .. }), "{error}");
    }
}
