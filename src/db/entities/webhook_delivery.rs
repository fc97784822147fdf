//! Tellings of hooks, made by the database's own triggers: none is ever missing.

use sea_orm::entity::prelude::*;
use time::OffsetDateTime;

use crate::conversion::{BatchId, ConversionId, NodeId, Owner, WebhookDeliveryId, webhook::Event};

/// What has become of a delivery.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum, async_graphql::Enum,
)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[graphql(name = "WebhookDeliveryStatus")]
pub enum DeliveryStatus {
    /// Not answered yet as it should be; it will be tried, or tried again.
    Pending,
    /// The receiver has answered with a status of 200 to 299.
    Delivered,
    /// Given up.
    Failed,
}

/// Why an attempt did not deliver.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum, async_graphql::Enum,
)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[graphql(name = "WebhookDeliveryError")]
pub enum DeliveryError {
    /// There is no public server of this name or address. Which of the two it is stays open, or inner names could be
    /// tried out.
    NotPublic,
    /// No connection, no TLS, or no HTTP.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// The receiver pointed elsewhere; redirections are not followed.
    Redirected,
    /// The receiver answered with another status than 200 to 299.
    Refused,
    /// The receiver answered that it wants no more of them (410).
    Gone,
    /// The key was revoked, or has run out.
    KeyEnded,
    /// This server's own fault.
    Internal,
}

#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_delivery")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: WebhookDeliveryId,
    pub owner: Owner,
    pub event: Event,
    /// Unset for what is told of a batch.
    pub conversion_id: Option<ConversionId>,
    /// The batch, or the conversion's.
    pub batch_id: Option<BatchId>,
    /// The transition that it tells of.
    pub sequence: i32,
    pub url: String,
    /// Host and port of the address.
    pub host: String,
    pub status: DeliveryStatus,
    pub attempts: i32,
    /// How many of them were made before it was sent again on demand.
    pub attempts_before: i32,
    /// While a node is at it: when another one may take over.
    pub next_attempt_at: Option<OffsetDateTime>,
    /// Who is at it.
    pub node_id: Option<NodeId>,
    /// After this it is not tried again.
    pub give_up_at: Option<OffsetDateTime>,
    pub last_status_code: Option<i32>,
    pub last_error: Option<DeliveryError>,
    /// When the transition was made.
    pub created_at: OffsetDateTime,
    pub delivered_at: Option<OffsetDateTime>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// The deliveries of one owner: the only way to a row on behalf of a client.
    #[must_use]
    pub fn owned_by(owner: &Owner) -> Select<Self> {
        Self::find().filter(Column::Owner.eq(owner.as_str()))
    }
}
