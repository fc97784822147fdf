//! What clients may read.

use async_graphql::{
    Context, ID, InputObject, Object, Result,
    connection::{Connection, Edge, EmptyFields, query},
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select};
use time::OffsetDateTime;

use super::{
    Services,
    error::ApiError,
    guard::{Require, principal},
    pace::Pace,
    types::{
        Node,
        api_key::{self, ApiKey},
        asset::Asset,
        audit::{self, AuditEvent, AuditEventFilter},
        batch::Batch,
        conversion::Conversion,
        model::{self, Model},
        queue::QueueStatus,
        server_node::ServerNode,
        viewer::Viewer,
        webhook::{self, WebhookDelivery, WebhookDeliveryFilter},
    },
};
use crate::{
    auth::{
        api_key::KeyId,
        principal::{Permission, Principal},
    },
    conversion::{AssetId, BatchId, ConversionId, Status},
    db::entities::{asset, batch, conversion},
};

/// The largest page; larger ones are refused, not cut.
pub(super) const PAGE_MAX: usize = 100;
/// The page of a client that asks for no size.
pub(super) const PAGE_DEFAULT: usize = 20;

/// Which conversions to list; all conditions hold together.
#[derive(Debug, Default, InputObject)]
pub struct ConversionFilter {
    /// In one of these states.
    pub status: Option<Vec<Status>>,
    /// Submitted in this batch.
    pub batch: Option<ID>,
    /// For this model.
    pub model: Option<String>,
    /// Submitted at or after this time.
    pub created_since: Option<OffsetDateTime>,
    /// Submitted before this time.
    pub created_before: Option<OffsetDateTime>,
}

/// Read access.
#[derive(Debug)]
pub struct Query;

/// What can be read.
#[Object]
impl Query {
    /// Anything by its global id; null when there is no such thing or it isn't yours.
    #[graphql(guard = "Require(Permission::Read)")]
    async fn node(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The thing's global id.")] id: ID,
    ) -> Result<Option<Node>> {
        let services = context.data::<Services>()?;
        let principal = principal(context)?;
        if let Ok(id) = id.parse() {
            return Ok(find_conversion(services, principal, id)
                .await?
                .map(|row| Node::Conversion(Box::new(Conversion::from(row)))));
        }
        if let Ok(id) = id.parse() {
            return Ok(find_batch(services, principal, id)
                .await?
                .map(|row| Node::Batch(Batch(row))));
        }
        if let Ok(id) = id.parse::<AssetId>() {
            let row = services.database.asset(id).await.map_err(ApiError::from)?;
            let seen = row.filter(|row| principal.sees().is_none_or(|owner| *owner == row.owner));
            let picture = seen.filter(|row| row.kind != asset::Kind::Mesh);
            return Ok(picture.map(|row| Node::Asset(Asset(row))));
        }
        if let Ok(id) = id.parse::<KeyId>() {
            if !principal.may(Permission::Admin) {
                return Ok(None);
            }
            let row = services.database.key(&id).await.map_err(ApiError::from)?;
            return Ok(row.map(|row| Node::ApiKey(Box::new(ApiKey(row)))));
        }
        let name = id.strip_prefix(model::ID_PREFIX);
        let card = services
            .models
            .iter()
            .find(|card| Some(card.name.as_str()) == name);
        Ok(card.map(|card| Node::Model(Model(card.clone()))))
    }

    /// Who you are and what you may do.
    async fn viewer(&self, context: &Context<'_>) -> Result<Viewer> {
        Ok(Viewer(principal(context)?.clone()))
    }

    /// One conversion; null when there is none or it isn't yours.
    #[graphql(guard = "Require(Permission::Read)")]
    async fn conversion(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The conversion's global id.")] id: ID,
    ) -> Result<Option<Conversion>> {
        let Ok(id) = id.parse() else { return Ok(None) };
        Ok(find_conversion(context.data()?, principal(context)?, id)
            .await?
            .map(Conversion::from))
    }

