//! The Postgres that travels with the server, for whoever sets no `DATABASE_URL`.
//!
//! One Postgres belongs to one data folder. Whoever gets the lock on `postgres.lock` in that folder starts it and
//! stops it; every other process that asks for the same folder connects to the socket of the first. When the holder
//! goes away, those who joined get connection errors: the database was the holder's. Postgres listens on a unix socket
//! in a folder of mode 0700 and on nothing else, so no password guards it.
//!
//! What lies in the data folder:
//!
//! | name | what |
//! |---|---|
//! | `postgres.lock` | the lock; empty |
//! | `postgres/` | everything Postgres owns: `data/`, `log`, and `socket/` where the path is short enough |
//!
//! # Running as root
//!
//! Postgres refuses to be root, so it runs as the user `postgres` where there is one, else as `nobody`, and
//! `postgres/` belongs to that user. A user who can't pass through a parent of the data folder (a checkout in root's
//! home, mode 0700) could not reach it; then `postgres` is a symbolic link to a folder of its own in `/var/lib/orfeas`,
//! and the programs are copied there too. Removing a data folder doesn't remove what such a link pointed to.

pub mod account;
pub mod error;
pub mod exec_child;
pub mod home;
pub mod installation;
pub mod keeper;
pub mod postmaster;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection};

use self::account::Account;
use self::error::EmbeddedError;
use self::home::{DataDir, HomeLock, STAGE_DIR};
use self::installation::Installation;
use self::postmaster::{LaunchOptions, Postmaster};

/// The role that owns everything; the socket's folder is what guards it.
pub const ROLE: &str = "orfeas";

/// The database the server uses.
pub const DATABASE: &str = "orfeas";

/// Part of the socket's name; nothing listens on it.
pub const PORT: u16 = 5432;

/// The longest wait for Postgres to accept connections. Recovery after a crash replays at most `max_wal_size` (1 GB),
/// well under a minute on a slow disk.
const READY_WAIT_MAX: Duration = Duration::from_secs(120);

/// How often one who waits for another's start looks again.
const JOIN_POLL: Duration = Duration::from_millis(20);

/// What [`Embedded::start_or_join`] needs to know.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// The server's data folder; made when missing.
    pub data_dir: PathBuf,
    /// The tree with `bin/postgres`; unset: looked for beside the executable and in the checkout it was built in.
    pub postgres_dir: Option<PathBuf>,
    /// This program's own executable, which answers to [`exec_child::SUBCOMMAND`]; `/proc/self/exe` is it even after a
    /// rebuild has replaced the file.
    pub helper_program: PathBuf,
    /// Postgres settings beyond the defaults, such as `("synchronous_commit", "off")`. They count for the process that
    /// starts Postgres only.
    pub settings: Vec<(String, String)>,
}

/// A running Postgres: ours to stop, or another process's that we joined.
#[derive(Debug)]
pub struct Embedded {
    socket_dir: PathBuf,
    /// `None` when another process holds the data folder.
    holding: Option<Holding>,
}

/// What the holder has and a joiner hasn't. The lock comes last, so that it is given up after Postgres has stopped.
#[derive(Debug)]
struct Holding {
    postmaster: Postmaster,
    _lock: HomeLock,
}

impl Embedded {
    /// Starts Postgres on the data folder, or joins the one that another process runs on it, and makes sure that
    /// [`DATABASE`] is there. The first start takes about 0.6 s for `initdb`, each later one about 50 ms.
    ///
    /// # Errors
    /// Every way in which no usable Postgres came about; [`EmbeddedError`]'s texts say what to do.
    pub async fn start_or_join(options: EmbeddedOptions) -> Result<Self, EmbeddedError> {
        let EmbeddedOptions {
            data_dir,
            postgres_dir,
            helper_program,
            settings,
        } = options;
        let account = Account::for_postgres()?;
        let data_dir = DataDir::prepare(&data_dir, &account)?;
        let asked = Instant::now();
        loop {
            if let Some(lock) = data_dir.try_lock()? {
                let installation = Installation::find(postgres_dir.as_deref())?;
                let launch = LaunchOptions {
                    installation,
                    helper_program,
                    settings,
                    ready_wait_max: READY_WAIT_MAX,
                };
                return Self::start(data_dir, account, launch, lock).await;
            }
            if let Some(joined) = Self::try_join(&data_dir, &account).await? {
                return Ok(joined);
            }
            if asked.elapsed() > READY_WAIT_MAX {
                return Err(EmbeddedError::NotJoined {
                    data_dir: data_dir.path().to_path_buf(),
                    seconds: READY_WAIT_MAX.as_secs(),
                });
            }
            tokio::time::sleep(JOIN_POLL).await;
        }
    }

