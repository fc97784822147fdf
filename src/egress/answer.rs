//! What a server answered.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{
    Response,
    header::{CONTENT_ENCODING, HeaderMap, RETRY_AFTER},
};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};
use tokio::time::{Instant, timeout_at};

use super::EgressError;

/// Of an answer to a POST this much is kept, for a log.
pub const SHOWN_BYTES_MAX: usize = 4 << 10;
/// A server that asks for more patience than this is taken to ask for this much.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// An answer to a POST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// When the server wants to be asked again, a day at most.
    pub retry_after: Option<Duration>,
    /// The beginning of the body: [`SHOWN_BYTES_MAX`] bytes at most, fewer if they came too slowly.
    pub body: Bytes,
}

impl Answer {
    /// An answer is one once its head is there: a body that drips or breaks off must not cost the status.
    pub(super) async fn read(response: Response, ends: Instant) -> Self {
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers());
        let mut body = BytesMut::new();
        let _ = timeout_at(ends, beginning(response, &mut body)).await;
        Self {
            status,
            retry_after,
            body: body.freeze(),
        }
    }
}

async fn beginning(mut response: Response, kept: &mut BytesMut) {
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = SHOWN_BYTES_MAX - kept.len();
        kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() >= room {
            break;
        }
    }
}

/// A whole body, counted as it comes.
///
/// # Errors
/// [`EgressError::Compressed`], [`EgressError::TooLarge`] and [`EgressError::Broken`].
pub(super) async fn body(mut response: Response, bytes_max: u64) -> Result<Bytes, EgressError> {
    let mut encodings = response.headers().get_all(CONTENT_ENCODING).iter();
    if encodings.any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(EgressError::Compressed);
    }
    let too_large = || EgressError::TooLarge { bytes_max };
    if response
        .content_length()
        .is_some_and(|bytes| bytes > bytes_max)
    {
        return Err(too_large());
    }
    let mut kept = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(EgressError::of)? {
        if (kept.len() + chunk.len()) as u64 > bytes_max {
            return Err(too_large());
        }
        kept.extend_from_slice(&chunk);
    }
    Ok(kept.freeze())
}

/// When the server wants to be asked again: seconds or a date (RFC 9110, 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let asked = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = OffsetDateTime::parse(text, &Rfc2822).ok()?;
            // A moment that is past asks for no patience.
            (at - OffsetDateTime::now_utc())
                .try_into()
                .unwrap_or_default()
        }
    };
    Some(asked.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Option<Duration> {
        let value = text.parse().expect("a header's value");
        retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]))
    }

    #[test]
    fn patience_is_read_in_seconds_and_as_a_date() {
        assert_eq!(asked("120"), Some(Duration::from_secs(120)));
        assert_eq!(asked("0"), Some(Duration::ZERO));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(
            asked("Fri, 01 Jan 2999 00:00:00 GMT"),
            Some(RETRY_AFTER_MAX)
        );
        assert_eq!(asked("99999999999"), Some(RETRY_AFTER_MAX));
        for senseless in ["", "soon", "-1", "1.5", "99999999999999999999999"] {
            assert_eq!(asked(senseless), None, "{senseless:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
