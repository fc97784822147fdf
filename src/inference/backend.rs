//! What an executor needs of a device: libtorch behind it in production, a scripted one in tests.

use super::{device::DeviceId, error::EngineError, memory::Measured, memory::MemoryNow};

/// What a query answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    Logits,
    LogitsAndColors,
}

/// Values of the field, one for each point asked, in the order of the points.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FieldValues {
    /// Above the manifest's iso level is inside.
    pub logits: Vec<f32>,
    /// sRGB in 0..1; empty unless asked for.
    pub rgb: Vec<[f32; 3]>,
}

/// One device with the models loaded on it. Owned and called by one thread.
pub trait Backend {
    /// What `encode` makes of one image; lies on the device until it is dropped.
    type Codes;

    /// Encodes images of one model: `model` counts the engine's models, each image is planes of
    /// `3 * height * width` sRGB values. One result for each image, in order.
    ///
    /// # Errors
    /// [`EngineError`] for the whole pass; the executor finds out by bisection whose it is.
    fn encode(&mut self, model: usize, images: &[&[f32]]) -> Result<Vec<Self::Codes>, EngineError>;

    /// Appends the field's values at `points` to `values`.
    ///
    /// # Errors
    /// [`EngineError`]; what was appended then is of no use.
    fn query(
        &mut self,
        model: usize,
        codes: &Self::Codes,
        points: &[[f32; 3]],
        want: Want,
        values: &mut FieldValues,
    ) -> Result<(), EngineError>;

    /// The share of each pixel that belongs to the object, `height * width` values in 0..1.
    ///
    /// # Errors
    /// [`EngineError`].
    fn matte(&mut self, model: usize, image: &[f32]) -> Result<Vec<f32>, EngineError>;

    /// The points that one `query` of a model may have.
    fn points_per_pass(&self, model: usize) -> usize;

    /// Whether several images in one `encode` are cheaper than one after another, at the cost of
    /// exactness. Where not, the executor encodes them one by one.
    fn encodes_together(&self) -> bool;

    /// The device's memory now, where it can be told.
    fn memory(&self) -> Option<MemoryNow>;
}

/// A backend as it stands after loading and warming up.
#[derive(Debug)]
pub struct Opened<B> {
    pub backend: B,
    pub id: DeviceId,
    /// The maker's name for the device.
    pub name: String,
    /// For each of the engine's models what was measured, or why it is refused.
    pub models: Vec<Result<Measured, super::manifest::ModelError>>,
}
