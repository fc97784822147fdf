//! What was measured of models on devices, kept between starts.
//!
//! A file for each model, device and libtorch; its name says which, and it is measured anew whenever one of them is
//! another. Deleting the folder is always safe.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::{debug, warn};

use super::memory::{Lesson, Measured};

/// Grows when what is measured, or how, changes.
const EDITION: u32 = 1;

/// What a measurement belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Of the model's file, as in its manifest.
    pub model_sha256: String,
    /// The number format and the points of a pass change what is measured, too.
    pub plan: String,
    /// The maker's name.
    pub device: String,
    pub device_bytes: u64,
    pub torch: String,
    /// The largest batch that was to be measured.
    pub images_max: usize,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    edition: u32,
    subject: Subject,
    measured: Measured,
}

/// The folder of measurements.
#[derive(Debug, Clone)]
pub struct Measurements {
    folder: PathBuf,
}

impl Measurements {
    /// Measurements kept in `folder`, which is made when the first one is.
    #[must_use]
    pub fn in_folder(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// What was measured before, if it was and can be read.
    #[must_use]
    pub fn find(&self, subject: &Subject) -> Option<Measured> {
        let path = self.path(subject);
        let bytes = fs::read(&path).ok()?;
        match serde_json::from_slice::<Kept>(&bytes) {
            Ok(kept) if kept.edition == EDITION && kept.subject == *subject => Some(kept.measured),
            Ok(_) => None,
            Err(error) => {
                debug!(%error, "{} holds no measurement", path.display());
                None
            }
        }
    }

    /// Keeps a measurement. If it can't be kept, the next start measures again.
    pub fn keep(&self, subject: &Subject, measured: &Measured) {
        let kept = Kept {
            edition: EDITION,
            subject: subject.clone(),
            measured: measured.clone(),
        };
        if let Err(error) = self.write(&self.path(subject), &kept) {
            warn!(%error, "Could not keep what was measured in {}", self.folder.display());
        }
    }

    /// Adds a lesson to what is kept: devices of one kind share a file, so what others have learned stays.
    pub fn learn(&self, subject: &Subject, lesson: Lesson) {
        let mut measured = self.find(subject).unwrap_or_default();
        measured.learn(lesson);
        self.keep(subject, &measured);
    }

    fn write(&self, path: &Path, kept: &Kept) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        // Several nodes may have one folder.
        let partial = tempfile::NamedTempFile::new_in(&self.folder)?;
        serde_json::to_writer_pretty(&partial, kept)?;
        partial.persist(path)?;
        Ok(())
    }

    fn path(&self, subject: &Subject) -> PathBuf {
        let text = serde_json::to_string(subject).expect("a subject is plain text and numbers");
        let digest = hex::encode(Sha256::digest(text));
        self.folder.join(format!("{}.json", &digest[..32]))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::memory::Measurement, *};

    fn subject() -> Subject {
        Subject {
            model_sha256: "ab".into(),
            plan: "half, 1048576".into(),
            device: "NVIDIA H100".into(),
            device_bytes: 80 << 30,
            torch: "2.11.0".into(),
            images_max: 32,
        }
    }

    #[test]
    fn what_was_measured_is_found_again_for_the_same_alone() {
        let folder = tempfile::tempdir().unwrap();
        let measurements = Measurements::in_folder(folder.path().join("measured"));
        assert_eq!(measurements.find(&subject()), None);
        let mut measured = Measured::default();
        measured.push(Measurement {
            images: 1,
            encode: Duration::from_micros(7800),
            bytes: 1 << 30,
        });
        measured.points_worthwhile = Some(262_144);
        measurements.keep(&subject(), &measured);
        assert_eq!(measurements.find(&subject()), Some(measured));
        let others = [
            Subject {
                model_sha256: "cd".into(),
                ..subject()
            },
            Subject {
                device: "NVIDIA H200".into(),
                ..subject()
            },
            Subject {
                torch: "2.12.0".into(),
                ..subject()
            },
            Subject {
                images_max: 8,
                ..subject()
            },
        ];
        for other in others {
            assert_eq!(measurements.find(&other), None, "{other:?}");
        }
    }

    #[test]
    fn lessons_are_added_to_what_was_measured() {
        let folder = tempfile::tempdir().unwrap();
        let measurements = Measurements::in_folder(folder.path().to_owned());
        let mut measured = Measured::default();
        measured.push(Measurement {
            images: 8,
            encode: Duration::from_micros(7800),
            bytes: 1 << 30,
        });
        measurements.keep(&subject(), &measured);
        measurements.learn(&subject(), Lesson::Images(4));
        measurements.learn(&subject(), Lesson::Images(6));
        let found = measurements.find(&subject()).unwrap();
        assert_eq!((found.rows(), found.images_max(32)), (measured.rows(), 4));
        // A file of before there were lessons.
        let path = measurements.path(&subject());
        let mut kept: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        kept["measured"]
            .as_object_mut()
            .unwrap()
            .remove("images_learned");
        fs::write(&path, kept.to_string()).unwrap();
        assert_eq!(measurements.find(&subject()), Some(measured));
    }

    #[test]
    fn what_cannot_be_read_or_written_is_measured_again() {
        let folder = tempfile::tempdir().unwrap();
        let measurements = Measurements::in_folder(folder.path().to_owned());
        measurements.keep(&subject(), &Measured::default());
        fs::write(measurements.path(&subject()), "{").unwrap();
        assert_eq!(measurements.find(&subject()), None);
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        Measurements::in_folder(file).keep(&subject(), &Measured::default());
    }
}
