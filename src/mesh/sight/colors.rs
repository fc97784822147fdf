//! The picture's own colours where the camera sees the surface.
//!
//! A model's colours are of the right tone and without light, but washed out; a picture is sharp and lit. So the light
//! is told from both ([`super::shading`]) and taken out of the picture, and what is left is mixed with the model's
//! colours: more of its hues than of its brightness, in which shadows and edges remain that the light doesn't explain.

use rayon::prelude::*;

use super::{
    super::{
        color::{SrgbEncoder, linear_of_srgb},
        vector,
    },
    Picture, Sight,
    interior::{self, smoothstep},
    shading::{Lit, Shading},
};

/// The picture's shares in hue and in brightness, of the values tried on 68 pictures of known models those that bring the
/// colours nearest to the truth. What differs in brightness on a thing of one colour is mostly light that is left over;
/// on a coloured thing it is mostly paint.
const CHROMA: f32 = 0.7;
const LUMA_PLAIN: f32 = 0.3;
const LUMA_COLORFUL: f32 = 0.6;
/// Standard deviations of a channel of the model's colours between which a thing turns from plain to colourful.
const COLORFUL: [f32; 2] = [0.03, 0.1];
/// Between these cosines of the angle to the camera a point gets from none to all of it.
const FACING: [f32; 2] = [0.25, 0.6];
/// A point may lie so far behind what the depth map shows at the middle of its pixel, in pixels, besides what its slope
/// explains.
const BEHIND_PX: f32 = 1.5;
/// Points that the light is fitted to, at most.
const LIT_MAX: usize = 4_096;
/// Below this agreement of the silhouettes the mesh is not what the picture shows, or the camera is wrong.
const AGREEMENT_MIN: f64 = 0.85;
/// Above this mean difference of a channel, with the light taken out, the colours aren't of the same thing.
const DIFFERENCE_MAX: f64 = 0.15;

/// What became of the picture's colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blend {
    /// They were mixed into those of so many points; the others aren't seen.
    Mixed {
        /// At least one.
        points: usize,
    },
    /// The camera sees no point well enough.
    Unseen,
    /// The silhouettes don't agree, so nothing was changed.
    Misfit,
    /// The colours contradict each other, so nothing was changed.
    Contradiction,
}

/// A point that the camera sees.
struct Glimpse {
    index: usize,
    weight: f32,
    /// sRGB, 0..=1.
    model: [f32; 3],
    picture: [f32; 3],
}

impl Sight {
    /// Mixes the picture's colours into those of the points that the camera sees (vertices of the mesh or texels on it,
    /// in the frame that the camera was fitted in): unit normals and sRGB colours, one for each point. Nothing is mixed
    /// in near a silhouette or where the surface turns away, and less the nearer, so that no seam shows.
    ///
    /// # Panics
    /// If there are not as many normals and colours as points, or the picture is of another size than the fitted one.
    pub fn blend(
        &self,
        points: &[[f32; 3]],
        normals: &[[f32; 3]],
        colors: &mut [[u8; 3]],
        picture: &Picture<'_>,
    ) -> Blend {
        assert!(
            points.len() == normals.len() && points.len() == colors.len(),
            "a normal and a colour for each point"
        );
        assert_eq!(picture.side, self.side, "the picture that was fitted");
        if self.agreement < AGREEMENT_MIN {
            return Blend::Misfit;
        }
        let mut seen = self.glimpses(points, normals, colors, picture);
        if seen.is_empty() {
            return Blend::Unseen;
        }
        take_out_light(&mut seen, normals);
        if difference(&seen) > DIFFERENCE_MAX {
            return Blend::Contradiction;
        }
        let luma = LUMA_PLAIN + (LUMA_COLORFUL - LUMA_PLAIN) * smoothstep(COLORFUL, variety(&seen));
        for glimpse in &seen {
            colors[glimpse.index] = glimpse.mixed(luma);
        }
        Blend::Mixed { points: seen.len() }
    }

    fn glimpses(
        &self,
        points: &[[f32; 3]],
        normals: &[[f32; 3]],
        colors: &[[u8; 3]],
        picture: &Picture<'_>,
    ) -> Vec<Glimpse> {
        let side = self.depth.side();
        let per_pixel = self.camera.nearness_per_pixel(side);
        let trust = interior::trust(&self.depth, per_pixel, picture);
        let glimpse = |index: usize| {
            let (point, normal) = (points[index], normals[index]);
            if !self.camera.is_before(point, normal) {
                return None;
            }
            let facing = vector::dot(normal, self.camera.towards(point));
            if facing <= FACING[0] {
                return None;
            }
            let [right, down, nearness] = self.camera.project(point);
            // In halves of the picture from its middle; a not-a-number fails, too.
            if !(right.abs() < 1.0 && down.abs() < 1.0) {
                return None;
            }
            let share = [(right + 1.0) / 2.0, (down + 1.0) / 2.0];
            let pixel = |along: f32| ((along * side as f32) as i32 as usize).min(side - 1);
            let (column, row) = (pixel(share[0]), pixel(share[1]));
            let slope = (1.0 - facing * facing).max(0.0).sqrt() / facing;
            let nearest = self.depth.nearness()[row * side + column];
            if nearness < nearest - (BEHIND_PX + slope) * per_pixel {
                return None;
            }
            let weight = smoothstep(FACING, facing) * Between::pixels(side, share).mean(&trust);
            (weight > 0.0).then(|| Glimpse {
                index,
                weight,
                model: colors[index].map(|byte| f32::from(byte) / 255.0),
                picture: picture.color_at(share),
            })
        };
        (0..points.len())
            .into_par_iter()
            .filter_map(glimpse)
            .collect()
    }
}

