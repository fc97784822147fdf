//! Postgres: the job table is the truth, and everything that may change it is here.

use std::time::{Duration, Instant};

use orfeas_migrations::{Migrator, MigratorTrait};
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult, RuntimeErr, Statement};
use sqlx::postgres::PgConnectOptions;
use tracing::{info, warn};

use self::{connection::Connection, nodes::HEARTBEAT};
use crate::crash::{self, Point};

pub mod api_keys;
pub mod assets;
pub mod audit;
pub mod backlog;
pub mod backup;
pub mod connection;
pub mod conversions;
pub mod dump;
pub mod embedded;
pub mod entities;
pub mod erasure;
pub mod events;
pub mod leases;
pub mod listen;
pub mod nodes;
mod notices;
pub mod queue;
pub mod quotas;
pub mod retention;
pub mod store_sweep;
pub mod submissions;
pub mod together;
pub mod transaction;
pub mod webhooks;

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It can't be reached, or a statement failed.
    #[error("the database did not carry out a statement")]
    Statement(#[from] DbErr),
    /// It can't be reached at all.
    #[error("no connection to the database")]
    Connect(#[source] sqlx::Error),
    /// The row is no longer this attempt's: another node took it over, or it was called off.
    #[error("the conversion is no longer held by this attempt")]
    Lost,
}

impl DatabaseError {
    /// The SQLSTATE, where the database itself has refused.
    fn state(&self) -> Option<String> {
        match self {
            Self::Statement(error) => sql_state(error),
            Self::Connect(_) | Self::Lost => None,
        }
    }

    /// Whether the database answers, and takes no changes now: it is read-only, or its disk is full.
    #[must_use]
    pub fn is_refusing_writes(&self) -> bool {
        matches!(self.state().as_deref(), Some(READ_ONLY | DISK_FULL))
    }

    /// Whether the same statement may succeed once the database is itself again, and could not before.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Lost => false,
            Self::Connect(_) => true,
            Self::Statement(DbErr::ConnectionAcquire(_)) => true,
            Self::Statement(error) => match self.state() {
                // Read-only; connections, resources, and a server that starts, stops or lost its disk.
                Some(state) => {
                    state == READ_ONLY
                        || ["08", "53", "57P", "58"]
                            .iter()
                            .any(|class| state.starts_with(class))
                }
                None => is_broken(error),
            },
        }
    }
}

/// read_only_sql_transaction.
const READ_ONLY: &str = "25006";
/// disk_full.
const DISK_FULL: &str = "53100";

/// The SQLSTATE, where the database itself has refused.
fn sql_state(error: &DbErr) -> Option<String> {
    let (DbErr::Conn(RuntimeErr::SqlxError(error))
    | DbErr::Exec(RuntimeErr::SqlxError(error))
    | DbErr::Query(RuntimeErr::SqlxError(error))) = error
    else {
        return None;
    };
    Some(error.as_database_error()?.code()?.into_owned())
}

/// Whether the connection broke before there was an answer.
fn is_broken(error: &DbErr) -> bool {
    let (DbErr::Conn(cause) | DbErr::Exec(cause) | DbErr::Query(cause)) = error else {
        return false;
    };
    match cause {
        RuntimeErr::SqlxError(error) => matches!(
            **error,
            sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::WorkerCrashed
        ),
        RuntimeErr::Internal(_) => matches!(error, DbErr::Conn(_)),
    }
}

/// Options of [`Database::connect`].
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// A `postgres://` URL.
    pub url: String,
    pub connections_max: u32,
    /// How long a caller waits for a free connection.
    pub acquire_max: Duration,
}

/// A handle to the shared database; cheap to clone.
#[derive(Debug, Clone)]
pub struct Database {
    connection: Connection,
    connect: PgConnectOptions,
    notices: notices::Notices,
}

/// A node's connections.
#[derive(Debug, Clone, Copy)]
pub struct PoolState {
    pub in_use: u32,
    pub idle: u32,
    pub max: u32,
    /// How long it took to get one just now.
    pub waited: Duration,
}

/// A node that freezes between two statements of a transaction keeps its rows and batches locked, and the rescuer out,
/// no longer than this. Less than the 10 s within which a dead node's conversions must be back.
const IDLE_IN_TRANSACTION_MAX: &str = "8s";

/// How long connections may take to come back when the pool is closed: longer than a statement may take.
const CLOSE_MAX: Duration = Duration::from_secs(20);

/// Serialises migrations of nodes that start at once; any constant will do that no other program uses.
const MIGRATION_LOCK: i64 = 0x6f72_6665_6173;

impl Database {
    /// Connects, without touching the schema.
    ///
    /// # Errors
    /// [`DatabaseError::Connect`] when the URL does not parse or nobody answers.
    pub async fn connect(options: DatabaseOptions) -> Result<Self, DatabaseError> {
        let DatabaseOptions {
            url,
            connections_max,
            acquire_max,
        } = options;
        let connect: PgConnectOptions = url.parse().map_err(DatabaseError::Connect)?;
        let connect = connect.application_name("orfeas").options([
            (
                "idle_in_transaction_session_timeout",
                IDLE_IN_TRANSACTION_MAX,
            ),
            // Every node sends what it leaves for listeners; see `notices`.
            ("orfeas.notices", "on"),
        ]);
        let connection = Connection::open(connect.clone(), connections_max, acquire_max)
            .await
            .map_err(DatabaseError::Connect)?;
        Ok(Self {
            connection,
            connect,
            notices: notices::Notices::default(),
        })
    }

