//! Passes in a loop; see [`super::super::limits`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tch::Tensor;

use super::{
    super::{
        backend::{Backend as _, Beginning, Denoising, Portion, UnderWay, Want},
        catalog::Catalog,
        error::EngineError,
        limits::{Limit, Limits, LimitsOptions},
        manifest::Manifest,
    },
    TorchBackend,
    check::inputs::{cloud, noise},
    devices,
};

/// Batch sizes that are tried, as far as the model allows.
const PICTURES: [usize; 6] = [1, 2, 4, 8, 16, 32];
/// Rows and points of each that are tried, as far as a pass may have them.
const QUERIES: [(usize, usize); 7] = [
    (1, 4096),
    (1, 16_384),
    (1, 131_072),
    (1, 524_288),
    (8, 8192),
    (8, 65_536),
    (32, 16_384),
];
/// A kind of pass is repeated for about this long.
const MEASURED: Duration = Duration::from_millis(400);
/// But at least this often.
const REPEATS_MIN: u32 = 3;

/// As [`super::super::limits::measure`].
pub fn measure_limits(options: LimitsOptions) -> Result<Limits, EngineError> {
    let devices = devices::choose(&options.device)?;
    let id = devices[0];
    let catalog = Catalog::find(&options.models_dir)?;
    let served = catalog.served();
    let model = served.iter().find(|served| *served.name == *options.model);
    let model = model.ok_or_else(|| EngineError::ModelUnavailable {
        model: options.model.clone(),
        source: None,
    })?;
    let mut backend = TorchBackend::on(id, options.cpu_threads)?;
    let number = backend
        .load(model)
        .map_err(|error| EngineError::ModelUnavailable {
            model: options.model,
            source: Some(Arc::new(error)),
        })?;
    let manifest = &model.manifest;
    let pictures: Vec<_> = (0..PICTURES[PICTURES.len() - 1] as u64)
        .map(|seed| noise(seed, manifest.input.values()))
        .collect();
    let mut encode = Vec::new();
    let mut codes = Vec::new();
    for rows in PICTURES
        .into_iter()
        .filter(|&rows| rows <= manifest.batch.images_max)
    {
        let batch: Vec<&[f32]> = pictures[..rows].iter().map(Vec::as_slice).collect();
        let mut begin = || backend.encode(number, &batch);
        codes = begin()?.land()?.into_iter().collect::<Result<_, _>>()?;
        let pass = in_a_loop(&mut begin)?;
        encode.push(Limit {
            rows,
            points: 0,
            pass,
        });
    }
    let denoise = denoise(&mut backend, number, manifest, &codes)?;
    codes.truncate(1);
    let codes = backend.shortest(number, manifest, codes)?;
    let mut query = Vec::new();
    for (rows, points) in QUERIES {
        if rows * points > backend.points_per_pass(number) {
            continue;
        }
        let cloud = cloud(1, points);
        let portions: Vec<Portion<'_, Tensor>> = (0..rows)
            .map(|row| Portion {
                codes: &codes[row % codes.len()],
                points: &cloud,
                want: Want::Logits,
            })
            .collect();
        let mut begin = || backend.query(number, &portions, points);
        begin()?.land()?;
        let pass = in_a_loop(&mut begin)?;
        query.push(Limit { rows, points, pass });
    }
    Ok(Limits {
        device: backend.name.clone(),
        encode,
        denoise,
        query,
    })
}

/// Denoising steps of as many rows as there are pictures in a batch; none of a model that does not iterate.
fn denoise(
    backend: &mut TorchBackend,
    model: usize,
    manifest: &Manifest,
    codes: &[Tensor],
) -> Result<Vec<Limit>, EngineError> {
    let Some(limits) = manifest.sampling() else {
        return Ok(Vec::new());
    };
    let sampling = limits.shortest(0);
    let mut measured = Vec::new();
    for rows in PICTURES.into_iter().filter(|&rows| rows <= codes.len()) {
        let beginning = |codes| Beginning {
            codes,
            seed: sampling.seed,
        };
        let beginnings: Vec<_> = codes[..rows].iter().map(beginning).collect();
        let begun = backend.begin(model, &beginnings)?.land()?;
        let latents = begun.into_iter().collect::<Result<Vec<_>, _>>()?;
        let pairs = latents.iter().zip(codes);
        let row = |(latents, codes)| Denoising {
            latents,
            codes,
            step: 0,
            sampling,
        };
        let denoising: Vec<_> = pairs.map(row).collect();
        let mut begin = || backend.denoise(model, &denoising);
        begin()?.land()?;
        let pass = in_a_loop(&mut begin)?;
        measured.push(Limit {
            rows,
            points: 0,
            pass,
        });
    }
    Ok(measured)
}

/// The time of one pass of many, each begun before the one before it has landed.
fn in_a_loop<T: 'static>(
    begin: &mut impl FnMut() -> Result<UnderWay<T>, EngineError>,
) -> Result<Duration, EngineError> {
    let began = Instant::now();
    let mut ahead = begin()?;
    let mut repeats = 1;
    while repeats < REPEATS_MIN || began.elapsed() < MEASURED {
        let next = begin()?;
        ahead.land()?;
        ahead = next;
        repeats += 1;
    }
    ahead.land()?;
    Ok(began.elapsed() / repeats)
}
