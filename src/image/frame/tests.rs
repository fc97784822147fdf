use proptest::prelude::*;

use super::*;

const GREY: FrameOptions = FrameOptions {
    side: 96,
    background: [0.5; 3],
    fill: 0.86,
};

/// A red disc of `radius` round `centre` on transparent black.
fn disc(side: u32, centre: (f32, f32), radius: f32) -> Pixels {
    let pixel = |index: u32| {
        let (x, y) = ((index % side) as f32 + 0.5, (index / side) as f32 + 0.5);
        if (x - centre.0).hypot(y - centre.1) < radius {
            [255, 0, 0, 255]
        } else {
            [0; 4]
        }
    };
    Pixels::new(side, side, (0..side * side).flat_map(pixel).collect()).expect("the length fits")
}

fn colour(framed: &Framed, x: usize, y: usize) -> [f32; 3] {
    let side = framed.side as usize;
    std::array::from_fn(|channel| framed.rgb[channel * side * side + y * side + x])
}

/// First and last column and row with coverage from one half on, and how many there are.
fn extent(framed: &Framed) -> (usize, usize, usize, usize) {
    let side = framed.side as usize;
    let covered = |index: &usize| framed.alpha[*index] >= 0.5;
    let columns = || (0..side * side).filter(covered).map(|index| index % side);
    let rows = || (0..side * side).filter(covered).map(|index| index / side);
    let edge = "something is covered";
    (
        columns().min().expect(edge),
        columns().max().expect(edge),
        rows().min().expect(edge),
        rows().max().expect(edge),
    )
}

#[test]
fn an_object_fills_its_share_of_the_middle_wherever_it_is() {
    for (centre, radius) in [
        ((100.0, 100.0), 40.0),
        ((256.0, 256.0), 250.0),
        ((400.0, 90.0), 80.0),
        ((31.0, 480.0), 20.0),
    ] {
        let framed = frame(&disc(512, centre, radius), AlphaSource::Picture, &GREY)
            .expect("there is a disc");
        let (left, right, top, bottom) = extent(&framed);
        let expected = 0.86 * 96.0;
        for (from, to) in [(left, right), (top, bottom)] {
            assert!(
                ((to - from + 1) as f32 - expected).abs() <= 2.0,
                "{centre:?}: {from}..={to}"
            );
            assert!(
                (from + to).abs_diff(95) <= 1,
                "{centre:?}: {from}..={to} is in the middle"
            );
        }
        assert_eq!(
            colour(&framed, 48, 48).map(|value| (value * 255.0).round()),
            [255.0, 0.0, 0.0]
        );
        assert_eq!(colour(&framed, 1, 1), [0.5; 3]);
        assert!(!framed.touches_border);
    }
}

#[test]
fn edges_mix_with_the_background_and_never_with_what_alpha_hides() {
    // The hidden colour is black: any darkening of green or blue below the mix of red and grey would be its.
    let framed = frame(
        &disc(512, (256.0, 256.0), 200.0),
        AlphaSource::Picture,
        &GREY,
    )
    .expect("there is a disc");
    for (index, &alpha) in framed.alpha.iter().enumerate() {
        let [r, g, b] = colour(&framed, index % 96, index / 96);
        assert!(
            (r - (0.5 + 0.5 * alpha)).abs() < 1e-3,
            "{r} at coverage {alpha}"
        );
        assert!(
            (g - (0.5 - 0.5 * alpha)).abs() < 1e-3 && (b - g).abs() < 1e-6,
            "{g} at coverage {alpha}"
        );
    }
}

#[test]
fn the_crop_maps_back_into_the_picture() {
    let framed = frame(&disc(512, (400.0, 90.0), 80.0), AlphaSource::Picture, &GREY)
        .expect("there is a disc");
    let Crop { left, top, side } = framed.crop;
    assert!(
        (left + side / 2.0 - 400.0).abs() < 0.6 && (top + side / 2.0 - 90.0).abs() < 0.6,
        "{:?}",
        framed.crop
    );
    assert!((side - 160.0 / 0.86).abs() < 2.0, "{side}");
}

#[test]
fn nothing_is_an_error_and_says_what_to_do() {
    let empty = Pixels::new(64, 64, vec![0; 64 * 64 * 4]).expect("the length fits");
    let error = frame(&empty, AlphaSource::Picture, &GREY).expect_err("nothing is there");
    assert_eq!(error, FrameError::Nothing);
    assert!(error.to_string().contains("nothing in the picture"));
    let opaque = disc(64, (32.0, 32.0), 100.0);
    let free = vec![0.1; 64 * 64];
    assert_eq!(
        frame(&opaque, AlphaSource::Matte(&free), &GREY),
        Err(FrameError::Nothing)
    );
}

