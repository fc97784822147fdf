//! What senders say that a file is, held against what it is.

use std::borrow::Cow;

use super::{ImageFormat, InputImage, error::ImageError};

/// Media types that say nothing about what a file is.
const INDEFINITE: [&str; 5] = [
    "",
    "application/octet-stream",
    "binary/octet-stream",
    "application/binary",
    "image/*",
];
/// Endings of other pictures, documents and what else names may lie about. An ending that is in no list (`.bin`, `.2024`)
/// says nothing.
const OTHERS: [&str; 28] = [
    "ai", "avif", "bmp", "cur", "dng", "eps", "exe", "gif", "heic", "heif", "htm", "html", "ico",
    "j2k", "jp2", "js", "jxl", "mp4", "pdf", "php", "psd", "raw", "svg", "svgz", "tif", "tiff",
    "xml", "zip",
];
/// What is repeated of a sender's words.
const WORDS_MAX: usize = 60;

/// What came with a file; either may be missing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Declared<'a> {
    /// Such as a part's `Content-Type` or a data URL's type.
    pub media_type: Option<&'a str>,
    /// Of which the ending counts.
    pub file_name: Option<&'a str>,
}

impl ImageFormat {
    fn of_media_type(essence: &str) -> Option<Self> {
        match essence {
            "image/png" | "image/x-png" | "image/apng" => Some(Self::Png),
            "image/jpeg" | "image/jpg" | "image/pjpeg" => Some(Self::Jpeg),
            "image/webp" => Some(Self::WebP),
            _ => None,
        }
    }

    fn of_ending(ending: &str) -> Option<Self> {
        match ending {
            "png" | "apng" => Some(Self::Png),
            "jpg" | "jpeg" | "jpe" | "jfif" | "pjpeg" | "pjp" => Some(Self::Jpeg),
            "webp" => Some(Self::WebP),
            _ => None,
        }
    }
}

impl InputImage {
    /// Holds the sender's words against the bytes.
    ///
    /// # Errors
    /// [`ImageError::Mislabelled`] if a type or an ending is another's.
    pub fn check_declared(&self, declared: Declared<'_>) -> Result<(), ImageError> {
        let Declared {
            media_type,
            file_name,
        } = declared;
        let mislabelled = |words: Cow<'_, str>| ImageError::Mislabelled {
            format: self.format,
            declared: shown(&words).into(),
        };
        if let Some(media_type) = media_type {
            let essence = media_type.split(';').next().unwrap_or_default();
            let essence = essence.trim().to_ascii_lowercase();
            if !INDEFINITE.contains(&essence.as_str())
                && ImageFormat::of_media_type(&essence) != Some(self.format)
            {
                return Err(mislabelled(essence.into()));
            }
        }
        let ending = file_name
            .and_then(|name| name.rsplit_once('.'))
            .map(|(_, ending)| ending.trim().to_ascii_lowercase());
        if let Some(ending) = ending {
            let named = ImageFormat::of_ending(&ending);
            let says_something = named.is_some() || OTHERS.contains(&ending.as_str());
            if says_something && named != Some(self.format) {
                return Err(mislabelled(format!(".{ending}").into()));
            }
        }
        Ok(())
    }
}

/// A sender's words as they may be repeated.
fn shown(words: &str) -> String {
    words
        .chars()
        .filter(|character| character.is_ascii_graphic())
        .take(WORDS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{parse, picture},
        *,
    };

    fn refusal(media_type: Option<&str>, file_name: Option<&str>) -> Option<String> {
        let image = parse(picture!("rgb.jpg")).expect("the picture is whole");
        let declared = Declared {
            media_type,
            file_name,
        };
        match image.check_declared(declared) {
            Ok(()) => None,
            Err(ImageError::Mislabelled { format, declared }) => {
                assert_eq!(format, ImageFormat::Jpeg);
                Some(declared.into_owned())
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn right_words_and_none_pass() {
        for media_type in [
            None,
            Some(""),
            Some("image/jpeg"),
            Some("image/jpg"),
            Some("Image/JPEG; charset=binary"),
            Some("application/octet-stream"),
        ] {
            for name in [
                None,
                Some(""),
                Some("picture"),
                Some("chair.jpg"),
                Some("C:\\x.png\\chair.JPEG"),
                Some("chair.2024"),
                Some("chair.bin"),
                Some("chair."),
            ] {
                assert_eq!(refusal(media_type, name), None, "{media_type:?} {name:?}");
            }
        }
    }

    #[test]
    fn wrong_words_are_told() {
        for media_type in ["image/png", "image/svg+xml", "text/html", "video/mp4"] {
            let told = refusal(Some(media_type), Some("chair.jpg"));
            assert_eq!(told.as_deref(), Some(media_type));
        }
        for (name, ending) in [
            ("chair.png", ".png"),
            ("chair.jpg.html", ".html"),
            ("CHAIR.HEIC", ".heic"),
        ] {
            assert_eq!(refusal(None, Some(name)).as_deref(), Some(ending));
        }
        let long = format!("text/\u{7}{}", "x".repeat(500));
        let told = refusal(Some(&long), None).expect("it is no type of a picture");
        assert_eq!(told, format!("text/{}", "x".repeat(WORDS_MAX - 5)));
    }
}
