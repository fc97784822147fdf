use super::super::{
    ImageFormat,
    error::{ImageError, ImageErrorCode},
    tests::{chunk, parse, picture},
};

/// Each of our formats, whole.
const PICTURES: [(&[u8], ImageFormat); 3] = [
    (picture!("rgb.png"), ImageFormat::Png),
    (picture!("rgb.jpg"), ImageFormat::Jpeg),
    (picture!("lossy.webp"), ImageFormat::WebP),
];

/// A ZIP with a file of no bytes.
fn zip() -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    writer.start_file("run.class", options).expect("memory");
    writer.finish().expect("memory").into_inner()
}

#[track_caller]
fn refused(bytes: &[u8], format: ImageFormat, expected: &str) {
    let error = parse(bytes).expect_err("it is more than a picture");
    let other = expected.to_owned().into();
    assert_eq!(error, ImageError::Polyglot { format, other });
    assert_eq!(error.code(), ImageErrorCode::Invalid);
    assert!(error.to_string().contains("send the picture alone"));
}

#[test]
fn what_is_appended_for_other_programs_is_refused() {
    for (picture, format) in PICTURES {
        let with = |appended: &[u8]| [picture, appended].concat();
        refused(&with(&zip()), format, "a ZIP archive");
        // Readers of archives skip what follows, up to a comment's length.
        refused(
            &with(&[&zip()[..], &[7; 60_000]].concat()),
            format,
            "a ZIP archive",
        );
        refused(&with(b"%PDF-1.7 ..."), format, "a PDF");
        refused(
            &with(b"\0\0 <ScRiPt>alert(1)</script>"),
            format,
            "a web page",
        );
        refused(&with(b"\n<!DOCTYPE HTML><p>"), format, "a web page");
        refused(
            &with(&[&[0x55; 5000][..], b"<html></html>"].concat()),
            format,
            "a web page",
        );
        refused(&with(b"<?php system('id');"), format, "a program");
        refused(
            &with(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            format,
            "a program",
        );
        // A ZIP of nothing.
        refused(
            &with(b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            format,
            "an archive",
        );
        refused(&with(b"Rar!\x1a\x07\x01\0 ..."), format, "an archive");
        refused(&with(b"7z\xbc\xaf\x27\x1c\0\x04 ..."), format, "an archive");
    }
}

#[test]
fn what_is_hidden_in_front_is_refused() {
    let jpeg = picture!("rgb.jpg");
    let comment = |text: &[u8]| {
        let length = u16::try_from(text.len() + 2).expect("short").to_be_bytes();
        [&jpeg[..2], b"\xff\xfe", &length, text, &jpeg[2..]].concat()
    };
    refused(&comment(b"%PDF-1.4 obj"), ImageFormat::Jpeg, "a PDF");
    refused(
        &comment(b"*/ <script src=x>"),
        ImageFormat::Jpeg,
        "a web page",
    );
    parse(&comment(b"A chair, 5 < 6, as <i>html</i>")).expect("a comment is no page");
    let png = picture!("rgb.png");
    let text = [&png[..33], &chunk(b"tEXt", b"Comment\0<?php"), &png[33..]].concat();
    refused(&text, ImageFormat::Png, "a program");
}

/// What phones and cameras write behind a JPEG.
#[test]
fn what_cameras_append_is_cut_off() {
    let film = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom\0\0\0\x08free".as_slice();
    let samsung = b"\0\0\x01\x0a\x0e\0\0\0Image_UTC_Data1700000000000SEFHk\0\0\0\x01\0\0\0SEFT";
    for (picture, _) in PICTURES {
        for appended in [
            &[0; 300][..],
            film,
            samsung,
            picture!("rgb.jpg"),
            b"\x0a",
            // The mark alone, which comes up in any bytes.
            b"..PK\x05\x06..................",
        ] {
            let image = parse(&[picture, appended].concat())
                .expect("it is a picture and what belongs to it");
            assert_eq!(
                image.essential().bytes(),
                parse(picture).expect("whole").essential().bytes()
            );
        }
    }
}
