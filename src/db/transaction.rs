//! Transactions that may be left at any moment.

use sea_orm::{
    AccessMode, DatabaseTransaction, DbErr, IsolationLevel, RuntimeErr, TransactionTrait,
};

use super::{Database, DatabaseError, connection::Transaction};

impl Database {
    /// Begins a transaction; dropped before its commit, all of it is taken back.
    ///
    /// # Errors
    /// [`DatabaseError`] when there is no connection for it.
    pub async fn begin(&self) -> Result<Transaction, DatabaseError> {
        self.begin_as(None, None).await
    }

    /// Begins a transaction that only reads, everything as of one moment.
    ///
    /// # Errors
    /// [`DatabaseError`] when there is no connection for it.
    pub async fn begin_snapshot(&self) -> Result<Transaction, DatabaseError> {
        let (isolation, access) = (IsolationLevel::RepeatableRead, AccessMode::ReadOnly);
        self.begin_as(Some(isolation), Some(access)).await
    }

    /// Begins a transaction whose statements take as long as they take.
    pub(super) async fn begin_patient(&self) -> Result<DatabaseTransaction, DatabaseError> {
        Ok(self.start(None, None).await?)
    }

    async fn begin_as(
        &self,
        isolation: Option<IsolationLevel>,
        access: Option<AccessMode>,
    ) -> Result<Transaction, DatabaseError> {
        Ok(self
            .connection
            .bounded(self.start(isolation, access).await?))
    }

    /// Callers are dropped wherever they wait, when a client hangs up. A `begin` of sqlx 0.9 that is dropped half-way
    /// leaves its transaction open on a connection of the pool (`PgTransactionManager::begin` counts it only after
    /// Postgres has answered), and what others write on that connection from then on is never committed. So it is
    /// carried to its end by a task of its own, where nobody waits any more only to be taken back. One that isn't
    /// answered in time is dropped, and its connection never used again.
    #[expect(clippy::disallowed_methods, reason = "this is what is to be used")]
    async fn start(
        &self,
        isolation: Option<IsolationLevel>,
        access: Option<AccessMode>,
    ) -> Result<DatabaseTransaction, DbErr> {
        let connection = self.connection.clone();
        let begin = tokio::spawn(async move {
            let begun = connection.patient().begin_with_config(isolation, access);
            connection.in_time(begun).await
        });
        begin
            .await
            .map_err(|error| DbErr::Conn(RuntimeErr::Internal(error.to_string())))?
    }
}
