//! The camera that a picture was taken by, found again from the mesh that was made of it.
//!
//! A model guesses its camera inside and tells no one. What can be known is what both must agree on: the mesh, seen by
//! that camera, has the outline that the picture's alpha has. So the camera is the one, among all that stand on the
//! +Z side with their axis through the middle of the picture, whose silhouette overlaps most with the alpha.
//!
//! A point is seen as the shipped model's training has it: turned up by the elevation, shifted and scaled, and at depth
//! z at (x, y) / (1 - s z); see [`super::compare::seen`]. Elevation and perspective are searched over a grid, where each
//! pair is shifted and scaled until its outline's box lies as the alpha's does; the best are refined in all five
//! parameters. Silhouettes on the way are drawn from points spread over the surface; the figure at the end is drawn
//! from the triangles.
//!
//! Through that camera, the picture's own colours find their places on the side of the mesh that it shows: see
//! [`Sight::blend`].

use super::BoundingBox;

use camera::Camera;
use depth::DepthMap;

pub use colors::Blend;

mod camera;
mod cloud;
mod colors;
mod depth;
mod interior;
mod mask;
mod search;
mod shading;

#[cfg(test)]
mod tests;

/// A picture framed for the model: a square with the object in its middle.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    side: usize,
    alpha: &'a [f32],
    rgb: &'a [f32],
}

impl<'a> Picture<'a> {
    /// Joins the planes of a square of `side` pixels, rows from the top: `alpha` `[side, side]`, `rgb` `[3, side, side]`
    /// in sRGB over some background, all 0..=1.
    ///
    /// # Panics
    /// If the lengths don't fit the side, or it is 0.
    #[must_use]
    pub fn new(side: usize, alpha: &'a [f32], rgb: &'a [f32]) -> Self {
        assert!(
            side > 0 && alpha.len() == side * side && rgb.len() == 3 * side * side,
            "planes of {side} x {side} pixels"
        );
        Self { side, alpha, rgb }
    }

    /// Width and height in pixels.
    #[must_use]
    pub fn side(&self) -> usize {
        self.side
    }

    /// The columns or rows at the middles of so many equal parts of the side.
    fn at_shares(&self, parts: usize) -> Vec<usize> {
        let middle = |part| (2 * part + 1) * self.side / (2 * parts);
        (0..parts).map(middle).collect()
    }

    fn alpha_at(&self, column: usize, row: usize) -> f32 {
        self.alpha[row * self.side + column]
    }
}

/// The side of the square on which the agreement is measured, at most.
const AGREEMENT_SIDE_MAX: usize = 256;

/// Where the camera of a picture stands, roughly: as a coarse surface has it.
#[derive(Debug, Clone)]
pub struct Guess(search::Rough);

impl Guess {
    /// Looks for the camera from everywhere, on a surface that may be a coarse one, in the modelling frame (+Y up, the camera on
    /// +Z), at any place and of any size. The same surface and picture always give the same one. None if the alpha covers nothing.
    ///
    /// Triangles name positions, and there is an extent.
    #[must_use]
    pub fn of(
        positions: &[[f32; 3]],
        triangles: &[[u32; 3]],
        picture: &Picture<'_>,
    ) -> Option<Self> {
        search::rough(positions, triangles, picture).map(Self)
    }
}

/// Where the camera of a picture stands, for a mesh made of it, and how sure that is.
#[derive(Debug, Clone, PartialEq)]
pub struct Sight {
    camera: Camera,
    /// Width and height of the picture.
    side: usize,
    depth: DepthMap,
    agreement: f64,
}

impl Sight {
    /// Looks for the camera near where it is guessed to stand: of the same surface or a coarser one of the same shape, and of the
    /// same picture.
    #[must_use]
    pub fn fit_from(
        Guess(rough): Guess,
        positions: &[[f32; 3]],
        triangles: &[[u32; 3]],
        picture: &Picture<'_>,
    ) -> Self {
        let pose = search::close(rough, positions, triangles);
        let camera = Camera::new(pose, &BoundingBox::around(positions));
        let depth = DepthMap::drawn(
            positions,
            triangles,
            &camera,
            picture.side.min(AGREEMENT_SIDE_MAX),
        );
        let agreement = agreement(&depth, picture);
        Self {
            camera,
            side: picture.side,
            depth,
            agreement,
        }
    }

    /// What the mesh and the picture's object both cover, over what either covers: 0..=1, more is better.
    #[must_use]
    pub fn silhouette_agreement(&self) -> f64 {
        self.agreement
    }

    /// Degrees above the horizon at which the camera stands.
    #[must_use]
    pub fn elevation_deg(&self) -> f64 {
        f64::from(self.camera.pose.elevation).to_degrees()
    }

    /// Where the camera sees a point of the mesh's frame: pixels of the picture from its left and from its top.
    #[must_use]
    pub fn project(&self, point: [f32; 3]) -> [f32; 2] {
        let half = self.side as f32 / 2.0;
        let [right, down, _] = self.camera.project(point);
        [half + half * right, half + half * down]
    }
}

/// IoU of what is drawn and what the alpha covers at the middles of the drawing's pixels.
fn agreement(depth: &DepthMap, picture: &Picture<'_>) -> f64 {
    let nearest = picture.at_shares(depth.side());
    let (mut both, mut either) = (0_u32, 0_u32);
    let rows = depth.nearness().chunks_exact(depth.side());
    for (drawn, &row) in rows.zip(&nearest) {
        for (nearness, &column) in drawn.iter().zip(&nearest) {
            let (drawn, seen) = (*nearness > 0.0, picture.alpha_at(column, row) >= 0.5);
            both += u32::from(drawn && seen);
            either += u32::from(drawn || seen);
        }
    }
    f64::from(both) / f64::from(either.max(1))
}
