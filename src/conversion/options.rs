//! What a client may ask of a conversion, checked once at the edge.

use std::{
    fmt::Display,
    ops::{Not, RangeInclusive},
};

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
    /// A picture laid over the surface, which is simplified to some 20,000 triangles unless `targetTriangles` says
    /// otherwise: GLB and OBJ (a ZIP with its material and picture) carry it, PLY and 3MF the colours of the vertices.
    Baked,
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
    /// Pixels along a side of a baked texture; `None`: [`TEXTURE_SIZE_DEFAULT`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub texture_size: Option<u32>,
    /// Whether the GLB is written with `KHR_mesh_quantization`.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub quantize: bool,
    /// Fail rather than deliver a mesh whose outline agrees less with the picture's, 0..=1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_silhouette_agreement: Option<f64>,
    /// Whether a turntable is made.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub turntable: bool,
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
pub const RESOLUTION: RangeInclusive<u32> = 32..=512;
/// Fewer triangles can't close most surfaces; more than this no simplification is asked for.
pub const TARGET_TRIANGLES: RangeInclusive<u32> = 100..=5_000_000;
/// The longest side of a mesh for viewing if the client names none, from the API contract.
pub const SCENE_SIZE_MM: f64 = 1000.0;
/// The longest side of a mesh for printing if the client names none: fits every common printer's bed.
pub const PRINT_SIZE_MM: f64 = 100.0;
/// A texture is drawn for at most so many triangles: beyond that the charts take minutes, and vertex colours show as much.
pub const TARGET_TRIANGLES_BAKED_MAX: u32 = 100_000;
/// To how many triangles a surface with a texture is simplified that no other number is asked for.
pub const TARGET_TRIANGLES_BAKED: u32 = 20_000;
/// Bounds of [`ConversionOptions::texture_size`], from the API contract.
pub const TEXTURE_SIZE: RangeInclusive<u32> = 256..=4096;
/// Shows more than a model sees of a picture of half a thousand pixels a side.
pub const TEXTURE_SIZE_DEFAULT: u32 = 1024;
/// Seeds of iterative models: the whole numbers of GraphQL that are not negative.
pub const SEED: RangeInclusive<u32> = 0..=i32::MAX as u32;
/// The seed of conversions that name none. The same for all, so that the same picture gives the same mesh again.
pub const SEED_DEFAULT: u32 = 0;
/// From a bead to a piece of furniture, in millimetres.
pub const SIZE_MM: RangeInclusive<f64> = 1.0..=10_000.0;

impl Default for ConversionOptions {
    fn default() -> Self {
        Self {
            formats: vec![MeshFormat::Glb],
            resolution: None,
            target_triangles: None,
            texture: TextureMode::default(),
            remove_background: None,
            size_mm: None,
            texture_size: None,
            quantize: false,
            min_silhouette_agreement: None,
            turntable: false,
            steps: None,
            guidance: None,
            seed: None,
        }
    }
}

impl ConversionOptions {
    /// To how many triangles the surface is simplified, if it is.
    #[must_use]
    pub fn triangles_wanted(&self) -> Option<u32> {
        let baked = (self.texture == TextureMode::Baked).then_some(TARGET_TRIANGLES_BAKED);
        self.target_triangles.or(baked)
    }

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
        let beyond = |field: &'static str, low: &dyn Display, high: &dyn Display| {
            error(field, format!("{field} must lie in {low}..{high}"))
        };
        let is_outside = |value: Option<u32>, range: &RangeInclusive<u32>| {
            value.is_some_and(|value| !range.contains(&value))
        };
        for (field, value, range) in [
            ("resolution", self.resolution, RESOLUTION),
            ("targetTriangles", self.target_triangles, TARGET_TRIANGLES),
            ("textureSize", self.texture_size, TEXTURE_SIZE),
            ("seed", self.seed, SEED),
        ] {
            if is_outside(value, &range) {
                return beyond(field, range.start(), range.end());
            }
        }
        for (field, value, range) in [
            ("sizeMm", self.size_mm, SIZE_MM),
            (
                "minSilhouetteAgreement",
                self.min_silhouette_agreement,
                0.0..=1.0,
            ),
        ] {
            if value.is_some_and(|value| !range.contains(&value)) {
                return beyond(field, range.start(), range.end());
            }
        }
        if self.texture != TextureMode::Baked && self.texture_size.is_some() {
            return error("textureSize", "textureSize is for the texture BAKED".into());
        }
        if self.texture == TextureMode::Baked
            && is_outside(
                self.target_triangles,
                &(*TARGET_TRIANGLES.start()..=TARGET_TRIANGLES_BAKED_MAX),
            )
        {
            return error(
                "targetTriangles",
                format!(
                    "with the texture BAKED, targetTriangles must not exceed {TARGET_TRIANGLES_BAKED_MAX}"
                ),
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
        assert_eq!(
            field_of(ConversionOptions {
                min_silhouette_agreement: Some(1.01),
                ..Default::default()
            }),
            Err("minSilhouetteAgreement")
        );
    }

    #[test]
    fn a_texture_has_a_size_and_few_triangles_and_nothing_else_has() {
        let baked = ConversionOptions {
            texture: TextureMode::Baked,
            ..Default::default()
        };
        assert_eq!(baked.triangles_wanted(), Some(TARGET_TRIANGLES_BAKED));
        assert_eq!(ConversionOptions::default().triangles_wanted(), None);
        let fields = [
            ConversionOptions {
                target_triangles: Some(TARGET_TRIANGLES_BAKED_MAX + 1),
                ..baked.clone()
            },
            ConversionOptions {
                texture_size: Some(255),
                ..baked.clone()
            },
            ConversionOptions {
                texture_size: Some(1024),
                ..Default::default()
            },
        ]
        .map(|options| options.checked().expect_err("out of range").field);
        assert_eq!(fields, ["targetTriangles", "textureSize", "textureSize"]);
        let fits = ConversionOptions {
            target_triangles: Some(50_000),
            texture_size: Some(4096),
            ..baked
        };
        assert_eq!(fits.clone().checked().expect("in range"), fits);
    }

    #[test]
    fn options_that_a_model_does_not_use_leave_no_trace() {
        let text = serde_json::to_string(&ConversionOptions::default()).expect("plain data");
        for name in [
            "steps",
            "seed",
            "textureSize",
            "quantize",
            "minSilhouetteAgreement",
            "turntable",
        ] {
            assert!(!text.contains(name), "{text}");
        }
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
