use std::io::Write as _;

use flate2::{Compression, write::ZlibEncoder};

use super::{
    super::{
        decode::{check, decode},
        error::{ImageError, ImageErrorCode},
        tests::{chunk, parse, picture},
    },
    *,
};

/// The pictures' colours, in the order of their quadrants.
const COLOURS: [[u8; 3]; 4] = [[230, 30, 20], [20, 200, 40], [30, 40, 220], [240, 220, 30]];

fn icc(profile: &ColorProfile) -> Vec<u8> {
    profile
        .encode()
        .expect("the library's own profiles are sound")
}

fn png_with(png: &[u8], kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    // Behind the header.
    [&png[..33], &chunk(kind, data), &png[33..]].concat()
}

fn packed(icc: &[u8]) -> Vec<u8> {
    let mut zlib = ZlibEncoder::new(b"name\0\0".to_vec(), Compression::default());
    zlib.write_all(icc).expect("memory");
    zlib.finish().expect("memory")
}

fn png(icc: &[u8]) -> Vec<u8> {
    png_with(picture!("rgb.png"), b"iCCP", &packed(icc))
}

/// In segments of so many bytes, the last one first: their order in the file counts for nothing.
fn jpeg(icc: &[u8], segment: usize) -> Vec<u8> {
    let plain = picture!("rgb.jpg");
    let pieces: Vec<&[u8]> = icc.chunks(segment).collect();
    let count = u8::try_from(pieces.len()).expect("few");
    let mut bytes = plain[..2].to_vec();
    for (piece, number) in pieces.into_iter().rev().zip((1..=count).rev()) {
        let data = [b"ICC_PROFILE\0", &[number, count][..], piece].concat();
        let length = u16::try_from(data.len() + 2).expect("short");
        bytes.extend_from_slice(&[0xff, 0xe2]);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&data);
    }
    bytes.extend_from_slice(&plain[2..]);
    bytes
}

fn webp(icc: &[u8]) -> Vec<u8> {
    let plain = picture!("lossless.webp");
    let mut content = b"WEBPVP8X\x0a\0\0\0\x20\0\0\0\x2f\0\0\x1f\0\0ICCP".to_vec();
    content.extend_from_slice(&u32::try_from(icc.len()).expect("short").to_le_bytes());
    content.extend_from_slice(icc);
    content.resize(content.len().next_multiple_of(2), 0);
    content.extend_from_slice(&plain[12..]);
    let size = u32::try_from(content.len()).expect("short").to_le_bytes();
    [b"RIFF", &size[..], &content].concat()
}

fn quadrants(bytes: &[u8]) -> [[u8; 3]; 4] {
    let image = parse(bytes).expect("the container is whole");
    check(&image).expect("what decodes passes the check");
    let pixels = decode(&image, 4096).expect("the picture is sound");
    let stored = decode(&image.essential(), 4096).expect("what is kept is sound");
    assert_eq!(pixels.rgba(), stored.rgba(), "nothing is lost in the store");
    [(12, 8), (36, 8), (12, 24), (36, 24)].map(|(x, y)| {
        let pixel = pixels.iter().nth(y * 48 + x).expect("it lies inside");
        [pixel[0], pixel[1], pixel[2]]
    })
}

/// Display P3 to sRGB by the book: both have sRGB's transfer function and the same white.
fn p3_to_srgb(colour: [u8; 3]) -> [u8; 3] {
    const MATRIX: [[f64; 3]; 3] = [
        [1.224_940_2, -0.224_940_2, 0.0],
        [-0.042_057_0, 1.042_057_0, 0.0],
        [-0.019_637_6, -0.078_636_0, 1.098_273_6],
    ];
    let linear = colour.map(|value| {
        let value = f64::from(value) / 255.0;
        if value <= 0.040_45 {
            value / 12.92
        } else {
            ((value + 0.055) / 1.055).powf(2.4)
        }
    });
    MATRIX.map(|row| {
        let value: f64 = row.iter().zip(linear).map(|(a, b)| a * b).sum();
        encoded(value)
    })
}

fn encoded(linear: f64) -> u8 {
    let value = if linear <= 0.003_130_8 {
        12.92 * linear.max(0.0)
    } else {
        1.055 * linear.min(1.0).powf(1.0 / 2.4) - 0.055
    };
    (value * 255.0).round() as u8
}

#[track_caller]
fn assert_close(found: [[u8; 3]; 4], expected: [[u8; 3]; 4], tolerance: u8) {
    for (found, expected) in found.as_flattened().iter().zip(expected.as_flattened()) {
        assert!(
            found.abs_diff(*expected) <= tolerance,
            "{found} is not {expected}"
        );
    }
}

