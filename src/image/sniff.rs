//! What a file is, by its first bytes; names and media types that senders claim are not asked.

use super::ImageFormat;

/// How far into a file text is looked for; enough for an XML prologue with a licence comment before `<svg`.
const TEXT_BYTES: usize = 1024;

/// What a file was recognised as.
pub(super) enum Kind {
    /// One of ours.
    Accepted(ImageFormat),
    /// One of ours by the first few bytes, whose signature is cut or broken.
    Broken(ImageFormat),
    /// A picture or drawing in another format, named for people.
    OtherPicture(&'static str),
    /// Something else, named for people.
    NoPicture(&'static str),
}

pub(super) fn kind(bytes: &[u8]) -> Kind {
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Kind::Accepted(ImageFormat::Png);
    }
    if bytes.starts_with(b"\xff\xd8\xff") {
        return Kind::Accepted(ImageFormat::Jpeg);
    }
    if bytes.len() >= 12 && bytes.starts_with(b"RIFF") && &bytes[8..12] == b"WEBP" {
        return Kind::Accepted(ImageFormat::WebP);
    }
    if is_svg(bytes) {
        return Kind::OtherPicture("SVG");
    }
    match infer::get(bytes) {
        Some(found) => named(found.mime_type()),
        None if is_text(bytes) => Kind::NoPicture("text"),
        None => Kind::NoPicture("a file of an unknown kind"),
    }
}

fn named(media_type: &'static str) -> Kind {
    match media_type {
        "image/png" => Kind::Broken(ImageFormat::Png),
        "image/jpeg" => Kind::Broken(ImageFormat::Jpeg),
        "image/webp" => Kind::Broken(ImageFormat::WebP),
        "image/gif" => Kind::OtherPicture("GIF"),
        "image/bmp" => Kind::OtherPicture("BMP"),
        "image/tiff" => Kind::OtherPicture("TIFF"),
        "image/avif" => Kind::OtherPicture("AVIF"),
        "image/heif" => Kind::OtherPicture("HEIC"),
        "image/jp2" => Kind::OtherPicture("JPEG 2000"),
        "image/jxl" => Kind::OtherPicture("JPEG XL"),
        "image/vnd.ms-photo" => Kind::OtherPicture("JPEG XR"),
        "image/vnd.adobe.photoshop" => Kind::OtherPicture("a Photoshop document"),
        "image/vnd.microsoft.icon" => Kind::OtherPicture("an icon"),
        "application/pdf" => Kind::OtherPicture("PDF"),
        "application/postscript" => Kind::OtherPicture("PostScript"),
        "text/html" => Kind::NoPicture("a web page"),
        "text/xml" => Kind::NoPicture("XML text"),
        other if other.starts_with("image/") => Kind::OtherPicture(other),
        other => Kind::NoPicture(other),
    }
}

/// Text that opens an `svg` element, maybe after a prologue or comments.
fn is_svg(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(TEXT_BYTES)];
    let head = head
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(head)
        .trim_ascii_start();
    head.starts_with(b"<") && head.windows(4).any(|window| window == b"<svg")
}

/// UTF-8 without control characters but white space; a character cut at the end of what is looked at is fine.
fn is_text(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(TEXT_BYTES)];
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).expect("it is valid up to there")
        }
        Err(_) => return false,
    };
    !text
        .chars()
        .any(|character| character.is_control() && !character.is_whitespace())
}
