//! How large a batch may be on a device, from what was measured at the start and the memory free now. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Left free on a card for others and for what cannot be foreseen (fragments, library workspaces).
pub const HEADROOM_BYTES: u64 = 512 << 20;

/// A larger batch must make an image at least this much cheaper to be worth its waiting: 2%, about
/// the noise of one measurement.
const GAIN_MIN: f64 = 0.02;

/// Batch sizes that are run and measured at the start. A batch of another size is filled up to the next of them, since
/// libtorch chooses kernels anew for each size, which takes a fifth of a second on an H100.
const SIZES: [usize; 15] = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28];

/// The sizes that are run at the start where a batch may have `images_max` images: that is always one of them.
pub fn sizes(images_max: usize) -> impl Iterator<Item = usize> {
    let beyond = std::iter::successors(Some(32), |size: &usize| size.checked_mul(2));
    SIZES
        .into_iter()
        .chain(beyond)
        .take_while(move |&size| size < images_max)
        .chain([images_max])
}

/// One batch size as measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measurement {
    pub images: usize,
    /// Time of one `encode` of that many images, warm.
    pub encode: Duration,
    /// Device memory that the allocator had taken, over that of the loaded models, after this size ran.
    pub bytes: u64,
}

/// The memory of a device at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryNow {
    pub total_bytes: u64,
    pub free_bytes: u64,
}

/// What running out of memory has taught of a model on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lesson {
    /// An encode or a matte may have so many images at most.
    Images(usize),
    /// A denoising step may have so many rows at most.
    Rows(usize),
    /// A query pass may have so many points at most.
    Points(usize),
}

/// A model's measurements on one device, by growing batch size.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    rows: Vec<Measurement>,
    /// The points that a query pass should have at most; the manifest's number if `None`.
    pub points_worthwhile: Option<usize>,
    /// The largest batch that out-of-memory events have left; any if `None`.
    #[serde(default)]
    images_learned: Option<usize>,
    /// Of an iterative model: the same for its denoising steps, by the rows that share one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denoise: Option<Box<Measured>>,
}

impl Measured {
    /// Adds the next larger size.
    pub fn push(&mut self, row: Measurement) {
        debug_assert!(
            self.rows.last().is_none_or(|last| last.images < row.images),
            "sizes grow"
        );
        self.rows.push(row);
    }

    /// The measurements, by growing batch size.
    #[must_use]
    pub fn rows(&self) -> &[Measurement] {
        &self.rows
    }

    /// Takes a lesson in. Bounds only fall.
    pub fn learn(&mut self, lesson: Lesson) {
        let (bound, value) = match lesson {
            Lesson::Images(images) => (&mut self.images_learned, images),
            Lesson::Rows(rows) => (
                &mut self.denoise.get_or_insert_default().images_learned,
                rows,
            ),
            Lesson::Points(points) => (&mut self.points_worthwhile, points),
        };
        *bound = Some(bound.map_or(value, |known| known.min(value)));
    }

    /// The largest batch of a model that may have `images_max` in any case: sizes that did not fit while measuring, or
    /// have been too many since, are not tried again.
    #[must_use]
    pub fn images_max(&self, images_max: usize) -> usize {
        let reached = self.rows.last().map_or(images_max, |row| row.images);
        self.images_learned
            .map_or(reached, |learned| learned.min(reached))
    }

    /// The time of one encode of so many by itself, warm, filled up to a size that was measured; `None` where none was.
    #[must_use]
    pub fn encode_time(&self, images: usize) -> Option<Duration> {
        let row = self.rows.iter().find(|row| row.images >= images);
        row.or(self.rows.last()).map(|row| row.encode)
    }

    /// Forgets the sizes beyond `images`.
    pub fn cut_above(&mut self, images: usize) {
        self.rows.retain(|row| row.images <= images);
    }

    /// The smallest size whose cost an image is within `GAIN_MIN` of the best: beyond it a batch
    /// only makes its conversions wait for one another. At least 1.
    #[must_use]
    pub fn images_worthwhile(&self) -> usize {
        let cost = |row: &Measurement| row.encode.as_secs_f64() / row.images as f64;
        let best = self.rows.iter().map(cost).fold(f64::INFINITY, f64::min);
        self.rows
            .iter()
            .find(|row| cost(row) <= best * (1.0 + GAIN_MIN))
            .map_or(1, |row| row.images)
    }

