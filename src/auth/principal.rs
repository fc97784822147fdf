//! The caller of a request, after authentication.

use std::{fmt, str::FromStr};

use time::OffsetDateTime;

use super::{api_key::KeyId, jwt::Identity};
use crate::conversion::{Owner, Priority};

/// What a caller may be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, async_graphql::Enum)]
pub enum Permission {
    /// Submit and retry single conversions.
    Submit,
    /// Submit batches.
    Batch,
    /// See conversions, batches and assets.
    Read,
    /// Cancel and delete conversions.
    Cancel,
    /// Run the server: everything, on every owner's rows.
    Admin,
}

/// A text that names no permission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no permission: there are conversions:submit, conversions:batch, conversions:read, conversions:cancel and admin"
)]
pub struct UnknownPermission(String);

impl Permission {
    /// All of them, in the contract's order.
    pub const ALL: [Self; 5] = [
        Self::Submit,
        Self::Batch,
        Self::Read,
        Self::Cancel,
        Self::Admin,
    ];

    /// As the contract writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "conversions:submit",
            Self::Batch => "conversions:batch",
            Self::Read => "conversions:read",
            Self::Cancel => "conversions:cancel",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Permission {
    type Err = UnknownPermission;

    fn from_str(text: &str) -> Result<Self, UnknownPermission> {
        Self::ALL
            .into_iter()
            .find(|permission| permission.as_str() == text)
            .ok_or_else(|| UnknownPermission(text.chars().take(64).collect()))
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of permissions. Whoever has `Admin` may do everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Permissions(u8);

impl Permissions {
    /// What people may do, and keys for which nothing else was said.
    pub const USER: Self = Self(0b0_1111);

    /// Whether it may be done.
    #[must_use]
    pub fn allow(self, permission: Permission) -> bool {
        let has = |permission: Permission| self.0 & (1 << permission as u8) != 0;
        has(permission) || has(Permission::Admin)
    }

    /// The permissions that were given, in the contract's order.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL
            .into_iter()
            .filter(move |permission| self.0 & (1 << *permission as u8) != 0)
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        Self(
            permissions
                .into_iter()
                .fold(0, |set, permission| set | 1 << permission as u8),
        )
    }
}

/// How much a caller may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Agents: requests of any kind. Users: submissions.
    pub requests_per_minute: u32,
    /// Conversions queued and running at a time; `None`: no limit of its own.
    pub conversions_at_once: Option<u32>,
    /// Conversions a UTC day; `None`: no limit of its own.
    pub conversions_per_day: Option<u32>,
    /// Images in one submission.
    pub images_per_batch: u32,
}

/// What a caller showed to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A person's token.
    Token,
    /// An agent's key.
    Key(KeyId),
}

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub owner: Owner,
    /// The person's name as the token gives it, or the key's.
    pub name: String,
    pub permissions: Permissions,
    pub quotas: Quotas,
    pub priority: Priority,
    pub credential: Credential,
    /// When the authentication ends, if it does by itself.
    pub expires_at: Option<OffsetDateTime>,
}

impl Principal {
    /// A person, with what people may use.
    #[must_use]
    pub fn user(identity: Identity, quotas: Quotas) -> Self {
        let Identity {
            subject,
            admin,
            expires_at,
        } = identity;
        let admin = admin.then_some(Permission::Admin);
        Self {
            owner: Owner::user(&subject),
            name: subject,
            permissions: Permissions::USER.iter().chain(admin).collect(),
            quotas,
            priority: Priority::User,
            credential: Credential::Token,
            expires_at: Some(expires_at),
        }
    }

    /// An owner for whom the server itself reads what is the owner's own, and does nothing else.
    #[must_use]
    pub fn on_behalf_of(owner: &Owner) -> Self {
        let key = owner.key_id().and_then(|id| id.parse().ok());
        Self {
            owner: owner.clone(),
            name: owner.as_str().to_owned(),
            permissions: [Permission::Read].into_iter().collect(),
            quotas: Quotas {
                requests_per_minute: 0,
                conversions_at_once: None,
                conversions_per_day: None,
                images_per_batch: 0,
            },
            priority: if key.is_some() {
                Priority::Agent
            } else {
                Priority::User
            },
            credential: key.map_or(Credential::Token, Credential::Key),
            expires_at: None,
        }
    }

    /// Whether this caller may do it.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.allow(permission)
    }

    /// Whose rows this caller sees: its own, or, for an admin, everybody's.
    #[must_use]
    pub fn sees(&self) -> Option<&Owner> {
        if self.may(Permission::Admin) {
            None
        } else {
            Some(&self.owner)
        }
    }

    /// How many requests may come at once: a tenth of a key's minute, all of a person's.
    #[must_use]
    pub fn burst(&self) -> u32 {
        match self.credential {
            Credential::Key(_) => (self.quotas.requests_per_minute / 10).max(1),
            Credential::Token => self.quotas.requests_per_minute,
        }
    }

    /// How many requests could follow now, when what was charged is used up in `seconds_ahead`.
    #[must_use]
    pub fn remaining(&self, seconds_ahead: f64) -> u32 {
        let used = seconds_ahead * f64::from(self.quotas.requests_per_minute) / 60.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to what fits"
        )]
        let remaining = (f64::from(self.burst()) - used)
            .floor()
            .clamp(0.0, f64::from(u32::MAX)) as u32;
        remaining
    }

    /// The key that the caller signs with; `None` for people.
    #[must_use]
    pub fn key(&self) -> Option<&KeyId> {
        match &self.credential {
            Credential::Key(id) => Some(id),
            Credential::Token => None,
        }
    }
}
