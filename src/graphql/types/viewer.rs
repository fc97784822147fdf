//! The caller, as the server sees it.

use async_graphql::Object;
use time::OffsetDateTime;

use crate::{
    auth::principal::{Permission, Principal},
    conversion::Priority,
};

/// Who you are and what you may do.
#[derive(Debug, Clone)]
pub struct Viewer(pub Principal);

#[Object]
impl Viewer {
    /// The owner of what you submit.
    async fn owner(&self) -> &str {
        self.0.owner.as_str()
    }

    /// Your name, as your token gives it.
    async fn name(&self) -> &str {
        &self.0.subject
    }

    /// What you may do.
    async fn permissions(&self) -> Vec<Permission> {
        self.0.permissions()
    }

    /// The class that your conversions wait in.
    async fn priority(&self) -> Priority {
        self.0.priority
    }

    /// When your authentication ends.
    async fn expires_at(&self) -> OffsetDateTime {
        self.0.expires_at
    }
}
