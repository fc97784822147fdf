//! What the pool and a child say to each other: frames of a JSON header and raw bytes, one question at a time.
//!
//! A frame is the header's length (`u32`), the payload's length (`u64`), both little-endian, the header and the
//! payload. Both sides bound both lengths before they make room.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::confine::Confinement;
use crate::image::{ImageLimits, error::ImageError, pixels::Pixels};

/// Length fields of a frame, in bytes.
pub(super) const PREFIX_BYTES: usize = 12;
/// No header comes near this; a longer one is nonsense.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// The pool's first frame, without a payload: a child decodes nothing before it limited itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// Beyond what the child has mapped when it starts.
    pub(super) memory_bytes_max: u64,
    /// For all the pictures of a child's life together.
    pub(super) cpu_seconds_max: u64,
}

/// What to do with a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Work {
    Check,
    Decode { side_max: u32 },
}

/// Every further frame of the pool; the payload is the picture's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Question {
    pub(super) limits: ImageLimits,
    pub(super) work: Work,
}

/// A child's frames.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reply {
    /// To [`Hello`], without a payload.
    Ready(Confinement),
    /// To [`Work::Check`], without a payload.
    Checked,
    /// To [`Work::Decode`]; the payload is RGBA.
    Decoded { width: u32, height: u32 },
    /// To either, without a payload.
    Refused(ImageError),
}

/// A reply that is no refusal, with its payload.
#[derive(Debug)]
pub(super) enum Answer {
    Checked,
    Decoded(Pixels),
}

/// A frame that isn't one.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProtocolError {
    #[error("the header has {bytes} bytes")]
    HeaderTooLong { bytes: usize },
    #[error("the payload has {bytes} bytes where {bytes_max} are allowed")]
    PayloadTooLong { bytes: u64, bytes_max: u64 },
    #[error("the header isn't what belongs here")]
    Header { source: serde_json::Error },
}

/// The lengths of a frame's parts, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lengths {
    pub(super) header: usize,
    pub(super) payload: usize,
}

/// Prefix and header of a frame.
pub(super) fn head(header: &impl Serialize, payload_bytes: usize) -> Vec<u8> {
    let json = serde_json::to_vec(header).expect("headers are plain data");
    let header_bytes = u32::try_from(json.len()).expect("headers are short");
    let mut bytes = Vec::with_capacity(PREFIX_BYTES + json.len());
    bytes.extend_from_slice(&header_bytes.to_le_bytes());
    bytes.extend_from_slice(&(payload_bytes as u64).to_le_bytes());
    bytes.extend_from_slice(&json);
    bytes
}

/// The lengths in a prefix, bounded.
pub(super) fn lengths(
    prefix: [u8; PREFIX_BYTES],
    payload_bytes_max: u64,
) -> Result<Lengths, ProtocolError> {
    let [h0, h1, h2, h3, payload @ ..] = prefix;
    let header = u32::from_le_bytes([h0, h1, h2, h3]) as usize;
    let payload = u64::from_le_bytes(payload);
    if header > HEADER_BYTES_MAX {
        return Err(ProtocolError::HeaderTooLong { bytes: header });
    }
    match usize::try_from(payload) {
        Ok(bytes) if payload <= payload_bytes_max => Ok(Lengths {
            header,
            payload: bytes,
        }),
        _ => Err(ProtocolError::PayloadTooLong {
            bytes: payload,
            bytes_max: payload_bytes_max,
        }),
    }
}

pub(super) fn header<T: DeserializeOwned>(json: &[u8]) -> Result<T, ProtocolError> {
    serde_json::from_slice(json).map_err(|source| ProtocolError::Header { source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_say_how_long_they_are() {
        let question = Question {
            limits: ImageLimits {
                bytes_max: 7,
                pixels_max: u64::MAX,
            },
            work: Work::Decode { side_max: 1024 },
        };
        let bytes = head(&question, 5);
        let (prefix, json) = bytes
            .split_first_chunk()
            .expect("a frame starts with its prefix");
        let lengths = lengths(*prefix, 5).expect("both lengths are fine");
        assert_eq!(
            lengths,
            Lengths {
                header: json.len(),
                payload: 5
            }
        );
        assert_eq!(
            header::<Question>(json).expect("it is a question"),
            question
        );
    }

    #[test]
    fn lengths_are_bounded_and_headers_are_checked() {
        let mut prefix = [0; PREFIX_BYTES];
        prefix[4] = 6;
        assert!(matches!(
            lengths(prefix, 5),
            Err(ProtocolError::PayloadTooLong {
                bytes: 6,
                bytes_max: 5
            })
        ));
        prefix[4..].fill(0xff);
        assert!(lengths(prefix, u64::MAX).is_ok());
        prefix[..4].fill(0xff);
        assert!(matches!(
            lengths(prefix, u64::MAX),
            Err(ProtocolError::HeaderTooLong { .. })
        ));
        assert!(matches!(
            header::<Reply>(b"{}"),
            Err(ProtocolError::Header { .. })
        ));
    }

    #[test]
    fn refusals_survive_the_way() {
        let refusal = Reply::Refused(ImageError::OtherFormat {
            found: "GIF".into(),
        });
        let bytes = head(&refusal, 0);
        assert_eq!(
            header::<Reply>(&bytes[PREFIX_BYTES..]).expect("it is a reply"),
            refusal
        );
    }
}
