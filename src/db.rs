//! Postgres: the job table is the truth, and everything that may change it is here.

use std::time::Duration;

use orfeas_migrations::{Migrator, MigratorTrait};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbErr, FromQueryResult, SqlxPostgresConnector, Statement,
};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

pub mod api_keys;
pub mod assets;
pub mod audit;
pub mod conversions;
pub mod embedded;
pub mod entities;
pub mod erasure;
pub mod events;
pub mod leases;
pub mod listen;
pub mod nodes;
pub mod queue;
pub mod quotas;
pub mod retention;
pub mod store_sweep;
pub mod submissions;
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
    connection: DatabaseConnection,
    connect: PgConnectOptions,
}

/// A node that freezes between two statements of a transaction keeps its rows and batches locked, and the rescuer out,
/// no longer than this. Less than the 10 s within which a dead node's conversions must be back.
const IDLE_IN_TRANSACTION_MAX: &str = "8s";

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
        let connect = connect.application_name("orfeas").options([(
            "idle_in_transaction_session_timeout",
            IDLE_IN_TRANSACTION_MAX,
        )]);
        let pool = PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(acquire_max)
            .connect_with(connect.clone())
            .await
            .map_err(DatabaseError::Connect)?;
        Ok(Self {
            connection: SqlxPostgresConnector::from_sqlx_postgres_pool(pool),
            connect,
        })
    }

    /// Brings the schema up to date; nodes that start at once take turns.
    ///
    /// # Errors
    /// [`DatabaseError`] when a step fails; a failed step leaves the schema as it was.
    pub async fn migrate(&self) -> Result<(), DatabaseError> {
        let transaction = self.begin().await?;
        transaction
            .execute_raw(statement(
                "SELECT pg_advisory_xact_lock($1)",
                [MIGRATION_LOCK.into()],
            ))
            .await?;
        Migrator::up(&transaction, None).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Takes all steps back: every table of orfeas is dropped.
    ///
    /// # Errors
    /// [`DatabaseError`] when a step fails.
    pub async fn unmigrate(&self) -> Result<(), DatabaseError> {
        Ok(Migrator::down(&self.connection, None).await?)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`DatabaseError`] when it does not.
    pub async fn ping(&self) -> Result<(), DatabaseError> {
        Ok(self.connection.ping().await?)
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

    /// Closes the pool; statements after that fail.
    pub async fn close(&self) {
        self.connection.get_postgres_connection_pool().close().await;
    }

    /// sea-orm's connection, for entity queries.
    #[must_use]
    pub fn connection(&self) -> &DatabaseConnection {
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
