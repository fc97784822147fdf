//! Assets by their ids and by what they belong to.

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};

use super::{
    Database, DatabaseError,
    entities::asset::{Column, Entity, Kind, Model},
    statement,
};
use crate::conversion::{AssetId, ConversionId, Owner};

impl Database {
    /// An asset of any owner: for the server's own use, and for bearers of a signed URL.
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn asset(&self, id: AssetId) -> Result<Option<Model>, DatabaseError> {
        Ok(Entity::find_by_id(id).one(self.connection()).await?)
    }

    /// A picture that this owner submitted before.
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn owned_source(
        &self,
        owner: &Owner,
        id: AssetId,
    ) -> Result<Option<Model>, DatabaseError> {
        Ok(Entity::owned_by(owner)
            .filter(Column::Id.eq(id))
            .filter(Column::Kind.eq(Kind::Source))
            .one(self.connection())
            .await?)
    }

    /// Whether a picture of a submission has got its row, where the submission's own answer was lost. Its commit may still be
    /// on its way: then it holds its owner's clock, and this waits until it has ended, in whatever way.
    ///
    /// # Errors
    /// [`DatabaseError`] when a statement fails: nothing is known then.
    pub async fn is_admitted(&self, owner: &Owner, id: AssetId) -> Result<bool, DatabaseError> {
        let transaction = self.begin().await?;
        transaction
            .execute_raw(statement(
                // As a submission does it, so that the first one of an owner is waited for, too.
                "INSERT INTO owner_clock (owner, virtual_at) VALUES ($1, now())
                 ON CONFLICT (owner) DO UPDATE SET virtual_at = owner_clock.virtual_at",
                [owner.as_str().into()],
            ))
            .await?;
        let found = Entity::find_by_id(id).one(&transaction).await?;
        transaction.rollback().await?;
        Ok(found.is_some())
    }

    /// What these conversions have made.
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn assets_of(
        &self,
        conversions: &[ConversionId],
    ) -> Result<Vec<Model>, DatabaseError> {
        Ok(Entity::find()
            .filter(Column::ConversionId.is_in(conversions.iter().copied()))
            .all(self.connection())
            .await?)
    }

    /// Assets by id.
    ///
    /// # Errors
    /// [`DatabaseError`] when the query fails.
    pub async fn assets(&self, ids: &[AssetId]) -> Result<Vec<Model>, DatabaseError> {
        Ok(Entity::find()
            .filter(Column::Id.is_in(ids.iter().copied()))
            .all(self.connection())
            .await?)
    }
}
