//! What a client may ask of a conversion, checked once at the edge.

use sea_orm::FromJsonQueryResult;
use serde::{Deserialize, Serialize};

/// A mesh file format.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    sea_orm::EnumIter,
    sea_orm::DeriveActiveEnum,
    async_graphql::Enum,
)]
#[serde(rename_all = "snake_case")]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum MeshFormat {
    /// Binary glTF 2.0, in metres, +Y up.
    Glb,
    /// Wavefront OBJ with vertex colours.
    Obj,
    /// Binary STL, in millimetres, +Z up.
    Stl,
    /// Binary PLY with vertex colours.
    Ply,
    /// 3MF, in millimetres, +Z up.
    ThreeMf,
}

impl MeshFormat {
    /// The usual ending of such a file's name, without the dot.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Glb => "glb",
            Self::Obj => "obj",
            Self::Stl => "stl",
            Self::Ply => "ply",
            Self::ThreeMf => "3mf",
        }
    }

    /// The registered (or, for PLY, customary) media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Glb => "model/gltf-binary",
            Self::Obj => "model/obj",
            Self::Stl => "model/stl",
            Self::Ply => "application/x-ply",
            Self::ThreeMf => "model/3mf",
        }
    }

    /// The format that a file name's ending asks for.
    #[must_use]
    pub fn from_extension(extension: &str) -> Option<Self> {
        [Self::Glb, Self::Obj, Self::Stl, Self::Ply, Self::ThreeMf]
            .into_iter()
            .find(|format| format.extension().eq_ignore_ascii_case(extension))
    }
}

/// How the surface is coloured.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, async_graphql::Enum,
)]
#[serde(rename_all = "snake_case")]
pub enum TextureMode {
    /// No colours.
    None,
    /// One colour per vertex.
    #[default]
    VertexColor,
}

/// The options of one conversion, as accepted and stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(rename_all = "camelCase")]
pub struct ConversionOptions {
    /// Without repetition, at least one.
    pub formats: Vec<MeshFormat>,
    /// Field samples along an axis of the model's volume; `None`: the model's default.
    pub resolution: Option<u32>,
    /// Simplify to at most this many triangles.
    pub target_triangles: Option<u32>,
    /// How the surface is coloured.
    pub texture: TextureMode,
    /// `None`: where the picture has no transparency of its own.
    pub remove_background: Option<bool>,
    /// The longest side in millimetres.
    pub size_mm: Option<f64>,
    /// Denoising steps. This and the next two are what an accepted conversion of an iterative model uses, its defaults
    /// filled in; with other models they mean nothing and are not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u32>,
    /// How far the picture pulls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance: Option<f64>,
    /// The same one gives the same mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
}

/// An option out of its range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct OptionError {
    /// The GraphQL name of the option.
    pub field: &'static str,
    /// What would be accepted.
    pub message: String,
}

/// Bounds of [`ConversionOptions::resolution`], from the API contract.
pub const RESOLUTION: std::ops::RangeInclusive<u32> = 32..=512;
/// Fewer triangles can't close most surfaces; more than this no simplification is asked for.
pub const TARGET_TRIANGLES: std::ops::RangeInclusive<u32> = 100..=5_000_000;
/// Seeds of iterative models: the whole numbers of GraphQL that are not negative.
pub const SEED: std::ops::RangeInclusive<u32> = 0..=i32::MAX as u32;
/// The seed of conversions that name none. The same for all, so that the same picture gives the same mesh again.
pub const SEED_DEFAULT: u32 = 0;
/// From a bead to a piece of furniture, in millimetres.
pub const SIZE_MM: std::ops::RangeInclusive<f64> = 1.0..=10_000.0;

impl Default for ConversionOptions {
    fn default() -> Self {
        Self {
            formats: vec![MeshFormat::Glb],
            resolution: None,
            target_triangles: None,
            texture: TextureMode::default(),
            remove_background: None,
            size_mm: None,
            steps: None,
            guidance: None,
            seed: None,
        }
    }
}

impl ConversionOptions {
    /// Checks every range and removes repeated formats. What an iterative model allows is its own to say.
    ///
    /// # Errors
    /// [`OptionError`] for the first option that is out of its range.
    pub fn checked(mut self) -> Result<Self, OptionError> {
        let error = |field, message| Err(OptionError { field, message });
        self.formats.sort_unstable();
        self.formats.dedup();
        if self.formats.is_empty() {
            return error("formats", "ask for at least one mesh format".into());
        }
        if self
            .resolution
            .is_some_and(|value| !RESOLUTION.contains(&value))
        {
            return error(
                "resolution",
                format!(
                    "the resolution must lie in {}..{}",
                    RESOLUTION.start(),
                    RESOLUTION.end()
                ),
            );
        }
        if self
            .target_triangles
            .is_some_and(|value| !TARGET_TRIANGLES.contains(&value))
        {
            return error(
                "targetTriangles",
                format!(
                    "targetTriangles must lie in {}..{}",
                    TARGET_TRIANGLES.start(),
                    TARGET_TRIANGLES.end()
                ),
            );
        }
        if self.seed.is_some_and(|value| !SEED.contains(&value)) {
            return error(
                "seed",
                format!("seed must lie in {}..{}", SEED.start(), SEED.end()),
            );
        }
        if self.size_mm.is_some_and(|value| !SIZE_MM.contains(&value)) {
            return error(
                "sizeMm",
                format!("sizeMm must lie in {}..{}", SIZE_MM.start(), SIZE_MM.end()),
            );
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked_and_repeats_removed() {
        let options = ConversionOptions {
            formats: vec![MeshFormat::Stl, MeshFormat::Glb, MeshFormat::Stl],
            ..Default::default()
        };
        assert_eq!(
            options.checked().expect("valid").formats,
            [MeshFormat::Glb, MeshFormat::Stl]
        );
        let field_of = |options: ConversionOptions| options.checked().map_err(|error| error.field);
        assert_eq!(
            field_of(ConversionOptions {
                formats: vec![],
                ..Default::default()
            }),
            Err("formats")
        );
        assert_eq!(
            field_of(ConversionOptions {
                resolution: Some(31),
                ..Default::default()
            }),
            Err("resolution")
        );
        assert_eq!(
            field_of(ConversionOptions {
                size_mm: Some(f64::NAN),
                ..Default::default()
            }),
            Err("sizeMm")
        );
        assert_eq!(
            field_of(ConversionOptions {
                target_triangles: Some(0),
                ..Default::default()
            }),
            Err("targetTriangles")
        );
        assert_eq!(
            field_of(ConversionOptions {
                seed: Some(1 << 31),
                ..Default::default()
            }),
            Err("seed")
        );
    }

    #[test]
    fn options_that_a_model_does_not_use_leave_no_trace() {
        let text = serde_json::to_string(&ConversionOptions::default()).expect("plain data");
        assert!(!text.contains("steps") && !text.contains("seed"), "{text}");
        let read: ConversionOptions = serde_json::from_str(&text).expect("what was written");
        assert_eq!(read, ConversionOptions::default());
    }

    #[test]
    fn every_format_is_found_by_its_ending() {
        use sea_orm::Iterable;
        for format in MeshFormat::iter() {
            assert_eq!(
                MeshFormat::from_extension(&format.extension().to_uppercase()),
                Some(format)
            );
        }
        assert_eq!(MeshFormat::from_extension("png"), None);
    }
}
