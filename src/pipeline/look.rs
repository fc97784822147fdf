//! What the picture shows of the object, as the model was shown it: the mesh is held against it.

use std::sync::Arc;

use tracing::debug;

use crate::{
    image::frame::Framed,
    mesh::{
        sight::{Guess, Picture, Sight},
        surface::Surface,
    },
};

/// A picture with an outline; cheap to clone.
#[derive(Debug, Clone)]
pub struct Look(Arc<Shown>);

#[derive(Debug)]
struct Shown {
    side: usize,
    rgb: Vec<f32>,
    alpha: Vec<f32>,
}

impl Look {
    /// Of a picture that was cut out.
    #[must_use]
    pub fn of(framed: Framed) -> Self {
        let Framed {
            side, rgb, alpha, ..
        } = framed;
        Self(Arc::new(Shown {
            side: side as usize,
            rgb,
            alpha,
        }))
    }

    fn picture(&self) -> Picture<'_> {
        let Shown { side, rgb, alpha } = &*self.0;
        Picture::new(*side, alpha, rgb)
    }

    /// Where it was taken from, as a surface has it that may be a coarse one; none where nothing is seen.
    #[must_use]
    pub fn guess(&self, surface: &Surface) -> Option<Guess> {
        Guess::of(surface.positions(), surface.triangles(), &self.picture())
    }
}

/// A picture, and from where it shows a surface.
#[derive(Debug)]
pub struct Seen {
    look: Look,
    sight: Sight,
}

impl Seen {
    /// Finds the camera that shows the surface as the picture does, near where it is guessed to stand, if it is; none does where
    /// nothing of either is seen.
    #[must_use]
    pub fn fit(surface: &Surface, look: Look, guess: Option<Guess>) -> Option<Self> {
        let guess = guess.or_else(|| look.guess(surface))?;
        let (positions, triangles) = (surface.positions(), surface.triangles());
        let sight = Sight::fit_from(guess, positions, triangles, &look.picture());
        Some(Self { look, sight })
    }

    /// How well the surface's outline covers the picture's, 0..=1.
    #[must_use]
    pub fn agreement(&self) -> f64 {
        self.sight.silhouette_agreement()
    }

    /// Lays what the picture shows over the colours of points of the surface.
    pub fn overlay(&self, points: &[[f32; 3]], normals: &[[f32; 3]], colors: &mut [[u8; 3]]) {
        let blend = self
            .sight
            .blend(points, normals, colors, &self.look.picture());
        debug!(?blend, "The picture's colours");
    }
}
