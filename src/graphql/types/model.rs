//! The models that this server offers.

use async_graphql::{ID, Object, SimpleObject};

use crate::graphql::model_card::{ModelCard, Span};

/// A model that turns pictures into shapes.
#[derive(Debug, Clone)]
pub struct Model(pub ModelCard);

/// What a whole number may be.
#[derive(Debug, Clone, Copy, SimpleObject)]
pub struct IntRange {
    /// What it is where nothing is asked.
    pub default: u32,
    /// The least.
    pub min: u32,
    /// The greatest.
    pub max: u32,
}

/// What a number may be.
#[derive(Debug, Clone, Copy, SimpleObject)]
pub struct FloatRange {
    /// What it is where nothing is asked.
    pub default: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

/// What a model's global id starts with.
pub const ID_PREFIX: &str = "mdl_";

/// A model that turns pictures into shapes.
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

    /// The denoising steps that a conversion may ask for; null: the model doesn't iterate.
    async fn steps(&self) -> Option<IntRange> {
        let range = |Span { default, min, max }| IntRange { default, min, max };
        self.0.steps.map(range)
    }

    /// The guidance that a conversion may ask for; null: the model takes no notice of it.
    async fn guidance(&self) -> Option<FloatRange> {
        let range = |Span { default, min, max }| FloatRange { default, min, max };
        self.0.guidance.map(range)
    }

    /// Whether conversions that name no model get this one.
    async fn is_default(&self) -> bool {
        self.0.is_default
    }
}
