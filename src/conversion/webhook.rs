//! Who is to be told of what: hooks and their events. Pure.

use std::str::FromStr;

use sea_orm::{DeriveActiveEnum, EnumIter, FromJsonQueryResult, Iterable};
use serde::{Deserialize, Serialize};

/// Something that a hook may be told of.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    EnumIter,
    DeriveActiveEnum,
    async_graphql::Enum,
)]
#[sea_orm(rs_type = "String", db_type = "Text")]
#[graphql(name = "WebhookEvent")]
pub enum Event {
    /// A node has taken the conversion up for the first time.
    #[serde(rename = "conversion.started")]
    #[sea_orm(string_value = "conversion.started")]
    ConversionStarted,
    /// Its meshes are stored.
    #[serde(rename = "conversion.succeeded")]
    #[sea_orm(string_value = "conversion.succeeded")]
    ConversionSucceeded,
    /// It ended without a mesh.
    #[serde(rename = "conversion.failed")]
    #[sea_orm(string_value = "conversion.failed")]
    ConversionFailed,
    /// It was called off.
    #[serde(rename = "conversion.canceled")]
    #[sea_orm(string_value = "conversion.canceled")]
    ConversionCanceled,
    /// The last conversion of a batch has ended.
    #[serde(rename = "batch.finished")]
    #[sea_orm(string_value = "batch.finished")]
    BatchFinished,
}

impl Event {
    /// What a hook is told of that names no events: every end.
    pub const ENDS: [Self; 4] = [
        Self::ConversionSucceeded,
        Self::ConversionFailed,
        Self::ConversionCanceled,
        Self::BatchFinished,
    ];

    /// As it is stored, and as the body's `type` has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConversionStarted => "conversion.started",
            Self::ConversionSucceeded => "conversion.succeeded",
            Self::ConversionFailed => "conversion.failed",
            Self::ConversionCanceled => "conversion.canceled",
            Self::BatchFinished => "batch.finished",
        }
    }
}

/// A text that names no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no event: there are conversion.started, conversion.succeeded, conversion.failed, conversion.canceled and batch.finished"
)]
pub struct UnknownEvent(String);

impl FromStr for Event {
    type Err = UnknownEvent;

    fn from_str(text: &str) -> Result<Self, UnknownEvent> {
        Self::iter()
            .find(|event| event.as_str() == text)
            .ok_or_else(|| UnknownEvent(text.chars().take(64).collect()))
    }
}

/// Where to tell what. Whoever makes one has checked the address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Hook {
    pub url: String,
    /// Host and port of the address: deliveries to one are bounded together.
    pub host: String,
    /// Each once; never empty.
    pub events: Vec<Event>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_one_name_everywhere() {
        for event in Event::iter() {
            let name = serde_json::to_value(event).expect("plain data");
            assert_eq!(name, event.as_str());
            let stored = sea_orm::ActiveEnum::to_value(&event);
            assert_eq!(stored, event.as_str());
            assert_eq!(event.as_str().parse::<Event>(), Ok(event));
            // Whoever mistypes one is told of each.
            let refused = "finished".parse::<Event>().expect_err("none");
            assert!(refused.to_string().contains(event.as_str()), "{refused}");
        }
    }
}
