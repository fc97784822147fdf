//! What a backup asks of the database, and what is done to one that was restored.

use sea_orm::{ColumnTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect};
use time::OffsetDateTime;

use super::{
    Database, DatabaseError,
    conversions::HAND_BACK,
    entities::asset::{Column, Entity, Model},
};
use crate::conversion::AssetId;

#[derive(FromQueryResult)]
struct Clock {
    now: OffsetDateTime,
}

#[derive(FromQueryResult)]
struct Found {
    is_there: bool,
}

impl Database {
    /// The database's clock.
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn now(&self) -> Result<OffsetDateTime, DatabaseError> {
        let clock = self.one::<Clock>("SELECT now() AS now", []).await?;
        Ok(clock.expect("a query without a table yields one row").now)
    }

    /// Whether it holds anything of ours.
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn is_used(&self) -> Result<bool, DatabaseError> {
        let found = self
            .one::<Found>(
                "SELECT to_regclass('conversion') IS NOT NULL AS is_there",
                [],
            )
            .await?;
        Ok(found.is_some_and(|found| found.is_there))
    }

    /// The next assets in the order of their ids, of those that were there at that time.
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn assets_after(
        &self,
        after: Option<AssetId>,
        until: OffsetDateTime,
        count_max: u64,
    ) -> Result<Vec<Model>, DatabaseError> {
        let mut query = Entity::find().filter(Column::CreatedAt.lte(until));
        if let Some(after) = after {
            query = query.filter(Column::Id.gt(after));
        }
        Ok(query
            .order_by_asc(Column::Id)
            .limit(count_max)
            .all(self.connection())
            .await?)
    }

    /// Gives back, uncounted, what ran when the backup was made: whoever ran it is no node of this database.
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails.
    pub async fn hand_back_all(&self) -> Result<u64, DatabaseError> {
        self.execute(HAND_BACK, []).await
    }
}