    async fn start(
        data_dir: DataDir,
        account: Account,
        launch: LaunchOptions,
        lock: HomeLock,
    ) -> Result<Self, EmbeddedError> {
        let starting = move || {
            let home = data_dir.make_home(&account, Path::new(STAGE_DIR))?;
            let socket_dir = home.socket_dir().to_path_buf();
            let postmaster = Postmaster::start(&home, launch)?;
            Ok(Self {
                socket_dir,
                holding: Some(Holding {
                    postmaster,
                    _lock: lock,
                }),
            })
        };
        let embedded = tokio::task::spawn_blocking(starting)
            .await
            .map_err(|source| EmbeddedError::Task { source })??;
        embedded.ensure_database(DATABASE).await?;
        Ok(embedded)
    }

    /// `None` while the holder's Postgres isn't ready yet.
    async fn try_join(
        data_dir: &DataDir,
        account: &Account,
    ) -> Result<Option<Self>, EmbeddedError> {
        let Some(home) = data_dir.find_home(account)? else {
            return Ok(None);
        };
        if !home.pid_file()?.is_some_and(|file| file.is_ready()) {
            return Ok(None);
        }
        let embedded = Self {
            socket_dir: home.socket_dir().to_path_buf(),
            holding: None,
        };
        match embedded.ensure_database(DATABASE).await {
            Ok(()) => Ok(Some(embedded)),
            // The pid file may be left from a Postgres that was killed, and the holder may be about to replace it.
            Err(EmbeddedError::Connect { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The URL of [`DATABASE`].
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(DATABASE)
    }

    /// The URL of a database on this Postgres. It names every part that sqlx would otherwise take from `PG…` variables.
    #[must_use]
    pub fn url_of(&self, database: &str) -> String {
        database_url(&self.socket_dir, database)
    }

    /// Whether this process started Postgres and stops it.
    #[must_use]
    pub fn is_holder(&self) -> bool {
        self.holding.is_some()
    }

    /// The process id of Postgres, where this process started it.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.holding
            .as_ref()
            .map(|holding| holding.postmaster.process_id())
    }

    /// Makes a database, as a copy of `template` where one is given (nobody may be connected to that one meanwhile).
    ///
    /// # Errors
    /// [`EmbeddedError::DatabaseName`] unless `name` is of `[a-z0-9_]`, 1 to 63 characters;
    /// [`EmbeddedError::Database`] when Postgres refuses, for instance because it is there already.
    pub async fn create_database(
        &self,
        name: &str,
        template: Option<&str>,
    ) -> Result<(), EmbeddedError> {
        let template = template.unwrap_or("template0");
        check_name(name)?;
        check_name(template)?;
        self.execute(
            name,
            &format!("CREATE DATABASE \"{name}\" TEMPLATE \"{template}\""),
        )
        .await
    }

    /// Drops a database and cuts off who is connected to it; it is fine when there is none.
    ///
    /// # Errors
    /// As [`Self::create_database`].
    pub async fn drop_database(&self, name: &str) -> Result<(), EmbeddedError> {
        check_name(name)?;
        self.execute(
            name,
            &format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)"),
        )
        .await
    }

    /// Stops Postgres if this process started it: connections are cut, what was committed stays. Does nothing for one
    /// who joined. Dropping does the same, blocking the thread until Postgres is gone.
    ///
    /// # Errors
    /// [`EmbeddedError::NotStopped`] if it is still there after an immediate shutdown was asked for.
    pub async fn shutdown(self) -> Result<(), EmbeddedError> {
        let Some(holding) = self.holding else {
            return Ok(());
        };
        tokio::task::spawn_blocking(move || holding.postmaster.stop())
            .await
            .map_err(|source| EmbeddedError::Task { source })?
    }

    async fn ensure_database(&self, name: &str) -> Result<(), EmbeddedError> {
        let mut connection = self.connect("postgres").await?;
        let found: Option<i32> = sqlx::query_scalar("SELECT 1 FROM pg_database WHERE datname = $1")
            .bind(name)
            .fetch_optional(&mut connection)
            .await
            .map_err(|source| EmbeddedError::Database {
                name: name.to_owned(),
                source,
            })?;
        if found.is_none() {
            let created = sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE \"{name}\"")))
                .execute(&mut connection)
                .await;
            match created {
                Ok(_) => (),
                Err(error) if lost_creation_race(&error) => (),
                Err(source) => {
                    return Err(EmbeddedError::Database {
                        name: name.to_owned(),
                        source,
                    });
                }
            }
        }
        close(connection).await;
        Ok(())
    }

    async fn execute(&self, name: &str, statement: &str) -> Result<(), EmbeddedError> {
        let mut connection = self.connect("postgres").await?;
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&mut connection)
            .await
            .map_err(|source| EmbeddedError::Database {
                name: name.to_owned(),
                source,
            })?;
        close(connection).await;
        Ok(())
    }

    async fn connect(&self, database: &str) -> Result<PgConnection, EmbeddedError> {
        let connecting = async {
            let options = PgConnectOptions::from_str(&self.url_of(database))?;
            PgConnection::connect_with(&options).await
        };
        connecting.await.map_err(|source| EmbeddedError::Connect {
            socket_dir: self.socket_dir.clone(),
            source,
        })
    }
}

