//! Why a connection is closed, in the codes of `graphql-transport-ws`.

use axum::extract::ws::{CloseFrame, Message};

use crate::http::standing::Over;

/// A close frame holds 125 bytes, of which the code takes two.
const REASON_BYTES_MAX: usize = 123;

/// Why the server ends a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Close {
    /// What came is no message of the protocol.
    BadMessage(String),
    /// An operation before signing in.
    Unauthorized,
    /// Signing in was refused.
    Refused(String),
    /// The right to be here has ended.
    Over(Over),
    /// No `connection_init` came.
    InitTimeout,
    /// The id of an operation that still runs.
    IdInUse(String),
    /// A second `connection_init`.
    InitTwice,
    /// A message over the limit.
    TooLarge,
    /// The client doesn't take what it asked for.
    TooSlow,
    /// The server stops.
    Stopping,
}

impl Close {
    /// The code, as clients read it.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::BadMessage(_) => 4400,
            Self::Unauthorized => 4401,
            Self::Refused(_) | Self::Over(_) => 4403,
            Self::InitTimeout => 4408,
            Self::IdInUse(_) => 4409,
            Self::InitTwice => 4429,
            // RFC 6455: message too big; and the registry's "service restart" and "try again later", which clients do.
            Self::TooLarge => 1009,
            Self::Stopping => 1012,
            Self::TooSlow => 1013,
        }
    }

    /// In a word for who counts them.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::TooSlow => "too_slow",
            Self::Stopping => "stopping",
            Self::Over(over) => over.label(),
            Self::InitTimeout => "not_signed_in",
            Self::BadMessage(_)
            | Self::Unauthorized
            | Self::Refused(_)
            | Self::IdInUse(_)
            | Self::InitTwice
            | Self::TooLarge => "misuse",
        }
    }

    fn reason(&self) -> String {
        match self {
            Self::BadMessage(reason) | Self::Refused(reason) => reason.clone(),
            Self::Unauthorized => "Unauthorized: send connection_init first".into(),
            Self::Over(over) => over.words().into(),
            Self::InitTimeout => "Connection initialisation timeout".into(),
            Self::IdInUse(id) => format!("Subscriber for {id} already exists"),
            Self::InitTwice => "Too many initialisation requests".into(),
            Self::TooLarge => "A message has at most 1 MiB; send pictures over HTTP".into(),
            Self::TooSlow => "Messages were not taken for 30 seconds".into(),
            Self::Stopping => "The server stops: connect again".into(),
        }
    }
}

impl From<Close> for Message {
    fn from(close: Close) -> Self {
        let mut reason = close.reason();
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        Self::Close(Some(CloseFrame {
            code: close.code(),
            reason: reason.into(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_fit_their_frame() {
        let message = Message::from(Close::IdInUse("ü".repeat(500)));
        let Message::Close(Some(frame)) = message else {
            panic!("{message:?}");
        };
        assert_eq!(frame.code, 4409);
        assert!(frame.reason.len() <= REASON_BYTES_MAX && frame.reason.contains('ü'));
    }
}