    /// The largest size that fits: what the allocator already holds is ours, the rest must come out
    /// of what is free, less the headroom. At least 1: one image is tried in any case.
    #[must_use]
    pub fn images_fitting(&self, held_bytes: u64, free_bytes: u64, headroom_bytes: u64) -> usize {
        let usable = held_bytes.saturating_add(free_bytes.saturating_sub(headroom_bytes));
        self.rows
            .iter()
            .take_while(|row| row.bytes <= usable)
            .map(|row| row.images)
            .last()
            .unwrap_or(1)
    }

    /// What the allocator holds once every size has run.
    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        self.rows.iter().map(|row| row.bytes).max().unwrap_or(0)
    }
}

/// The ceilings of one model on one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ceilings {
    pub encode: Ceiling,
    /// Of an iterative model's denoising steps.
    pub denoise: Ceiling,
}

impl Ceilings {
    /// The ceilings of a model that may have `images_max` at most.
    #[must_use]
    pub fn new(mut measured: Measured, images_max: usize) -> Self {
        let ceiling = |measured: Measured| {
            let images_max = measured.images_max(images_max);
            Ceiling::new(measured, images_max)
        };
        let denoise = measured.denoise.take().unwrap_or_default();
        Self {
            encode: ceiling(measured),
            denoise: ceiling(*denoise),
        }
    }
}

/// The largest batch that a model may have on a device now, and why it may shrink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ceiling {
    measured: Measured,
    /// What the allocator still holds of the memory it took while measuring.
    held_bytes: u64,
    /// What out-of-memory events have taught; it only falls.
    learned: usize,
    /// What fits by the memory seen last.
    fitting: usize,
}

impl Ceiling {
    /// The ceiling of a model that may have `images_max` at most.
    #[must_use]
    pub fn new(measured: Measured, images_max: usize) -> Self {
        let held_bytes = measured.bytes_max();
        Self {
            measured,
            held_bytes,
            learned: images_max.max(1),
            fitting: usize::MAX,
        }
    }

    /// Takes note of the memory free now.
    pub fn see(&mut self, memory: MemoryNow) {
        if !self.measured.rows.is_empty() {
            self.fitting =
                self.measured
                    .images_fitting(self.held_bytes, memory.free_bytes, HEADROOM_BYTES);
        }
    }

    /// Memory ran out. The allocator has given its spare memory back on the way, so only what is free counts from here.
    pub fn ran_out(&mut self) {
        self.held_bytes = 0;
    }

    /// A batch of `images` was too large: half of it is tried from now on. The new bound, if it is lower than before.
    pub fn lower_below(&mut self, images: usize) -> Option<usize> {
        let half = (images / 2).max(1);
        let falls = half < self.learned;
        self.learned = self.learned.min(half);
        falls.then_some(half)
    }

    /// As [`Measured::encode_time`].
    #[must_use]
    pub fn encode_time(&self, images: usize) -> Option<Duration> {
        self.measured.encode_time(images)
    }

