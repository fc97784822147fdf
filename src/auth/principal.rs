//! The caller of a request, after authentication.

use time::OffsetDateTime;

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

impl Permission {
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

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub owner: Owner,
    /// The person's name as the token gives it.
    pub subject: String,
    pub admin: bool,
    pub priority: Priority,
    /// When the authentication ends.
    pub expires_at: OffsetDateTime,
}

impl Principal {
    /// What this caller may do.
    #[must_use]
    pub fn permissions(&self) -> Vec<Permission> {
        let mut permissions = vec![
            Permission::Submit,
            Permission::Batch,
            Permission::Read,
            Permission::Cancel,
        ];
        if self.admin {
            permissions.push(Permission::Admin);
        }
        permissions
    }

    /// Whether this caller may do it.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        permission != Permission::Admin || self.admin
    }

    /// Whose rows this caller sees: its own, or, for an admin, everybody's.
    #[must_use]
    pub fn sees(&self) -> Option<&Owner> {
        if self.admin { None } else { Some(&self.owner) }
    }
}
