use proptest::prelude::*;

use super::{error::ImageErrorCode, *};

mod essential;

const LIMITS: ImageLimits = ImageLimits {
    bytes_max: 20 << 20,
    pixels_max: 50_000_000,
};

/// A file of `tests/fixtures/pictures`, in the binary.
macro_rules! picture {
    ($name:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/pictures/",
            $name
        ))
        .as_slice()
    };
}
pub(super) use picture;

pub(super) fn parse(bytes: &[u8]) -> Result<InputImage, ImageError> {
    InputImage::parse(Bytes::copy_from_slice(bytes), &LIMITS)
}

/// What a PNG's chunk ends in.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            if sum & 1 == 1 {
                sum >> 1 ^ 0xedb8_8320
            } else {
                sum >> 1
            }
        })
    })
}

pub(super) fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).expect("tests' chunks are short");
    let body = [kind, data].concat();
    [
        &length.to_be_bytes()[..],
        &body,
        &checksum(&body).to_be_bytes(),
    ]
    .concat()
}

fn png_of(width: u32, height: u32) -> Vec<u8> {
    let header = [
        &width.to_be_bytes()[..],
        &height.to_be_bytes(),
        &[8, 6, 0, 0, 0],
    ]
    .concat();
    [
        b"\x89PNG\r\n\x1a\n",
        &chunk(b"IHDR", &header)[..],
        &chunk(b"IDAT", &[]),
        &chunk(b"IEND", &[]),
    ]
    .concat()
}

const STILLS: [(&[u8], ImageFormat); 9] = [
    (picture!("rgb.png"), ImageFormat::Png),
    (picture!("palette-alpha.png"), ImageFormat::Png),
    (picture!("rgba16.png"), ImageFormat::Png),
    (picture!("rgb.jpg"), ImageFormat::Jpeg),
    (picture!("progressive.jpg"), ImageFormat::Jpeg),
    (picture!("restarts.jpg"), ImageFormat::Jpeg),
    (picture!("lossy.webp"), ImageFormat::WebP),
    (picture!("lossless.webp"), ImageFormat::WebP),
    (picture!("lossy-alpha.webp"), ImageFormat::WebP),
];

#[test]
fn pictures_are_known_by_their_bytes() {
    for (bytes, format) in STILLS {
        let image = parse(bytes).expect("the picture is whole");
        assert_eq!(
            (image.format(), image.width(), image.height()),
            (format, 48, 32)
        );
        assert_eq!(image.media_type(), format.media_type());
        assert_eq!(image.bytes(), bytes);
    }
}

#[test]
fn what_follows_a_picture_doesn_t_matter() {
    for (bytes, _) in STILLS {
        parse(&[bytes, b"\0padding\xff\xd8"].concat()).expect("the picture itself is whole");
    }
}

#[test]
fn every_cut_is_noticed() {
    for (bytes, format) in STILLS {
        for length in 0..bytes.len() {
            let error = parse(&bytes[..length]).expect_err("a part of a picture isn't a picture");
            assert_eq!(
                error.code(),
                ImageErrorCode::Invalid,
                "{format:?} cut at {length}: {error}"
            );
            if length >= 12 {
                assert_eq!(error, ImageError::Truncated { format }, "cut at {length}");
            }
        }
    }
}

