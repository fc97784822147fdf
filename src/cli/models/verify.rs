//! `orfeas models verify`: does a model keep its contract, and how good is it?

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::Args;
use serde_json::json;

use super::{
    super::{CommandError, output, output::Bars, program},
    report,
};
use crate::{
    app,
    config::Settings,
    conversion::options::RESOLUTION,
    evaluation::{
        run::{EvaluationOptions, Measured, measure},
        set::{EvaluationSet, SET_FILE},
        summary::Summary,
    },
    inference::{
        contract::{self, Examination, Examined},
        manifest::Manifest,
    },
    pipeline::Tools,
};

/// Where a model's folder may hold a set of its own.
const OWN_SET: &str = "validation";

/// Options of `orfeas models verify`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// A model's own folder, or one with a folder for each model; default: the settings'.
    folder: Option<PathBuf>,
    /// A folder with `set.json`, pictures and their true meshes; default: `validation` in the model's folder, if there is one.
    #[arg(long, value_name = "FOLDER")]
    set: Option<PathBuf>,
    /// Measure on so many views only, spread evenly over the set.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Field samples along an axis; default: the model's.
    #[arg(long, value_parser = clap::value_parser!(u32).range(i64::from(*RESOLUTION.start())..=i64::from(*RESOLUTION.end())))]
    resolution: Option<u32>,
    /// Fail below this mean IoU, 0 to 1.
    #[arg(long, value_parser = share)]
    min_iou: Option<f64>,
    /// Print JSON, with every view.
    #[arg(long)]
    json: bool,
}

fn share(text: &str) -> Result<f64, String> {
    let value = text.parse().map_err(|_| "it must be a number".to_owned())?;
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err("it must lie in 0..1".into())
    }
}

/// A model with the set to measure it on, and then with what came of it.
struct Verified<'a> {
    model: &'a Examined,
    set: Option<Arc<EvaluationSet>>,
    measured: Vec<Measured>,
}

/// Examines, measures and reports.
///
/// # Errors
/// When there is no model, a set can't be used, or the engine does not start.
pub(super) async fn run(settings: Settings, options: Options) -> Result<ExitCode, CommandError> {
    let settings = Settings {
        orfeas_models_dir: Some(match &options.folder {
            Some(folder) => folder.clone(),
            None => settings.models_dir()?,
        }),
        ..settings
    };
    // A set that can't be used is told before anything takes its time.
    let common = match &options.set {
        Some(folder) => Some(open(folder, &options)?),
        None => None,
    };
    let examination = examine(&settings).await?;
    if !options.json {
        report::contract(&examination);
    }
    let mut all = Vec::new();
    for model in &examination.models {
        let set = match &common {
            _ if !model.keeps_its_contract() => None,
            Some(set) => Some(Arc::clone(set)),
            None => own_set(&model.folder, &options)?,
        };
        all.push(Verified {
            model,
            set,
            measured: Vec::new(),
        });
    }
    measure_all(settings, &options, &mut all).await?;
    tell(&examination, &all, &options);
    verdict(&all, options.min_iou)
}

async fn examine(settings: &Settings) -> Result<Examination, CommandError> {
    let folder = settings.models_dir()?;
    let device = settings.device()?;
    let threads = app::open::cpu_threads();
    let shown = folder.display().to_string();
    let work = move || contract::examine(&folder, &device, threads);
    let examination = app::open::blocking(work).await?;
    if examination.models.is_empty() {
        return Err(
            format!("{shown} holds no model: neither a model.toml nor a folder with one").into(),
        );
    }
    Ok(examination)
}

fn own_set(folder: &Path, options: &Options) -> Result<Option<Arc<EvaluationSet>>, CommandError> {
    let folder = folder.join(OWN_SET);
    if folder.join(SET_FILE).is_file() {
        open(&folder, options).map(Some)
    } else {
        Ok(None)
    }
}

fn open(folder: &Path, options: &Options) -> Result<Arc<EvaluationSet>, CommandError> {
    let mut set = EvaluationSet::open(folder)?;
    if let Some(limit) = options.limit {
        set.thin_out(limit as usize);
    }
    Ok(Arc::new(set))
}

/// Measures each model that has a set, through one engine.
async fn measure_all(
    settings: Settings,
    options: &Options,
    all: &mut [Verified<'_>],
) -> Result<(), CommandError> {
    let Some(first) = all.iter().find(|each| each.set.is_some()) else {
        return Ok(());
    };
    let settings = Settings {
        // The settings' default need not be among these.
        orfeas_default_model: first.model.name.clone(),
        ..settings
    };
    let engine = app::open::engine(&settings).await?;
    let tools = app::open::tools(&settings, engine.clone(), program()?)?;
    for each in all {
        if let Some(set) = &each.set {
            each.measured = views(&tools, options, &each.model.name, set).await?;
        }
    }
    engine.stop().await;
    Ok(())
}

async fn views(
    tools: &Tools,
    options: &Options,
    model: &str,
    set: &Arc<EvaluationSet>,
) -> Result<Vec<Measured>, CommandError> {
    let evaluation = EvaluationOptions {
        model: model.to_owned(),
        resolution: options.resolution,
    };
    let mut bars = (!options.json).then(|| Bars::new(std::slice::from_ref(&set.name)));
    let count = set.views.len();
    let mut all = Vec::with_capacity(count);
    for view in &set.views {
        let measured = measure(tools, &evaluation, set, view).await?;
        all.push(measured);
        if let Some(bars) = &mut bars {
            #[expect(clippy::cast_precision_loss, reason = "a list in memory")]
            let share = all.len() as f64 / count as f64;
            bars.set(0, share, &format!("{} of {count} views", all.len()));
        }
    }
    if let Some(bars) = bars {
        bars.finish();
    }
    Ok(all)
}

fn tell(examination: &Examination, all: &[Verified<'_>], options: &Options) {
    let resolution = |model: &Examined| {
        let default = |manifest: &Arc<Manifest>| manifest.resolution.default;
        options
            .resolution
            .or_else(|| model.manifest.as_ref().map(default))
    };
    if options.json {
        let models: Vec<_> = all
            .iter()
            .map(|each| {
                let mut model = report::examined_json(each.model);
                model["measured"] = match &each.set {
                    Some(set) => report::measured_json(set, resolution(each.model), &each.measured),
                    None => json!(null),
                };
                model
            })
            .collect();
        let device = examination.device.to_string();
        output::line(&json!({ "device": device, "models": models }).to_string());
        return;
    }
    for Verified {
        model,
        set,
        measured,
    } in all
    {
        match set {
            Some(set) => report::measured(&model.name, set, resolution(model), measured),
            None if model.keeps_its_contract() => output::line(&format!(
                "\n{} was only checked, not measured: name a set by --set, or put one into {OWN_SET}/ in its folder.",
                model.name
            )),
            None => {}
        }
    }
}

fn verdict(all: &[Verified<'_>], min_iou: Option<f64>) -> Result<ExitCode, CommandError> {
    let mut code = ExitCode::SUCCESS;
    for each in all {
        if !each.model.keeps_its_contract() {
            code = ExitCode::FAILURE;
            continue;
        }
        let Some(least) = min_iou else {
            continue;
        };
        if each.measured.is_empty() {
            return Err(format!(
                "--min-iou can't be held against {}, which was not measured: name a set by --set",
                each.model.name
            )
            .into());
        }
        let found = Summary::of(&each.measured).overall.score.iou;
        if found < least {
            output::complain(&format!(
                "{}: the mean IoU is {found:.3}, less than {least}",
                each.model.name
            ));
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}