    /// Your conversions, newest first.
    #[expect(
        clippy::too_many_arguments,
        reason = "the connection specification names them"
    )]
    #[graphql(guard = "Require(Permission::Read)")]
    async fn conversions(
        &self,
        context: &Context<'_>,
        #[graphql(
            desc = "At most so many, from the beginning or from `after` on: 1 to 100, 20 when nothing is said."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only what comes after this cursor, the `endCursor` of the page before.")]
        after: Option<String>,
        #[graphql(
            desc = "At most so many, from the end or from `before` back; not together with `first`."
        )]
        last: Option<i32>,
        #[graphql(
            desc = "Only what comes before this cursor, the `startCursor` of the page after."
        )]
        before: Option<String>,
        #[graphql(desc = "Which ones; default: all.")] filter: Option<ConversionFilter>,
    ) -> Result<Connection<String, Conversion, EmptyFields, EmptyFields>> {
        let services = context.data::<Services>()?;
        let select = filtered(principal(context)?, filter.unwrap_or_default())?;
        query(
            after,
            before,
            first,
            last,
            |after: Option<String>, before: Option<String>, first, last| async move {
                page(services, select, after, before, first, last).await
            },
        )
        .await
    }

    /// One batch; null when there is none or it isn't yours.
    #[graphql(guard = "Require(Permission::Read)")]
    async fn batch(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The batch's global id.")] id: ID,
    ) -> Result<Option<Batch>> {
        let Ok(id) = id.parse() else { return Ok(None) };
        Ok(find_batch(context.data()?, principal(context)?, id)
            .await?
            .map(Batch))
    }

    /// The models on offer.
    async fn models(&self, context: &Context<'_>) -> Result<Vec<Model>> {
        Ok(context
            .data::<Services>()?
            .models
            .iter()
            .cloned()
            .map(Model)
            .collect())
    }

    /// How much waits, and how long it takes, over all nodes; up to a second old.
    #[graphql(guard = "Require(Permission::Read)")]
    async fn queue(&self, context: &Context<'_>) -> Result<QueueStatus> {
        Ok(QueueStatus(context.data::<Pace>()?.state().await?))
    }

    /// The keys that programs sign with, newest first.
    #[graphql(guard = "Require(Permission::Admin)")]
    async fn api_keys(
        &self,
        context: &Context<'_>,
        #[graphql(
            desc = "At most so many, from the beginning or from `after` on: 1 to 100, 20 when nothing is said."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only what comes after this cursor, the `endCursor` of the page before.")]
        after: Option<String>,
    ) -> Result<Connection<String, ApiKey, EmptyFields, EmptyFields>> {
        api_key::page(context.data()?, first, after).await
    }

    /// Who did what, and what was refused, newest first.
    #[graphql(guard = "Require(Permission::Admin)")]
    async fn audit_events(
        &self,
        context: &Context<'_>,
        #[graphql(
            desc = "At most so many, from the beginning or from `after` on: 1 to 100, 20 when nothing is said."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only what comes after this cursor, the `endCursor` of the page before.")]
        after: Option<String>,
        #[graphql(desc = "Which ones; default: all.")] filter: Option<AuditEventFilter>,
    ) -> Result<Connection<String, AuditEvent, EmptyFields, EmptyFields>> {
        audit::page(context.data()?, first, after, filter.unwrap_or_default()).await
    }

    /// What your hooks are told, and what became of it, newest first.
    #[graphql(guard = "Require(Permission::Read)")]
    async fn webhook_deliveries(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "How many; default: 20, at most 100.")] first: Option<i32>,
        #[graphql(desc = "Only what comes after this cursor, the `endCursor` of the page before.")]
        after: Option<String>,
        #[graphql(desc = "Which ones; default: all.")] filter: Option<WebhookDeliveryFilter>,
    ) -> Result<Connection<String, WebhookDelivery, EmptyFields, EmptyFields>> {
        let filter = filter.unwrap_or_default();
        webhook::page(context.data()?, principal(context)?, first, after, filter).await
    }

    /// The server's processes and their devices.
    #[graphql(guard = "Require(Permission::Admin)")]
    async fn nodes(&self, context: &Context<'_>) -> Result<Vec<ServerNode>> {
        let services = context.data::<Services>()?;
        Ok(services
            .database
            .live_nodes()
            .await
            .map_err(ApiError::from)?
            .into_iter()
            .map(ServerNode)
            .collect())
    }
}

