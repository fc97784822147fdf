//! Hooks as clients name them, and what clients may do about deliveries.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};

use super::{
    Services,
    error::{ApiError, ErrorCode},
    guard::{Require, principal},
    trail,
    types::webhook::WebhookDelivery,
};
use crate::{
    auth::principal::Permission,
    conversion::{
        WebhookDeliveryId,
        webhook::{Event, Hook},
    },
    egress::Egress,
};

/// Whom to tell of what.
#[derive(Debug, Clone, InputObject)]
pub struct WebhookInput {
    /// Where to: an address that begins with `https://`, of a public server.
    pub url: String,
    /// Of what; default: of every end.
    pub events: Option<Vec<Event>>,
}

/// The administration of deliveries.
#[derive(Debug, Default)]
pub struct WebhookMutation;

/// A delivery that is made again.
#[derive(Debug, SimpleObject)]
pub struct RedeliverWebhookPayload {
    /// The delivery, waiting.
    pub delivery: WebhookDelivery,
}

#[Object]
impl WebhookMutation {
    /// Sends an ended delivery again, under the same id, and for another day if need be.
    #[graphql(guard = "Require(Permission::Submit)")]
    async fn redeliver_webhook(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The delivery's id.")] id: ID,
    ) -> Result<RedeliverWebhookPayload> {
        let no_such = || {
            ApiError::new(
                ErrorCode::NotFound,
                "There is no such delivery, it is not yours, or it has not ended yet.",
            )
        };
        let delivery: WebhookDeliveryId = id.parse().map_err(|_| no_such())?;
        let row = context
            .data::<Services>()?
            .database
            .redeliver(principal(context)?.sees(), delivery)
            .await
            .map_err(ApiError::from)?
            .ok_or_else(no_such)?;
        trail::note(context, |details| details.webhook_delivery(row.id));
        Ok(RedeliverWebhookPayload {
            delivery: WebhookDelivery(row),
        })
    }
}

/// A hook whose address may be called, as far as its text tells; names are looked up at each delivery.
///
/// # Errors
/// `INVALID_INPUT` with the field at fault.
pub fn check(egress: &Egress, input: WebhookInput) -> Result<Hook, ApiError> {
    let WebhookInput { url, events } = input;
    let target = egress.check(&url).map_err(|error| {
        ApiError::invalid("webhook.url", format!("It can't be called: {error}."))
    })?;
    let mut events = events.unwrap_or_else(|| Event::ENDS.to_vec());
    if events.is_empty() {
        let message =
            "A hook that is told of nothing is none: name an event, or leave the field out.";
        return Err(ApiError::invalid("webhook.events", message));
    }
    events.sort_unstable();
    events.dedup();
    let origin = target.to_string();
    let host = origin
        .split_once("://")
        .map_or(origin.as_str(), |(_, host)| host);
    Ok(Hook {
        url: target.as_str().to_owned(),
        host: host.to_owned(),
        events,
    })
}
