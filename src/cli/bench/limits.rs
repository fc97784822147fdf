//! The model's methods in a loop: what the device could do if nothing else were in the way.

use serde_json::{Value, json};

use super::super::{CommandError, output};
use crate::{
    app,
    config::Settings,
    inference::limits::{Limit, Limits, LimitsOptions},
};

/// Measures the default model of the settings on each device.
///
/// # Errors
/// When it can't be loaded.
pub(super) async fn measure(settings: &Settings) -> Result<Limits, CommandError> {
    let options = LimitsOptions {
        models_dir: settings.models_dir()?,
        model: settings.orfeas_default_model.clone(),
        device: settings.device()?,
        cpu_threads: app::open::cpu_threads(),
    };
    Ok(app::open::blocking(move || crate::inference::limits::measure(options)).await?)
}

/// Prints the limits.
pub(super) fn show(limits: &Limits, json: bool) {
    let ms = |limit: &Limit| limit.pass.as_secs_f64() * 1000.0;
    if json {
        let rows = |limits: &[Limit]| -> Vec<Value> {
            let row = |limit: &Limit| json!({ "rows": limit.rows, "points": limit.points, "passMs": ms(limit) });
            limits.iter().map(row).collect()
        };
        let told = json!({ "device": limits.device, "encode": rows(&limits.encode), "denoise": rows(&limits.denoise), "query": rows(&limits.query) });
        return output::line(&told.to_string());
    }
    output::line(&format!(
        "The model alone in a loop on {}:\n",
        limits.device
    ));
    for (method, limits) in [("encode", &limits.encode), ("denoise", &limits.denoise)] {
        if limits.is_empty() {
            continue;
        }
        output::line(&format!("| pictures | {method} ms | ms a picture |"));
        output::line("|---|---|---|");
        for limit in limits {
            #[expect(clippy::cast_precision_loss, reason = "a handful of pictures")]
            let each = ms(limit) / limit.rows as f64;
            output::line(&format!(
                "| {} | {:.2} | {each:.2} |",
                limit.rows,
                ms(limit)
            ));
        }
        output::line("");
    }
    output::line("| rows | points each | query ms | ns a point |");
    output::line("|---|---|---|---|");
    for limit in &limits.query {
        #[expect(clippy::cast_precision_loss, reason = "a few million points")]
        let each = ms(limit) * 1e6 / (limit.rows * limit.points) as f64;
        output::line(&format!(
            "| {} | {} | {:.2} | {each:.2} |",
            limit.rows,
            limit.points,
            ms(limit)
        ));
    }
    output::line("");
}
