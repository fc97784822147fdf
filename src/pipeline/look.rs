//! What the picture shows of the object, as the model was shown it: the mesh is held against it.

use tracing::debug;

use crate::{
    image::frame::Framed,
    mesh::{
        sight::{Picture, Sight, Viewpoint},
        surface::Surface,
    },
};

/// A picture with an outline.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
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
        Self {
            side: side as usize,
            rgb,
            alpha,
        }
    }

    /// Finds the camera that shows the surface as the picture does; none does where nothing of either is seen.
    #[must_use]
    pub fn viewpoint(&self, surface: &Surface) -> Option<Viewpoint> {
        Viewpoint::find(surface.positions(), surface.triangles(), &self.picture())
    }

    fn picture(&self) -> Picture<'_> {
        Picture::new(self.side, &self.alpha, &self.rgb)
    }
}

/// A picture, and from where it shows a surface.
#[derive(Debug)]
pub struct Seen {
    look: Look,
    sight: Sight,
}

impl Seen {
    /// Looks at the surface from where the picture was taken.
    #[must_use]
    pub fn from(viewpoint: Viewpoint, surface: &Surface, look: Look) -> Self {
        let (positions, triangles) = (surface.positions(), surface.triangles());
        let sight = Sight::through(viewpoint, positions, triangles, &look.picture());
        Self { look, sight }
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
