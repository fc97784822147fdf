//! What admins may do with API keys.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, Result, SimpleObject};
use time::OffsetDateTime;

use super::{
    Services,
    error::{ApiError, ErrorCode},
    guard::{Require, principal},
    trail,
    types::api_key::ApiKey,
    webhooks::{self, WebhookInput},
};
use crate::{
    auth::{
        api_key::KeyId,
        network::parse_network,
        principal::{Permission, Permissions, Quotas},
    },
    db::{
        api_keys::{GRACE, KeyChange, NewKey},
        entities::api_key,
    },
    egress::Egress,
};

/// Names longer than this are no names.
const NAME_CHARS_MAX: usize = 100;
/// The largest rate that the table holds.
const REQUESTS_PER_MINUTE_MAX: u32 = 1_000_000;
/// The largest batch that the table holds.
const IMAGES_PER_BATCH_MAX: u32 = 256;
/// More networks are a firewall's business.
const NETWORKS_MAX: usize = 64;

/// The administration of keys.
#[derive(Debug, Default)]
pub struct KeyMutation;

/// A key to be made; what is not said is the server's default.
#[derive(Debug, InputObject)]
pub struct CreateApiKeyInput {
    /// What people will call it.
    pub name: String,
    /// Default: everything but `ADMIN`.
    pub permissions: Option<Vec<Permission>>,
    /// Requests a minute, of which a tenth may come at once.
    pub requests_per_minute: Option<u32>,
    /// Conversions queued and running at a time.
    pub conversions_at_once: Option<u32>,
    /// Conversions a day of UTC.
    pub conversions_per_day: Option<u32>,
    /// Images in one submission; the server's own limit holds in any case.
    pub images_per_batch: Option<u32>,
    /// Networks that it may be used from, such as `10.0.0.0/8` or `2001:db8::1`; default: any.
    pub allowed_networks: Option<Vec<String>>,
    /// When it ends by itself.
    pub expires_at: Option<OffsetDateTime>,
    /// Whom to tell of what it submits without a hook of its own.
    pub webhook: Option<WebhookInput>,
}

/// What is to change of a key; what is not named stays.
#[derive(Debug, InputObject)]
pub struct UpdateApiKeyInput {
    /// The key.
    pub id: ID,
    /// What people will call it.
    pub name: Option<String>,
    /// All that it may do.
    pub permissions: Option<Vec<Permission>>,
    /// Requests a minute, of which a tenth may come at once.
    pub requests_per_minute: Option<u32>,
    /// Conversions queued and running at a time; null: no limit of its own.
    pub conversions_at_once: MaybeUndefined<u32>,
    /// Conversions a day of UTC; null: no limit of its own.
    pub conversions_per_day: MaybeUndefined<u32>,
    /// Images in one submission.
    pub images_per_batch: Option<u32>,
    /// Networks that it may be used from; null: any.
    pub allowed_networks: MaybeUndefined<Vec<String>>,
    /// When it ends by itself; null: never.
    pub expires_at: MaybeUndefined<OffsetDateTime>,
    /// Whom to tell of what it submits without a hook of its own; null: nobody. Holds for what is under way, too.
    pub webhook: MaybeUndefined<WebhookInput>,
}

/// A new key and its secret, which is shown here and never again.
#[derive(Debug, SimpleObject)]
pub struct CreateApiKeyPayload {
    /// The key.
    pub api_key: ApiKey,
    /// What its requests are signed with. Keep it: it can't be shown again.
    pub secret: String,
}

/// A key with what was changed.
#[derive(Debug, SimpleObject)]
pub struct UpdateApiKeyPayload {
    /// The key.
    pub api_key: ApiKey,
}

/// A key with a new secret, which is shown here and never again.
#[derive(Debug, SimpleObject)]
pub struct RotateApiKeyPayload {
    /// The key; `previousSecretWorksUntil` says how long there is to switch.
    pub api_key: ApiKey,
    /// What its requests are signed with from now on. Keep it: it can't be shown again.
    pub secret: String,
}

/// A key that lets nobody in any more.
#[derive(Debug, SimpleObject)]
pub struct RevokeApiKeyPayload {
    /// The key.
    pub api_key: ApiKey,
}

