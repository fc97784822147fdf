//! Connections that nobody waits on for ever.
//!
//! A network that loses a connection without a word leaves both ends waiting: a firewall that forgot it, a proxy that hangs, a
//! server whose machine is gone. Nothing below tells in less than minutes. So every statement has a time to be answered in, and
//! when one was not, no connection from before is used again.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult,
    QueryResult, RuntimeErr, SqlxPostgresConnector, Statement, prelude::async_trait::async_trait,
};
use sqlx::{
    Connection as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;

use super::{DISK_FULL, sql_state};

/// The longest that an answer may take: as long as a lease, since whoever waits longer has lost what it held.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// The longest that an idle connection may take to say that it is there.
const PING_MAX: Duration = Duration::from_secs(2);
/// For how long the database counts as full after a statement that found no room.
const FULL_FOR: Duration = Duration::from_secs(10);

/// When something was seen last.
#[derive(Debug, Clone, Default)]
struct Seen(Arc<Mutex<Option<Instant>>>);

impl Seen {
    fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// How long ago that was; none: never.
    fn elapsed(&self) -> Option<Duration> {
        let seen = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.map(|seen| seen.elapsed())
    }
}

/// What statements have shown of the database.
#[derive(Debug, Clone, Default)]
struct Signs {
    /// Connections not to be trusted. Those from before are not used again: some stay read-only for ever, such as those to a
    /// server that another one has taken over from, and some lead nowhere.
    distrust: Seen,
    /// A statement that found no room on the database's disk.
    full: Seen,
}

impl Signs {
    /// Whether a connection of this age may be used.
    fn allow(&self, age: Duration) -> bool {
        self.distrust.elapsed().is_none_or(|since| age < since)
    }
}

/// A pool of connections whose statements are answered in time or not at all; cheap to clone.
#[derive(Debug, Clone)]
pub struct Connection {
    pool: DatabaseConnection,
    signs: Signs,
    answer_max: Duration,
}

/// A transaction of such a connection.
#[derive(Debug)]
pub struct Transaction {
    inner: DatabaseTransaction,
    signs: Signs,
}

/// The answer, if it comes in time.
async fn in_time<T>(
    max: Duration,
    signs: &Signs,
    answer: impl Future<Output = Result<T, DbErr>>,
) -> Result<T, DbErr> {
    // It lives on until the distrust is noted: its connection goes back to the pool when it is dropped.
    let mut answer = std::pin::pin!(answer);
    match timeout(max, &mut answer).await {
        Ok(answered) => answered.inspect_err(|error| {
            if sql_state(error).as_deref() == Some(DISK_FULL) {
                signs.full.now();
            }
        }),
        Err(_) => {
            signs.distrust.now();
            let reason = format!("the database did not answer within {max:?}");
            Err(DbErr::Conn(RuntimeErr::Internal(reason)))
        }
    }
}

/// A connection beside the pool that its user keeps, opened where there is none.
pub(super) async fn kept_open<'a>(
    kept: &'a mut Option<PgConnection>,
    connect: &PgConnectOptions,
) -> Result<&'a mut PgConnection, sqlx::Error> {
    let connection = match kept.take() {
        Some(connection) => connection,
        None => PgConnection::connect_with(connect).await?,
    };
    Ok(kept.insert(connection))
}

/// Whether a connection answers.
async fn ping(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    match timeout(PING_MAX, connection.ping()).await {
        Ok(answered) => answered,
        Err(_) => Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())),
    }
}

impl Connection {
    /// Opens a pool and its first connection.
    pub(super) async fn open(
        connect: PgConnectOptions,
        connections_max: u32,
        acquire_max: Duration,
    ) -> Result<Self, sqlx::Error> {
        let signs = Signs::default();
        let (taken, given_back) = (signs.clone(), signs.clone());
        let pool = PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(acquire_max)
            // Below, with an end.
            .test_before_acquire(false)
            .before_acquire(move |connection, state| {
                let is_allowed = taken.allow(state.age);
                Box::pin(async move { Ok(is_allowed && ping(connection).await.is_ok()) })
            })
            // sqlx asks a connection that comes back whether it is there, for ever: one whose statement was given up in the
            // middle would take its place in the pool along.
            .after_release(move |connection, state| {
                let is_allowed = given_back.allow(state.age);
                Box::pin(async move {
                    if is_allowed {
                        ping(connection).await?;
                    }
                    Ok(is_allowed)
                })
            })
            .connect_with(connect)
            .await?;
        Ok(Self {
            pool: SqlxPostgresConnector::from_sqlx_postgres_pool(pool),
            signs,
            answer_max: ANSWER_MAX,
        })
    }

    /// The same connections, for statements that are worth less patience.
    #[must_use]
    pub fn within(&self, answer_max: Duration) -> Self {
        Self {
            answer_max,
            ..self.clone()
        }
    }

    /// sqlx's pool.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        self.pool.get_postgres_connection_pool()
    }

    /// sea-orm's, whose statements take as long as they take: for migrations.
    pub(super) fn patient(&self) -> &DatabaseConnection {
        &self.pool
    }

    /// No connection of now is used again.
    pub(super) fn distrust(&self) {
        self.signs.distrust.now();
    }

    /// Whether a statement has found no room on the database's disk lately.
    pub(super) fn is_full(&self) -> bool {
        self.signs
            .full
            .elapsed()
            .is_some_and(|since| since < FULL_FOR)
    }

    /// What a transaction that was begun is to be.
    pub(super) fn bounded(&self, inner: DatabaseTransaction) -> Transaction {
        Transaction {
            inner,
            signs: self.signs.clone(),
        }
    }

    /// Waits for a beginning as for an answer.
    pub(super) async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, DbErr>>,
    ) -> Result<T, DbErr> {
        in_time(self.answer_max, &self.signs, answer).await
    }
}

#[async_trait]
impl ConnectionTrait for Connection {
    fn get_database_backend(&self) -> DbBackend {
        DbBackend::Postgres
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.in_time(self.pool.execute_raw(statement)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.in_time(self.pool.execute_unprepared(sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.in_time(self.pool.query_one_raw(statement)).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.in_time(self.pool.query_all_raw(statement)).await
    }
}

impl Transaction {
    async fn in_time<T>(&self, answer: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
        in_time(ANSWER_MAX, &self.signs, answer).await
    }

    /// Makes all of it last. After an error that is an outage nobody knows whether it does.
    ///
    /// # Errors
    /// [`DbErr`] when there was no answer, or the database has taken it back.
    pub async fn commit(self) -> Result<(), DbErr> {
        let Self { inner, signs } = self;
        in_time(ANSWER_MAX, &signs, inner.commit()).await
    }

    /// Takes all of it back.
    ///
    /// # Errors
    /// [`DbErr`] when there was no answer; it is taken back all the same.
    pub async fn rollback(self) -> Result<(), DbErr> {
        let Self { inner, signs } = self;
        in_time(ANSWER_MAX, &signs, inner.rollback()).await
    }
}

#[async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        DbBackend::Postgres
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.in_time(self.inner.execute_raw(statement)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.in_time(self.inner.execute_unprepared(sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.in_time(self.inner.query_one_raw(statement)).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.in_time(self.inner.query_all_raw(statement)).await
    }
}
