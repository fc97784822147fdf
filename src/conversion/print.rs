//! A mesh as a printed thing. What is measured knows nothing of a printer's size; this is where the two meet.

use async_graphql::SimpleObject;
use serde::Serialize;

use super::options::PRINT_SIZE_MM;

/// What a mesh measures whose longest side is 1 m.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measures {
    /// In cubic metres.
    pub volume: f64,
    /// In square metres.
    pub surface_area: f64,
    /// In metres.
    pub thinnest_wall: f64,
    /// The share of the surface that overhangs, 0..=1.
    pub overhang_share: f64,
}

/// A mesh as it leaves a printer, in the size of its STL and 3MF: the longest side `sizeMm`, or 100 mm.
#[derive(Debug, Clone, PartialEq, Serialize, SimpleObject)]
#[serde(rename_all = "camelCase")]
pub struct PrintReport {
    /// The longest side.
    pub size_mm: f64,
    /// What it displaces, solid inside.
    pub volume_cm3: f64,
    /// Its surface.
    pub surface_cm2: f64,
    /// How thin its walls get, estimated from some thousand points: under a printer's least, such places are lost or break.
    pub thinnest_wall_mm: f64,
    /// The share of the surface that faces down at more than 45 degrees and rests on nothing: what needs support.
    pub overhang_share: f64,
}

impl PrintReport {
    /// A mesh of these measures, its longest side being as long as was asked for.
    #[must_use]
    pub fn of(measures: Measures, size_mm: Option<f64>) -> Self {
        let Measures {
            volume,
            surface_area,
            thinnest_wall,
            overhang_share,
        } = measures;
        let size_mm = size_mm.unwrap_or(PRINT_SIZE_MM);
        let cm = size_mm / 10.0;
        Self {
            size_mm,
            volume_cm3: volume * cm.powi(3),
            surface_cm2: surface_area * cm.powi(2),
            thinnest_wall_mm: thinnest_wall * size_mm,
            overhang_share,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cube_has_the_size_that_was_asked_for_or_ten_centimetres() {
        let cube = Measures {
            volume: 1.0,
            surface_area: 6.0,
            thinnest_wall: 0.25,
            overhang_share: 0.125,
        };
        let asked = PrintReport {
            size_mm: 50.0,
            volume_cm3: 125.0,
            surface_cm2: 150.0,
            thinnest_wall_mm: 12.5,
            overhang_share: 0.125,
        };
        assert_eq!(PrintReport::of(cube, Some(50.0)), asked);
        let usual = PrintReport {
            size_mm: 100.0,
            volume_cm3: 1_000.0,
            surface_cm2: 600.0,
            thinnest_wall_mm: 25.0,
            overhang_share: 0.125,
        };
        assert_eq!(PrintReport::of(cube, None), usual);
    }
}