impl Picture<'_> {
    /// sRGB at shares of the side from the left and the top, between the pixels.
    fn color_at(&self, share: [f32; 2]) -> [f32; 3] {
        let plane = self.side * self.side;
        let between = Between::pixels(self.side, share);
        let channel = |at: usize| between.mean(&self.rgb[at * plane..][..plane]);
        [channel(0), channel(1), channel(2)]
    }
}

/// A place between the middles of four pixels of a square.
struct Between {
    /// The left and the right one of the upper row, then of the lower.
    pixels: [usize; 4],
    /// How far it lies to the right and down, 0..=1.
    right: f32,
    down: f32,
}

impl Between {
    /// At shares of the side from the left and the top.
    #[inline]
    fn pixels(side: usize, share: [f32; 2]) -> Self {
        let place = |along: f32| {
            let at = (along * side as f32 - 0.5).clamp(0.0, (side - 1) as f32);
            let whole = at as i32;
            (whole as usize, at - whole as f32)
        };
        let ((left, right), (above, down)) = (place(share[0]), place(share[1]));
        let (next, below) = ((left + 1).min(side - 1), (above + 1).min(side - 1));
        let [above, below] = [above * side, below * side];
        Self {
            pixels: [above + left, above + next, below + left, below + next],
            right,
            down,
        }
    }

    /// The value there, from those of the pixels.
    #[inline]
    fn mean(&self, plane: &[f32]) -> f32 {
        let [left_above, right_above, left_below, right_below] = self.pixels.map(|at| plane[at]);
        let mix = |left: f32, right: f32| left * (1.0 - self.right) + right * self.right;
        mix(left_above, right_above) * (1.0 - self.down) + mix(left_below, right_below) * self.down
    }
}

/// Luminance (ITU-R BT.709) of linear light, or as much of sRGB values.
fn luminance([red, green, blue]: [f32; 3]) -> f32 {
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}

/// Linear light of sRGB values between the bytes.
struct Decoder([f32; 256]);

impl Decoder {
    fn linear(&self, encoded: f32) -> f32 {
        let at = encoded.clamp(0.0, 1.0) * 255.0;
        let byte = (at as i32 as usize).min(254);
        let between = at - byte as f32;
        self.0[byte] * (1.0 - between) + self.0[byte + 1] * between
    }
}

/// Divides the picture's colours by the light on their points.
fn take_out_light(seen: &mut [Glimpse], normals: &[[f32; 3]]) {
    let (decoder, encoder) = (Decoder(linear_of_srgb()), SrgbEncoder::get());
    let linear = |[red, green, blue]: [f32; 3]| {
        [
            decoder.linear(red),
            decoder.linear(green),
            decoder.linear(blue),
        ]
    };
    let some: Vec<Lit> = seen
        .iter()
        .step_by(seen.len().div_ceil(LIT_MAX))
        .map(|glimpse| Lit {
            normal: normals[glimpse.index],
            weight: glimpse.weight,
            model: luminance(linear(glimpse.model)),
            picture: luminance(linear(glimpse.picture)),
        })
        .collect();
    let shading = Shading::fit(&some);
    seen.par_iter_mut().for_each(|glimpse| {
        let light = shading.on(normals[glimpse.index]);
        let [red, green, blue] = linear(glimpse.picture);
        let encoded = |channel: f32| f32::from(encoder.byte(channel / light)) / 255.0;
        glimpse.picture = [encoded(red), encoded(green), encoded(blue)];
    });
}

/// The weighted mean difference of a channel between model and picture.
fn difference(seen: &[Glimpse]) -> f64 {
    let (mut sum, mut weights) = (0.0, 0.0);
    for glimpse in seen {
        let channels = glimpse.picture.iter().zip(&glimpse.model);
        let mean = channels.map(|(a, b)| (a - b).abs()).sum::<f32>() / 3.0;
        sum += f64::from(glimpse.weight * mean);
        weights += f64::from(glimpse.weight);
    }
    sum / weights
}

/// The weighted standard deviation of a channel of the model's colours.
fn variety(seen: &[Glimpse]) -> f32 {
    let (mut weights, mut sums, mut squares) = (0.0, [0.0; 3], 0.0);
    for glimpse in seen {
        let weight = f64::from(glimpse.weight);
        let model = vector::wide(glimpse.model);
        weights += weight;
        sums = vector::add(sums, vector::scale(model, weight));
        squares += weight * vector::dot(model, model);
    }
    let mean = vector::scale(sums, 1.0 / weights);
    let variance = (squares / weights - vector::dot(mean, mean)) / 3.0;
    variance.max(0.0).sqrt() as f32
}

impl Glimpse {
    /// The model's colour with the picture's shares, `luma` in brightness.
    fn mixed(&self, luma: f32) -> [u8; 3] {
        let change = vector::sub(self.picture, self.model);
        let brighter = luminance(change);
        std::array::from_fn(|channel| {
            let change = luma * brighter + CHROMA * (change[channel] - brighter);
            let value = self.model[channel] + self.weight * change;
            (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8
        })
    }
}

#[cfg(test)]
mod tests;
