//! How a picture is to be turned: the one thing that is kept of EXIF data.

use ::image::metadata::Orientation;

/// What some writers put before the data where the format already says what it is.
const PREFIX: &[u8] = b"Exif\0\0";

/// The orientation that EXIF data asks for, if it is any but upright. Broken data asks for nothing.
pub(super) fn of_exif(data: &[u8]) -> Option<Orientation> {
    let data = data.strip_prefix(PREFIX).unwrap_or(data);
    Orientation::from_exif_chunk(data).filter(|&found| found != Orientation::NoTransforms)
}

/// EXIF data that says this and nothing else: a directory of one entry, in a TIFF file.
pub(super) fn exif(orientation: Orientation) -> [u8; 26] {
    let mut data = *b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\0\0\0\0\0\0\0";
    // A short is left-aligned in the entry's four bytes of value.
    data[19] = orientation.to_exif();
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for code in 2..=8 {
            let orientation = Orientation::from_exif(code).expect("there are eight");
            assert_eq!(of_exif(&exif(orientation)), Some(orientation));
            let prefixed = [PREFIX, &exif(orientation)].concat();
            assert_eq!(of_exif(&prefixed), Some(orientation));
        }
        assert_eq!(of_exif(&exif(Orientation::NoTransforms)), None);
        assert_eq!(of_exif(b"MM\0\x2a"), None);
    }
}
