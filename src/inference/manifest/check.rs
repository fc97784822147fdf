//! The bounds of a manifest's values.

use std::{fmt, path::Path};

use super::{Contract, DevicePlan, Input, Manifest, ModelError, ModelFile, Resolution, Span};

/// Field samples along the longest axis that the contract lets a client ask for.
const RESOLUTION_RANGE: std::ops::RangeInclusive<u32> = 32..=512;
/// Input sides: below 16 pixels no object can be told; above 4,096 one image is 200 MB of `f32`.
const SIDE_RANGE: std::ops::RangeInclusive<u32> = 16..=4096;
/// Larger GPU batches than this gain nothing on any card measured, and cost waiting.
const IMAGES_MAX: usize = 256;
/// From one small block to 16 Mi points (200 MB of coordinates) in one pass.
const POINTS_PER_PASS_RANGE: std::ops::RangeInclusive<usize> = 256..=1 << 24;
/// Denoising steps: the longest schedules that models are trained with have a thousand.
const STEPS_RANGE: std::ops::RangeInclusive<u32> = 1..=1000;
/// Guidance: what is called so in published models lies between 0 and 20.
const GUIDANCE_RANGE: std::ops::RangeInclusive<f64> = 0.0..=100.0;

/// Checks every value of a manifest.
///
/// # Errors
/// [`ModelError::Value`] for the first that is wrong.
pub(super) fn check(manifest: &Manifest) -> Result<(), ModelError> {
    // Destructured without `..`, so that a new key cannot be left unchecked.
    let Manifest {
        name,
        contract,
        description,
        licence,
        matte: _,
        file,
        input,
        field,
        resolution,
        batch,
        cpu,
        cuda,
        steps,
        guidance,
        accuracy: _,
    } = manifest;
    let plain = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    require(
        "name",
        name,
        (1..=64).contains(&name.len()) && plain(name),
        || "1 to 64 lower-case letters, digits and hyphens".into(),
    )?;
    require(
        "description",
        description,
        !description.trim().is_empty(),
        || "a sentence".into(),
    )?;
    require("licence", licence, !licence.trim().is_empty(), || {
        "an SPDX expression".into()
    })?;
    check_file(file)?;
    check_input(input)?;
    require(
        "field.iso_level",
        field.iso_level,
        field.iso_level.is_finite(),
        || "a finite number".into(),
    )?;
    check_resolution(resolution)?;
    require(
        "batch.images_max",
        batch.images_max,
        (1..=IMAGES_MAX).contains(&batch.images_max),
        || format!("1 to {IMAGES_MAX}"),
    )?;
    check_points("cpu.points_per_pass", cpu)?;
    check_points("cuda.points_per_pass", cuda)?;
    check_sampling(*contract, *steps, *guidance)
}

fn require(
    key: &'static str,
    value: impl fmt::Display,
    holds: bool,
    expected: impl FnOnce() -> String,
) -> Result<(), ModelError> {
    if holds {
        Ok(())
    } else {
        Err(ModelError::Value {
            key,
            value: format!("`{value}`"),
            expected: expected(),
        })
    }
}

fn check_file(file: &ModelFile) -> Result<(), ModelError> {
    // A manifest must not reach outside its folder.
    let plain = Path::new(&file.name)
        .file_name()
        .is_some_and(|name| name == file.name.as_str());
    require("file.name", &file.name, plain, || {
        "a file name without folders".into()
    })?;
    let hex = file.sha256.len() == 64
        && file
            .sha256
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    require("file.sha256", &file.sha256, hex, || {
        "64 lower-case hex digits".into()
    })
}

fn check_input(input: &Input) -> Result<(), ModelError> {
    let sides = || format!("{} to {} pixels", SIDE_RANGE.start(), SIDE_RANGE.end());
    require(
        "input.height",
        input.height,
        SIDE_RANGE.contains(&input.height),
        sides,
    )?;
    require(
        "input.width",
        input.width,
        SIDE_RANGE.contains(&input.width),
        sides,
    )?;
    let [red, green, blue] = input.background;
    let colour = input
        .background
        .iter()
        .all(|part| (0.0..=1.0).contains(part));
    require(
        "input.background",
        format!("{red}, {green}, {blue}"),
        colour,
        || "three numbers from 0 to 1".into(),
    )?;
    require(
        "input.fill",
        input.fill,
        (0.1..=1.0).contains(&input.fill),
        || "from 0.1 to 1".into(),
    )
}

fn check_resolution(resolution: &Resolution) -> Result<(), ModelError> {
    let Resolution { default, min, max } = *resolution;
    let keys = ["resolution.min", "resolution.max", "resolution.default"];
    check_span(keys, Span { default, min, max }, &RESOLUTION_RANGE)
}

fn check_points(key: &'static str, plan: &DevicePlan) -> Result<(), ModelError> {
    let (least, most) = (POINTS_PER_PASS_RANGE.start(), POINTS_PER_PASS_RANGE.end());
    require(
        key,
        plan.points_per_pass,
        POINTS_PER_PASS_RANGE.contains(&plan.points_per_pass),
        || format!("{least} to {most}"),
    )
}

/// A table that the contract knows no use for is a mistake about the contract.
fn check_sampling(
    contract: Contract,
    steps: Option<Span<u32>>,
    guidance: Option<Span<f64>>,
) -> Result<(), ModelError> {
    let there = |is_there: bool| if is_there { "there" } else { "not there" };
    let wanted = contract == Contract::ImplicitField2;
    require(
        "steps",
        there(steps.is_some()),
        steps.is_some() == wanted,
        || format!("{} in {contract}", there(wanted)),
    )?;
    require(
        "guidance",
        there(guidance.is_some()),
        wanted || guidance.is_none(),
        || format!("not there in {contract}"),
    )?;
    if let Some(steps) = steps {
        let keys = ["steps.min", "steps.max", "steps.default"];
        check_span(keys, steps, &STEPS_RANGE)?;
    }
    if let Some(guidance) = guidance {
        let keys = ["guidance.min", "guidance.max", "guidance.default"];
        check_span(keys, guidance, &GUIDANCE_RANGE)?;
    }
    Ok(())
}

/// A span inside of `range`, in order. `keys` are those of its least, its greatest and its default.
fn check_span<T: PartialOrd + Copy + fmt::Display>(
    keys: [&'static str; 3],
    span: Span<T>,
    range: &std::ops::RangeInclusive<T>,
) -> Result<(), ModelError> {
    let Span { default, min, max } = span;
    let [min_key, max_key, default_key] = keys;
    let (least, most) = (*range.start(), *range.end());
    let within = |from: T, to: T| format!("{from} to {to}");
    require(min_key, min, range.contains(&min), || within(least, most))?;
    require(max_key, max, (min..=most).contains(&max), || {
        within(min, most)
    })?;
    require(default_key, default, (min..=max).contains(&default), || {
        within(min, max)
    })
}
