use ::image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use proptest::prelude::*;

use super::{
    super::{
        error::ImageErrorCode,
        tests::{chunk, parse, picture},
    },
    *,
};

const RED: [u8; 4] = [230, 30, 20, 255];
const GREEN: [u8; 4] = [20, 200, 40, 255];
const BLUE: [u8; 4] = [30, 40, 220, 255];
const YELLOW: [u8; 4] = [240, 220, 30, 255];

/// The middles of the quadrants in reading order.
fn quadrants(pixels: &Pixels) -> [[u8; 4]; 4] {
    let (width, height) = (pixels.width(), pixels.height());
    [(1, 1), (3, 1), (1, 3), (3, 3)].map(|(x, y)| {
        let index = y * height / 4 * width + x * width / 4;
        pixels
            .iter()
            .nth(index as usize)
            .expect("the middle of a quadrant lies in the picture")
    })
}

#[track_caller]
fn assert_close(found: [[u8; 4]; 4], expected: [[u8; 4]; 4], tolerance: u8) {
    for (found, expected) in found.as_flattened().iter().zip(expected.as_flattened()) {
        assert!(
            found.abs_diff(*expected) <= tolerance,
            "{found} is not {expected}"
        );
    }
}

fn decoded(bytes: &[u8]) -> Pixels {
    decode(&parse(bytes).expect("the container is whole"), 4096).expect("the picture is sound")
}

/// ITU-R 601 luma of a colour, as Pillow makes grey of it.
fn grey([r, g, b, a]: [u8; 4]) -> [u8; 4] {
    let luma =
        (u32::from(r) * 19_595 + u32::from(g) * 38_470 + u32::from(b) * 7_471 + 0x8000) >> 16;
    let luma = u8::try_from(luma).expect("the weights sum to 2^16");
    [luma, luma, luma, a]
}

#[test]
fn every_kind_of_picture_has_its_colours() {
    let plain = [RED, GREEN, BLUE, YELLOW];
    let cut_out = [RED, GREEN, [30, 40, 220, 128], [255, 255, 255, 0]];
    let key = [RED, GREEN, BLUE, [240, 220, 30, 0]];
    let bilevel = [[0, 0, 0, 255], [255; 4], [0, 0, 0, 255], [255; 4]];
    for (bytes, expected, tolerance) in [
        (picture!("rgb.png"), plain, 0),
        (picture!("rgba.png"), cut_out, 0),
        (picture!("grey.png"), plain.map(grey), 1),
        (picture!("grey-alpha.png"), cut_out.map(grey), 1),
        (picture!("bilevel.png"), bilevel, 0),
        (picture!("palette-alpha.png"), cut_out, 0),
        (picture!("colour-key.png"), key, 0),
        (picture!("grey16.png"), plain.map(grey), 1),
        (picture!("rgb16.png"), plain, 0),
        (picture!("grey-alpha16.png"), cut_out.map(grey), 1),
        (picture!("rgba16.png"), cut_out, 0),
        (picture!("rgb.jpg"), plain, 3),
        (picture!("grey.jpg"), plain.map(grey), 3),
        (picture!("subsampled.jpg"), plain, 6),
        (picture!("progressive.jpg"), plain, 3),
        (picture!("restarts.jpg"), plain, 3),
        (picture!("profile.jpg"), plain, 3),
        (picture!("cmyk.jpg"), plain, 4),
        (picture!("ycck.jpg"), plain, 6),
        (picture!("lossy.webp"), plain, 8),
        (picture!("lossless.webp"), plain, 0),
        (picture!("lossless-alpha.webp"), cut_out, 0),
    ] {
        let pixels = decoded(bytes);
        assert_eq!((pixels.width(), pixels.height()), (48, 32));
        assert_close(quadrants(&pixels), expected, tolerance);
        check(&parse(bytes).expect("the container is whole"))
            .expect("what decodes passes the check");
    }
    let lossy = quadrants(&decoded(picture!("lossy-alpha.webp")));
    assert_eq!(
        lossy.map(|pixel| pixel[3]),
        [255, 255, 128, 0],
        "WebP's alpha is lossless"
    );
    assert_close(
        [lossy[0], lossy[1], lossy[2], [0; 4]],
        [RED, GREEN, [30, 40, 220, 128], [0; 4]],
        8,
    );
}