#[Object]
impl KeyMutation {
    /// Makes a key for a program. The secret is shown once.
    #[graphql(guard = "Require(Permission::Admin)")]
    async fn create_api_key(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "What the key is called, may do and may use.")] input: CreateApiKeyInput,
    ) -> Result<CreateApiKeyPayload> {
        let services = context.data::<Services>()?;
        let key = new_key(
            input,
            services.agent_quotas,
            &services.egress,
            principal(context)?.owner.as_str(),
        )?;
        let row = services
            .database
            .create_key(key, services.keyring.signing_name())
            .await
            .map_err(ApiError::from)?;
        note(context, &row);
        Ok(CreateApiKeyPayload {
            secret: secret(services, &row)?,
            api_key: ApiKey(row),
        })
    }

    /// Changes a key's name, permissions, quotas, networks or end. In force on all nodes at once.
    #[graphql(guard = "Require(Permission::Admin)")]
    async fn update_api_key(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The key, and what is to change of it.")] input: UpdateApiKeyInput,
    ) -> Result<UpdateApiKeyPayload> {
        let services = context.data::<Services>()?;
        let id = parse_id(&input.id)?;
        let change = change(input, &services.egress)?;
        let row = services
            .database
            .update_key(&id, change)
            .await
            .map_err(ApiError::from)?
            .ok_or_else(no_such)?;
        note(context, &row);
        Ok(UpdateApiKeyPayload {
            api_key: ApiKey(row),
        })
    }

    /// Gives a key a new secret, shown once. The old one works for another day.
    #[graphql(guard = "Require(Permission::Admin)")]
    async fn rotate_api_key(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The key's id.")] id: ID,
    ) -> Result<RotateApiKeyPayload> {
        let services = context.data::<Services>()?;
        let row = services
            .database
            .rotate_key(&parse_id(&id)?, services.keyring.signing_name(), GRACE)
            .await
            .map_err(ApiError::from)?
            .ok_or_else(no_such)?;
        note(context, &row);
        Ok(RotateApiKeyPayload {
            secret: secret(services, &row)?,
            api_key: ApiKey(row),
        })
    }

    /// Ends a key for good, on all nodes within a second, and closes its connections.
    #[graphql(guard = "Require(Permission::Admin)")]
    async fn revoke_api_key(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The key's id.")] id: ID,
    ) -> Result<RevokeApiKeyPayload> {
        let database = &context.data::<Services>()?.database;
        let row = database
            .revoke_key(&parse_id(&id)?)
            .await
            .map_err(ApiError::from)?
            .ok_or_else(no_such)?;
        note(context, &row);
        Ok(RevokeApiKeyPayload {
            api_key: ApiKey(row),
        })
    }
}

fn note(context: &Context<'_>, row: &api_key::Model) {
    trail::note(context, |details| {
        details
            .key(&row.id)
            .permissions(row.allowed())
            .generation(row.generation.unsigned_abs())
            .webhook(row.webhook.is_some())
    });
}

fn no_such() -> ApiError {
    ApiError::new(
        ErrorCode::NotFound,
        "There is no such key, or it has been revoked.",
    )
}

fn parse_id(id: &ID) -> Result<KeyId, ApiError> {
    id.parse()
        .map_err(|error: crate::auth::api_key::KeyIdError| {
            ApiError::invalid("id", error.to_string())
        })
}

fn secret(services: &Services, row: &api_key::Model) -> Result<String, ApiError> {
    let generation = row.generation.unsigned_abs();
    let secret = services
        .keyring
        .agent_secret(&row.master, &row.id, generation);
    // The row names the ring's own signing key, so this node has it.
    let secret = secret.ok_or_else(|| {
        ApiError::new(
            ErrorCode::Internal,
            "The server's master keys changed meanwhile: rotate the key.",
        )
    })?;
    Ok(secret.expose().to_owned())
}

/// A key with the given wishes, and `defaults` for the rest.
///
/// # Errors
/// `INVALID_INPUT` with the field at fault.
pub fn new_key(
    input: CreateApiKeyInput,
    defaults: Quotas,
    egress: &Egress,
    created_by: &str,
) -> Result<NewKey, ApiError> {
    let CreateApiKeyInput {
        name,
        permissions,
        requests_per_minute,
        conversions_at_once,
        conversions_per_day,
        images_per_batch,
        allowed_networks,
        expires_at,
        webhook,
    } = input;
    let permissions = permissions.map_or(Ok(Permissions::USER), check_permissions)?;
    Ok(NewKey {
        name: check_name(name)?,
        permissions,
        quotas: Quotas {
            requests_per_minute: check_rate(
                requests_per_minute.unwrap_or(defaults.requests_per_minute),
            )?,
            conversions_at_once: check_count("conversionsAtOnce", conversions_at_once)?
                .or(defaults.conversions_at_once),
            conversions_per_day: check_count("conversionsPerDay", conversions_per_day)?
                .or(defaults.conversions_per_day),
            images_per_batch: check_images(images_per_batch.unwrap_or(defaults.images_per_batch))?,
        },
        networks: allowed_networks.map(check_networks).transpose()?,
        expires_at: expires_at.map(check_end).transpose()?,
        webhook: webhook
            .map(|hook| webhooks::check(egress, hook))
            .transpose()?,
        created_by: created_by.to_owned(),
    })
}