/// Says goodbye, so that Postgres doesn't count the connection as lost. That the other side has gone meanwhile is no
/// loss: nothing was left to say.
async fn close(connection: PgConnection) {
    let _ = connection.close().await;
}

/// Two who join at the same moment may both find the database missing: `duplicate_database`, or `unique_violation`
/// when the two inserts into the catalogue meet.
fn lost_creation_race(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(|database| database.code());
    matches!(code.as_deref(), Some("42P04" | "23505"))
}

fn database_url(socket_dir: &Path, database: &str) -> String {
    let mut url = url::Url::parse("postgres:///").expect("the literal is a URL");
    url.set_path(database);
    url.query_pairs_mut()
        .append_pair("host", &socket_dir.to_string_lossy())
        .append_pair("port", &PORT.to_string())
        .append_pair("user", ROLE)
        .append_pair("sslmode", "disable");
    url.into()
}

fn check_name(name: &str) -> Result<(), EmbeddedError> {
    let characters_fit = name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if characters_fit && (1..=63).contains(&name.len()) {
        Ok(())
    } else {
        Err(EmbeddedError::DatabaseName {
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::str::FromStr;

    use sqlx::postgres::PgConnectOptions;

    use super::{check_name, database_url};

    #[test]
    fn the_url_survives_odd_folders_and_ignores_the_environment() {
        let url = database_url(Path::new("/tmp/a b/ü&host=x"), "orfeas");
        let options = PgConnectOptions::from_str(&url).expect("a URL of ours parses");
        assert_eq!(
            options.get_socket().map(PathBuf::as_path),
            Some(Path::new("/tmp/a b/ü&host=x"))
        );
        assert_eq!(options.get_database(), Some("orfeas"));
        assert_eq!(options.get_username(), "orfeas");
        assert_eq!(options.get_port(), 5432);
    }

    #[test]
    fn only_plain_names_reach_sql() {
        assert!(check_name("orfeas_test_0123").is_ok());
        for name in ["", "Orfeas", "a\"b", "a b", "ä", &"a".repeat(64)] {
            assert!(check_name(name).is_err(), "{name:?} was let through");
        }
    }
}
