//! The record of transitions, for subscriptions.

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{
    Database, DatabaseError,
    entities::event::{Column, Entity, Model},
};
use crate::conversion::{BatchId, ConversionId};

/// How many events one read returns at most; who needs more reads again.
pub const PAGE: u64 = 100;

impl Database {
    /// The transitions of a conversion after the given one, in order, at most [`PAGE`].
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn events_of_conversion(
        &self,
        id: ConversionId,
        after: i32,
    ) -> Result<Vec<Model>, DatabaseError> {
        Ok(Entity::find()
            .filter(Column::ConversionId.eq(id))
            .filter(Column::Sequence.gt(after))
            .order_by_asc(Column::Sequence)
            .limit(PAGE)
            .all(self.connection())
            .await?)
    }

    /// The transitions of a batch's conversions after the given one, in order, at most [`PAGE`].
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn events_of_batch(
        &self,
        id: BatchId,
        after: i32,
    ) -> Result<Vec<Model>, DatabaseError> {
        Ok(Entity::find()
            .filter(Column::BatchId.eq(id))
            .filter(Column::BatchSequence.gt(after))
            .order_by_asc(Column::BatchSequence)
            .limit(PAGE)
            .all(self.connection())
            .await?)
    }
}
