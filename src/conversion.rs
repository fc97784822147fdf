//! The vocabulary of a conversion: ids, states, transitions, ranks and options. Pure.

use std::{fmt, str::FromStr, time::Duration};

use sea_orm::{DeriveActiveEnum, DeriveValueType, EnumIter};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub mod options;
pub mod print;
pub mod progress;
pub mod provenance;
pub mod webhook;

/// An id that does not parse, or names another kind of thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not an id of this kind: ids of a {kind} look like `{prefix}` and 32 hex digits"
)]
pub struct IdError {
    text: String,
    kind: &'static str,
    prefix: &'static str,
}

/// Declares an id type: a UUIDv7 that clients see with a prefix telling its kind.
macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, DeriveValueType)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// What every id of this kind starts with.
            pub const PREFIX: &'static str = $prefix;

            /// A new id; ids made later sort later.
            #[expect(clippy::new_without_default, reason = "a default that differs each time would surprise")]
            #[must_use]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, self.0.simple())
            }
        }

        // Keys that count up are not for us; sea-orm asks for this of every primary key.
        impl sea_orm::TryFromU64 for $name {
            fn try_from_u64(_: u64) -> Result<Self, sea_orm::DbErr> {
                Err(sea_orm::DbErr::ConvertFromU64(stringify!($name)))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix($prefix)
                    .filter(|hex| hex.len() == 32)
                    .and_then(|hex| Uuid::try_parse(hex).ok())
                    .map(Self)
                    .ok_or_else(|| IdError { text: text.chars().take(64).collect(), kind: $kind, prefix: $prefix })
            }
        }
    };
}

id_type!(
    /// One conversion.
    ConversionId, "conversion", "cnv_"
);
id_type!(
    /// Conversions submitted together by one client.
    BatchId, "batch", "bat_"
);
id_type!(
    /// Stored bytes: a source image, a preview or a mesh.
    AssetId, "asset", "ast_"
);
id_type!(
    /// One running server process.
    NodeId, "node", "nod_"
);
id_type!(
    /// One event of the audit log.
    AuditEventId, "audit event", "aud_"
);
id_type!(
    /// One telling of one hook, and the message's id at each attempt.
    WebhookDeliveryId, "webhook delivery", "whd_"
);

/// Whose conversion it is: `user:<sub>` for people, `key:<id>` for agents.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, DeriveValueType,
)]
#[serde(transparent)]
pub struct Owner(String);

impl Owner {
    /// The owner behind a JWT's subject.
    #[must_use]
    pub fn user(subject: &str) -> Self {
        Self(format!("user:{subject}"))
    }

    /// The owner that an API key stands for.
    #[must_use]
    pub fn key(id: &str) -> Self {
        Self(format!("key:{id}"))
    }

    /// As it is stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The API key that it stands for; `None` for people.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.0.strip_prefix("key:")
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a conversion stands. `Succeeded`, `Failed` and `Canceled` never change again.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    EnumIter,
    DeriveActiveEnum,
    async_graphql::Enum,
)]
#[serde(rename_all = "snake_case")]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[graphql(name = "ConversionStatus")]
pub enum Status {
    /// Accepted, waiting for a node.
    Queued,
    /// A node holds it under a lease.
    Running,
    /// Its meshes are stored.
    Succeeded,
    /// It ended without a mesh; `error` tells why.
    Failed,
    /// Its owner called it off.
    Canceled,
}

impl Status {
    /// Whether this status can never change again.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }

    /// As it is stored, and shown in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

/// What a running conversion is doing. Stages follow each other in this order; `Texture` may be skipped.
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
#[serde(rename_all = "snake_case")]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[graphql(name = "ConversionStage")]
pub enum Stage {
    /// The picture is read, decoded, cut out and scaled.
    Prepare,
    /// The model encodes the picture, in a GPU batch.
    Encode,
    /// The model's field is sampled, coarse to fine.
    Reconstruct,
    /// The surface is extracted and cleaned.
    Mesh,
    /// The surface is coloured.
    Texture,
    /// The files are written and stored.
    Export,
}

impl Stage {
    /// As it is stored, and shown in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Encode => "encode",
            Self::Reconstruct => "reconstruct",
            Self::Mesh => "mesh",
            Self::Texture => "texture",
            Self::Export => "export",
        }
    }
}