    /// The largest batch now. With `dynamic_scaling` it is what pays off by measurement, where the
    /// device was measured; else `setting_max`.
    #[must_use]
    pub fn images_max(&self, dynamic_scaling: bool, setting_max: usize) -> usize {
        let wanted = if dynamic_scaling && !self.measured.rows.is_empty() {
            self.measured.images_worthwhile()
        } else {
            setting_max
        };
        wanted.min(self.learned).min(self.fitting).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(rows: &[(usize, u64, u64)]) -> Measured {
        let mut measured = Measured::default();
        for &(images, millis, mebibytes) in rows {
            measured.push(Measurement {
                images,
                encode: Duration::from_millis(millis),
                bytes: mebibytes << 20,
            });
        }
        measured
    }

    #[test]
    fn the_largest_batch_is_always_measured() {
        assert_eq!(sizes(1).collect::<Vec<_>>(), [1]);
        assert_eq!(sizes(9).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(sizes(32).collect::<Vec<_>>(), [&SIZES[..], &[32]].concat());
        assert_eq!(sizes(100).last(), Some(100));
        assert!(sizes(100).is_sorted());
    }

    #[test]
    fn a_batch_grows_while_it_pays() {
        // 10, 8, 7.5, 7.45 ms an image: the last step gains less than the noise.
        assert_eq!(
            measured(&[(1, 10, 0), (2, 16, 0), (4, 30, 0), (20, 149, 0)]).images_worthwhile(),
            4
        );
        assert_eq!(
            measured(&[(1, 10, 0), (2, 20, 0), (3, 30, 0)]).images_worthwhile(),
            1
        );
        assert_eq!(
            measured(&[(1, 10, 0), (2, 11, 0), (3, 12, 0)]).images_worthwhile(),
            3
        );
        assert_eq!(measured(&[]).images_worthwhile(), 1);
    }

    #[test]
    fn a_batch_takes_the_time_of_the_size_that_it_is_filled_up_to() {
        let table = measured(&[(1, 10, 0), (4, 30, 0)]);
        let millis = |images| table.encode_time(images).map(|time| time.as_millis());
        assert_eq!([1, 2, 4, 5].map(millis), [10, 30, 30, 30].map(Some));
        assert_eq!(measured(&[]).encode_time(1), None);
    }

    #[test]
    fn a_batch_fits_into_what_is_held_and_free() {
        let table = measured(&[(1, 1, 100), (2, 1, 200), (3, 1, 300), (4, 1, 400)]);
        let fitting = |held: u64, free: u64| table.images_fitting(held << 20, free << 20, 50 << 20);
        assert_eq!(fitting(0, 1000), 4);
        assert_eq!(fitting(0, 350), 3);
        assert_eq!(fitting(0, 349), 2, "the headroom is kept");
        assert_eq!(fitting(200, 0), 2, "what the allocator holds stays usable");
        assert_eq!(fitting(200, 150), 3);
        assert_eq!(fitting(0, 0), 1, "one image is tried in any case");
    }

    #[test]
    fn out_of_memory_lowers_the_ceiling_for_good() {
        let mut ceiling = Ceiling::new(Measured::default(), 32);
        assert_eq!(
            ceiling.images_max(true, 8),
            8,
            "nothing was measured: the setting holds"
        );
        assert_eq!(ceiling.lower_below(8), Some(4));
        assert_eq!(ceiling.images_max(true, 8), 4);
        assert_eq!(ceiling.lower_below(16), None);
        assert_eq!(ceiling.images_max(true, 8), 4, "it only falls");
        assert_eq!(ceiling.lower_below(1), Some(1));
        assert_eq!(ceiling.images_max(true, 8), 1);
    }

    #[test]
    fn what_was_learned_bounds_what_was_measured() {
        let mut table = measured(&[(1, 10, 0), (4, 20, 0), (8, 30, 0)]);
        assert_eq!(table.images_max(32), 8, "larger ones did not fit");
        table.learn(Lesson::Images(4));
        table.learn(Lesson::Images(6));
        assert_eq!(table.images_max(32), 4, "bounds only fall");
        table.learn(Lesson::Points(65_536));
        assert_eq!(table.points_worthwhile, Some(65_536));
        table.cut_above(3);
        assert_eq!((table.rows().len(), table.images_max(32)), (1, 1));
        let mut unmeasured = Measured::default();
        assert_eq!(unmeasured.images_max(32), 32);
        unmeasured.learn(Lesson::Images(4));
        assert_eq!(unmeasured.images_max(32), 4);
    }

    #[test]
    fn dynamic_scaling_goes_by_measurement_and_else_by_the_setting() {
        let ceiling = Ceiling::new(measured(&[(1, 10, 0), (16, 40, 0), (32, 60, 0)]), 32);
        assert_eq!(ceiling.images_max(true, 8), 32);
        assert_eq!(ceiling.images_max(false, 8), 8);
        assert_eq!(
            Ceiling::new(Measured::default(), 4).images_max(false, 8),
            4,
            "the model's own bound holds"
        );
    }

    #[test]
    fn what_others_take_of_the_card_shrinks_the_batch_until_they_leave() {
        let see = |ceiling: &mut Ceiling, free: u64| {
            ceiling.see(MemoryNow {
                total_bytes: 16 << 30,
                free_bytes: free << 20,
            });
            ceiling.images_max(true, 8)
        };
        let mut ceiling = Ceiling::new(
            measured(&[(1, 10, 100), (2, 11, 2000), (4, 12, 4000), (8, 13, 8000)]),
            8,
        );
        assert_eq!(
            see(&mut ceiling, 0),
            8,
            "the allocator holds what every size needs"
        );
        ceiling.ran_out();
        ceiling.lower_below(8);
        assert_eq!(see(&mut ceiling, 9000), 4, "learned");
        assert_eq!(see(&mut ceiling, 3000), 2, "by the free memory");
        assert_eq!(see(&mut ceiling, 9000), 4);
    }
}