/// The checked wishes of an update.
///
/// # Errors
/// `INVALID_INPUT` with the field at fault.
pub fn change(input: UpdateApiKeyInput, egress: &Egress) -> Result<KeyChange, ApiError> {
    let UpdateApiKeyInput {
        id: _,
        name,
        permissions,
        requests_per_minute,
        conversions_at_once,
        conversions_per_day,
        images_per_batch,
        allowed_networks,
        expires_at,
        webhook,
    } = input;
    let counted = |field, wish: MaybeUndefined<u32>| match wish.as_opt_ref() {
        None => Ok(None),
        Some(count) => check_count(field, count.copied()).map(Some),
    };
    Ok(KeyChange {
        name: name.map(check_name).transpose()?,
        permissions: permissions.map(check_permissions).transpose()?,
        requests_per_minute: requests_per_minute.map(check_rate).transpose()?,
        conversions_at_once: counted("conversionsAtOnce", conversions_at_once)?,
        conversions_per_day: counted("conversionsPerDay", conversions_per_day)?,
        images_per_batch: images_per_batch.map(check_images).transpose()?,
        networks: match allowed_networks {
            MaybeUndefined::Undefined => None,
            MaybeUndefined::Null => Some(None),
            MaybeUndefined::Value(networks) => Some(Some(check_networks(networks)?)),
        },
        // An end in the past is a way to end a key, but revoking says so.
        expires_at: match expires_at {
            MaybeUndefined::Undefined => None,
            MaybeUndefined::Null => Some(None),
            MaybeUndefined::Value(end) => Some(Some(check_end(end)?)),
        },
        webhook: match webhook {
            MaybeUndefined::Undefined => None,
            MaybeUndefined::Null => Some(None),
            MaybeUndefined::Value(hook) => Some(Some(webhooks::check(egress, hook)?)),
        },
    })
}

fn check_name(name: String) -> Result<String, ApiError> {
    let usable = !name.trim().is_empty()
        && name.chars().count() <= NAME_CHARS_MAX
        && !name.chars().any(char::is_control);
    if usable {
        return Ok(name);
    }
    let message = format!("A key's name has 1 to {NAME_CHARS_MAX} characters.");
    Err(ApiError::invalid("name", message))
}

fn check_permissions(permissions: Vec<Permission>) -> Result<Permissions, ApiError> {
    if permissions.is_empty() {
        return Err(ApiError::invalid(
            "permissions",
            "A key without permissions does nothing: name one, or leave the field out.",
        ));
    }
    Ok(permissions.into_iter().collect())
}

fn check_rate(per_minute: u32) -> Result<u32, ApiError> {
    within("requestsPerMinute", per_minute, REQUESTS_PER_MINUTE_MAX)
}

fn check_images(images: u32) -> Result<u32, ApiError> {
    within("imagesPerBatch", images, IMAGES_PER_BATCH_MAX)
}

fn check_count(field: &str, count: Option<u32>) -> Result<Option<u32>, ApiError> {
    count
        .map(|count| within(field, count, i32::MAX.unsigned_abs()))
        .transpose()
}

fn within(field: &str, value: u32, max: u32) -> Result<u32, ApiError> {
    if (1..=max).contains(&value) {
        return Ok(value);
    }
    Err(ApiError::invalid(
        field,
        format!("It must lie in 1 to {max}."),
    ))
}

fn check_networks(networks: Vec<String>) -> Result<Vec<String>, ApiError> {
    let refuse = |message: String| Err(ApiError::invalid("allowedNetworks", message));
    if networks.is_empty() || networks.len() > NETWORKS_MAX {
        return refuse(format!(
            "Name 1 to {NETWORKS_MAX} networks, or none at all."
        ));
    }
    let mut checked = Vec::new();
    for text in networks {
        match parse_network(&text) {
            Ok(network) => checked.push(network.trunc().to_string()),
            Err(_) => {
                let shown: String = text.chars().take(64).collect();
                return refuse(format!(
                    "`{shown}` is no network: write 10.0.0.0/8 or 2001:db8::1."
                ));
            }
        }
    }
    Ok(checked)
}

fn check_end(end: OffsetDateTime) -> Result<OffsetDateTime, ApiError> {
    if end > OffsetDateTime::now_utc() {
        return Ok(end);
    }
    Err(ApiError::invalid(
        "expiresAt",
        "It lies in the past: revoke the key to end it now.",
    ))
}
