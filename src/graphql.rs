//! The GraphQL schema of the contract: queries, mutations, subscriptions, and their errors.

use std::sync::Arc;

use async_graphql::dataloader::DataLoader;

use crate::{
    auth::link::Links,
    conversion::options::RESOLUTION,
    db::{Database, listen::Hub},
    decoder::DecoderPool,
    image::ImageLimits,
    storage::Storage,
};

pub mod admission;
pub mod error;
pub mod error_codes;
pub mod guard;
pub mod loader;
pub mod mutation;
pub mod pace;
pub mod query;
pub mod subscription;
pub mod types;

/// The schema with its resolvers.
pub type Schema =
    async_graphql::Schema<query::Query, mutation::Mutation, subscription::Subscription>;

/// Selections deeper than this are refused; the deepest sensible one has about ten levels.
const DEPTH_MAX: usize = 16;
/// Fields selected, lists counted once; a full page with everything has about 60 fields an item.
const COMPLEXITY_MAX: usize = 1_000;

/// A model that conversions may name.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelCard {
    pub name: String,
    pub description: String,
    pub licence: String,
    pub contract: String,
    pub resolution_default: u32,
    pub resolution_max: u32,
    pub is_default: bool,
}

impl ModelCard {
    /// The resolutions that this model and the contract allow.
    #[must_use]
    pub fn resolutions(&self) -> std::ops::RangeInclusive<u32> {
        *RESOLUTION.start()..=self.resolution_max.min(*RESOLUTION.end())
    }
}

/// What resolvers work with.
#[derive(Debug, Clone)]
pub struct Services {
    pub database: Database,
    pub storage: Storage,
    pub hub: Hub,
    pub decoder: DecoderPool,
    pub links: Links,
    pub models: Arc<[ModelCard]>,
    pub image_limits: ImageLimits,
    /// Images in one submission at most.
    pub batch_images_max: usize,
}

/// The schema over the given services.
#[must_use]
pub fn schema(services: Services) -> Schema {
    let loader = loader::Loader::new(services.database.clone());
    builder()
        .data(DataLoader::new(loader, tokio::spawn))
        .data(pace::Pace::new(services.database.clone()))
        .data(services)
        .finish()
}

fn builder()
-> async_graphql::SchemaBuilder<query::Query, mutation::Mutation, subscription::Subscription> {
    async_graphql::Schema::build(query::Query, mutation::Mutation, subscription::Subscription)
        .extension(error_codes::ErrorCodes)
        .limit_depth(DEPTH_MAX)
        .limit_complexity(COMPLEXITY_MAX)
        .register_output_type::<types::Node>()
}

/// The schema's text, as `schema.graphql` holds it.
#[must_use]
pub fn sdl() -> String {
    let options = async_graphql::SDLExportOptions::new()
        .sorted_fields()
        .sorted_arguments()
        .sorted_enum_items();
    let mut text = builder().finish().sdl_with_options(options);
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}
