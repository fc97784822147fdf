//! The objects of the schema, one file each.

pub mod api_key;
pub mod asset;
pub mod audit;
pub mod batch;
pub mod conversion;
pub mod model;
pub mod progress;
pub mod queue;
pub mod server_node;
pub mod viewer;
pub mod webhook;

/// Anything that has a global id.
#[derive(Debug, Clone, async_graphql::Interface)]
#[graphql(field(name = "id", ty = "async_graphql::ID", desc = "The global id."))]
pub enum Node {
    Conversion(Box<conversion::Conversion>),
    Batch(batch::Batch),
    Asset(asset::Asset),
    Model(model::Model),
    ApiKey(Box<api_key::ApiKey>),
}
