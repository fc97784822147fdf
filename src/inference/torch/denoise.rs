//! The two methods that `implicit-field/2` adds: latents are begun, and denoised step by step.

use std::sync::Arc;

use metrics::counter;
use tch::{TchError, Tensor};

use super::{
    super::{
        backend::{Backend as _, Beginning, Denoising, Rows, UnderWay},
        error::{EngineError, Operation},
        manifest::Manifest,
        sampling::Sampling,
    },
    Loaded, TorchBackend,
    pass::{Apart, filled_up},
};

impl TorchBackend {
    /// Begins `begin`.
    pub(super) fn begin_latents(
        &self,
        model: usize,
        rows: &[Beginning<'_, Tensor>],
    ) -> Result<UnderWay<Rows<Tensor>>, EngineError> {
        let loaded = Arc::clone(self.loaded(model));
        let size = filled_up(&loaded.warm_steps, rows.len());
        let codes = all(rows.iter().map(|row| row.codes));
        let seeds = column(rows.iter().map(|row| row.seed), size);
        let begin = move || loaded.latents(&codes, &seeds);
        self.launch_rows(Operation::Begin, None, begin)
    }

    /// Begins `denoise`.
    pub(super) fn begin_step(
        &self,
        model: usize,
        rows: &[Denoising<'_, Tensor>],
    ) -> Result<UnderWay<Rows<Tensor>>, EngineError> {
        let loaded = Arc::clone(self.loaded(model));
        let size = filled_up(&loaded.warm_steps, rows.len());
        let padding = size - rows.len();
        counter!("orfeas_engine_denoise_padding_rows_total").increment(padding as u64);
        let latents = all(rows.iter().map(|row| row.latents));
        let codes = all(rows.iter().map(|row| row.codes));
        let columns = Columns {
            step: column(rows.iter().map(|row| i64::from(row.step)), size),
            steps: column(rows.iter().map(|row| i64::from(row.sampling.steps)), size),
            guidance: column(rows.iter().map(|row| row.sampling.guidance), size),
        };
        let step = move || loaded.step(&latents, &codes, &columns);
        self.launch_rows(Operation::Denoise, None, step)
    }

    /// What `query` gets for encoded pictures, in as few steps as the model allows.
    ///
    /// # Errors
    /// As [`Self::denoised`].
    pub(super) fn shortest(
        &mut self,
        model: usize,
        manifest: &Manifest,
        codes: Vec<Tensor>,
    ) -> Result<Vec<Tensor>, EngineError> {
        let Some(limits) = manifest.sampling() else {
            return Ok(codes);
        };
        let samplings = vec![limits.shortest(0); codes.len()];
        self.denoised(model, codes, &samplings, 0)
    }

    /// What `query` gets for encoded pictures of an iterative model, each with a sampling of its own: their
    /// last latents. The rows share their passes, row i from the pass `i * stagger` on, as conversions do that come one
    /// after another.
    ///
    /// # Errors
    /// [`EngineError`] of the first row that fails.
    pub(super) fn denoised(
        &mut self,
        model: usize,
        codes: Vec<Tensor>,
        samplings: &[Sampling],
        stagger: usize,
    ) -> Result<Vec<Tensor>, EngineError> {
        let beginnings: Vec<_> = codes
            .iter()
            .zip(samplings)
            .map(|(codes, sampling)| Beginning {
                codes,
                seed: sampling.seed,
            })
            .collect();
        let begun = self.begin(model, &beginnings)?.land()?;
        let mut latents = begun.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut steps = vec![0; latents.len()];
        for pass in 0.. {
            let has_left = |at: &usize| steps[*at] < samplings[*at].steps;
            let Some(_) = (0..latents.len()).find(has_left) else {
                break;
            };
            let taking: Vec<_> = (0..latents.len())
                .filter(|at| has_left(at) && pass >= at * stagger)
                .collect();
            if taking.is_empty() {
                continue;
            }
            let rows: Vec<_> = taking
                .iter()
                .map(|&at| Denoising {
                    latents: &latents[at],
                    codes: &codes[at],
                    step: steps[at],
                    sampling: samplings[at],
                })
                .collect();
            let stepped = self.denoise(model, &rows)?.land()?;
            for (at, row) in taking.into_iter().zip(stepped) {
                latents[at] = row?;
                steps[at] += 1;
            }
        }
        Ok(latents)
    }
}

/// What a step is told of each row.
struct Columns {
    step: Vec<i64>,
    steps: Vec<i64>,
    guidance: Vec<f32>,
}

impl Loaded {
    /// Latents for rows of codes and as many seeds, the last ones of which are padding.
    fn latents(&self, codes: &[Tensor], seeds: &[i64]) -> Result<Apart, TchError> {
        let (rows, size) = (codes.len(), seeds.len());
        let codes = joined(codes, size)?;
        let seeds = beside(&codes, seeds)?;
        let latents = self.module.method_ts("begin", &[codes, seeds])?;
        if latents.dim() < 2 || latents.size()[0] != size as i64 {
            return Err(TchError::Shape(format!(
                "begin gave latents of shape {:?} for {size} rows of codes",
                latents.size()
            )));
        }
        Apart::first(&latents, rows)
    }

    fn step(
        &self,
        latents: &[Tensor],
        codes: &[Tensor],
        columns: &Columns,
    ) -> Result<Apart, TchError> {
        let (rows, size) = (latents.len(), columns.step.len());
        let latents = joined(latents, size)?;
        let shape = latents.size();
        let step = beside(&latents, &columns.step)?;
        let steps = beside(&latents, &columns.steps)?;
        let guidance = beside(&latents, &columns.guidance)?;
        let arguments = [latents, joined(codes, size)?, step, steps, guidance];
        let stepped = self.module.method_ts("denoise", &arguments)?;
        if stepped.size() != shape {
            return Err(TchError::Shape(format!(
                "denoise gave latents of shape {:?} for some of shape {shape:?}",
                stepped.size()
            )));
        }
        Apart::first(&stepped, rows)
    }
}

fn all<'a>(rows: impl Iterator<Item = &'a Tensor>) -> Vec<Tensor> {
    rows.map(Tensor::shallow_clone).collect()
}

/// Rows as one tensor; the last one is repeated to `size`.
fn joined(rows: &[Tensor], size: usize) -> Result<Tensor, TchError> {
    let mut rows: Vec<&Tensor> = rows.iter().collect();
    rows.resize(size, rows.last().expect("a pass has rows"));
    match rows.as_slice() {
        [row] => Ok(row.shallow_clone()),
        _ => Tensor::f_cat(&rows, 0),
    }
}

/// A number for each row; the last one is repeated to `size`.
fn column<T: Copy>(numbers: impl Iterator<Item = T>, size: usize) -> Vec<T> {
    let mut numbers: Vec<T> = numbers.collect();
    numbers.resize(size, *numbers.last().expect("a pass has rows"));
    numbers
}

/// Numbers on another tensor's device. Such a copy is so small that it is made before the call returns, also where the
/// device takes it in later.
fn beside<T: tch::kind::Element>(other: &Tensor, numbers: &[T]) -> Result<Tensor, TchError> {
    Tensor::f_from_slice(numbers)?.f_internal_to_copy((T::KIND, other.device()), true)
}
