//! What `orfeas models verify` prints.

use serde_json::{Value, json};

use super::super::output;
use crate::{
    evaluation::{
        run::Measured,
        set::EvaluationSet,
        summary::{Means, Summary},
    },
    inference::contract::{Examination, Examined, Verdict},
    mesh::compare::Score,
};

/// A line for each promise of each model, and one that says what follows.
pub(super) fn contract(examination: &Examination) {
    for (at, model) in examination.models.iter().enumerate() {
        if at > 0 {
            output::line("");
        }
        output::line(&format!("{} on {}", model.name, examination.device));
        for finding in &model.findings {
            let (mark, says) = match &finding.verdict {
                Verdict::Kept(says) => ("ok", says),
                Verdict::Broken(says) => ("WRONG", says),
                Verdict::Untried(says) => ("-", says),
            };
            output::line(&format!("  {mark:<6} {:<9} {says}", finding.check.label()));
        }
        output::line(if model.keeps_its_contract() {
            "It keeps its contract."
        } else {
            "It breaks its contract."
        });
    }
}

/// The same for a program.
pub(super) fn examined_json(model: &Examined) -> Value {
    let checks: Vec<_> = model
        .findings
        .iter()
        .map(|finding| {
            let (result, says) = match &finding.verdict {
                Verdict::Kept(says) => ("kept", says),
                Verdict::Broken(says) => ("broken", says),
                Verdict::Untried(says) => ("untried", says),
            };
            json!({ "check": finding.check.label(), "result": result, "detail": says })
        })
        .collect();
    json!({
        "name": model.name,
        "keepsContract": model.keeps_its_contract(),
        "checks": checks,
    })
}

/// A table by category and overall, and the views that say most.
pub(super) fn measured(
    model: &str,
    set: &EvaluationSet,
    resolution: Option<u32>,
    all: &[Measured],
) {
    let summary = Summary::of(all);
    let samples =
        resolution.map_or_else(String::new, |samples| format!(" at resolution {samples}"));
    output::line(&format!(
        "\n{model} on {}: {} views{samples}, {:.2} s for the median conversion\n",
        set.name,
        all.len(),
        summary.took_median.as_secs_f64()
    ));
    let width = summary
        .categories
        .keys()
        .map(|category| category.chars().count())
        .chain(["category".len()])
        .max()
        .unwrap_or_default();
    output::line(&format!(
        "{:<width$}  views  failed    IoU  Chamfer  F 0.05   F 0.1  silhouette  colour",
        "category"
    ));
    for (category, means) in &summary.categories {
        row(category, width, means);
    }
    row("overall", width, &summary.overall);
    output::line("\nThe worst by IoU:");
    for each in &summary.worst {
        output::line(&format!(
            "  {:.3}  {} ({}), {}",
            each.score.iou, each.view.name, each.view.category, each.view.picture
        ));
    }
    if summary.overall.failed > 0 {
        output::line("\nWithout a mesh, counted as IoU 0:");
        for each in all {
            if let Some(failure) = &each.failure {
                output::line(&format!(
                    "  {} ({}), {}: {failure}",
                    each.view.name, each.view.category, each.view.picture
                ));
            }
        }
    }
}

fn row(name: &str, width: usize, means: &Means) {
    let Means {
        views,
        failed,
        score,
    } = means;
    let Score {
        iou,
        chamfer,
        f_scores: [near, far],
        silhouette_iou,
        color_error,
    } = score;
    output::line(&format!(
        "{name:<width$}  {views:>5}  {failed:>6}  {iou:.3}   {chamfer:.4}   {near:.3}   {far:.3}       {silhouette_iou:.3}   {color_error:.3}"
    ));
}

/// Everything of a set, and of every view, for a program.
pub(super) fn measured_json(
    set: &EvaluationSet,
    resolution: Option<u32>,
    all: &[Measured],
) -> Value {
    let summary = Summary::of(all);
    let categories: serde_json::Map<_, _> = summary
        .categories
        .iter()
        .map(|(category, means)| ((*category).to_owned(), means_json(means)))
        .collect();
    let worst: Vec<_> = summary
        .worst
        .iter()
        .map(|each| json!({ "name": each.view.name, "picture": each.view.picture, "iou": each.score.iou }))
        .collect();
    json!({
        "set": set.name,
        "folder": set.folder,
        "resolution": resolution,
        "medianSeconds": summary.took_median.as_secs_f64(),
        "overall": means_json(&summary.overall),
        "categories": categories,
        "worst": worst,
        "views": all.iter().map(view_json).collect::<Vec<_>>(),
    })
}

fn means_json(means: &Means) -> Value {
    let mut value = score_json(&means.score);
    value["views"] = json!(means.views);
    value["failed"] = json!(means.failed);
    value
}

fn view_json(measured: &Measured) -> Value {
    let Measured {
        view,
        took,
        score,
        failure,
    } = measured;
    let mut value = score_json(score);
    for (key, of_view) in [
        ("picture", json!(view.picture)),
        ("mesh", json!(view.mesh)),
        ("azimuth", json!(view.azimuth)),
        ("elevation", json!(view.elevation)),
        ("fov", json!(view.fov)),
        ("category", json!(view.category)),
        ("name", json!(view.name)),
        ("source", json!(view.source)),
        ("licence", json!(view.licence)),
        ("seconds", json!(took.as_secs_f64())),
        ("error", json!(failure)),
    ] {
        value[key] = of_view;
    }
    value
}

fn score_json(score: &Score) -> Value {
    let Score {
        iou,
        chamfer,
        f_scores: [near, far],
        silhouette_iou,
        color_error,
    } = score;
    json!({
        "iou": iou,
        "chamfer": chamfer,
        "fScore005": near,
        "fScore01": far,
        "silhouetteIou": silhouette_iou,
        "colorError": color_error,
    })
}