/// A conversion that this caller may see.
///
/// # Errors
/// `INTERNAL` when the database does not answer.
pub async fn find_conversion(
    services: &Services,
    principal: &Principal,
    id: ConversionId,
) -> Result<Option<conversion::Model>, ApiError> {
    let select = visible_conversions(principal).filter(conversion::Column::Id.eq(id));
    select
        .one(services.database.connection())
        .await
        .map_err(|error| ApiError::internal(&error))
}

/// A batch that this caller may see.
///
/// # Errors
/// `INTERNAL` when the database does not answer.
pub async fn find_batch(
    services: &Services,
    principal: &Principal,
    id: BatchId,
) -> Result<Option<batch::Model>, ApiError> {
    let visible = match principal.sees() {
        Some(owner) => batch::Entity::owned_by(owner),
        None => batch::Entity::find(),
    };
    let select = visible.filter(batch::Column::Id.eq(id));
    select
        .one(services.database.connection())
        .await
        .map_err(|error| ApiError::internal(&error))
}

fn visible_conversions(principal: &Principal) -> Select<conversion::Entity> {
    match principal.sees() {
        Some(owner) => conversion::Entity::owned_by(owner),
        None => conversion::Entity::find(),
    }
}

fn filtered(
    principal: &Principal,
    filter: ConversionFilter,
) -> Result<Select<conversion::Entity>, ApiError> {
    use conversion::Column;
    let ConversionFilter {
        status,
        batch,
        model,
        created_since,
        created_before,
    } = filter;
    let mut select = visible_conversions(principal);
    if let Some(status) = status {
        select = select.filter(Column::Status.is_in(status));
    }
    if let Some(batch) = batch {
        let id = batch
            .parse::<BatchId>()
            .map_err(|error| ApiError::invalid("filter.batch", error.to_string()))?;
        select = select.filter(Column::BatchId.eq(id));
    }
    if let Some(model) = model {
        select = select.filter(Column::Model.eq(model));
    }
    if let Some(since) = created_since {
        select = select.filter(Column::CreatedAt.gte(since));
    }
    if let Some(before) = created_before {
        select = select.filter(Column::CreatedAt.lt(before));
    }
    Ok(select)
}

/// One page, newest first. The cursor is the conversion's id: ids are ordered by their time.
async fn page(
    services: &Services,
    mut select: Select<conversion::Entity>,
    after: Option<String>,
    before: Option<String>,
    first: Option<usize>,
    last: Option<usize>,
) -> Result<Connection<String, Conversion, EmptyFields, EmptyFields>> {
    use conversion::Column::Id;
    if first.is_some() && last.is_some() {
        return Err(
            ApiError::invalid("last", "Ask for the first or for the last, not both.").into(),
        );
    }
    let count = first.or(last).unwrap_or(PAGE_DEFAULT);
    if count > PAGE_MAX {
        let field = if first.is_some() { "first" } else { "last" };
        return Err(ApiError::invalid(
            field,
            format!("A page has at most {PAGE_MAX} conversions."),
        )
        .into());
    }
    let cursor = |text: String, field: &str| {
        text.parse::<ConversionId>()
            .map_err(|_| ApiError::invalid(field, "This is no cursor of this list."))
    };
    let (has_after, has_before) = (after.is_some(), before.is_some());
    if let Some(after) = after {
        select = select.filter(Id.lt(cursor(after, "after")?));
    }
    if let Some(before) = before {
        select = select.filter(Id.gt(cursor(before, "before")?));
    }
    let backwards = first.is_none() && last.is_some();
    select = if backwards {
        select.order_by_asc(Id)
    } else {
        select.order_by_desc(Id)
    };
    // One more than asked for tells whether there are others.
    let limit = u64::try_from(count + 1).expect("a page's size is small");
    let mut rows = select
        .limit(limit)
        .all(services.database.connection())
        .await
        .map_err(|error| ApiError::internal(&error))?;
    let more = rows.len() > count;
    rows.truncate(count);
    if backwards {
        rows.reverse();
    }
    let (has_previous, has_next) = if backwards {
        (more, has_before)
    } else {
        (has_after, more)
    };
    let mut connection = Connection::new(has_previous, has_next);
    connection.edges.extend(
        rows.into_iter()
            .map(|row| Edge::new(row.id.to_string(), Conversion::from(row))),
    );
    Ok(connection)
}
