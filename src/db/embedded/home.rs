//! The folders of one embedded Postgres: where its data and its socket are, and who holds them.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::PORT;
use super::account::Account;
use super::error::{EmbeddedError, folder_error};

/// Where root keeps what the unprivileged user could not reach in its place.
pub const STAGE_DIR: &str = "/var/lib/orfeas";

/// Where a socket goes whose own folder has too long or too odd a path. Not `TMPDIR`: whoever joins must come to the
/// same folder, whatever its environment.
const SHORT_SOCKET_PARENT: &str = "/tmp";

/// `sun_path` holds 108 bytes on Linux, the closing zero included.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The server's data folder, before anybody holds it.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
}

/// Held by the process whose Postgres runs in the data folder; the system releases it however that process ends.
#[derive(Debug)]
pub struct HomeLock {
    _file: File,
}

/// What belongs to Postgres in a data folder.
#[derive(Debug, Clone)]
pub struct Home {
    path: PathBuf,
    socket_dir: PathBuf,
    account: Account,
}

impl DataDir {
    /// Makes the folder when missing: for us alone, though root's lets others pass to what Postgres owns in it.
    ///
    /// # Errors
    /// [`EmbeddedError::Folder`].
    pub fn prepare(path: &Path, account: &Account) -> Result<Self, EmbeddedError> {
        let mode = if account.is_switched() { 0o711 } else { 0o700 };
        DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
            .map_err(|source| folder_error("create", path, source))?;
        let path = fs::canonicalize(path).map_err(|source| folder_error("find", path, source))?;
        Ok(Self { path })
    }

    /// The folder, with every link resolved.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `None` while another process holds it, or this one through another `Embedded`.
    ///
    /// # Errors
    /// [`EmbeddedError::Folder`] when the file can't be made or locked.
    pub fn try_lock(&self) -> Result<Option<HomeLock>, EmbeddedError> {
        let path = self.path.join("postgres.lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| folder_error("open", &path, source))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(HomeLock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(folder_error("lock", &path, source)),
        }
    }

    /// The holder's way to its home: makes what is missing and gives it to the user that Postgres runs as. A home that
    /// is there already keeps its owner, so that root can carry on with what a user began.
    ///
    /// # Errors
    /// [`EmbeddedError::Folder`], [`EmbeddedError::OtherUser`] and [`EmbeddedError::SocketFolder`].
    pub fn make_home(&self, account: &Account, stage_dir: &Path) -> Result<Home, EmbeddedError> {
        let entry = self.entry();
        if !exists(&entry)? {
            if account.can_pass_to(&entry)? {
                DirBuilder::new()
                    .mode(0o700)
                    .create(&entry)
                    .map_err(|source| folder_error("create", &entry, source))?;
                account.take(&entry)?;
            } else {
                stage_home(&entry, account, stage_dir)?;
            }
        }
        let home = self.open(account)?;
        home.make_socket_dir()?;
        Ok(home)
    }

    /// The way of one who joins: `None` as long as the holder hasn't made the home.
    ///
    /// # Errors
    /// As [`Self::make_home`].
    pub fn find_home(&self, account: &Account) -> Result<Option<Home>, EmbeddedError> {
        if !exists(&self.entry())? {
            return Ok(None);
        }
        self.open(account).map(Some)
    }

    fn open(&self, account: &Account) -> Result<Home, EmbeddedError> {
        let entry = self.entry();
        let path =
            fs::canonicalize(&entry).map_err(|source| folder_error("find", &entry, source))?;
        let metadata =
            fs::metadata(&path).map_err(|source| folder_error("examine", &path, source))?;
        let account = if account.is_switched() && metadata.uid() != 0 {
            account.of_owner(&metadata)
        } else {
            *account
        };
        if metadata.uid() != account.uid() {
            // Root made the folder and was stopped before it could give it away.
            if !account.is_switched() {
                return Err(EmbeddedError::OtherUser { path });
            }
            account.take(&path)?;
        }
        let socket_dir = socket_dir(&path, account.uid());
        Ok(Home {
            path,
            socket_dir,
            account,
        })
    }

    fn entry(&self) -> PathBuf {
        self.path.join("postgres")
    }
}

impl Home {
    /// The folder that belongs to Postgres.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that `initdb` makes.
    #[must_use]
    pub fn cluster(&self) -> PathBuf {
        self.path.join("data")
    }