#[test]
fn orientations_come_out_upright() {
    let (r, g, b, y) = (RED, GREEN, BLUE, YELLOW);
    for (bytes, expected, turned) in [
        (picture!("orientation-1.jpg"), [r, g, b, y], false),
        (picture!("orientation-2.jpg"), [g, r, y, b], false),
        (picture!("orientation-3.jpg"), [y, b, g, r], false),
        (picture!("orientation-4.jpg"), [b, y, r, g], false),
        (picture!("orientation-5.jpg"), [r, b, g, y], true),
        (picture!("orientation-6.jpg"), [b, r, y, g], true),
        (picture!("orientation-7.jpg"), [y, g, b, r], true),
        (picture!("orientation-8.jpg"), [g, y, r, b], true),
        (picture!("orientation-6.png"), [b, r, y, g], true),
        (picture!("orientation-8.webp"), [g, y, r, b], true),
    ] {
        let pixels = decoded(bytes);
        assert_eq!(
            (pixels.width(), pixels.height()),
            if turned { (32, 48) } else { (48, 32) }
        );
        assert_close(quadrants(&pixels), expected, 3);
        // Scaling happens first and must not change that.
        let image = parse(bytes).expect("the container is whole");
        let small = decode(&image, 24).expect("the picture is sound");
        assert_eq!(
            (small.width(), small.height()),
            if turned { (16, 24) } else { (24, 16) }
        );
        assert_close(quadrants(&small), expected, 4);
    }
}

#[test]
fn scaling_keeps_proportions_and_at_least_a_pixel() {
    for (sides, side_max, expected) in [
        ((300, 200), 100, (100, 67)),
        ((200, 300), 100, (67, 100)),
        ((3000, 1), 100, (100, 1)),
        ((100, 100), 100, (100, 100)),
        ((5, 5), 0, (1, 1)),
    ] {
        let image = encoded(
            sides.0,
            sides.1,
            ExtendedColorType::L8,
            &vec![77; (sides.0 * sides.1) as usize],
        );
        let pixels =
            decode(&parse(&image).expect("the container is whole"), side_max).expect("it is sound");
        assert_eq!((pixels.width(), pixels.height()), expected);
        assert!(pixels.iter().all(|pixel| pixel == [77, 77, 77, 255]));
    }
}

#[test]
fn hidden_colours_don_t_bleed_when_scaled() {
    // Columns of red, and of green that nobody may see.
    for (kind, visible, hidden) in [
        (
            ExtendedColorType::Rgba8,
            &[200, 0, 0, 255][..],
            &[0, 255, 0, 0][..],
        ),
        (ExtendedColorType::La8, &[200, 255], &[10, 0]),
    ] {
        let row: Vec<u8> = [visible, hidden].concat().repeat(100);
        let image = encoded(200, 200, kind, &row.repeat(200));
        let pixels =
            decode(&parse(&image).expect("the container is whole"), 50).expect("it is sound");
        for [r, g, _, a] in pixels.iter() {
            assert!(a.abs_diff(128) <= 10, "half of it is covered, not {a}");
            assert!(
                r.abs_diff(200) <= 3 && (g <= 1 || g == r),
                "({r}, {g}) is not what was visible"
            );
        }
        assert!(pixels.has_transparency());
    }
}

#[test]
fn transparency_is_told_from_rounded_corners() {
    assert!(decoded(picture!("rgba.png")).has_transparency());
    assert!(!decoded(picture!("rgb.jpg")).has_transparency());
    let corners = |free: usize| {
        let rgba = (0..10_000)
            .flat_map(|index| [9, 9, 9, if index < free { 0 } else { 255 }])
            .collect();
        Pixels::new(100, 100, rgba)
            .expect("the length fits")
            .has_transparency()
    };
    assert!(!corners(49));
    assert!(corners(50));
}

