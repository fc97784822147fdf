//! Pictures that were checked a moment ago, decoded: where one process admits and converts, none is decoded twice.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep_until};

use crate::image::{InputImage, pixels::Pixels};

/// As many as two of the larger GPU batches take.
const COUNT_MAX: usize = 64;
/// What nobody has decoded by now was withdrawn, or went to another node.
const AGE_MAX: Duration = Duration::from_secs(30);

/// Says which file it is, whoever sent it.
type Key = [u8; 32];

#[derive(Debug)]
struct Entry {
    key: Key,
    since: Instant,
    pixels: Pixels,
}

#[derive(Debug, Default)]
struct Entries {
    /// The oldest first.
    kept: VecDeque<Entry>,
    /// Somebody will come and forget them.
    is_watched: bool,
}

/// Shared by clones.
#[derive(Debug, Clone)]
pub(super) struct Recent {
    /// What they are scaled down to.
    pub(super) side_max: u32,
    entries: Arc<Mutex<Entries>>,
}

impl Recent {
    pub(super) fn new(side_max: u32) -> Self {
        Self {
            side_max,
            entries: Arc::default(),
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is room for one more. What is remembered is what will be decoded first, so it stays.
    pub(super) fn has_room(&self) -> bool {
        self.entries().kept.len() < COUNT_MAX
    }

    /// Remembers a picture for the next one who decodes it.
    pub(super) fn keep(&self, image: &InputImage, pixels: Pixels) {
        let entry = Entry {
            key: key(image),
            since: Instant::now(),
            pixels,
        };
        let mut entries = self.entries();
        entries.kept.push_back(entry);
        if !mem::replace(&mut entries.is_watched, true) {
            tokio::spawn(self.clone().forget());
        }
    }

    /// The picture's pixels, once.
    pub(super) fn take(&self, image: &InputImage) -> Option<Pixels> {
        if self.entries().kept.is_empty() {
            return None;
        }
        let key = key(image);
        let mut entries = self.entries();
        let at = entries.kept.iter().position(|entry| entry.key == key)?;
        entries.kept.remove(at).map(|entry| entry.pixels)
    }

    /// Forgets what is old, until there is nothing left.
    async fn forget(self) {
        loop {
            let oldest = {
                let mut entries = self.entries();
                let is_old = |entry: &mut Entry| entry.since.elapsed() >= AGE_MAX;
                while entries.kept.pop_front_if(is_old).is_some() {}
                let Some(oldest) = entries.kept.front() else {
                    entries.is_watched = false;
                    return;
                };
                oldest.since
            };
            sleep_until(oldest + AGE_MAX).await;
        }
    }
}

fn key(image: &InputImage) -> Key {
    Sha256::digest(image.bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageLimits;

    /// A PNG of so many pixels a side.
    fn picture(side: u32) -> (InputImage, Pixels) {
        let rgba = vec![7; (4 * side * side) as usize];
        let mut file = std::io::Cursor::new(Vec::new());
        let kind = ::image::ColorType::Rgba8;
        let format = ::image::ImageFormat::Png;
        ::image::write_buffer_with_format(&mut file, &rgba, side, side, kind, format).unwrap();
        let limits = ImageLimits {
            bytes_max: 1 << 20,
            pixels_max: 1 << 20,
        };
        let image = InputImage::parse(file.into_inner().into(), &limits).unwrap();
        (image, Pixels::new(side, side, rgba).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn each_is_given_out_once_and_forgotten_after_a_while() {
        let recent = Recent::new(1024);
        let ((one, pixels), (other, _)) = (picture(3), picture(4));
        recent.keep(&one, pixels.clone());
        recent.keep(&one, pixels.clone());
        assert_eq!(recent.take(&other), None);
        assert_eq!(recent.take(&one), Some(pixels.clone()));
        assert_eq!(recent.take(&one), Some(pixels.clone()));
        assert_eq!(recent.take(&one), None);

        for _ in 0..COUNT_MAX {
            assert!(recent.has_room());
            recent.keep(&one, pixels.clone());
        }
        assert!(!recent.has_room());
        tokio::time::sleep(AGE_MAX / 2).await;
        assert!(recent.take(&one).is_some());
        recent.keep(&other, pixels.clone());
        tokio::time::sleep(AGE_MAX * 3 / 4).await;
        assert_eq!(recent.take(&one), None, "it is old");
        assert_eq!(recent.entries().kept.len(), 1);
        tokio::time::sleep(AGE_MAX).await;
        assert!(recent.entries().kept.is_empty());
        assert!(!recent.entries().is_watched);
    }
}
