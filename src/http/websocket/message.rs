//! The messages of `graphql-transport-ws`.

use async_graphql::ServerError;
use axum::extract::ws::Message;
use serde_json::{Map, Value, json};

use super::close::Close;
use crate::graphql::{documents::asked::Asked, error::ApiError};

/// What a client may send.
#[derive(Debug)]
pub(super) enum ClientMessage {
    Init(Value),
    Ping(Value),
    Pong,
    Subscribe { id: String, asked: Box<Asked> },
    Complete { id: String },
}

impl ClientMessage {
    /// Reads a message.
    ///
    /// # Errors
    /// [`Close::BadMessage`].
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Close> {
        let bad = |reason: &str| Close::BadMessage(reason.to_owned());
        let Ok(Value::Object(mut message)) = serde_json::from_slice(bytes) else {
            return Err(bad("A message is a JSON object"));
        };
        let kind = match message.remove("type") {
            Some(Value::String(kind)) => kind,
            _ => return Err(bad("A message has a `type`")),
        };
        match kind.as_str() {
            "connection_init" => Ok(Self::Init(object(&mut message)?)),
            "ping" => Ok(Self::Ping(object(&mut message)?)),
            "pong" => object(&mut message).map(|_| Self::Pong),
            "complete" => Ok(Self::Complete {
                id: id(&mut message)?,
            }),
            "subscribe" => {
                let id = id(&mut message)?;
                let payload = object(&mut message)?;
                // Without a payload there is null, which is no request either.
                let asked = serde_json::from_value(payload).map_err(|_| {
                    bad("The payload of `subscribe` has a `query`, or names a document")
                })?;
                Ok(Self::Subscribe {
                    id,
                    asked: Box::new(asked),
                })
            }
            _ => Err(bad("A message of this type is not known")),
        }
    }
}

fn id(message: &mut Map<String, Value>) -> Result<String, Close> {
    match message.remove("id") {
        Some(Value::String(id)) if !id.is_empty() => Ok(id),
        _ => Err(Close::BadMessage("This message needs an `id`".into())),
    }
}

/// The payload: an object, or null where there is none.
fn object(message: &mut Map<String, Value>) -> Result<Value, Close> {
    match message.remove("payload").unwrap_or_default() {
        payload @ (Value::Object(_) | Value::Null) => Ok(payload),
        _ => Err(Close::BadMessage("A `payload` is an object".into())),
    }
}

fn text(message: &Value) -> Message {
    Message::Text(message.to_string().into())
}

/// Signed in.
pub(super) fn ack() -> Message {
    text(&json!({ "type": "connection_ack" }))
}

/// The answer to a ping, with the ping's payload.
pub(super) fn pong(payload: Value) -> Message {
    let mut message = json!({ "type": "pong" });
    if !payload.is_null() {
        message["payload"] = payload;
    }
    text(&message)
}

/// One answer of an operation.
pub(super) fn next(id: &str, response: &async_graphql::Response) -> Message {
    text(&json!({ "id": id, "type": "next", "payload": response }))
}

/// An operation that ends without having begun.
pub(super) fn errors(id: &str, errors: &[ServerError]) -> Message {
    text(&json!({ "id": id, "type": "error", "payload": errors }))
}

/// The same for one error of ours.
pub(super) fn refusal(id: &str, error: &ApiError) -> Message {
    let mut extensions = async_graphql::ErrorExtensionValues::default();
    error.extend(&mut extensions);
    let error = json!({ "message": error.message, "extensions": extensions });
    text(&json!({ "id": id, "type": "error", "payload": [error] }))
}

/// The end of an operation.
pub(super) fn complete(id: &str) -> Message {
    text(&json!({ "id": id, "type": "complete" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_message_is_refused() {
        for text in [
            "",
            "rubbish",
            "[]",
            "null",
            "7",
            "{}",
            r#"{ "type": 7 }"#,
            r#"{ "type": "next", "id": "1" }"#,
            r#"{ "type": "start", "id": "1" }"#,
            r#"{ "type": "connection_init", "payload": "text" }"#,
            r#"{ "type": "ping", "payload": [] }"#,
            r#"{ "type": "complete" }"#,
            r#"{ "type": "complete", "id": 1 }"#,
            r#"{ "type": "subscribe", "payload": { "query": "{ a }" } }"#,
            r#"{ "type": "subscribe", "id": "", "payload": { "query": "{ a }" } }"#,
            r#"{ "type": "subscribe", "id": "1" }"#,
            r#"{ "type": "subscribe", "id": "1", "payload": {} }"#,
            r#"{ "type": "subscribe", "id": "1", "payload": { "query": 7 } }"#,
            r#"{ "type": "subscribe", "id": "1", "payload": { "query": "{ a }", "variables": [] } }"#,
        ] {
            let refused = ClientMessage::parse(text.as_bytes());
            assert!(
                matches!(refused, Err(Close::BadMessage(_))),
                "{text}: {refused:?}"
            );
        }
        assert!(ClientMessage::parse(&[0xff, 0xfe]).is_err());
    }

    #[test]
    fn what_may_be_null_may_be_null() {
        let text = r#"{ "type": "subscribe", "id": "1", "payload":
            { "query": "{ a }", "variables": null, "operationName": null, "extensions": null } }"#;
        let read = ClientMessage::parse(text.as_bytes()).expect("the protocol allows it");
        assert!(matches!(read, ClientMessage::Subscribe { id, .. } if id == "1"));
    }
}
