//! How well a model reconstructs: pictures with known meshes go the way of every conversion, and what comes out is
//! compared with the truth.
//!
//! A [`set::EvaluationSet`] is read from a folder, [`run::measure`] takes one of its views through the pipeline, and a
//! [`summary::Summary`] says what came of all. The measures themselves are [`crate::mesh::compare`]'s.

pub mod run;
pub mod set;
pub mod summary;
