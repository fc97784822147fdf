//! The decoder's path: in this process, and through its children.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use orfeas::{
    decoder::{DecoderOptions, DecoderPool, error::DecodeError},
    image::{ImageLimits, InputImage, declared::Declared, decode::decode, error::ImageError},
};

use super::{Target, files, plain};
use crate::harness::PROGRAM;

const LIMITS: ImageLimits = ImageLimits {
    bytes_max: 1 << 20,
    pixels_max: 1 << 18,
};
const WORDS: [&[u8]; 22] = [
    b"\x89PNG\r\n\x1a\n",
    b"IHDR",
    b"PLTE",
    b"tRNS",
    b"IDAT",
    b"IEND",
    b"iCCP",
    b"cICP",
    b"eXIf",
    b"acTL",
    b"\xff\xd8\xff",
    b"\xff\xd9",
    b"\xff\xda",
    b"\xff\xc0",
    b"\xff\xc2",
    b"\xff\xe1\0\x22Exif\0\0",
    b"\xff\xe2\0\x10ICC_PROFILE\0",
    b"RIFF",
    b"VP8X",
    b"VP8L",
    b"ALPH",
    b"%PDF-",
];

fn target() -> Target<'static> {
    Target {
        name: "pictures",
        seeds: files("tests/fixtures/pictures", "")
            .into_iter()
            .filter(|file| file.len() < super::BYTES_MAX)
            .collect(),
        words: &WORDS,
    }
}

/// Whatever the bytes: a verdict; and what is kept of a picture is the same picture.
#[test]
fn any_bytes_are_a_picture_or_refused() {
    target().run(|input| {
        let image = match InputImage::parse(Bytes::copy_from_slice(input), &LIMITS) {
            Ok(image) => image,
            Err(error) => return Ok(plain(error)),
        };
        let declared = Declared {
            media_type: Some(image.media_type()),
            file_name: None,
        };
        image
            .check_declared(declared)
            .map_err(|error| format!("its own type is refused: {error}"))?;
        let kept = image.essential();
        let again = match InputImage::parse(kept.bytes().clone(), &LIMITS) {
            Ok(again) => again,
            // What lay far from the file's beginning lies near it now; the child's look at the door refuses it.
            Err(ImageError::Polyglot { .. }) => return Ok("something else, once it is kept".into()),
            Err(error) => return Err(format!("what is kept is refused: {error}")),
        };
        let sides = |image: &InputImage| (image.format(), image.width(), image.height());
        if sides(&image) != sides(&again) {
            return Err("what is kept has other sides".into());
        }
        if again.essential().bytes() != kept.bytes() {
            return Err("what is kept has something that isn't".into());
        }
        // A codec's panic is a verdict where codecs run: in a child.
        let decoded = |image: &InputImage| {
            std::panic::catch_unwind(|| decode(image, 64))
                .unwrap_or_else(|_| panic!("its codec panicked, which a child would answer for"))
        };
        match (decoded(&image), decoded(&again)) {
            (Ok(before), Ok(after)) if before.rgba() == after.rgba() => {
                Ok(format!("{:?}", image.format()))
            }
            (Err(before), Err(after)) if before == after => Ok(plain(before)),
            (before, after) => Err(format!(
                "what is kept is another picture: {:?} and {:?}",
                before.map(|_| "pixels"),
                after.map(|_| "pixels")
            )),
        }
    });
}

/// No picture crashes a child, hangs it or makes it do what is forbidden.
#[test]
fn any_picture_is_decoded_or_refused_by_a_child() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let pool = runtime.block_on(async {
        DecoderPool::new(DecoderOptions {
            program: PathBuf::from(PROGRAM),
            args: vec!["decode-child".into()],
            environment: orfeas::config::environment::loader_environment(),
            processes_max: 1,
            wait_max: Duration::from_secs(60),
            time_max: Duration::from_secs(15),
            memory_bytes_max: LIMITS.pixels_max * 12 + (64 << 20),
            limits: LIMITS,
        })
        .unwrap()
    });
    target().run(|input| {
        let Ok(image) = InputImage::parse(Bytes::copy_from_slice(input), &LIMITS) else {
            return Ok("refused at the door".into());
        };
        match runtime.block_on(pool.decode(&image, 64)) {
            Ok(decoded) if decoded.pixels.width().max(decoded.pixels.height()) <= 64 => {
                Ok("decoded".into())
            }
            Ok(_) => Err("it is larger than asked for".into()),
            Err(DecodeError::Image(error)) => Ok(plain(error)),
            Err(other) => Err(format!("{other:?}")),
        }
    });
}
