//! What an event was about, in words of ours: there is no way to put a client's text or bytes in.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    auth::{api_key::KeyId, principal::Permissions},
    conversion::{BatchId, ConversionId, WebhookDeliveryId},
};

/// Names and values of an event; bounded, since each name occurs once and each value is an id, a number or a choice.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Details(BTreeMap<&'static str, Value>);

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Number(u64),
    Flag(bool),
    List(Vec<&'static str>),
}

impl Details {
    fn with(mut self, name: &'static str, value: Value) -> Self {
        self.0.insert(name, value);
        self
    }

    /// The conversion that was made or changed.
    #[must_use]
    pub fn conversion(self, id: ConversionId) -> Self {
        self.with("conversion", Value::Text(id.to_string()))
    }

    /// The conversion that was tried again.
    #[must_use]
    pub fn retry_of(self, id: ConversionId) -> Self {
        self.with("retryOf", Value::Text(id.to_string()))
    }

    /// The batch that was made or changed.
    #[must_use]
    pub fn batch(self, id: BatchId) -> Self {
        self.with("batch", Value::Text(id.to_string()))
    }

    /// The key that was made or changed: not the one that the caller used.
    #[must_use]
    pub fn key(self, id: &KeyId) -> Self {
        self.with("key", Value::Text(id.to_string()))
    }

    /// What a key was allowed.
    #[must_use]
    pub fn permissions(self, permissions: Permissions) -> Self {
        let names = permissions.iter().map(|permission| permission.as_str());
        self.with("permissions", Value::List(names.collect()))
    }

    /// The generation of a key's secret.
    #[must_use]
    pub fn generation(self, generation: u32) -> Self {
        self.with("generation", Value::Number(generation.into()))
    }

    /// Whether a key's submissions are told to somebody.
    #[must_use]
    pub fn webhook(self, is_set: bool) -> Self {
        self.with("webhook", Value::Flag(is_set))
    }

    /// The delivery that was made again.
    #[must_use]
    pub fn webhook_delivery(self, id: WebhookDeliveryId) -> Self {
        self.with("webhookDelivery", Value::Text(id.to_string()))
    }

    /// Pictures that were accepted.
    #[must_use]
    pub fn images(self, count: u32) -> Self {
        self.with("images", Value::Number(count.into()))
    }

    /// Pictures of a batch that were refused.
    #[must_use]
    pub fn images_refused(self, count: u32) -> Self {
        self.with("imagesRefused", Value::Number(count.into()))
    }

    /// Whether the queue was paused or resumed.
    #[must_use]
    pub fn paused(self, paused: bool) -> Self {
        self.with("paused", Value::Flag(paused))
    }

    /// The event was stored so much later than it happened, because the database could not be reached.
    #[must_use]
    pub(super) fn late(self, late: Duration) -> Self {
        self.with("lateSeconds", Value::Number(late.as_secs()))
    }

    /// Over what time refusals were counted.
    #[must_use]
    pub(super) fn counted_over(self, time: Duration) -> Self {
        self.with("seconds", Value::Number(time.as_secs().max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::principal::Permission;

    #[test]
    fn the_longest_details_fit_the_table() {
        let details = Details::default()
            .conversion(ConversionId::new())
            .retry_of(ConversionId::new())
            .batch(BatchId::new())
            .key(&KeyId::new())
            .permissions(Permission::ALL.into_iter().collect())
            .generation(u32::MAX)
            .webhook(false)
            .webhook_delivery(WebhookDeliveryId::new())
            .images(u32::MAX)
            .images_refused(u32::MAX)
            .paused(false)
            .late(Duration::MAX)
            .counted_over(Duration::MAX);
        let text = serde_json::to_string(&details).expect("plain data");
        // The table takes 4,096.
        assert!(text.len() < 2_048, "{text}");
    }
}
