//! Assets by their ids and by what they belong to.

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::{
    Database, DatabaseError,
    entities::asset::{Column, Entity, Kind, Model},
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
