//! What a model promises, check by check, and what was found of it.
//!
//! The start of an engine and `orfeas models verify` try the same promises by the same code: the engine the few that a
//! broken model would answer its first picture with nonsense by, the command all of them, since it has the time.

use std::{path::PathBuf, sync::Arc};

use super::{device::DeviceId, manifest::Manifest};

pub mod archive;
#[cfg(feature = "torch")]
mod examine;

#[cfg(feature = "torch")]
pub use examine::examine;

/// One promise of the contracts `implicit-field/1` and `/2`, or of what stands around them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// `model.toml` has every key, each within its bounds.
    Manifest,
    /// The model's file is the one that the manifest was written for.
    File,
    /// Its code has the contract's methods and names no device and no absolute path, so that it runs wherever it is put.
    Code,
    /// It is loaded onto the device, in the number format of the manifest.
    Load,
    /// `encode` gives `[B, …]` for `B` pictures, finite.
    Encode,
    /// `begin` gives `[B, …]` for `B` rows of codes and as many seeds, finite.
    Begin,
    /// `denoise` gives latents of the shape that it gets, finite, at each step.
    Denoise,
    /// `query` gives `[B, N]` and `[B, N, 3]` for `N` points, the cube's corners among them.
    Query,
    /// Every logit is finite.
    Logits,
    /// Every colour lies in 0..=1.
    Colors,
    /// `matte` gives `[B, 1, H, W]` in 0..=1.
    Matte,
    /// The same seed gives the same again, another seed something else.
    Seed,
    /// A conversion's latents do not depend on those that share its steps, however many these have done or will do.
    InFlight,
    /// A picture without an object is encoded and answered like any other.
    Blank,
    /// The same picture and the same points give the same again.
    Repeat,
    /// A picture's row of codes does not depend on those that were encoded with it: rows may be split.
    Split,
    /// Rows that were encoded apart answer together as they do alone: rows may be joined.
    Join,
    /// A point's values do not depend on the other points of its query: queries may be cut.
    Points,
}

impl Check {
    /// Those that an engine tries of each model when it starts, in order.
    pub const AT_START: [Self; 9] = [
        Self::Encode,
        Self::Begin,
        Self::Denoise,
        Self::Query,
        Self::Logits,
        Self::Colors,
        Self::Matte,
        Self::Seed,
        Self::InFlight,
    ];
    /// Those that need the loaded model, in order.
    pub const OF_METHODS: [Self; 14] = [
        Self::Encode,
        Self::Begin,
        Self::Denoise,
        Self::Query,
        Self::Logits,
        Self::Colors,
        Self::Matte,
        Self::Seed,
        Self::InFlight,
        Self::Blank,
        Self::Repeat,
        Self::Split,
        Self::Join,
        Self::Points,
    ];

    /// Whether it is a promise of iterative models alone.
    #[must_use]
    pub fn of_steps(self) -> bool {
        matches!(
            self,
            Self::Begin | Self::Denoise | Self::Seed | Self::InFlight
        )
    }

    /// One word, the same in every output.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::File => "file",
            Self::Code => "code",
            Self::Load => "load",
            Self::Encode => "encode",
            Self::Begin => "begin",
            Self::Denoise => "denoise",
            Self::Query => "query",
            Self::Logits => "logits",
            Self::Colors => "colours",
            Self::Matte => "matte",
            Self::Seed => "seed",
            Self::InFlight => "in-flight",
            Self::Blank => "blank",
            Self::Repeat => "repeat",
            Self::Split => "split",
            Self::Join => "join",
            Self::Points => "points",
        }
    }
}

/// How a promise turned out, with a sentence about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Kept(String),
    Broken(String),
    /// Nothing to try it on, and why.
    Untried(String),
}

/// A promise that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub check: Check,
    pub verdict: Verdict,
}

/// All that was found of one model.
#[derive(Debug)]
pub struct Examined {
    /// The folder's name.
    pub name: String,
    pub folder: PathBuf,
    /// `None` if it can't be read.
    pub manifest: Option<Arc<Manifest>>,
    pub findings: Vec<Finding>,
}

impl Examined {
    /// Whether no promise was found broken.
    #[must_use]
    pub fn keeps_its_contract(&self) -> bool {
        !self
            .findings
            .iter()
            .any(|finding| matches!(finding.verdict, Verdict::Broken(_)))
    }
}

/// The models of a folder, examined on a device.
#[derive(Debug)]
pub struct Examination {
    pub device: DeviceId,
    /// In the order of names.
    pub models: Vec<Examined>,
}

/// Without libtorch nothing can be examined.
///
/// # Errors
/// Always [`super::error::EngineError::NoTorch`].
#[cfg(not(feature = "torch"))]
pub fn examine(
    _models_dir: &std::path::Path,
    _device: &super::device::DeviceChoice,
    _cpu_threads: Option<usize>,
) -> Result<Examination, super::error::EngineError> {
    Err(super::error::EngineError::NoTorch)
}
