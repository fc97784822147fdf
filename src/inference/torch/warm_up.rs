//! Each pass once before anybody waits for it, and what it costs.

use std::time::{Duration, Instant};

use tch::Tensor;
use tracing::{debug, warn};

use super::{
    super::{
        backend::{Backend as _, Beginning, Denoising, Portion, Want},
        error::EngineError,
        manifest::{Manifest, ModelError},
        measurements::Subject,
        memory::{Lesson, Measured, Measurement, MemoryNow, sizes},
    },
    TorchBackend,
    check::inputs::{cloud, noise},
};

/// Sizes of query passes that are tried, as far as the model's plan allows.
const POINTS: [usize; 5] = [65_536, 131_072, 262_144, 524_288, 1_048_576];
/// Conversions that share a measured query pass.
const ROWS: usize = 8;
/// A larger pass must make a point at least this much cheaper: it makes small conversions wait behind it.
const POINTS_GAIN_MIN: f64 = 0.1;
/// Runs of each size; the quickest counts.
const REPEATS: usize = 3;

/// Runs a pass of so many once and tells its time.
type Pass<'a> = &'a dyn Fn(&mut TorchBackend, usize) -> Result<Duration, EngineError>;

impl TorchBackend {
    /// Runs each batch size until it is warm; measures it, unless that was done at an earlier start. On a CPU the check
    /// of the contract has warmed the only size there is, and there is nothing to choose by measurement. What running out
    /// of memory has taught at earlier starts holds on any device.
    ///
    /// # Errors
    /// [`ModelError::Contract`] if a pass fails otherwise than for want of memory.
    pub(super) fn warm_up(
        &mut self,
        model: usize,
        manifest: &Manifest,
        images_max: usize,
        free_loaded: Option<u64>,
    ) -> Result<Measured, ModelError> {
        let subject = self.subject(model, manifest, images_max);
        let kept = self.measurements.as_ref();
        // What was learned may be all there is: of a CPU, or where the rest was deleted.
        let mut measured = kept
            .and_then(|kept| kept.find(&subject))
            .unwrap_or_default();
        if self.shares_passes() {
            let known = !measured.rows().is_empty();
            let again = |backend: &mut Self, measured: &mut Measured, one: Pass<'_>| match known {
                true => backend.run_again(measured, images_max, one),
                false => backend.measure(measured, images_max, free_loaded, one),
            };
            let encode =
                &|backend: &mut Self, images| backend.encode_noise(model, manifest, images);
            self.loaded_mut(model).warm = again(self, &mut measured, encode)?;
            if manifest.sampling().is_some() {
                let denoise =
                    &|backend: &mut Self, rows| backend.denoise_noise(model, manifest, rows);
                let steps = measured.denoise.get_or_insert_default();
                self.loaded_mut(model).warm_steps = again(self, steps, denoise)?;
            }
            if known {
                debug!(device = %self.id, "Model {} was measured at an earlier start", manifest.name);
            } else {
                let worthwhile = self.points_worthwhile(model, manifest).map_err(failed(1))?;
                if let Some(points) = worthwhile {
                    measured.learn(Lesson::Points(points));
                }
                if let Some(kept) = &self.measurements {
                    kept.keep(&subject, &measured);
                }
            }
        }
        self.limit_points(model, measured.points_worthwhile);
        self.loaded_mut(model).subject = Some(subject);
        Ok(measured)
    }

    /// Runs the sizes that were measured at an earlier start, as far as they fit today, and says which those are.
    fn run_again(
        &mut self,
        measured: &mut Measured,
        images_max: usize,
        one: Pass<'_>,
    ) -> Result<Vec<usize>, ModelError> {
        measured.cut_above(measured.images_max(images_max));
        let mut fitting = Vec::new();
        for row in measured.rows() {
            match one(self, row.images) {
                Ok(_) => fitting.push(row.images),
                Err(EngineError::OutOfMemory { .. }) if !fitting.is_empty() => {
                    warn!(device = %self.id, images = row.images, "A batch of {} does not fit on {} any more", row.images, self.id);
                    break;
                }
                Err(error) => return Err(failed(row.images)(error)),
            }
        }
        // Others may have taken memory for today: what is kept stays as it is.
        measured.cut_above(fitting.last().copied().unwrap_or(0));
        Ok(fitting)
    }

    /// Runs each size, measures it, and says which have run. Ends where a size does not fit.
    fn measure(
        &mut self,
        measured: &mut Measured,
        images_max: usize,
        free_loaded: Option<u64>,
        one: Pass<'_>,
    ) -> Result<Vec<usize>, ModelError> {
        let mut fitting = Vec::new();
        let images_max = measured.images_max(images_max);
        for images in sizes(images_max) {
            // The first run chooses kernels and takes memory.
            let mut run = || -> Result<Duration, EngineError> {
                one(self, images)?;
                let mut best = Duration::MAX;
                for _ in 0..REPEATS {
                    best = best.min(one(self, images)?);
                }
                Ok(best)
            };
            match run() {
                Ok(encode) => {
                    let taken = |now: MemoryNow| Some(free_loaded?.saturating_sub(now.free_bytes));
                    let bytes = self.memory().and_then(taken).unwrap_or(0);
                    measured.push(Measurement {
                        images,
                        encode,
                        bytes,
                    });
                    fitting.push(images);
                }
                Err(EngineError::OutOfMemory { .. }) if images > 1 => {
                    warn!(device = %self.id, images, "A batch of {images} does not fit on {}", self.id);
                    break;
                }
                Err(error) => return Err(failed(images)(error)),
            }
        }
        Ok(fitting)
    }

    /// The time of one encode by itself.
    fn encode_noise(
        &mut self,
        model: usize,
        manifest: &Manifest,
        images: usize,
    ) -> Result<Duration, EngineError> {
        let picture = noise(images as u64, manifest.input.values());
        let batch = vec![picture.as_slice(); images];
        let began = Instant::now();
        self.encode(model, &batch)?.land()?;
        Ok(began.elapsed())
    }

    /// The time of one denoising step by itself, of so many rows.
    fn denoise_noise(
        &mut self,
        model: usize,
        manifest: &Manifest,
        rows: usize,
    ) -> Result<Duration, EngineError> {
        let limits = manifest.sampling();
        let sampling = limits
            .expect("only an iterative model has steps")
            .shortest(1);
        let codes = self.noise_codes(model, manifest)?;
        let beginning = || Beginning {
            codes: &codes,
            seed: sampling.seed,
        };
        let beginnings: Vec<_> = (0..rows).map(|_| beginning()).collect();
        let begun = self.begin(model, &beginnings)?.land()?;
        let latents = begun.into_iter().collect::<Result<Vec<_>, _>>()?;
        let denoising = |latents| Denoising {
            latents,
            codes: &codes,
            step: 0,
            sampling,
        };
        let rows: Vec<_> = latents.iter().map(denoising).collect();
        let began = Instant::now();
        self.denoise(model, &rows)?.land()?;
        Ok(began.elapsed())
    }

    /// The codes of a picture of noise.
    fn noise_codes(&mut self, model: usize, manifest: &Manifest) -> Result<Tensor, EngineError> {
        let picture = noise(1, manifest.input.values());
        let rows = self.encode(model, &[&picture])?.land()?;
        rows.into_iter().next().expect("one picture has one row")
    }

    /// The smallest pass of queries whose points cost about as little as in the best.
    fn points_worthwhile(
        &mut self,
        model: usize,
        manifest: &Manifest,
    ) -> Result<Option<usize>, EngineError> {
        let codes = self.noise_codes(model, manifest)?;
        let codes = self.shortest(model, manifest, vec![codes])?.remove(0);
        let mut costs = Vec::new();
        for points in POINTS {
            if points > self.points_per_pass(model) {
                break;
            }
            let cloud = cloud(1, points / ROWS);
            let mut best = Duration::MAX;
            for _ in 0..=REPEATS {
                let portions: Vec<_> = (0..ROWS)
                    .map(|_| Portion {
                        codes: &codes,
                        points: &cloud,
                        want: Want::LogitsAndColors,
                    })
                    .collect();
                let began = Instant::now();
                match self
                    .query(model, &portions, cloud.len())
                    .and_then(|pass| pass.land())
                {
                    Ok(_) => best = best.min(began.elapsed()),
                    Err(EngineError::OutOfMemory { .. }) => return Ok(cheapest(&costs)),
                    Err(error) => return Err(error),
                }
            }
            costs.push((points, best.as_secs_f64() / points as f64));
        }
        Ok(cheapest(&costs))
    }

    fn subject(&self, model: usize, manifest: &Manifest, images_max: usize) -> Subject {
        let plan = &self.loaded(model).plan;
        Subject {
            model_sha256: manifest.file.sha256.clone(),
            plan: format!("{:?}, {}", plan.dtype, plan.points_per_pass),
            device: self.name.clone(),
            device_bytes: self.memory().map_or(0, |memory| memory.total_bytes),
            torch: super::super::cuda::torch_version().unwrap_or_default(),
            images_max,
        }
    }
}

/// The smallest number of points within the gain of the best.
fn cheapest(costs: &[(usize, f64)]) -> Option<usize> {
    let best = costs
        .iter()
        .map(|(_, cost)| *cost)
        .fold(f64::INFINITY, f64::min);
    let enough = |&&(_, cost): &&(usize, f64)| cost <= best * (1.0 + POINTS_GAIN_MIN);
    costs.iter().find(enough).map(|(points, _)| *points)
}

fn failed(images: usize) -> impl Fn(EngineError) -> ModelError {
    move |error| ModelError::Contract {
        reason: format!("a batch of {images} failed: {error}"),
    }
}
