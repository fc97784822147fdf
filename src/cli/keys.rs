//! `orfeas keys`: API keys, for whoever may read the data folder and its master keys.

use std::{process::ExitCode, time::Duration};

use async_graphql::MaybeUndefined;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{CommandError, output, program};
use crate::{
    app,
    auth::{api_key::KeyId, keyring::Keyring, principal::Permission},
    config::Settings,
    conversion::{NodeId, webhook::Event},
    db::{
        Database,
        api_keys::GRACE,
        audit::{
            details::Details,
            event::{AuditEvent, Outcome},
        },
        entities::api_key,
    },
    egress::Egress,
    graphql::{
        error::ApiError,
        keys::{CreateApiKeyInput, UpdateApiKeyInput, change, new_key},
        webhooks::WebhookInput,
    },
};

/// Who the audit log and the key's row say has made it.
const COMMAND_LINE: &str = "command line";
/// Keys that `list` shows at most.
const LISTED_MAX: u64 = 1_000;

/// Options of `orfeas keys`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key. Its secret is printed once.
    Create(Create),
    /// List the keys, newest first.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Change a key; what is not named stays.
    Update(Update),
    /// Give a key a new secret; the old one works for the grace period.
    Rotate {
        /// The key's id.
        id: KeyId,
        /// For how long the old secret works, in hours.
        #[arg(long, default_value_t = GRACE.as_secs() / 3600, value_parser = clap::value_parser!(u64).range(0..=8760))]
        grace_hours: u64,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// End a key for good.
    Revoke {
        /// The key's id.
        id: KeyId,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct Create {
    /// What people will call it.
    #[arg(long)]
    name: String,
    #[command(flatten)]
    wishes: Wishes,
}

#[derive(Debug, Args)]
struct Update {
    /// The key's id.
    id: KeyId,
    /// What people will call it.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    wishes: Wishes,
}

/// What may be said of a new key and changed of an old one.
#[derive(Debug, Args)]
struct Wishes {
    /// What it may do, separated by commas: conversions:submit, conversions:batch, conversions:read,
    /// conversions:cancel, admin.
    #[arg(long, value_delimiter = ',')]
    permissions: Option<Vec<Permission>>,
    /// Requests a minute; a tenth of them may come at once.
    #[arg(long)]
    per_minute: Option<u32>,
    /// Conversions queued and running at a time.
    #[arg(long)]
    at_once: Option<u32>,
    /// Conversions a day of UTC.
    #[arg(long)]
    per_day: Option<u32>,
    /// Images in one submission.
    #[arg(long)]
    images: Option<u32>,
    /// Networks that it may be used from, separated by commas.
    #[arg(long, value_delimiter = ',')]
    networks: Option<Vec<String>>,
    /// When it ends by itself, in hours from now.
    #[arg(long)]
    hours: Option<u32>,
    /// Whom to tell of what it submits without a hook of its own: an address that begins with https://, of a public server.
    #[arg(long)]
    webhook: Option<String>,
    /// Of what, separated by commas: conversion.started, conversion.succeeded, conversion.failed, conversion.canceled,
    /// batch.finished; default: every end.
    #[arg(long, value_delimiter = ',', requires = "webhook")]
    webhook_events: Option<Vec<Event>>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Carries a subcommand out, on a running server's database or on one that is started for it.
///
/// # Errors
/// When the database can't be reached, the master keys don't fit it, or a wish can't be granted.
pub async fn run(settings: Settings, options: Options) -> Result<ExitCode, CommandError> {
    let keyring = settings.keyring()?;
    let opened = app::open::database(&settings, program()?).await?;
    let database = &opened.database;
    let done = match database.register_ring(&keyring, NodeId::new()).await {
        Ok(()) => carry_out(&settings, database, &keyring, options.command).await,
        Err(error) => Err(error.into()),
    };
    opened.close().await?;
    done.map(|()| ExitCode::SUCCESS)
}

async fn carry_out(
    settings: &Settings,
    database: &Database,
    keyring: &Keyring,
    command: Command,
) -> Result<(), CommandError> {
    // Where hooks may lead is for the server to say, at each delivery; this tells of mistakes as the API does.
    let egress = || settings.egress().map(Egress::new);
    match command {
        Command::Create(Create { name, wishes }) => {
            let json = wishes.json;
            let quotas = settings.agent_quotas();
            let key = new_key(wishes.new_key(name), quotas, &egress()?, COMMAND_LINE);
            let row = database
                .create_key(key.map_err(told)?, keyring.signing_name())
                .await?;
            record(database, "keys create", &row).await?;
            show_secret(keyring, &row, json)
        }
        Command::List { json } => {
            show_list(&database.keys(None, LISTED_MAX).await?, json);
            Ok(())
        }
        Command::Update(Update { id, name, wishes }) => {
            let json = wishes.json;
            let change = change(wishes.update(&id, name), &egress()?).map_err(told)?;
            let row = found(database.update_key(&id, change).await?)?;
            record(database, "keys update", &row).await?;
            show(&row, json);
            Ok(())
        }
        Command::Rotate {
            id,
            grace_hours,
            json,
        } => {
            let grace = Duration::from_secs(grace_hours * 3600);
            let row = database
                .rotate_key(&id, keyring.signing_name(), grace)
                .await?;
            let row = found(row)?;
            record(database, "keys rotate", &row).await?;
            show_secret(keyring, &row, json)
        }
        Command::Revoke { id, json } => {
            let row = found(database.revoke_key(&id).await?)?;
            record(database, "keys revoke", &row).await?;
            show(&row, json);
            Ok(())
        }
    }
}

/// What is changed past the API is in the audit log as well.
async fn record(
    database: &Database,
    command: &str,
    row: &api_key::Model,
) -> Result<(), CommandError> {
    let details = Details::default()
        .key(&row.id)
        .permissions(row.allowed())
        .generation(row.generation.unsigned_abs())
        .webhook(row.webhook.is_some());
    let event = AuditEvent::command(command, Outcome::OK).details(details);
    Ok(database.insert_audit(&[event]).await?)
}

impl Wishes {
    fn end(&self) -> Option<OffsetDateTime> {
        let hours = self.hours?;
        Some(OffsetDateTime::now_utc() + Duration::from_secs(u64::from(hours) * 3600))
    }

    fn hook(&self) -> Option<WebhookInput> {
        Some(WebhookInput {
            url: self.webhook.clone()?,
            events: self.webhook_events.clone(),
        })
    }

    fn new_key(self, name: String) -> CreateApiKeyInput {
        CreateApiKeyInput {
            name,
            expires_at: self.end(),
            webhook: self.hook(),
            permissions: self.permissions,
            requests_per_minute: self.per_minute,
            conversions_at_once: self.at_once,
            conversions_per_day: self.per_day,
            images_per_batch: self.images,
            allowed_networks: self.networks,
        }
    }

    fn update(self, id: &KeyId, name: Option<String>) -> UpdateApiKeyInput {
        fn said<T>(wish: Option<T>) -> MaybeUndefined<T> {
            wish.map_or(MaybeUndefined::Undefined, MaybeUndefined::Value)
        }
        UpdateApiKeyInput {
            id: id.to_string().into(),
            name,
            expires_at: said(self.end()),
            webhook: said(self.hook()),
            permissions: self.permissions,
            requests_per_minute: self.per_minute,
            conversions_at_once: said(self.at_once),
            conversions_per_day: said(self.per_day),
            images_per_batch: self.images,
            allowed_networks: said(self.networks),
        }
    }
}

fn told(error: ApiError) -> CommandError {
    match error.field {
        Some(field) => format!("{field}: {}", error.message).into(),
        None => error.message.into(),
    }
}

fn found(row: Option<api_key::Model>) -> Result<api_key::Model, CommandError> {
    row.ok_or_else(|| "there is no such key, or it has been revoked".into())
}

/// A key as JSON, with the names that `orfeas sign` and the examples read.
fn described(row: &api_key::Model) -> Value {
    let text = |at: Option<OffsetDateTime>| at.and_then(|at| at.format(&Rfc3339).ok());
    let hook = row.webhook.as_ref();
    let hook = hook.map(|hook| json!({ "url": hook.url, "events": hook.events }));
    json!({
        "keyId": row.id,
        "name": row.name,
        "permissions": row.permissions,
        "requestsPerMinute": row.requests_per_minute,
        "conversionsAtOnce": row.conversions_at_once,
        "conversionsPerDay": row.conversions_per_day,
        "imagesPerBatch": row.images_per_batch,
        "allowedNetworks": row.networks,
        "generation": row.generation,
        "master": row.master,
        "previousSecretWorksUntil": text(row.previous_until),
        "createdAt": text(Some(row.created_at)),
        "createdBy": row.created_by,
        "expiresAt": text(row.expires_at),
        "revokedAt": text(row.revoked_at),
        "lastUsedAt": text(row.last_used_at),
        "webhook": hook,
    })
}

fn show_secret(keyring: &Keyring, row: &api_key::Model, json: bool) -> Result<(), CommandError> {
    let secret = keyring
        .agent_secret(&row.master, &row.id, row.generation.unsigned_abs())
        .ok_or("the ring lacks the master key that the secret comes from")?;
    if json {
        let mut shown = described(row);
        shown["secret"] = secret.expose().into();
        output::line(&shown.to_string());
    } else {
        show(row, false);
        output::line(&format!("secret: {}", secret.expose()));
        output::complain("Keep the secret: it can't be shown again.");
    }
    Ok(())
}

fn show(row: &api_key::Model, json: bool) {
    if json {
        output::line(&described(row).to_string());
        return;
    }
    let state = match (row.revoked_at, row.expires_at) {
        (Some(at), _) => format!("revoked {at}"),
        (None, Some(at)) => format!("until {at}"),
        (None, None) => "live".to_owned(),
    };
    output::line(&format!(
        "{}  {}  [{}]  {} a minute  {state}",
        row.id,
        row.name,
        row.permissions.join(" "),
        row.requests_per_minute
    ));
}

fn show_list(rows: &[api_key::Model], json: bool) {
    if json {
        let all: Vec<Value> = rows.iter().map(described).collect();
        output::line(&Value::from(all).to_string());
        return;
    }
    for row in rows {
        show(row, false);
    }
}