#[test]
fn other_formats_are_refused_by_name() {
    for (bytes, name) in [
        (picture!("other.gif"), "GIF"),
        (picture!("other.bmp"), "BMP"),
        (picture!("other.tiff"), "TIFF"),
        (picture!("other.avif"), "AVIF"),
        (picture!("other.pdf"), "PDF"),
        (picture!("other.ico"), "an icon"),
        (picture!("other.jp2"), "JPEG 2000"),
        (picture!("other.svg"), "SVG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"  \n<svg viewBox='0 0 1 1'/>", "SVG"),
    ] {
        let error = parse(bytes).expect_err("it isn't one of ours");
        assert_eq!(error, ImageError::OtherFormat { found: name.into() });
        assert_eq!(error.code(), ImageErrorCode::Unsupported);
        assert!(error.to_string().contains(name) && error.to_string().contains("convert it"));
    }
}

#[test]
fn what_is_no_picture_is_refused_by_name() {
    for (bytes, name) in [
        (&b"Dear orfeas, here is my chair."[..], "text"),
        ("Liebes orfeas, hier ist mein Stühlchen.".as_bytes(), "text"),
        (
            b"<!DOCTYPE html><html><body>404</body></html>",
            "a web page",
        ),
        (b"<?xml version='1.0'?><rss/>", "XML text"),
        (
            b"PK\x03\x04....................................",
            "application/zip",
        ),
        (
            b"\x01\x02\x03\x04\x05\x06\x07\x08\xfe",
            "a file of an unknown kind",
        ),
    ] {
        let error = parse(bytes).expect_err("it isn't a picture");
        assert_eq!(error, ImageError::NotAPicture { found: name.into() });
        assert_eq!(error.code(), ImageErrorCode::Invalid);
    }
    assert_eq!(parse(b"").expect_err("it is empty"), ImageError::Empty);
    // What a transfer as text makes of a PNG.
    let error =
        parse(b"\x89PNG\n\x1a\n\0\0\0\x0dIHDR").expect_err("its signature is there to notice this");
    assert!(
        matches!(
            error,
            ImageError::Damaged {
                format: ImageFormat::Png,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn animations_are_refused() {
    for (bytes, format) in [
        (picture!("animated.png"), ImageFormat::Png),
        (picture!("animated.webp"), ImageFormat::WebP),
    ] {
        let error = parse(bytes).expect_err("it moves");
        assert_eq!(error, ImageError::Animated { format });
        assert_eq!(error.code(), ImageErrorCode::Unsupported);
    }
}

#[test]
fn limits_hold_to_the_byte_and_pixel() {
    let bytes = picture!("rgb.png");
    let size = bytes.len() as u64;
    let parse = |bytes_max, pixels_max| {
        InputImage::parse(
            Bytes::from_static(bytes),
            &ImageLimits {
                bytes_max,
                pixels_max,
            },
        )
    };
    assert!(parse(size, 48 * 32).is_ok());
    let error = parse(size - 1, 48 * 32).expect_err("it is a byte too long");
    assert_eq!(
        error,
        ImageError::TooManyBytes {
            bytes: size,
            bytes_max: size - 1
        }
    );
    let error = parse(size, 48 * 32 - 1).expect_err("it is a pixel too large");
    assert_eq!(
        error,
        ImageError::TooManyPixels {
            width: 48,
            height: 32,
            pixels_max: 48 * 32 - 1
        }
    );
    assert_eq!(error.code(), ImageErrorCode::TooLarge);
}

#[test]
fn headers_that_claim_too_much_or_nothing_are_refused() {
    assert!(parse(&png_of(10_000, 5_000)).is_ok());
    for (sides, code) in [
        ((10_000, 5_001), ImageErrorCode::TooLarge),
        ((u32::MAX, u32::MAX), ImageErrorCode::TooLarge),
        ((SIDE_MAX + 1, 1), ImageErrorCode::TooLarge),
        ((0, 100), ImageErrorCode::Invalid),
        ((100, 0), ImageErrorCode::Invalid),
    ] {
        let error = parse(&png_of(sides.0, sides.1)).expect_err("no picture has such sides");
        assert_eq!(error.code(), code, "{sides:?}: {error}");
    }
    // The sides in the JPEG's frame header and in the WebP's canvas.
    let mut jpeg = picture!("rgb.jpg").to_vec();
    let frame = jpeg
        .windows(2)
        .position(|marker| marker == [0xff, 0xc0])
        .expect("it is a baseline JPEG");
    jpeg[frame + 5..frame + 9].fill(0xff);
    assert_eq!(
        parse(&jpeg).expect_err("65535²").code(),
        ImageErrorCode::TooLarge
    );
    let mut webp = picture!("lossy-alpha.webp").to_vec();
    webp[24..30].fill(0xff);
    let error = parse(&webp).expect_err("canvas and frame disagree");
    assert_eq!(error.code(), ImageErrorCode::Invalid);
}

#[test]
fn kinds_of_jpeg_that_nobody_decodes_are_refused() {
    let plain = picture!("rgb.jpg");
    let frame = plain
        .windows(2)
        .position(|marker| marker == [0xff, 0xc0])
        .expect("it is a baseline JPEG");
    for (offset, value) in [(1, 0xc3), (1, 0xc9), (4, 12), (9, 2)] {
        let mut bytes = plain.to_vec();
        bytes[frame + offset] = value;
        let error = parse(&bytes).expect_err("the frame header says so");
        assert!(
            matches!(
                error,
                ImageError::Feature {
                    format: ImageFormat::Jpeg,
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn png_chunks_must_make_sense() {
    let signature = b"\x89PNG\r\n\x1a\n";
    let header = chunk(b"IHDR", &[0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0]);
    let (data, end) = (chunk(b"IDAT", &[1, 2, 3]), chunk(b"IEND", &[]));
    let file = |chunks: &[&[u8]]| [&signature[..], &chunks.concat()].concat();
    assert!(parse(&file(&[&header, &data, &end])).is_ok());
    for chunks in [
        &[&data[..], &header, &end][..],
        &[&header, &end],
        &[&header, &header, &data, &end],
        &[&chunk(b"IHDR", &[0; 4]), &data, &end],
    ] {
        assert!(matches!(
            parse(&file(chunks)),
            Err(ImageError::Damaged {
                format: ImageFormat::Png,
                ..
            })
        ));
    }
    for private in [b"CgBI", b"XYZW"] {
        let file = file(&[&header, &chunk(private, &[]), &data, &end]);
        assert!(matches!(parse(&file), Err(ImageError::Feature { .. })));
    }
}

#[test]
fn sentences_tell_what_to_do_and_codes_are_the_contract_s() {
    assert_eq!(
        parse(b"").expect_err("it is empty").to_string(),
        "the file is empty: send the bytes of a PNG, JPEG or WebP picture"
    );
    let too_many = ImageError::TooManyPixels {
        width: 9000,
        height: 9000,
        pixels_max: 50_000_000,
    };
    assert_eq!(
        too_many.to_string(),
        "the picture has 9000 × 9000 pixels where 50000000 pixels in all are allowed: scale it down first"
    );
    let names = [
        ImageErrorCode::Invalid,
        ImageErrorCode::TooLarge,
        ImageErrorCode::Unsupported,
    ];
    assert_eq!(
        names.map(ImageErrorCode::as_str),
        ["INVALID_IMAGE", "IMAGE_TOO_LARGE", "UNSUPPORTED_IMAGE"]
    );
}

proptest! {
    /// Any bytes behind any of the signatures are judged without a panic.
    #[test]
    fn any_bytes_are_judged(
        start in prop::sample::select(vec![&b""[..], b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\xff\0\0\0WEBPVP8X"]),
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let _ = parse(&[start, &rest].concat());
    }

    /// Damage anywhere in the bytes leaves a verdict, and never sides beyond the limits.
    #[test]
    fn damaged_containers_are_judged(
        which in 0..STILLS.len(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = STILLS[which].0.to_vec();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(image) = parse(&bytes) {
            prop_assert!(u64::from(image.width()) * u64::from(image.height()) <= LIMITS.pixels_max);
        }
    }
}
