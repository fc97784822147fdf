//! What else a picture's file is. Bytes that one program reads as a picture and another as a program, a page or an archive
//! carry something past whoever looks at pictures alone.
//!
//! What cameras add behind a picture (further pictures, a film, their own data) is cut off without a word; what nobody adds
//! by accident is refused.

/// How far into a file, and into what follows its picture, readers of pages and documents look for their beginnings.
const HEAD_BYTES: usize = 1024;
/// How far from its end a ZIP's directory may end: a comment of at most 65,535 bytes lies behind it.
const ZIP_TAIL_BYTES: usize = 65_535 + ZIP_END_BYTES;
/// The record that ends a ZIP, without its comment.
const ZIP_END_BYTES: usize = 22;
/// A file's entry in the directory of a ZIP, without its name.
const ZIP_ENTRY_BYTES: usize = 46;

/// Where pages, scripts and documents begin. Letters count in either case.
const BEGINNINGS: [(&[u8], &str); 5] = [
    (b"%pdf-", "a PDF"),
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"<script", "a web page"),
    (b"<?php", "a program"),
];

/// What the file is besides the picture that ends at `end`, named for people.
pub(super) fn besides(bytes: &[u8], end: usize) -> Option<&'static str> {
    let (picture, rest) = bytes.split_at(end);
    if is_zip(bytes) {
        return Some("a ZIP archive");
    }
    beginning(&picture[..picture.len().min(HEAD_BYTES)])
        .or_else(|| beginning(&rest[..rest.len().min(HEAD_BYTES)]))
        .or_else(|| beginning(&rest[rest.len().saturating_sub(HEAD_BYTES)..]))
        .or_else(|| appended(rest))
}

fn beginning(bytes: &[u8]) -> Option<&'static str> {
    BEGINNINGS.into_iter().find_map(|(mark, name)| {
        let is_there = bytes
            .windows(mark.len())
            .any(|window| window.eq_ignore_ascii_case(mark));
        is_there.then_some(name)
    })
}

/// A file that follows the picture and is no picture, film or sound, by its first bytes.
fn appended(rest: &[u8]) -> Option<&'static str> {
    // Padding.
    let start = rest.iter().position(|&byte| byte != 0)?;
    let found = infer::get(&rest[start..])?;
    match found.matcher_type() {
        infer::MatcherType::App => Some("a program"),
        infer::MatcherType::Archive => Some("an archive"),
        infer::MatcherType::Book | infer::MatcherType::Doc => Some("a document"),
        infer::MatcherType::Text => Some("a text for programs"),
        infer::MatcherType::Image
        | infer::MatcherType::Video
        | infer::MatcherType::Audio
        | infer::MatcherType::Font
        | infer::MatcherType::Custom => None,
    }
}

/// Whether a reader of ZIP archives, which begins at the end, would find one: an end record whose directory lies where it
/// says and has an entry. Four bytes alone come up in compressed pixels now and then.
fn is_zip(bytes: &[u8]) -> bool {
    let tail = bytes.len().saturating_sub(ZIP_TAIL_BYTES);
    let ends = bytes[tail..]
        .windows(ZIP_END_BYTES)
        .enumerate()
        .filter(|(_, record)| record.starts_with(b"PK\x05\x06"));
    for (offset, record) in ends {
        let at = tail + offset;
        let size = u32::from_le_bytes([record[12], record[13], record[14], record[15]]);
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let has_entry = size >= ZIP_ENTRY_BYTES
            && at
                .checked_sub(size)
                .is_some_and(|start| bytes[start..].starts_with(b"PK\x01\x02"));
        // The locator of the larger kind's directory, which lies right before.
        let is_large = at
            .checked_sub(20)
            .is_some_and(|start| bytes[start..].starts_with(b"PK\x06\x07"));
        if has_entry || is_large {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests;
