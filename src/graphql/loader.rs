//! Rows that many fields ask for, read together.

use std::{collections::HashMap, sync::Arc};

use async_graphql::dataloader;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::error::ApiError;
use crate::{
    conversion::{AssetId, BatchId, ConversionId},
    db::{
        Database, DatabaseError,
        entities::{asset, batch, conversion, event},
        events::Found,
    },
};

/// Reads rows by id, many at once.
#[derive(Debug)]
pub struct Loader {
    database: Database,
}

impl Loader {
    /// A loader over the database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

/// An asset by its own id.
impl dataloader::Loader<AssetId> for Loader {
    type Value = asset::Model;
    type Error = Arc<ApiError>;

    async fn load(&self, ids: &[AssetId]) -> Result<HashMap<AssetId, asset::Model>, Arc<ApiError>> {
        let rows = self.database.assets(ids).await.map_err(shared)?;
        Ok(rows.into_iter().map(|row| (row.id, row)).collect())
    }
}

/// What a conversion has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AssetsOf(pub ConversionId);

impl dataloader::Loader<AssetsOf> for Loader {
    type Value = Vec<asset::Model>;
    type Error = Arc<ApiError>;

    async fn load(
        &self,
        keys: &[AssetsOf],
    ) -> Result<HashMap<AssetsOf, Vec<asset::Model>>, Arc<ApiError>> {
        let ids: Vec<ConversionId> = keys.iter().map(|key| key.0).collect();
        let mut found: HashMap<AssetsOf, Vec<asset::Model>> = HashMap::new();
        for row in self.database.assets_of(&ids).await.map_err(shared)? {
            if let Some(id) = row.conversion_id {
                found.entry(AssetsOf(id)).or_default().push(row);
            }
        }
        Ok(found)
    }
}

impl dataloader::Loader<BatchId> for Loader {
    type Value = batch::Model;
    type Error = Arc<ApiError>;

    async fn load(&self, ids: &[BatchId]) -> Result<HashMap<BatchId, batch::Model>, Arc<ApiError>> {
        let rows = batch::Entity::find()
            .filter(batch::Column::Id.is_in(ids.iter().copied()))
            .all(self.database.connection())
            .await
            .map_err(|error| shared(error.into()))?;
        Ok(rows.into_iter().map(|row| (row.id, row)).collect())
    }
}

impl dataloader::Loader<ConversionId> for Loader {
    type Value = conversion::Model;
    type Error = Arc<ApiError>;

    async fn load(
        &self,
        ids: &[ConversionId],
    ) -> Result<HashMap<ConversionId, conversion::Model>, Arc<ApiError>> {
        let rows = conversion::Entity::find()
            .filter(conversion::Column::Id.is_in(ids.iter().copied()))
            .all(self.database.connection())
            .await
            .map_err(|error| shared(error.into()))?;
        Ok(rows.into_iter().map(|row| (row.id, row)).collect())
    }
}

/// The conversions of a batch, in the order of submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConversionsOf(pub BatchId);

impl dataloader::Loader<ConversionsOf> for Loader {
    type Value = Vec<conversion::Model>;
    type Error = Arc<ApiError>;

    async fn load(
        &self,
        keys: &[ConversionsOf],
    ) -> Result<HashMap<ConversionsOf, Vec<conversion::Model>>, Arc<ApiError>> {
        let ids: Vec<BatchId> = keys.iter().map(|key| key.0).collect();
        let rows = self.database.conversions_of_batches(&ids).await;
        let mut found: HashMap<ConversionsOf, Vec<conversion::Model>> = HashMap::new();
        for row in rows.map_err(shared)? {
            if let Some(id) = row.batch_id {
                found.entry(ConversionsOf(id)).or_default().push(row);
            }
        }
        Ok(found)
    }
}

/// The transitions of a conversion or a batch after the given one, in order, a page of them. However many follow it,
/// and hear of the same change, it is read once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventsAfter<Id>(pub Id, pub i32);

/// What is new of a batch.
#[derive(Debug, Clone, Default)]
pub struct BatchNews {
    pub events: Vec<event::Model>,
    /// As they are after those events, or later.
    pub conversions: Vec<conversion::Model>,
}

impl dataloader::Loader<EventsAfter<ConversionId>> for Loader {
    type Value = Vec<event::Model>;
    type Error = Arc<ApiError>;

    async fn load(
        &self,
        keys: &[EventsAfter<ConversionId>],
    ) -> Result<HashMap<EventsAfter<ConversionId>, Vec<event::Model>>, Arc<ApiError>> {
        let asked: Vec<_> = keys.iter().map(|key| (key.0, key.1)).collect();
        let events = self.database.events_of_conversions(&asked).await;
        let mut found: HashMap<_, Vec<_>> = HashMap::new();
        for Found { after, event } in events.map_err(shared)? {
            let key = EventsAfter(event.conversion_id, after);
            found.entry(key).or_default().push(event);
        }
        Ok(found)
    }
}

impl dataloader::Loader<EventsAfter<BatchId>> for Loader {
    type Value = BatchNews;
    type Error = Arc<ApiError>;

    async fn load(
        &self,
        keys: &[EventsAfter<BatchId>],
    ) -> Result<HashMap<EventsAfter<BatchId>, BatchNews>, Arc<ApiError>> {
        let asked: Vec<_> = keys.iter().map(|key| (key.0, key.1)).collect();
        let events = self.database.events_of_batches(&asked).await;
        let events = events.map_err(shared)?;
        let batches: Vec<_> = keys.iter().map(|key| ConversionsOf(key.0)).collect();
        let conversions = self.load(&batches).await?;
        let before_events = |key: &EventsAfter<BatchId>| {
            let conversions = conversions.get(&ConversionsOf(key.0)).cloned();
            let news = BatchNews {
                events: Vec::new(),
                conversions: conversions.unwrap_or_default(),
            };
            (*key, news)
        };
        let mut found: HashMap<_, _> = keys.iter().map(before_events).collect();
        for Found { after, event } in events {
            let of_batch = event.batch_id.map(|batch| EventsAfter(batch, after));
            if let Some(news) = of_batch.and_then(|key| found.get_mut(&key)) {
                news.events.push(event);
            }
        }
        Ok(found)
    }
}

fn shared(error: DatabaseError) -> Arc<ApiError> {
    Arc::new(error.into())
}
