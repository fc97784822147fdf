//! One event before it is stored.

use std::net::IpAddr;

use sea_orm::{DeriveActiveEnum, EnumIter};
use serde::Serialize;

use super::details::Details;
use crate::{
    auth::{api_key::KeyId, principal::Principal},
    conversion::{AuditEventId, NodeId, Owner, provenance::REQUEST_ID_CHARS_MAX},
};

/// Characters of an actor at most: longer subjects of tokens are cut. The table says the same.
const ACTOR_CHARS_MAX: usize = 300;
/// Characters of an operation at most. The table says the same.
const OPERATION_CHARS_MAX: usize = 200;
/// Bytes of an outcome at most. The table says the same.
const OUTCOME_BYTES_MAX: usize = 64;

/// What kind of thing happened.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    EnumIter,
    DeriveActiveEnum,
    async_graphql::Enum,
)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[graphql(name = "AuditKind")]
pub enum Kind {
    /// A caller who was let in changed something, or tried to.
    Mutation,
    /// One request was refused.
    Refusal,
    /// Several refusals that are not told one by one.
    Refusals,
    /// Somebody at the server's command line changed something.
    Command,
}

impl Kind {
    /// As it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mutation => "mutation",
            Self::Refusal => "refusal",
            Self::Refusals => "refusals",
            Self::Command => "command",
        }
    }
}

/// How it ended: `OK`, or the code that the caller read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Outcome(&'static str);

impl Outcome {
    /// It was done.
    pub const OK: Self = Self("OK");

    /// It was refused or failed, with this code of the contract.
    ///
    /// # Panics
    /// When the text has not the form of a code: a mistake in the program.
    #[must_use]
    pub fn code(code: &'static str) -> Self {
        let is_code = code.starts_with(|first: char| first.is_ascii_uppercase())
            && (2..=OUTCOME_BYTES_MAX).contains(&code.len())
            && code
                .bytes()
                .all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'));
        assert!(is_code, "codes are upper case with underscores: {code:?}");
        Self(code)
    }

    /// As it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

/// Something that happened. Texts are cut to what the table takes and rid of characters that have no business there,
/// so that no caller can make an event that can't be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEvent {
    /// Made with the event: writing it twice stores it once.
    pub id: AuditEventId,
    pub kind: Kind,
    /// Who was let in; `None` for callers who weren't.
    pub actor: Option<Owner>,
    /// The key that was used, or that the caller claimed to hold.
    pub key_id: Option<KeyId>,
    operation: Option<String>,
    pub outcome: Outcome,
    pub address: Option<IpAddr>,
    request_id: Option<String>,
    /// The node that the request came to; set by the [`super::writer::Auditor`].
    pub node: Option<NodeId>,
    count: i32,
    details: Details,
}

impl AuditEvent {
    fn new(kind: Kind, outcome: Outcome) -> Self {
        Self {
            id: AuditEventId::new(),
            kind,
            actor: None,
            key_id: None,
            operation: None,
            outcome,
            address: None,
            request_id: None,
            node: None,
            count: 1,
            details: Details::default(),
        }
    }

    /// A mutation by a caller who was let in, whether it was done or not.
    #[must_use]
    pub fn mutation(caller: &Principal, operation: &str, outcome: Outcome) -> Self {
        Self::new(Kind::Mutation, outcome)
            .by(caller)
            .operation(operation)
    }

    /// A refused request of a caller of whom nothing else is known yet.
    #[must_use]
    pub fn refusal(outcome: Outcome) -> Self {
        Self::new(Kind::Refusal, outcome)
    }

    /// What somebody did at the command line, such as `keys create`.
    #[must_use]
    pub fn command(operation: &str, outcome: Outcome) -> Self {
        Self::new(Kind::Command, outcome).operation(operation)
    }

    /// Refusals that are not told one by one; `count` from 1.
    pub(super) fn refusals(outcome: Outcome, count: i32) -> Self {
        Self {
            count,
            ..Self::new(Kind::Refusals, outcome)
        }
    }

    /// The caller, who was let in.
    #[must_use]
    pub fn by(self, caller: &Principal) -> Self {
        Self {
            actor: Some(caller.owner.clone()),
            key_id: caller.key().cloned(),
            ..self
        }
    }

    /// A key that exists and that the caller claims to hold. Claimed keys that don't exist must not be named: anybody
    /// can invent any number of them.
    #[must_use]
    pub fn claiming(self, key: KeyId) -> Self {
        Self {
            key_id: Some(key),
            ..self
        }
    }

    /// The operation: root fields of the schema, or a subcommand. Not the name that the client gave its document,
    /// which may say anything.
    #[must_use]
    pub fn operation(self, operation: &str) -> Self {
        Self {
            operation: clean(operation, OPERATION_CHARS_MAX),
            ..self
        }
    }

    /// Where the request came from.
    #[must_use]
    pub fn from_address(self, address: IpAddr) -> Self {
        Self {
            address: Some(address),
            ..self
        }
    }

    /// The request's id, as the log has it.
    #[must_use]
    pub fn request_id(self, id: &str) -> Self {
        Self {
            request_id: clean(id, REQUEST_ID_CHARS_MAX),
            ..self
        }
    }

    /// What it was about.
    #[must_use]
    pub fn details(self, details: Details) -> Self {
        Self { details, ..self }
    }

    pub(super) fn details_mut(&mut self) -> &mut Details {
        &mut self.details
    }

    /// How many requests it stands for.
    #[must_use]
    pub fn count(&self) -> i32 {
        self.count
    }

    /// The row, as Postgres' `jsonb_to_recordset` reads it.
    pub(super) fn row(&self) -> serde_json::Value {
        serde_json::json!({
            "id": self.id.0,
            "kind": self.kind.as_str(),
            "actor": self.actor.as_ref().and_then(|actor| clean(actor.as_str(), ACTOR_CHARS_MAX)),
            "key_id": self.key_id.as_ref().map(KeyId::as_str),
            "operation": self.operation,
            "outcome": self.outcome.as_str(),
            "address": self.address.map(|address| address.to_canonical().to_string()),
            "request_id": self.request_id,
            "node_id": self.node.map(|node| node.0),
            "count": self.count,
            "details": self.details,
        })
    }
}

/// The text without control characters (Postgres takes no NUL, and a line of a log should stay one), cut; `None` when
/// nothing is left.
fn clean(text: &str, chars_max: usize) -> Option<String> {
    let shown = |symbol: char| {
        if symbol.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            symbol
        }
    };
    let text: String = text.chars().take(chars_max).map(shown).collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_and_cleaned() {
        let event = AuditEvent::command(&"é".repeat(500), Outcome::OK).request_id("a\0b\nc");
        let row = event.row();
        assert_eq!(row["operation"], "é".repeat(OPERATION_CHARS_MAX));
        assert_eq!(row["request_id"], "a\u{fffd}b\u{fffd}c");
        assert_eq!(
            AuditEvent::command("", Outcome::OK).row()["operation"],
            serde_json::Value::Null
        );
    }

    #[test]
    fn a_mapped_address_is_written_like_the_plain_one() {
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().expect("an address");
        let event = AuditEvent::refusal(Outcome::code("RATE_LIMITED")).from_address(mapped);
        assert_eq!(event.row()["address"], "192.0.2.1");
    }

    #[test]
    #[should_panic(expected = "codes are upper case")]
    fn an_outcome_is_a_code() {
        let _ = Outcome::code("no such thing");
    }
}