/// Who is served first, all else equal: the class of the caller.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    EnumIter,
    DeriveActiveEnum,
    async_graphql::Enum,
)]
#[serde(rename_all = "snake_case")]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum Priority {
    /// Submitted by a program with an API key.
    Agent,
    /// Submitted by a person through a frontend.
    User,
}

impl Priority {
    /// As it is stored, and shown in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::User => "user",
        }
    }

    /// How much earlier than its submission a conversion is ranked. Nobody waits for ever: whoever was
    /// submitted this much earlier than any competitor goes first, whatever its class. Agents go a minute
    /// ahead, and within a class a batch's items go ten seconds behind singles, which somebody may be watching.
    #[must_use]
    pub fn bonus(self, in_batch: bool) -> Duration {
        let class = match self {
            Self::Agent => 60,
            Self::User => 10,
        };
        Duration::from_secs(if in_batch { class - 10 } else { class })
    }
}

/// How far apart one owner's conversions are ranked that were submitted at once: the virtual time that each
/// costs its owner. Another owner's single submission overtakes all but the first few of a long batch.
pub const OWNER_STEP: Duration = Duration::from_secs(1);

/// How often a conversion may fail for reasons that another try could cure, before it fails for good.
pub const FAILURES_MAX: i16 = 3;

/// Why an attempt failed, as the owner will read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// One of the contract's error codes.
    pub code: &'static str,
    pub message: String,
    pub retryable: bool,
}

/// What becomes of a conversion whose attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// Back to the queue, not before the delay is over.
    Retry { delay: Duration },
    /// Failed for good.
    Fail,
}

/// Decides on a retry: only for causes that may pass, at most [`FAILURES_MAX`] times, after 1 s, 4 s, 16 s …
/// `failures` counts the present one.
#[must_use]
pub fn after_failure(retryable: bool, failures: i16) -> AfterFailure {
    if !retryable || failures >= FAILURES_MAX {
        return AfterFailure::Fail;
    }
    let exponent = u32::try_from(failures.max(1) - 1).expect("clamped to zero and above");
    AfterFailure::Retry {
        delay: Duration::from_secs(4_u64.saturating_pow(exponent).min(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_carry_their_kind() {
        let id = ConversionId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
        let error = id.to_string().parse::<BatchId>().unwrap_err();
        assert!(error.to_string().contains("bat_"), "{error}");
        assert!("cnv_".parse::<ConversionId>().is_err());
        assert!(
            format!("cnv_{}", Uuid::now_v7())
                .parse::<ConversionId>()
                .is_err(),
            "one spelling per id"
        );
    }

    #[test]
    fn only_passing_causes_are_retried_and_not_for_ever() {
        assert_eq!(after_failure(false, 1), AfterFailure::Fail);
        assert_eq!(
            after_failure(true, 1),
            AfterFailure::Retry {
                delay: Duration::from_secs(1)
            }
        );
        assert_eq!(
            after_failure(true, 2),
            AfterFailure::Retry {
                delay: Duration::from_secs(4)
            }
        );
        assert_eq!(after_failure(true, FAILURES_MAX), AfterFailure::Fail);
    }

    #[test]
    fn agents_go_first_and_batches_last_within_a_class() {
        let order = [
            Priority::Agent.bonus(false),
            Priority::Agent.bonus(true),
            Priority::User.bonus(false),
            Priority::User.bonus(true),
        ];
        assert!(order.is_sorted_by(|a, b| a > b), "{order:?}");
    }
}
