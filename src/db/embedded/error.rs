//! Why there is no embedded Postgres.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// Every variant's text ends with what can be done where that isn't plain.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// No tree with `bin/postgres` in any of the places.
    #[error(
        "found no Postgres in {}; run `make build` in the checkout to fetch it, or set DATABASE_URL",
        list(tried)
    )]
    PostgresNotFound {
        /// Every folder that was looked at.
        tried: Vec<PathBuf>,
    },
    /// Root has nobody to run Postgres as.
    #[error(
        "Postgres doesn't run as root, and this system has neither a user `postgres` nor `nobody`; \
         run orfeas as another user, or set DATABASE_URL"
    )]
    NoAccount,
    /// The list of users couldn't be read.
    #[error("could not read the system's users from {}", path.display())]
    Users {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder or file could not be made, read or given to the user that Postgres runs as.
    #[error("could not {action} {}", path.display())]
    Folder {
        /// A verb with its preposition: `create`, `read`, …
        action: &'static str,
        /// What it was about.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// As [`Self::Folder`], because it is another user's.
    #[error("may not {action} {}; run this as the user that runs the server, or choose another ORFEAS_DATA_DIR", path.display())]
    Denied {
        /// A verb with its preposition: `create`, `read`, …
        action: &'static str,
        /// What it was about.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Postgres in this data folder is run by another user.
    #[error(
        "{} belongs to another user; run this command as the user that runs the server, or choose another ORFEAS_DATA_DIR",
        path.display()
    )]
    OtherUser {
        /// The folder.
        path: PathBuf,
    },
    /// The folder for the socket is there and isn't safely ours.
    #[error("{} is not a folder of our own with mode 0700; remove it, or choose a shorter ORFEAS_DATA_DIR", path.display())]
    SocketFolder {
        /// The folder.
        path: PathBuf,
    },
    /// The data folder was made by another major version.
    #[error(
        "{} was made by Postgres {found} and this is Postgres {expected}; \
         with the orfeas that made it, run `orfeas backup FOLDER`, then with this one and another ORFEAS_DATA_DIR \
         `orfeas restore FOLDER`",
        path.display()
    )]
    OtherVersion {
        /// The folder.
        path: PathBuf,
        /// The major version in its `PG_VERSION`.
        found: String,
        /// The major version we run.
        expected: &'static str,
    },
    /// A program could not be started at all.
    #[error("could not run {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `initdb` failed.
    #[error("initdb ended with {status}: {output}")]
    Initdb {
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote.
        output: String,
    },
    /// Postgres ended instead of becoming ready.
    #[error("Postgres ended while starting ({status}); its log, {}, ends with: {log_tail}", log.display())]
    Exited {
        /// How it ended.
        status: String,
        /// Its log.
        log: PathBuf,
        /// The end of the log.
        log_tail: String,
    },
    /// Postgres runs and didn't become ready.
    #[error("Postgres was not ready after {seconds} s; its log, {}, ends with: {log_tail}", log.display())]
    NotReady {
        /// How long we waited.
        seconds: u64,
        /// Its log.
        log: PathBuf,
        /// The end of the log.
        log_tail: String,
    },
    /// A Postgres that an earlier holder left behind doesn't stop.
    #[error("process {process_id}, a Postgres left by an earlier run on {}, doesn't stop; end it by hand", path.display())]
    Orphan {
        /// Its process id.
        process_id: i32,
        /// Its data folder.
        path: PathBuf,
    },
    /// Another process holds the data folder and its Postgres never answered.
    #[error(
        "another process holds {} and its Postgres didn't answer within {seconds} s; \
         stop that process, or choose another ORFEAS_DATA_DIR",
        data_dir.display()
    )]
    NotJoined {
        /// The data folder.
        data_dir: PathBuf,
        /// How long we waited.
        seconds: u64,
    },
    /// Postgres doesn't go away.
    #[error("Postgres, process {process_id}, did not stop within {seconds} s")]
    NotStopped {
        /// Its process id.
        process_id: u32,
        /// How long we waited.
        seconds: u64,
    },
    /// No connection over the socket.
    #[error("could not connect to Postgres in {}", socket_dir.display())]
    Connect {
        /// Where its socket is.
        socket_dir: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
    /// A database could not be looked up, made or dropped.
    #[error("Postgres refused to prepare the database {name}")]
    Database {
        /// The database.
        name: String,
        /// Why.
        source: sqlx::Error,
    },
    /// The name would have to be quoted.
    #[error("{name:?} is no name for a database: 1 to 63 of a-z, 0-9 and _")]
    DatabaseName {
        /// What was given.
        name: String,
    },
    /// The thread that starts or stops Postgres panicked, or the runtime is going down.
    #[error("the task that handles Postgres was lost")]
    Task {
        /// Why.
        source: tokio::task::JoinError,
    },
}

fn list(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    shown.join(", ")
}

/// [`EmbeddedError::Folder`], or [`EmbeddedError::Denied`] where that is the reason.
pub fn folder_error(action: &'static str, path: &Path, source: io::Error) -> EmbeddedError {
    let path = path.to_path_buf();
    if source.kind() == io::ErrorKind::PermissionDenied {
        EmbeddedError::Denied {
            action,
            path,
            source,
        }
    } else {
        EmbeddedError::Folder {
            action,
            path,
            source,
        }
    }
}