    /// Brings the schema up to date; nodes that start at once take turns. One that a later version has brought further is left
    /// as it is: its steps only add, so that nodes of both versions work until all are of the later one.
    ///
    /// # Errors
    /// [`DatabaseError`] when a step fails; a failed step leaves the schema as it was.
    pub async fn migrate(&self) -> Result<(), DatabaseError> {
        let transaction = self.begin_patient().await?;
        transaction
            .execute_raw(statement(
                "SELECT pg_advisory_xact_lock($1)",
                [MIGRATION_LOCK.into()],
            ))
            .await?;
        let done: Vec<String> = Migrator::get_migration_models(&transaction)
            .await?
            .into_iter()
            .map(|step| step.version)
            .collect();
        let mine = Migrator::migrations();
        let is_mine = |step: &String| mine.iter().any(|mine| mine.name() == step);
        let later: Vec<_> = done.iter().filter(|step| !is_mine(step)).collect();
        let missing = mine
            .iter()
            .filter(|mine| !done.iter().any(|done| done == mine.name()))
            .count();
        if missing == 0 && !later.is_empty() {
            info!(
                ?later,
                "The database is of a later version of orfeas; this node works beside that"
            );
        }
        for _ in 0..missing {
            // Where steps of both are missing, this fails and names one.
            Migrator::up(&transaction, Some(1)).await?;
            crash::point(Point::InMigration);
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Takes all steps back: every table of orfeas is dropped.
    ///
    /// # Errors
    /// [`DatabaseError`] when a step fails.
    pub async fn unmigrate(&self) -> Result<(), DatabaseError> {
        Ok(Migrator::down(self.connection.patient(), None).await?)
    }

    /// Whether the database answers but takes no changes: it was set so, or it follows another server.
    ///
    /// # Errors
    /// [`DatabaseError`] when it does not answer.
    pub async fn is_read_only(&self) -> Result<bool, DatabaseError> {
        #[derive(FromQueryResult)]
        struct State {
            is_read_only: bool,
        }
        let question = statement(
            "SELECT current_setting('transaction_read_only') = 'on' AS is_read_only",
            [],
        );
        // Whoever takes over from dead nodes asks this first, and must not be late.
        let connection = self.connection.within(HEARTBEAT);
        let state = State::find_by_statement(question).one(&connection).await?;
        let is_read_only = state.is_some_and(|state| state.is_read_only);
        if is_read_only {
            self.connection.distrust();
        }
        Ok(is_read_only)
    }

    /// Whether a statement failed lately because the database's disk is full. It isn't tried: only what asks for room fails.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.connection.is_full()
    }

    /// The server's version.
    ///
    /// # Errors
    /// [`DatabaseError`] when it does not answer.
    pub async fn version(&self) -> Result<String, DatabaseError> {
        #[derive(FromQueryResult)]
        struct Version {
            version: String,
        }
        let row = self
            .one::<Version>(
                "SELECT 'Postgres ' || current_setting('server_version') AS version",
                [],
            )
            .await?;
        Ok(row.expect("a constant query yields one row").version)
    }

    /// Closes the pool; statements after that fail. A connection that doesn't come back is left to the end of the process: sqlx
    /// asks each that is given back whether it is there, and for an answer that is lost in that moment it waits for ever.
    pub async fn close(&self) {
        if tokio::time::timeout(CLOSE_MAX, self.connection.pool().close())
            .await
            .is_err()
        {
            warn!("A connection to the database did not come back; it is given up");
        }
    }

    /// The pool's connections now, and how long a caller waits for one: this one has waited.
    ///
    /// # Errors
    /// [`DatabaseError`] when none came.
    pub async fn probe_pool(&self) -> Result<PoolState, DatabaseError> {
        let pool = self.connection.pool();
        let began = Instant::now();
        let connection = pool.acquire().await.map_err(DatabaseError::Connect)?;
        let waited = began.elapsed();
        drop(connection);
        let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
        Ok(PoolState {
            in_use: pool.size().saturating_sub(idle),
            idle,
            max: pool.options().get_max_connections(),
            waited,
        })
    }

    /// The connections, for entity queries.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// How to open a connection outside the pool, for LISTEN.
    #[must_use]
    pub fn connect_options(&self) -> &PgConnectOptions {
        &self.connect
    }

    async fn execute(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = sea_orm::Value>,
    ) -> Result<u64, DatabaseError> {
        Ok(self
            .connection
            .execute_raw(statement(sql, values))
            .await?
            .rows_affected())
    }

    /// As [`Self::execute`], for what others wait for.
    async fn change(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = sea_orm::Value>,
    ) -> Result<u64, DatabaseError> {
        let changed = self.execute(sql, values).await?;
        self.notices.given();
        Ok(changed)
    }

    async fn all<R: FromQueryResult>(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = sea_orm::Value>,
    ) -> Result<Vec<R>, DatabaseError> {
        Ok(R::find_by_statement(statement(sql, values))
            .all(&self.connection)
            .await?)
    }

    async fn one<R: FromQueryResult>(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = sea_orm::Value>,
    ) -> Result<Option<R>, DatabaseError> {
        Ok(R::find_by_statement(statement(sql, values))
            .one(&self.connection)
            .await?)
    }
}

/// A Postgres statement with its values.
fn statement(sql: &str, values: impl IntoIterator<Item = sea_orm::Value>) -> Statement {
    Statement::from_sql_and_values(sea_orm::DbBackend::Postgres, sql, values)
}