#[test]
fn profiles_are_applied_in_each_format() {
    let p3 = icc(&ColorProfile::new_display_p3());
    let expected = COLOURS.map(p3_to_srgb);
    assert_ne!(expected, COLOURS);
    assert_close(quadrants(&png(&p3)), expected, 2);
    assert_close(quadrants(&webp(&p3)), expected, 2);
    assert_close(quadrants(&jpeg(&p3, usize::MAX)), expected, 5);
    assert_close(quadrants(&jpeg(&p3, 100)), expected, 5);
    // The code points of Display P3, and of sRGB.
    let coded = |codes: [u8; 4]| png_with(picture!("rgb.png"), b"cICP", &codes);
    assert_close(quadrants(&coded([12, 13, 0, 1])), expected, 2);
    assert_eq!(quadrants(&coded([1, 13, 0, 1])), COLOURS);
}

#[test]
fn srgb_changes_nothing() {
    let srgb = icc(&ColorProfile::new_srgb());
    assert_eq!(quadrants(&png(&srgb)), COLOURS);
    let plain = quadrants(picture!("rgb.jpg"));
    assert_eq!(quadrants(&jpeg(&srgb, usize::MAX)), plain);
    assert_eq!(quadrants(picture!("profile.jpg")), plain);
}

#[test]
fn alpha_stays_and_greys_are_converted() {
    let p3 = packed(&icc(&ColorProfile::new_display_p3()));
    let cut_out = png_with(picture!("rgba.png"), b"iCCP", &p3);
    let pixels = decode(&parse(&cut_out).expect("whole"), 4096).expect("sound");
    let alphas: Vec<u8> = [8 * 48 + 12, 24 * 48 + 12, 24 * 48 + 36]
        .into_iter()
        .map(|at| pixels.iter().nth(at).expect("inside")[3])
        .collect();
    assert_eq!(alphas, [255, 128, 0]);

    let linear = packed(&icc(&ColorProfile::new_gray_with_gamma(1.0)));
    let grey = png_with(picture!("grey.png"), b"iCCP", &linear);
    let plain = quadrants(picture!("grey.png"));
    let expected = plain.map(|colour| colour.map(|grey| encoded(f64::from(grey) / 255.0)));
    assert_ne!(plain, expected);
    assert_close(quadrants(&grey), expected, 2);
    // Greys of an RGB space: the white of P3 is sRGB's, and so are its greys.
    let in_rgb = png_with(picture!("grey.png"), b"iCCP", &p3);
    assert_close(quadrants(&in_rgb), plain, 1);
}

#[test]
fn what_can_t_be_applied_is_refused() {
    let refusal = |bytes: &[u8]| {
        let image = parse(bytes).expect("the container is whole");
        let error = check(&image).expect_err("its colours can't be told");
        assert_eq!(error.code(), ImageErrorCode::Unsupported);
        let ImageError::Profile { reason, .. } = error else {
            panic!("{error}");
        };
        reason
    };
    let p3 = icc(&ColorProfile::new_display_p3());
    assert_eq!(refusal(&png(&p3[..50])), "is broken");
    assert_eq!(refusal(&png(b"")), "is broken");
    assert_eq!(
        refusal(&png_with(picture!("rgb.png"), b"iCCP", b"no zero")),
        "is broken"
    );
    assert_eq!(refusal(&webp(&p3[..100])), "is broken");
    // A piece of three is missing.
    let mut torn = jpeg(&p3, p3.len().div_ceil(3));
    let at = torn
        .windows(12)
        .position(|window| window == b"ICC_PROFILE\0")
        .expect("it is there");
    torn[at] = b'X';
    assert_eq!(refusal(&torn), "is broken");
    // A hundred megabytes in a hundred kilobytes.
    let bomb = png(&vec![0; 100 << 20]);
    assert!(bomb.len() < 200_000);
    assert_eq!(refusal(&bomb), "is too large");
    let mut printer = p3.clone();
    printer[16..20].copy_from_slice(b"CMYK");
    assert_eq!(refusal(&png(&printer)), "is one for printing (CMYK)");
    let grey = icc(&ColorProfile::new_gray_with_gamma(2.2));
    assert_eq!(refusal(&png(&grey)), "isn't for pixels such as its own");
    let coded = |codes: &[u8]| refusal(&png_with(picture!("rgb.png"), b"cICP", codes));
    assert_eq!(coded(&[9, 16, 0, 1]), "is of high dynamic range");
    assert_eq!(coded(&[9, 18, 0, 1]), "is of high dynamic range");
    for codes in [&[2, 2, 0, 1][..], &[1, 13, 1, 1], &[1, 13, 0, 0]] {
        assert_eq!(
            coded(codes),
            "names a colour space that isn't known here",
            "{codes:?}"
        );
    }
    assert_eq!(coded(&[1, 13]), "is broken");
}