#[test]
fn a_matte_cuts_an_opaque_picture_out() {
    let opaque = disc(200, (100.0, 100.0), 1000.0);
    let matte: Vec<f32> = disc(200, (60.0, 140.0), 30.0)
        .iter()
        .map(|pixel| 0.08 + 0.9 * f32::from(pixel[3]) / 255.0)
        .collect();
    let framed = frame(&opaque, AlphaSource::Matte(&matte), &GREY).expect("there is a disc");
    assert!(
        (framed.crop.left + framed.crop.side / 2.0 - 60.0).abs() < 0.6,
        "{:?}",
        framed.crop
    );
    assert!((framed.alpha[48 * 96 + 48] - 0.98).abs() < 1e-3);
    let short = AlphaSource::Matte(&matte[1..]);
    assert_eq!(
        frame(&opaque, short, &GREY),
        Err(FrameError::MatteShape {
            expected: 40_000,
            found: 39_999
        })
    );
}

#[test]
fn the_whole_picture_is_an_object_on_request() {
    let pixels = Pixels::new(100, 50, [10, 20, 30, 255].repeat(5000)).expect("the length fits");
    let framed =
        frame(&pixels, AlphaSource::Whole, &GREY).expect("a whole picture is never nothing");
    assert_eq!(extent(&framed).1 - extent(&framed).0 + 1, 82);
    assert!(!framed.touches_border);
    assert!((framed.crop.side - 100.0 / 0.86).abs() < 1e-3);
    // What is transparent in it shows the background, yet counts as object.
    let clear = Pixels::new(8, 8, vec![0; 256]).expect("the length fits");
    let framed =
        frame(&clear, AlphaSource::Whole, &GREY).expect("a whole picture is never nothing");
    assert_eq!(colour(&framed, 48, 48), [0.5; 3]);
    assert!((framed.alpha[48 * 96 + 48] - 1.0).abs() < 1e-6);
}

#[test]
fn an_object_on_the_border_is_flagged() {
    let framed = frame(&disc(300, (20.0, 150.0), 80.0), AlphaSource::Picture, &GREY)
        .expect("there is a disc");
    assert!(framed.touches_border);
}

proptest! {
    /// Any pixels give a frame of finite values in range, or nothing.
    #[test]
    fn every_picture_frames_or_holds_nothing(
        width in 1_u32..80,
        height in 1_u32..80,
        seed in any::<[u8; 16]>(),
        side in 1_u32..64,
        fill in FILL,
        whole in any::<bool>(),
    ) {
        let rgba: Vec<u8> = (0..(width * height * 4) as usize)
            .map(|index| seed[index % 16].wrapping_mul(index as u8 | 1).wrapping_add(seed[index / 16 % 16]))
            .collect();
        let pixels = Pixels::new(width, height, rgba).expect("the length fits");
        let source = if whole { AlphaSource::Whole } else { AlphaSource::Picture };
        match frame(&pixels, source, &FrameOptions { side, background: [0.5; 3], fill }) {
            Ok(framed) => {
                prop_assert_eq!(framed.rgb.len(), 3 * (side * side) as usize);
                prop_assert_eq!(framed.alpha.len(), (side * side) as usize);
                prop_assert!(framed.rgb.iter().chain(&framed.alpha).all(|value| (0.0..=1.0).contains(value)));
            }
            Err(error) => {
                prop_assert_eq!(error, FrameError::Nothing);
                prop_assert!(!whole);
            }
        }
    }
}

#[test]
fn bands_are_what_the_whole_is_in_one_go() {
    let crop = Crop {
        left: -3.4,
        top: 2.3,
        side: 61.7,
    };
    let pixel = |index: usize| {
        let value = |step: usize| (index * step % 251) as f32 / 250.0;
        let covered = value(7);
        F32x4::new([
            value(3) * covered,
            value(11) * covered,
            value(31) * covered,
            covered,
        ])
    };
    let canvas = Canvas {
        crop,
        picture: (70, 55),
        pixel,
    };
    for side in [BAND - 1, BAND, 3 * BAND + 5] {
        let side_px = u32::try_from(side).unwrap();
        let (rgb, alpha) = canvas.resample(side_px, [0.0; 3]);
        let whole = canvas.band(side_px, 0, side);
        for (at, pixel) in whole.pixels().iter().enumerate() {
            let [red, green, blue] = [0, 1, 2].map(|channel| rgb[channel * side * side + at]);
            let apart = [red, green, blue, alpha[at]].into_iter().zip(pixel.0);
            let apart = apart.map(|(band, whole)| (band - whole).abs());
            // Weights are computed from another row on, and rounded.
            assert!(apart.fold(0.0, f32::max) < 1e-6, "{at} of {side}");
        }
    }
}
