//! The light in a picture, told from its colours: how bright it shows each direction of the surface.
//!
//! Light from afar on a matt surface is, but for a hundredth, a polynomial of the second degree in the normal, of nine
//! coefficients (R. Ramamoorthi and P. Hanrahan, "An efficient representation for irradiance environment maps", 2001).
//! They are fitted so that the model's colours, lit, come near the picture's. Shadows that something casts, and colours
//! that the model got wrong, are outliers to that: they lose their weight in two further rounds.

use super::super::vector;

const TERMS: usize = 9;
/// The first fit, and how often it is made again with weights for outliers.
const ROUNDS: usize = 3;
/// A relative residue at which a point has half its weight.
const OUTLIER: f64 = 0.15;
/// How strongly the light is held to be even and to leave colours as they are, as a share of what all points say: it
/// decides where the normals seen don't.
const EVENNESS: f64 = 1e-3;
/// Below this, linear light is as good as black, and its relative residue noise.
const DARK: f64 = 0.02;
/// What light may do to a surface: less or more comes of colours that don't match.
const RANGE: [f64; 2] = [0.15, 4.0];

/// A point of the surface as the model colours it and as the picture shows it; linear luminance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lit {
    pub(super) normal: [f32; 3],
    pub(super) weight: f32,
    pub(super) model: f32,
    pub(super) picture: f32,
}

/// Light as a function of the normal.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shading {
    coefficients: [f64; TERMS],
}

fn terms(normal: [f32; 3]) -> [f64; TERMS] {
    let [x, y, z] = vector::wide(normal);
    [
        1.0,
        x,
        y,
        z,
        x * y,
        y * z,
        x * z,
        x * x - y * y,
        3.0 * z * z - 1.0,
    ]
}

impl Shading {
    /// Fits the light to points.
    pub(super) fn fit(points: &[Lit]) -> Self {
        let mut shading = Self {
            coefficients: std::array::from_fn(|term| f64::from(u8::from(term == 0))),
        };
        for round in 0..ROUNDS {
            let mut sums = Normals::default();
            for point in points {
                let (model, picture) = (f64::from(point.model), f64::from(point.picture));
                let terms = terms(point.normal);
                let mut weight = f64::from(point.weight) / (model + picture + DARK);
                if round > 0 {
                    let lit = model * shading.sum(&terms);
                    let residue = (picture - lit) / (picture + lit.max(0.0) + DARK);
                    weight /= 1.0 + (residue / OUTLIER).powi(2);
                }
                sums.add(&terms, weight * model * model, weight * model * picture);
            }
            shading.coefficients = sums.solved();
        }
        shading
    }

    fn sum(&self, terms: &[f64; TERMS]) -> f64 {
        terms
            .iter()
            .zip(&self.coefficients)
            .map(|(term, coefficient)| term * coefficient)
            .sum()
    }

    /// What linear light a surface that faces `normal` sends back, over its albedo.
    pub(super) fn on(&self, normal: [f32; 3]) -> f32 {
        self.sum(&terms(normal)).clamp(RANGE[0], RANGE[1]) as f32
    }
}

/// The normal equations of least squares.
#[derive(Default)]
struct Normals {
    matrix: [[f64; TERMS]; TERMS],
    right: [f64; TERMS],
    total: f64,
}

impl Normals {
    fn add(&mut self, terms: &[f64; TERMS], square: f64, product: f64) {
        // The lower half of a symmetric matrix.
        for (at, (row, (term, right))) in self
            .matrix
            .iter_mut()
            .zip(terms.iter().zip(&mut self.right))
            .enumerate()
        {
            let scaled = square * term;
            for (cell, other) in row[..=at].iter_mut().zip(terms) {
                *cell += scaled * other;
            }
            *right += product * term;
        }
        self.total += square;
    }

    /// Solves by Cholesky's factors; evenness keeps the matrix positive.
    fn solved(mut self) -> [f64; TERMS] {
        let even = EVENNESS * self.total + f64::MIN_POSITIVE.sqrt();
        self.right[0] += even;
        for diagonal in 0..TERMS {
            self.matrix[diagonal][diagonal] += even;
        }
        let mut factor = [[0.0; TERMS]; TERMS];
        for row in 0..TERMS {
            for column in 0..=row {
                let known: f64 = (0..column)
                    .map(|at| factor[row][at] * factor[column][at])
                    .sum();
                let rest = self.matrix[row][column] - known;
                factor[row][column] = if row == column {
                    rest.max(f64::MIN_POSITIVE).sqrt()
                } else {
                    rest / factor[column][column]
                };
            }
        }
        let mut solution = self.right;
        for row in 0..TERMS {
            let known: f64 = (0..row).map(|at| factor[row][at] * solution[at]).sum();
            solution[row] = (solution[row] - known) / factor[row][row];
        }
        for row in (0..TERMS).rev() {
            let known: f64 = (row + 1..TERMS)
                .map(|at| factor[at][row] * solution[at])
                .sum();
            solution[row] = (solution[row] - known) / factor[row][row];
        }
        solution
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lit(count: usize, picture: impl Fn(usize, [f32; 3], f32) -> f32) -> Vec<Lit> {
        (0..count)
            .map(|at| {
                let (turn, rise) = (at as f32 * 2.4, (at as f32 + 0.5) / count as f32);
                let around = (1.0 - rise * rise).sqrt();
                let normal = [around * turn.cos(), around * turn.sin(), rise];
                let model = [0.2, 0.5, 0.8][at % 3];
                Lit {
                    normal,
                    weight: 1.0,
                    model,
                    picture: picture(at, normal, model),
                }
            })
            .collect()
    }

    fn light([x, y, z]: [f32; 3]) -> f32 {
        0.6 + 0.2 * y - 0.1 * x + 0.15 * x * y + 0.05 * z * z
    }

    #[test]
    fn a_light_is_told_from_colours() {
        let points = lit(500, |_, normal, model| model * light(normal));
        let shading = Shading::fit(&points);
        for point in &points {
            let (found, wanted) = (shading.on(point.normal), light(point.normal));
            assert!((found - wanted).abs() < 0.02, "{found} is not {wanted}");
        }
    }

    #[test]
    fn a_fifth_of_wrong_colours_hardly_moves_it() {
        let points = lit(1000, |at, normal, model| {
            if at % 5 == 0 {
                0.9
            } else {
                model * light(normal)
            }
        });
        let shading = Shading::fit(&points);
        for point in &points {
            let (found, wanted) = (shading.on(point.normal), light(point.normal));
            assert!((found - wanted).abs() < 0.08, "{found} is not {wanted}");
        }
    }

    #[test]
    fn nothing_seen_leaves_colours_as_they_are() {
        let dark = lit(10, |_, _, _| 0.0);
        let dark: Vec<Lit> = dark
            .iter()
            .map(|point| Lit {
                model: 0.0,
                ..*point
            })
            .collect();
        for points in [&[][..], &dark] {
            assert!((Shading::fit(points).on([0.0, 0.0, 1.0]) - 1.0).abs() < 1e-6);
        }
    }
}
