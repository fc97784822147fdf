//! The caller, as the server sees it.

use async_graphql::{Context, Object, Result, SimpleObject};
use time::OffsetDateTime;

use crate::{
    auth::principal::{Permission, Principal},
    conversion::Priority,
    graphql::{
        Services,
        error::{ApiError, ErrorCode},
        guard::Require,
    },
};

/// Who you are and what you may do.
#[derive(Debug, Clone)]
pub struct Viewer(pub Principal);

/// What you may use, and what is left of it.
#[derive(Debug, Clone, SimpleObject)]
pub struct Quota {
    /// With a key: requests a minute. With a token: submissions a minute.
    pub requests_per_minute: u32,
    /// How many of those could follow at once.
    pub requests_remaining: u32,
    /// Seconds until all that may come at once may come again.
    pub requests_reset_seconds: f64,
    /// Conversions queued and running at a time; null: no limit of your own.
    pub conversions_at_once: Option<u32>,
    /// Conversions of yours queued and running now.
    pub conversions_active: i64,
    /// Conversions a day of UTC; null: no limit of your own.
    pub conversions_per_day: Option<u32>,
    /// Conversions charged today. What failed by the server's fault or was cancelled before it ran is not.
    pub conversions_today: i64,
    /// Images in one submission.
    pub images_per_batch: u32,
    /// Bytes that your pictures and meshes may take; null: no limit. At it, nothing more is accepted until you delete some.
    pub stored_bytes_max: Option<f64>,
    /// Bytes that they take now. What has been deleted doesn't count.
    pub stored_bytes: f64,
}

/// Who you are and what you may do.
#[Object]
impl Viewer {
    /// The owner of what you submit.
    async fn owner(&self) -> &str {
        self.0.owner.as_str()
    }

    /// Your name, as your token or your key gives it.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// What you may do.
    async fn permissions(&self) -> Vec<Permission> {
        self.0.permissions.iter().collect()
    }

    /// The class that your conversions wait in.
    async fn priority(&self) -> Priority {
        self.0.priority
    }

    /// What you may use, and what is left of it.
    async fn quota(&self, context: &Context<'_>) -> Result<Quota> {
        let services = context.data::<Services>()?;
        let quotas = self.0.quotas;
        let usage = services
            .database
            .usage(&self.0.owner)
            .await
            .map_err(ApiError::from)?;
        let ahead = services
            .database
            .seconds_ahead(&self.0.owner)
            .await
            .map_err(ApiError::from)?;
        let images_max = u32::try_from(services.batch_images_max).unwrap_or(u32::MAX);
        let stored_bytes_max = services.stored_limits.of(&self.0);
        #[expect(
            clippy::cast_precision_loss,
            reason = "far below 2^52, and Int ends at 2^31"
        )]
        let (stored_bytes, stored_bytes_max) = (
            usage.stored_bytes as f64,
            stored_bytes_max.map(|bytes| bytes as f64),
        );
        Ok(Quota {
            requests_per_minute: quotas.requests_per_minute,
            requests_remaining: self.0.remaining(ahead),
            requests_reset_seconds: ahead,
            conversions_at_once: quotas.conversions_at_once,
            conversions_active: usage.active,
            conversions_per_day: quotas.conversions_per_day,
            conversions_today: usage.today,
            images_per_batch: quotas.images_per_batch.min(images_max),
            stored_bytes_max,
            stored_bytes,
        })
    }

    /// What your webhooks are signed with, as libraries of Standard Webhooks take it. A key has a new one after each
    /// rotation; until the time of grace is over, messages are signed with both.
    #[graphql(guard = "Require(Permission::Submit)")]
    async fn webhook_secret(&self, context: &Context<'_>) -> Result<String> {
        let services = context.data::<Services>()?;
        let secrets = services
            .database
            .webhook_secrets(&services.keyring, &self.0.owner)
            .await
            .map_err(ApiError::from)?;
        let secret = secrets.and_then(|secrets| secrets.into_iter().next());
        // Whoever was let in has a live key, and this node has its master.
        let secret = secret.ok_or_else(|| {
            ApiError::new(
                ErrorCode::Internal,
                "The server's master keys changed meanwhile: try again.",
            )
        })?;
        Ok(secret.expose().as_str().to_owned())
    }

    /// When your authentication ends by itself; null for a key without an end.
    async fn expires_at(&self) -> Option<OffsetDateTime> {
        self.0.expires_at
    }
}
