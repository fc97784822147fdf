//! The models that this server offers.

use async_graphql::{ID, Object};

use crate::graphql::ModelCard;

/// A model that turns pictures into shapes.
#[derive(Debug, Clone)]
pub struct Model(pub ModelCard);

/// What a model's global id starts with.
pub const ID_PREFIX: &str = "mdl_";

#[Object]
impl Model {
    /// The global id.
    pub async fn id(&self) -> ID {
        format!("{ID_PREFIX}{}", self.0.name).into()
    }

    /// What `options.model` takes.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// What it is good for.
    async fn description(&self) -> &str {
        &self.0.description
    }

    /// The licence of its weights.
    async fn licence(&self) -> &str {
        &self.0.licence
    }

    /// The interface that its file follows.
    async fn contract(&self) -> &str {
        &self.0.contract
    }

    /// The resolution used when a conversion asks for none.
    async fn resolution_default(&self) -> u32 {
        self.0.resolution_default
    }

    /// The greatest resolution that a conversion may ask for.
    async fn resolution_max(&self) -> u32 {
        *self.0.resolutions().end()
    }

    /// Whether conversions that name no model get this one.
    async fn is_default(&self) -> bool {
        self.0.is_default
    }
}