    /// What Postgres writes to its standard error.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// The folder of the socket.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The user that Postgres runs as in this home.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// What the running Postgres says of itself; `None` when there is no such file.
    ///
    /// # Errors
    /// [`EmbeddedError::Folder`] when it can't be read.
    pub fn pid_file(&self) -> Result<Option<PidFile>, EmbeddedError> {
        let path = self.pid_file_path();
        match fs::read_to_string(&path) {
            Ok(text) => Ok(PidFile::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(folder_error("read", &path, source)),
        }
    }

    /// Removes the file, which makes Postgres trust that no other runs here.
    ///
    /// # Errors
    /// [`EmbeddedError::Folder`].
    pub fn remove_pid_file(&self) -> Result<(), EmbeddedError> {
        remove_file(&self.pid_file_path())
    }

    /// Removes the socket of a Postgres that is gone, and its lock, whose process id may be another's by now.
    ///
    /// # Errors
    /// [`EmbeddedError::Folder`].
    pub fn remove_socket(&self) -> Result<(), EmbeddedError> {
        let socket = self.socket_dir.join(socket_name());
        remove_file(&socket)?;
        remove_file(&socket.with_added_extension("lock"))
    }

    /// Removes the socket's folder where it isn't in this home, so that nothing stays behind elsewhere.
    ///
    /// # Errors
    /// [`EmbeddedError::Folder`].
    pub fn clear_short_socket_dir(&self) -> Result<(), EmbeddedError> {
        if self.socket_dir.starts_with(&self.path) {
            return Ok(());
        }
        self.remove_socket()?;
        fs::remove_dir(&self.socket_dir)
            .map_err(|source| folder_error("remove", &self.socket_dir, source))
    }

    fn pid_file_path(&self) -> PathBuf {
        self.cluster().join("postmaster.pid")
    }

    /// Makes the folder of the socket. One that is there in a place where anybody may make folders is used only if it
    /// is a folder, Postgres's own, and closed to others.
    fn make_socket_dir(&self) -> Result<(), EmbeddedError> {
        let path = &self.socket_dir;
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => self.account.take(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let metadata = fs::symlink_metadata(path)
                    .map_err(|source| folder_error("examine", path, source))?;
                let is_ours = metadata.uid() == self.account.uid();
                if metadata.is_dir() && is_ours && metadata.mode() & 0o077 == 0 {
                    Ok(())
                } else {
                    Err(EmbeddedError::SocketFolder { path: path.clone() })
                }
            }
            Err(source) => Err(folder_error("create", path, source)),
        }
    }
}

/// `postmaster.pid`: one value a line, the process id first, the status eighth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PidFile {
    /// The postmaster's process id.
    pub process_id: i32,
    status: String,
}

impl PidFile {
    /// `None` for a file that is still being written.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let process_id: i32 = lines.next()?.trim().parse().ok()?;
        // Postgres writes a negative number when it runs a single session for itself.
        (process_id > 0).then(|| Self {
            process_id,
            status: lines.nth(6).unwrap_or_default().trim().to_owned(),
        })
    }

    /// Whether it accepts connections.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.status == "ready"
    }
}

/// A home outside the data folder with a link to it. Its name is new each time, so that a data folder that was removed
/// and made anew starts empty.
fn stage_home(entry: &Path, account: &Account, stage_dir: &Path) -> Result<(), EmbeddedError> {
    make_stage_dir(stage_dir)?;
    let home = tempfile::Builder::new()
        .prefix("data-")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(stage_dir)
        .map_err(|source| folder_error("create a folder in", stage_dir, source))?;
    account.take(home.path())?;
    std::os::unix::fs::symlink(home.path(), entry)
        .map_err(|source| folder_error("create", entry, source))?;
    let kept = home.keep();
    tracing::info!(path = %kept.display(), "Postgres keeps its data in {}", kept.display());
    Ok(())
}

/// Makes root's folder for what others must reach.
///
/// # Errors
/// [`EmbeddedError::Folder`].
pub fn make_stage_dir(stage_dir: &Path) -> Result<(), EmbeddedError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(stage_dir)
        .map_err(|source| folder_error("create", stage_dir, source))
}

fn socket_dir(home: &Path, uid: u32) -> PathBuf {
    let own = home.join("socket");
    // Postgres takes a list of folders, and gives some characters a meaning in it.
    let is_plain = own
        .as_os_str()
        .as_bytes()
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"/._-+".contains(byte));
    let bytes = own.join(socket_name()).as_os_str().len();
    if is_plain && bytes <= SOCKET_PATH_BYTES_MAX {
        return own;
    }
    let digest = Sha256::digest(home.as_os_str().as_bytes());
    let tag = hex::encode(&digest[..8]);
    Path::new(SHORT_SOCKET_PARENT).join(format!("orfeas-{uid}-{tag}"))
}

fn socket_name() -> String {
    format!(".s.PGSQL.{PORT}")
}

fn exists(entry: &Path) -> Result<bool, EmbeddedError> {
    match fs::symlink_metadata(entry) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(folder_error("examine", entry, source)),
    }
}

fn remove_file(path: &Path) -> Result<(), EmbeddedError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(folder_error("remove", path, error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
