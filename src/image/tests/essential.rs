//! What is kept of a picture: all that it is shown by, and nothing else.

use super::{super::decode::decode, *};

/// Where the picture was taken, as EXIF data of a phone has it; with an orientation.
fn exif_with_place() -> Vec<u8> {
    let mut exif = b"II*\0\x08\0\0\0\x02\0".to_vec();
    // Orientation 6; then a maker whose text lies behind the directory.
    exif.extend_from_slice(b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0");
    exif.extend_from_slice(b"\x0f\x01\x02\0\x14\0\0\0\x26\0\0\0");
    exif.extend_from_slice(b"\0\0\0\0");
    exif.extend_from_slice(b"SECRET-52.5200-13.40\0");
    exif
}

fn segment(marker: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len() + 2).expect("tests' segments are short");
    [&[0xff, marker], &length.to_be_bytes()[..], data].concat()
}

fn jpeg() -> Vec<u8> {
    let plain = picture!("rgb.jpg");
    let exif = [b"Exif\0\0", &exif_with_place()[..]].concat();
    [
        &plain[..2],
        &segment(0xe1, &exif),
        &segment(0xe1, b"http://ns.adobe.com/xap/1.0/\0<x>SECRET</x>"),
        &segment(0xed, b"Photoshop 3.0\0SECRET"),
        &segment(0xfe, b"SECRET comment"),
        b"SECRET between",
        &plain[2..],
        b"SECRET behind",
    ]
    .concat()
}

fn png() -> Vec<u8> {
    let plain = picture!("rgb.png");
    [
        &plain[..33],
        &chunk(b"eXIf", &exif_with_place()),
        &chunk(b"tEXt", b"Author\0SECRET"),
        &chunk(b"prVt", b"SECRET"),
        &plain[33..],
        b"SECRET behind",
    ]
    .concat()
}

fn webp() -> Vec<u8> {
    let plain = picture!("lossless.webp");
    let part = |kind: &[u8; 4], data: &[u8]| {
        let length = u32::try_from(data.len()).expect("short").to_le_bytes();
        let mut part = [kind, &length[..], data].concat();
        part.resize(part.len().next_multiple_of(2), 0);
        part
    };
    let content = [
        b"WEBP",
        // EXIF and XMP are there.
        &part(b"VP8X", &[0x0c, 0, 0, 0, 47, 0, 0, 31, 0, 0])[..],
        &part(b"SECR", b"SECRET"),
        &plain[12..],
        &part(b"EXIF", &exif_with_place()),
        &part(b"XMP ", b"<x>SECRET</x>"),
    ]
    .concat();
    let size = u32::try_from(content.len()).expect("short").to_le_bytes();
    [b"RIFF", &size[..], &content, b"SECRET behind"].concat()
}

#[test]
fn places_names_and_comments_go_and_the_picture_stays() {
    for bytes in [jpeg(), png(), webp()] {
        let image = parse(&bytes).expect("the picture is whole");
        let kept = image.essential();
        let format = image.format();
        let tells = |bytes: &[u8]| bytes.windows(6).any(|window| window == b"SECRET");
        assert!(tells(image.bytes()) && !tells(kept.bytes()), "{format:?}");
        let again = parse(kept.bytes()).expect("what is kept is a picture");
        assert_eq!(
            (again.format(), again.width(), again.height()),
            (format, 48, 32)
        );
        assert_eq!(again.essential().bytes(), kept.bytes(), "{format:?}");
        let (before, after) = (decode(&image, 4096), decode(&again, 4096));
        let (before, after) = (before.expect("sound"), after.expect("sound"));
        assert_eq!((before.width(), before.height()), (32, 48), "{format:?}");
        assert_eq!(before.rgba(), after.rgba(), "{format:?}");
    }
}

#[test]
fn every_sample_decodes_to_the_same_pixels() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pictures");
    let mut compared = 0;
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be listed").path();
        let bytes = std::fs::read(&path).expect("it can be read");
        let Ok(image) = parse(&bytes) else { continue };
        let kept = image.essential();
        assert!(kept.bytes().len() <= bytes.len(), "{}", path.display());
        let (before, after) = (decode(&image, 4096), decode(&kept, 4096));
        assert_eq!(
            before.expect("sound").rgba(),
            after.expect("sound").rgba(),
            "{}",
            path.display()
        );
        compared += 1;
    }
    assert!(compared >= 30, "{compared}");
}

#[test]
fn a_picture_without_metadata_is_kept_byte_for_byte() {
    for bytes in [
        picture!("rgb.png"),
        picture!("palette-alpha.png"),
        picture!("rgb.jpg"),
        picture!("progressive.jpg"),
        picture!("restarts.jpg"),
        picture!("lossy.webp"),
        picture!("lossy-alpha.webp"),
    ] {
        let image = parse(bytes).expect("the picture is whole");
        assert_eq!(image.essential().bytes(), bytes);
    }
}

#[test]
fn a_thumbnail_in_a_jfif_segment_goes() {
    let plain = picture!("rgb.jpg");
    let thumbnail = [&b"JFIF\0\x01\x01\0\0\x01\0\x01\x01\x02"[..], b"SECRET"].concat();
    let bytes = [&plain[..2], &segment(0xe0, &thumbnail), &plain[20..]].concat();
    let kept = parse(&bytes).expect("the picture is whole").essential();
    assert_eq!(
        kept.bytes()[2..20],
        *b"\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
    );
    assert_eq!(kept.bytes()[20..], plain[20..]);
}
