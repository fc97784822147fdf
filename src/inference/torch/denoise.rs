//! The two methods that `implicit-field/2` adds: latents are begun, and denoised step by step.

use metrics::counter;
use tch::{TchError, Tensor};

use super::{
    super::{
        backend::{Backend as _, Beginning, Denoising, Rows, UnderWay},
        error::{EngineError, Operation},
        manifest::Manifest,
        sampling::Sampling,
    },
    TorchBackend,
    pass::Apart,
};

impl TorchBackend {
    /// Begins `begin`.
    pub(super) fn begin_latents(
        &self,
        model: usize,
        rows: &[Beginning<'_, Tensor>],
    ) -> Result<UnderWay<Rows<Tensor>>, EngineError> {
        let departure = self.transfers.depart(Operation::Begin)?;
        let begun = self.latents(model, rows);
        self.land_rows(departure, Operation::Begin, begun)
    }

    fn latents(&self, model: usize, rows: &[Beginning<'_, Tensor>]) -> Result<Apart, TchError> {
        let size = self.step_size(model, rows.len());
        let codes = joined(rows.iter().map(|row| row.codes), size)?;
        let seeds = self.column(rows.iter().map(|row| row.seed), size)?;
        let module = &self.loaded(model).module;
        let latents = module.method_ts("begin", &[codes, seeds])?;
        if latents.dim() < 2 || latents.size()[0] != size as i64 {
            return Err(TchError::Shape(format!(
                "begin gave latents of shape {:?} for {size} rows of codes",
                latents.size()
            )));
        }
        self.apart(&latents, rows.len())
    }

    /// Begins `denoise`.
    pub(super) fn begin_step(
        &self,
        model: usize,
        rows: &[Denoising<'_, Tensor>],
    ) -> Result<UnderWay<Rows<Tensor>>, EngineError> {
        let departure = self.transfers.depart(Operation::Denoise)?;
        let stepped = self.step(model, rows);
        self.land_rows(departure, Operation::Denoise, stepped)
    }

    fn step(&self, model: usize, rows: &[Denoising<'_, Tensor>]) -> Result<Apart, TchError> {
        let size = self.step_size(model, rows.len());
        let padding = size - rows.len();
        counter!("orfeas_engine_denoise_padding_rows_total").increment(padding as u64);
        let latents = joined(rows.iter().map(|row| row.latents), size)?;
        let shape = latents.size();
        let arguments = [
            latents,
            joined(rows.iter().map(|row| row.codes), size)?,
            self.column(rows.iter().map(|row| i64::from(row.step)), size)?,
            self.column(rows.iter().map(|row| i64::from(row.sampling.steps)), size)?,
            self.column(rows.iter().map(|row| row.sampling.guidance), size)?,
        ];
        let module = &self.loaded(model).module;
        let stepped = module.method_ts("denoise", &arguments)?;
        if stepped.size() != shape {
            return Err(TchError::Shape(format!(
                "denoise gave latents of shape {:?} for some of shape {shape:?}",
                stepped.size()
            )));
        }
        self.apart(&stepped, rows.len())
    }

    /// The size that a step is run at: where sizes were warmed up, the next of them.
    fn step_size(&self, model: usize, rows: usize) -> usize {
        let mut warm = self.loaded(model).warm_steps.iter().copied();
        warm.find(|&size| size >= rows).unwrap_or(rows)
    }

    /// A number for each row on the device; the last one is repeated to `size`. Such a copy is so small that it is made
    /// before the call returns, also where the device takes it in later.
    fn column<T: tch::kind::Element + Copy>(
        &self,
        numbers: impl Iterator<Item = T>,
        size: usize,
    ) -> Result<Tensor, TchError> {
        let mut numbers: Vec<T> = numbers.collect();
        numbers.resize(size, *numbers.last().expect("a pass has rows"));
        Tensor::f_from_slice(&numbers)?.f_internal_to_copy((T::KIND, self.transfers.device), true)
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

/// Rows as one tensor; the last one is repeated to `size`.
fn joined<'a>(rows: impl Iterator<Item = &'a Tensor>, size: usize) -> Result<Tensor, TchError> {
    let mut rows: Vec<&Tensor> = rows.collect();
    rows.resize(size, rows.last().expect("a pass has rows"));
    match rows.as_slice() {
        [row] => Ok(row.shallow_clone()),
        _ => Tensor::f_cat(&rows, 0),
    }
}
