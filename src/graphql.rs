//! The GraphQL schema of the contract: queries, mutations, subscriptions, and their errors.

use std::{sync::Arc, time::Duration};

use async_graphql::dataloader::DataLoader;

use self::model_card::ModelCard;
use crate::{
    auth::{
        keyring::Keyring,
        link::Links,
        principal::{Principal, Quotas},
    },
    db::{Database, backlog::Backlog, listen::Hub},
    decoder::DecoderPool,
    egress::Egress,
    image::ImageLimits,
    storage::Storage,
};

pub mod admission;
pub mod cost;
pub mod documents;
pub mod error;
pub mod error_codes;
pub mod execute;
pub mod fetching;
pub mod guard;
pub mod keys;
pub mod loader;
pub mod model_card;
pub mod mutation;
pub mod operation;
pub mod pace;
pub mod query;
pub mod subscription;
pub mod trail;
pub mod types;
pub mod webhooks;

/// The schema with its resolvers.
pub type Schema = async_graphql::Schema<query::Query, Mutation, subscription::Subscription>;

/// Write access.
#[derive(Debug, Default, async_graphql::MergedObject)]
pub struct Mutation(
    mutation::ConversionMutation,
    keys::KeyMutation,
    webhooks::WebhookMutation,
);

/// What owners' assets may take; `None`: whatever they take.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoredLimits {
    pub key_bytes_max: Option<u64>,
    pub person_bytes_max: Option<u64>,
}

impl StoredLimits {
    /// What a caller's assets may take.
    #[must_use]
    pub fn of(self, principal: &Principal) -> Option<u64> {
        if principal.key().is_some() {
            self.key_bytes_max
        } else {
            self.person_bytes_max
        }
    }
}

/// What resolvers work with.
#[derive(Debug, Clone)]
pub struct Services {
    pub database: Database,
    pub storage: Storage,
    /// What submissions are held against.
    pub backlog: Backlog,
    pub hub: Hub,
    pub decoder: DecoderPool,
    /// Calls addresses that clients name.
    pub egress: Egress,
    pub links: Links,
    /// Secrets of API keys come from it.
    pub keyring: Keyring,
    /// What a key may use for which nothing else is said.
    pub agent_quotas: Quotas,
    pub stored_limits: StoredLimits,
    /// How long conversions are kept after their end; `None`: until somebody deletes them.
    pub retention: Option<Duration>,
    pub models: Arc<[ModelCard]>,
    pub image_limits: ImageLimits,
    /// Gets pictures that are named by a URL.
    pub fetcher: fetching::Fetcher,
    /// Images in one submission at most.
    pub batch_images_max: usize,
    /// What clients may name instead of sending it.
    pub documents: documents::Documents,
    /// Whether everybody may ask for the schema; else only admins.
    pub is_introspection_open: bool,
}

/// What is asked for within so long is read together. Fields of one answer ask within a fraction of that; a millisecond, the
/// loader's own, is a fourth of what it takes until who follows a batch is told of its end.
const LOADED_TOGETHER: Duration = Duration::from_micros(300);

/// The schema over the given services.
#[must_use]
pub fn schema(services: Services) -> Schema {
    let loader = loader::Loader::new(services.database.clone());
    let policy = execute::Policy {
        limits: cost::CostLimits::default(),
        shape: cost::shape::Shape::of(&sdl()),
        documents: services.documents.clone(),
        is_introspection_open: services.is_introspection_open,
    };
    // A misspelt name is answered with the names that there are.
    let builder = if policy.is_introspection_open {
        builder()
    } else {
        builder().disable_suggestions()
    };
    builder
        .data(policy)
        .data(DataLoader::new(loader, tokio::spawn).delay(LOADED_TOGETHER))
        .data(pace::Pace::new(services.database.clone()))
        .data(services)
        .finish()
}

fn builder() -> async_graphql::SchemaBuilder<query::Query, Mutation, subscription::Subscription> {
    async_graphql::Schema::build(
        query::Query,
        Mutation::default(),
        subscription::Subscription,
    )
    .extension(error_codes::ErrorCodes)
    .register_output_type::<types::Node>()
}

/// The schema without anything behind it, for what concerns its text alone.
fn bare() -> Schema {
    builder().finish()
}

/// The schema's text, as `schema.graphql` holds it.
#[must_use]
pub fn sdl() -> String {
    let options = async_graphql::SDLExportOptions::new()
        .sorted_fields()
        .sorted_arguments()
        .sorted_enum_items();
    let mut text = bare().sdl_with_options(options);
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}
