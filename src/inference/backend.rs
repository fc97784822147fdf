//! What an executor needs of a device: libtorch behind it in production, a scripted one in tests.
//!
//! Work is begun and landed apart: [`Backend::encode`], [`Backend::query`] and [`Backend::matte`] put a pass onto the
//! device and return, and [`UnderWay::land`] waits for what it gave. So the executor can make the next pass ready while
//! the device computes. Passes land in the order in which they were begun.

use std::{fmt, time::Duration};

use super::{
    device::DeviceId,
    error::EngineError,
    memory::{Lesson, Measured, MemoryNow},
};

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

impl FieldValues {
    /// Whether every value is a number.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        // Without a way out in the middle the loop takes many at a time.
        let finite = |values: &[f32]| {
            values
                .iter()
                .fold(true, |all, value| all & value.is_finite())
        };
        finite(&self.logits) && finite(self.rgb.as_flattened())
    }
}

/// What one conversion asks in a pass.
#[derive(Debug)]
pub struct Portion<'a, C> {
    pub codes: &'a C,
    /// Not empty.
    pub points: &'a [[f32; 3]],
    pub want: Want,
}

/// A pass that a device has been given.
pub struct UnderWay<T>(Box<dyn FnOnce() -> Result<T, EngineError>>);

impl<T: 'static> UnderWay<T> {
    /// A pass whose results `land` waits for.
    pub fn new(land: impl FnOnce() -> Result<T, EngineError> + 'static) -> Self {
        Self(Box::new(land))
    }

    /// A pass that has its results already.
    pub fn landed(results: T) -> Self {
        Self::new(|| Ok(results))
    }

    /// Waits for the pass.
    ///
    /// # Errors
    /// [`EngineError`] for the whole pass.
    pub fn land(self) -> Result<T, EngineError> {
        (self.0)()
    }
}

impl<T> fmt::Debug for UnderWay<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnderWay")
    }
}

/// What an encode gives for each image: its codes, or why it has none.
pub type Rows<C> = Vec<Result<C, EngineError>>;

/// One device with the models loaded on it. Owned and called by one thread.
pub trait Backend {
    /// What `encode` makes of one image; lies on the device until it is dropped.
    type Codes: 'static;

    /// Encodes images of one model: `model` counts the engine's models, each image is planes of
    /// `3 * height * width` sRGB values. One result for each image, in order.
    ///
    /// # Errors
    /// [`EngineError`] for the whole pass; the executor finds out by bisection whose it is.
    fn encode(
        &mut self,
        model: usize,
        images: &[&[f32]],
    ) -> Result<UnderWay<Rows<Self::Codes>>, EngineError>;

    /// The field's values at the points of several conversions of one model, each one's in order, in a tensor of rows
    /// of at most `row` points. Where the device does not pack, there is one portion, of at most one row.
    ///
    /// # Errors
    /// [`EngineError`] for the whole pass.
    fn query(
        &mut self,
        model: usize,
        portions: &[Portion<'_, Self::Codes>],
        row: usize,
    ) -> Result<UnderWay<Vec<FieldValues>>, EngineError>;

    /// The share of each pixel that belongs to the object, `height * width` values in 0..1 for each image.
    ///
    /// # Errors
    /// [`EngineError`] for the whole pass.
    fn matte(
        &mut self,
        model: usize,
        images: &[&[f32]],
    ) -> Result<UnderWay<Vec<Vec<f32>>>, EngineError>;

    /// The points that one `query` of a model may have, the rows' padding included.
    fn points_per_pass(&self, model: usize) -> usize;

    /// Whether passes are shared: several images in one `encode` or `matte`, several conversions in one `query`, two
    /// passes under way. It is cheaper than one after another, at the cost of exactness. Where not, the executor gives
    /// the device one thing at a time.
    fn shares_passes(&self) -> bool;

    /// How long the device has worked on passes that have landed, where it can be told.
    fn busy(&self) -> Option<Duration>;

    /// The device's memory now, where it can be told.
    fn memory(&self) -> Option<MemoryNow>;

    /// Keeps a lesson about a model for the next start.
    fn learn(&mut self, model: usize, lesson: Lesson);
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
