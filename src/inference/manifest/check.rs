//! The bounds of a manifest's values.

use std::{fmt, path::Path};

use super::{DevicePlan, Input, Manifest, ModelError, ModelFile, Resolution};

/// Field samples along the longest axis that the contract lets a client ask for.
const RESOLUTION_RANGE: std::ops::RangeInclusive<u32> = 32..=512;
/// Input sides: below 16 pixels no object can be told; above 4,096 one image is 200 MB of `f32`.
const SIDE_RANGE: std::ops::RangeInclusive<u32> = 16..=4096;
/// Larger GPU batches than this gain nothing on any card measured, and cost waiting.
const IMAGES_MAX: usize = 256;
/// From one small block to 16 Mi points (200 MB of coordinates) in one pass.
const POINTS_PER_PASS_RANGE: std::ops::RangeInclusive<usize> = 256..=1 << 24;
/// Checks every value of a manifest.
///
/// # Errors
/// [`ModelError::Value`] for the first that is wrong.
pub(super) fn check(manifest: &Manifest) -> Result<(), ModelError> {
    // Destructured without `..`, so that a new key cannot be left unchecked.
    let Manifest {
        name,
        contract: _,
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
    check_points("cuda.points_per_pass", cuda)
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
    let (least, most) = (RESOLUTION_RANGE.start(), RESOLUTION_RANGE.end());
    require(
        "resolution.min",
        min,
        RESOLUTION_RANGE.contains(&min),
        || format!("{least} to {most}"),
    )?;
    require("resolution.max", max, (min..=*most).contains(&max), || {
        format!("{min} (the least) to {most}")
    })?;
    require(
        "resolution.default",
        default,
        (min..=max).contains(&default),
        || format!("{min} to {max}"),
    )
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
