//! What an executor needs of a device: libtorch behind it in production, a scripted one in tests.
//!
//! Work is begun and landed apart: [`Backend::encode`] and the other methods of the contract put a pass onto the
//! device and return, and [`UnderWay::land`] waits for what it gave. So the executor can make the next pass ready while
//! the device computes. What is asked of encoded pictures and of mattes goes beside the long passes, which make the codes.

use std::{fmt, time::Duration};

use super::{
    device::DeviceId,
    error::EngineError,
    memory::{Lesson, Measured, MemoryNow},
    sampling::Sampling,
    staging::Staging,
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

/// What a pass gave for one portion, still where the device has put it: copying it out is for the thread of whoever wants
/// it, since the device's own has no time for it.
pub struct Answer {
    points: usize,
    want: Want,
    read: Box<dyn FnOnce() -> Result<FieldValues, EngineError> + Send>,
}

impl Answer {
    /// The answer for so many points, which `read` copies out.
    pub fn new(
        points: usize,
        want: Want,
        read: impl FnOnce() -> Result<FieldValues, EngineError> + Send + 'static,
    ) -> Self {
        let read = Box::new(read);
        Self { points, want, read }
    }

    /// For how many points it has values.
    #[must_use]
    pub fn points(&self) -> usize {
        self.points
    }

    /// Copies the values out, finite or not.
    ///
    /// # Errors
    /// What copying them met.
    ///
    /// # Panics
    /// If the backend gives other than it was asked for.
    pub fn read(self) -> Result<FieldValues, EngineError> {
        let Self { points, want, read } = self;
        let values = read()?;
        let colors = match want {
            Want::Logits => 0,
            Want::LogitsAndColors => points,
        };
        assert_eq!(
            (values.logits.len(), values.rgb.len()),
            (points, colors),
            "a backend gives what it was asked for"
        );
        Ok(values)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("points", &self.points)
            .field("want", &self.want)
            .finish_non_exhaustive()
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

/// One conversion of an iterative model in a pass of [`Backend::begin`].
#[derive(Debug)]
pub struct Beginning<'a, C> {
    pub codes: &'a C,
    pub seed: i64,
}

/// One conversion of an iterative model in a pass of [`Backend::denoise`].
#[derive(Debug)]
pub struct Denoising<'a, C> {
    /// What `begin` or the step before gave.
    pub latents: &'a C,
    pub codes: &'a C,
    /// The steps done before: the first is step 0.
    pub step: u32,
    pub sampling: Sampling,
}

/// A pass that a device has been given.
pub struct UnderWay<T> {
    is_over: Box<dyn Fn() -> bool>,
    land: Box<dyn FnOnce() -> Result<T, EngineError>>,
}

impl<T: 'static> UnderWay<T> {
    /// A pass whose results `land` waits for, unless it `is_over`.
    pub fn new(
        is_over: impl Fn() -> bool + 'static,
        land: impl FnOnce() -> Result<T, EngineError> + 'static,
    ) -> Self {
        Self {
            is_over: Box::new(is_over),
            land: Box::new(land),
        }
    }

    /// A pass that has its results already.
    pub fn landed(results: T) -> Self {
        Self::new(|| true, || Ok(results))
    }

    /// Whether nobody has to wait for it any more.
    pub fn is_over(&self) -> bool {
        (self.is_over)()
    }

    /// Waits for the pass.
    ///
    /// # Errors
    /// [`EngineError`] for the whole pass.
    pub fn land(self) -> Result<T, EngineError> {
        (self.land)()
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
    /// What `encode` makes of one image, or `begin` and `denoise` of its codes; lies on the device until it is dropped.
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

    /// The latents that conversions of one iterative model start from. One result for each, in order.
    ///
    /// # Errors
    /// As [`Backend::encode`].
    fn begin(
        &mut self,
        model: usize,
        rows: &[Beginning<'_, Self::Codes>],
    ) -> Result<UnderWay<Rows<Self::Codes>>, EngineError>;

    /// The latents after one more step of conversions of one iterative model, each at a step of its own. One result for
    /// each, in order; what went in stays as it is.
    ///
    /// # Errors
    /// As [`Backend::encode`].
    fn denoise(
        &mut self,
        model: usize,
        rows: &[Denoising<'_, Self::Codes>],
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
    ) -> Result<UnderWay<Vec<Answer>>, EngineError>;

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

    /// Whether passes are shared: several images in one `encode` or `matte`, several conversions in one `query` or
    /// `denoise`, passes beside each other. It is cheaper than one after another, at the cost of exactness. Where not, the executor gives
    /// the backend one thing at a time.
    fn shares_passes(&self) -> bool;

    /// How long the device has worked on passes that have landed, where it can be told.
    fn busy(&self) -> Option<Duration>;

    /// The device's memory now, where it can be told.
    fn memory(&self) -> Option<MemoryNow>;

    /// Keeps a lesson about a model for the next start.
    fn learn(&mut self, model: usize, lesson: Lesson);
}

/// Makes another backend of the same device over the same models, on the thread that will own it.
pub struct Twin<B>(Box<dyn FnOnce() -> Result<B, EngineError> + Send>);

impl<B> Twin<B> {
    /// One that is made so.
    pub fn new(make: impl FnOnce() -> Result<B, EngineError> + Send + 'static) -> Self {
        Self(Box::new(make))
    }

    /// Makes it.
    ///
    /// # Errors
    /// [`EngineError::DeviceLost`].
    pub fn make(self) -> Result<B, EngineError> {
        (self.0)()
    }
}

impl<B> fmt::Debug for Twin<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Twin")
    }
}

/// A backend as it stands after loading and warming up.
#[derive(Debug)]
pub struct Opened<B> {
    pub backend: B,
    /// For a second lane of passes, where one at a time leaves some of the device idle.
    pub twin: Option<Twin<B>>,
    pub id: DeviceId,
    /// Where the device reads by itself what it is given.
    pub staging: Staging,
    /// The maker's name for the device.
    pub name: String,
    /// For each of the engine's models what was measured, or why it is refused.
    pub models: Vec<Result<Measured, super::manifest::ModelError>>,
}
