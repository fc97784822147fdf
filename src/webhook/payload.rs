//! What a hook is told: the object that GraphQL gives its owner, at the moment of the attempt.

use async_graphql::{Request, Variables};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use crate::{auth::principal::Principal, db::entities::webhook_delivery::Model, graphql::Schema};

/// Asks for what is told; clients generate their types from it.
pub const DOCUMENT: &str = include_str!("payload.graphql");

/// Why a message could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// The schema's answer had errors; where they come from they are in the log with their causes.
    #[error("the object could not be read: {0}")]
    Read(String),
    #[error("the message could not be written")]
    Write(#[from] serde_json::Error),
    #[error("the event's time could not be written")]
    Time(#[from] time::error::Format),
}

/// A message of Standard Webhooks.
#[derive(Serialize)]
struct Message<'a> {
    r#type: &'a str,
    /// When it happened.
    timestamp: String,
    data: Value,
}

/// The message of a delivery; `None` when what it is about was deleted meanwhile.
///
/// # Errors
/// [`PayloadError`]; another attempt may succeed.
pub async fn compose(schema: &Schema, delivery: &Model) -> Result<Option<Bytes>, PayloadError> {
    let (operation, root, id) = match (delivery.conversion_id, delivery.batch_id) {
        (Some(id), _) => ("ConversionWebhook", "conversion", id.to_string()),
        (None, Some(id)) => ("BatchWebhook", "batch", id.to_string()),
        (None, None) => return Ok(None),
    };
    let request = Request::new(DOCUMENT)
        .operation_name(operation)
        .variables(Variables::from_json(json!({ "id": id })))
        .data(Principal::on_behalf_of(&delivery.owner));
    let answer = schema.execute(request).await;
    if let Some(error) = answer.errors.first() {
        return Err(PayloadError::Read(error.message.clone()));
    }
    let mut data = answer.data.into_json()?;
    let data = match data.get_mut(root).map(Value::take) {
        None | Some(Value::Null) => return Ok(None),
        Some(data) => data,
    };
    let message = Message {
        r#type: delivery.event.as_str(),
        timestamp: delivery.created_at.format(&Rfc3339)?,
        data,
    };
    Ok(Some(serde_json::to_vec(&message)?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holds the document against the schema without a database: nothing is executed that needs one.
    #[test]
    fn the_document_parses_and_names_both_operations() {
        let document = async_graphql::parser::parse_query(DOCUMENT).expect("it parses");
        let names: Vec<_> = document
            .operations
            .iter()
            .filter_map(|(name, _)| name.map(ToString::to_string))
            .collect();
        assert!(names.contains(&"ConversionWebhook".to_owned()), "{names:?}");
        assert!(names.contains(&"BatchWebhook".to_owned()), "{names:?}");
        assert_eq!(names.len(), 2);
    }
}