fn encoded(width: u32, height: u32, kind: ExtendedColorType, samples: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(samples, width, height, kind)
        .expect("the samples fit the sides");
    bytes
}

#[test]
fn texts_that_inflate_without_end_are_never_looked_at() {
    // 40 MB of zeros in 40 kB, as the picture's compressed text, and as one in another alphabet.
    let zeros = encoded(40_000, 1000, ExtendedColorType::L8, &vec![0; 40_000_000]);
    let stream = zeros[8..]
        .windows(4)
        .position(|kind| kind == b"IDAT")
        .expect("it has data")
        + 12;
    let length = u32::from_be_bytes(
        zeros[stream - 8..stream - 4]
            .try_into()
            .expect("four bytes"),
    );
    let bomb = &zeros[stream..][..length as usize];
    assert!(bomb.len() < 400_000, "{} bytes", bomb.len());
    let plain = picture!("rgb.png");
    for kind in [b"zTXt", b"iTXt"] {
        let data = [b"name\0\0", bomb].concat();
        let file = [&plain[..33], &chunk(kind, &data), &plain[33..]].concat();
        let image = parse(&file).expect("the container is whole");
        assert_eq!(png::for_decoder(image.bytes()), plain);
        assert_eq!(image.essential().bytes(), plain);
        assert_close(quadrants(&decoded(&file)), [RED, GREEN, BLUE, YELLOW], 0);
    }
}

#[test]
fn a_picture_at_the_pixel_limit_decodes_from_next_to_nothing() {
    let zeros = encoded(10_000, 5_000, ExtendedColorType::L8, &vec![0; 50_000_000]);
    assert!(zeros.len() < 1 << 20, "{} bytes", zeros.len());
    let image = parse(&zeros).expect("it is just within the limits");
    let pixels = decode(&image, 512).expect("it is sound");
    assert_eq!((pixels.width(), pixels.height()), (512, 256));
}

#[test]
fn damage_inside_is_found_by_decoding() {
    for bytes in [picture!("rgb.png"), picture!("lossless.webp")] {
        let mut broken = bytes.to_vec();
        let middle = broken.len() / 2;
        for byte in &mut broken[middle..middle + 8] {
            *byte ^= 0x5a;
        }
        let image = parse(&broken).expect("the container is whole");
        let error = check(&image).expect_err("the data is damaged");
        assert_eq!(error.code(), ImageErrorCode::Invalid, "{error}");
        assert_eq!(decode(&image, 64), Err(error));
    }
}

const SOUND: [&[u8]; 12] = [
    picture!("rgb.png"),
    picture!("rgba16.png"),
    picture!("palette-alpha.png"),
    picture!("orientation-6.png"),
    picture!("rgb.jpg"),
    picture!("subsampled.jpg"),
    picture!("progressive.jpg"),
    picture!("restarts.jpg"),
    picture!("ycck.jpg"),
    picture!("lossy-alpha.webp"),
    picture!("lossless-alpha.webp"),
    picture!("orientation-8.webp"),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Flipped bytes give pixels or an error, at any size asked for.
    #[test]
    fn damaged_pictures_decode_or_are_refused(
        which in 0..SOUND.len(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        side_max in 1_u32..100,
    ) {
        let mut bytes = SOUND[which].to_vec();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        // Larger ones would only make the test slow: damage in a header may ask for 50 million pixels.
        let limits = super::super::ImageLimits { bytes_max: 1 << 20, pixels_max: 1 << 20 };
        if let Ok(image) = InputImage::parse(bytes.into(), &limits)
            && let Ok(pixels) = decode(&image, side_max)
        {
            prop_assert!(pixels.width().max(pixels.height()) <= side_max);
        }
    }
}
