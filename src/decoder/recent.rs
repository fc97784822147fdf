//! Pictures that were checked a moment ago, decoded: where one process admits and converts, none is decoded twice. While one is
//! stored and queued, it is framed as the last ones were.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

use crate::image::{
    InputImage,
    frame::{AlphaSource, FrameOptions, Framed, frame},
    pixels::Pixels,
};

/// As many as two of the larger GPU batches take.
const COUNT_MAX: usize = 64;
/// What nobody has decoded by now was withdrawn, or went to another node.
const AGE_MAX: Duration = Duration::from_secs(30);

/// Says which file it is, whoever sent it.
type Key = [u8; 32];

/// Starts work that takes milliseconds, somewhere else.
pub type Start = fn(Box<dyn FnOnce() + Send>);

/// A picture, decoded.
#[derive(Debug)]
pub struct Decoded {
    pub pixels: Arc<Pixels>,
    /// As [`Pixels::has_transparency`], which looks at all of them.
    pub has_transparency: bool,
    framed: Option<FramedAhead>,
}

#[derive(Debug)]
struct FramedAhead {
    options: FrameOptions,
    framed: oneshot::Receiver<Framed>,
}

impl From<Pixels> for Decoded {
    fn from(pixels: Pixels) -> Self {
        Self {
            has_transparency: pixels.has_transparency(),
            pixels: Arc::new(pixels),
            framed: None,
        }
    }
}

impl Decoded {
    /// As [`frame`] frames it with these options and [`AlphaSource::without_matte`], if that has been done by now.
    pub fn framed(&mut self, options: &FrameOptions) -> Option<Framed> {
        let ahead = self.framed.take_if(|ahead| ahead.options == *options)?;
        let mut framed = ahead.framed;
        framed.try_recv().ok()
    }
}

#[derive(Debug)]
struct Entry {
    key: Key,
    since: Instant,
    decoded: Decoded,
}

/// How pictures were framed lately.
#[derive(Debug, Clone, Copy)]
struct Framing {
    options: FrameOptions,
    /// More than once in a row.
    is_usual: bool,
    /// Opaque ones among them: where a matte tells what is in those, none are.
    is_of_opaque: bool,
}

#[derive(Debug, Default)]
struct Entries {
    /// The oldest first.
    kept: VecDeque<Entry>,
    /// Somebody will come and forget them.
    is_watched: bool,
    framing: Option<Framing>,
}

/// Shared by clones.
#[derive(Debug, Clone)]
pub(super) struct Recent {
    /// What they are scaled down to.
    pub(super) side_max: u32,
    start: Start,
    entries: Arc<Mutex<Entries>>,
}

impl Recent {
    pub(super) fn new(side_max: u32, start: Start) -> Self {
        Self {
            side_max,
            start,
            entries: Arc::default(),
        }
    }

    /// Notes how a picture is framed by [`AlphaSource::without_matte`].
    pub(super) fn note_framing(&self, options: FrameOptions, has_transparency: bool) {
        let mut entries = self.entries();
        let before = entries.framing.filter(|before| before.options == options);
        entries.framing = Some(Framing {
            options,
            is_usual: before.is_some(),
            is_of_opaque: !has_transparency || before.is_some_and(|before| before.is_of_opaque),
        });
    }

    /// Begins to frame a picture as the last ones were.
    fn begin_to_frame(&self, decoded: &Decoded) -> Option<FramedAhead> {
        let usual = self.entries().framing.filter(|framing| framing.is_usual);
        let usual = usual.filter(|usual| usual.is_of_opaque || decoded.has_transparency);
        let options = usual?.options;
        let pixels = Arc::clone(&decoded.pixels);
        let alpha = AlphaSource::without_matte(decoded.has_transparency);
        let (sender, framed) = oneshot::channel();
        (self.start)(Box::new(move || {
            // Whoever decodes it before it is its turn frames it, and tells what is wrong with it.
            if !sender.is_closed()
                && let Ok(framed) = frame(&pixels, alpha, &options)
            {
                let _ = sender.send(framed);
            }
        }));
        Some(FramedAhead { options, framed })
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
        let mut decoded = Decoded::from(pixels);
        decoded.framed = self.begin_to_frame(&decoded);
        let entry = Entry {
            key: key(image),
            since: Instant::now(),
            decoded,
        };
        let mut entries = self.entries();
        entries.kept.push_back(entry);
        if !mem::replace(&mut entries.is_watched, true) {
            tokio::spawn(self.clone().forget());
        }
    }

    /// The picture, once.
    pub(super) fn take(&self, image: &InputImage) -> Option<Decoded> {
        if self.entries().kept.is_empty() {
            return None;
        }
        let key = key(image);
        let mut entries = self.entries();
        let at = entries.kept.iter().position(|entry| entry.key == key)?;
        entries.kept.remove(at).map(|entry| entry.decoded)
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
        let recent = Recent::new(1024, |_| panic!("nothing was framed lately"));
        let take = |image| {
            recent
                .take(image)
                .map(|decoded| Pixels::clone(&decoded.pixels))
        };
        let ((one, pixels), (other, _)) = (picture(3), picture(4));
        recent.keep(&one, pixels.clone());
        recent.keep(&one, pixels.clone());
        assert_eq!(take(&other), None);
        assert_eq!(take(&one), Some(pixels.clone()));
        assert_eq!(take(&one), Some(pixels.clone()));
        assert_eq!(take(&one), None);

        for _ in 0..COUNT_MAX {
            assert!(recent.has_room());
            recent.keep(&one, pixels.clone());
        }
        assert!(!recent.has_room());
        tokio::time::sleep(AGE_MAX / 2).await;
        assert!(recent.take(&one).is_some());
        recent.keep(&other, pixels.clone());
        tokio::time::sleep(AGE_MAX * 3 / 4).await;
        assert_eq!(take(&one), None, "it is old");
        assert_eq!(recent.entries().kept.len(), 1);
        tokio::time::sleep(AGE_MAX).await;
        assert!(recent.entries().kept.is_empty());
        assert!(!recent.entries().is_watched);
    }

    #[tokio::test]
    async fn what_is_usual_is_framed_before_it_is_asked_for() {
        let recent = Recent::new(1024, |work| work());
        let usual = FrameOptions {
            side: 8,
            background: [0.5; 3],
            fill: 0.9,
        };
        let other = FrameOptions { side: 9, ..usual };
        let (image, _) = picture(4);
        let opaque = Pixels::new(4, 4, vec![255; 64]).unwrap();
        let clear = Pixels::new(4, 4, [[255; 32], [0; 32]].concat()).unwrap();
        let framed_ahead = |pixels: &Pixels, options| {
            recent.keep(&image, pixels.clone());
            recent.take(&image).unwrap().framed(&options)
        };
        let expected = frame(&clear, AlphaSource::Picture, &usual).unwrap();

        recent.note_framing(usual, true);
        assert_eq!(framed_ahead(&clear, usual), None, "once is not usual");
        recent.note_framing(usual, true);
        assert_eq!(framed_ahead(&clear, usual), Some(expected));
        assert_eq!(framed_ahead(&clear, other), None);
        assert_eq!(
            framed_ahead(&opaque, usual),
            None,
            "a matte may tell what is in it"
        );
        recent.note_framing(usual, false);
        assert!(framed_ahead(&opaque, usual).is_some());
        recent.note_framing(other, true);
        assert_eq!(framed_ahead(&clear, other), None, "they change");
    }
}
