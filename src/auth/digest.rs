//! The digest of a body: `Content-Digest` (RFC 9530) by SHA-256 or SHA-512.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::{Engine, engine::general_purpose::STANDARD};
use sfv::{BareItem, Dictionary, Item, ListEntry, Parser};
use sha2::{Digest, Sha256, Sha512};
use subtle::{Choice, ConstantTimeEq};

/// The field's name, as signatures cover it.
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

const SHA_256: &str = "sha-256";
const SHA_512: &str = "sha-512";

/// Why a `Content-Digest` says nothing about a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    #[error("send one Content-Digest line: there were {lines}")]
    Duplicated { lines: usize },
    #[error(
        "the Content-Digest can't be read ({detail}): write it as `sha-256=:<the digest in base64>:`"
    )]
    Malformed { detail: String },
    #[error("the Content-Digest has neither sha-256 nor sha-512: send one of them")]
    Unsupported,
    #[error("a {algorithm} digest has {expected} bytes, and the one in Content-Digest has {found}")]
    Length {
        algorithm: &'static str,
        expected: usize,
        found: usize,
    },
}

/// What a body must hash to: by one algorithm, or by both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedDigest {
    sha256: Option<[u8; 32]>,
    sha512: Option<[u8; 64]>,
}

impl ExpectedDigest {
    /// What a request's headers say; `None` when they have no `Content-Digest`. Algorithms that aren't known here are
    /// passed over, as the RFC wants it, when a known one stands beside them.
    ///
    /// # Errors
    /// [`DigestError`] for a field that is there and can't be held against a body.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, DigestError> {
        let mut lines = headers.get_all(CONTENT_DIGEST).iter();
        match (lines.next(), lines.count()) {
            (None, _) => Ok(None),
            // Joined they would be one dictionary in which the later line overwrites the earlier one. Whoever stands
            // between us and the client may read the first: one line can't be read in two ways.
            (Some(_), more @ 1..) => Err(DigestError::Duplicated { lines: more + 1 }),
            (Some(line), 0) => Self::parse(line.as_bytes()).map(Some),
        }
    }

    fn parse(value: &[u8]) -> Result<Self, DigestError> {
        let malformed = |detail: String| DigestError::Malformed { detail };
        let dictionary: Dictionary = Parser::new(value)
            .parse()
            .map_err(|error| malformed(error.to_string()))?;
        let bytes = |algorithm| match dictionary.get(algorithm) {
            None => Ok(None),
            Some(ListEntry::Item(Item {
                bare_item: BareItem::ByteSequence(bytes),
                ..
            })) => Ok(Some(bytes.as_slice())),
            Some(_) => Err(malformed(format!("{algorithm} is no byte sequence"))),
        };
        let digest = Self {
            sha256: bytes(SHA_256)?.map(|d| sized(SHA_256, d)).transpose()?,
            sha512: bytes(SHA_512)?.map(|d| sized(SHA_512, d)).transpose()?,
        };
        if digest.sha256.is_none() && digest.sha512.is_none() {
            return Err(DigestError::Unsupported);
        }
        Ok(digest)
    }

    /// Starts to hash a body.
    #[must_use]
    pub fn hasher(self) -> DigestHasher {
        DigestHasher {
            sha256: self.sha256.map(|expected| (Sha256::new(), expected)),
            sha512: self.sha512.map(|expected| (Sha512::new(), expected)),
        }
    }
}

fn sized<const BYTES: usize>(
    algorithm: &'static str,
    digest: &[u8],
) -> Result<[u8; BYTES], DigestError> {
    digest.try_into().map_err(|_| DigestError::Length {
        algorithm,
        expected: BYTES,
        found: digest.len(),
    })
}

/// Hashes a body as it comes in.
#[derive(Debug, Clone)]
pub struct DigestHasher {
    sha256: Option<(Sha256, [u8; 32])>,
    sha512: Option<(Sha512, [u8; 64])>,
}

impl DigestHasher {
    /// Takes the body's next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        if let Some((hasher, _)) = &mut self.sha256 {
            hasher.update(bytes);
        }
        if let Some((hasher, _)) = &mut self.sha512 {
            hasher.update(bytes);
        }
    }

    /// Whether the bytes taken are the body that was announced, by every digest that was; in constant time.
    #[must_use]
    pub fn verify(self) -> bool {
        let mut same = Choice::from(1);
        if let Some((hasher, expected)) = self.sha256 {
            same &= hasher.finalize().as_slice().ct_eq(&expected);
        }
        if let Some((hasher, expected)) = self.sha512 {
            same &= hasher.finalize().as_slice().ct_eq(&expected);
        }
        same.into()
    }
}

/// The field's value for a body, by SHA-256.
///
/// # Panics
/// Never: base 64 is text that headers may hold.
#[must_use]
pub fn content_digest(body: &[u8]) -> HeaderValue {
    let digest = STANDARD.encode(Sha256::digest(body));
    HeaderValue::try_from(format!("{SHA_256}=:{digest}:")).expect("base 64 is visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"hello": "world"}"#;
    // Both from RFC 9530, appendix D, and RFC 9421, appendix B.2, for the body above.
    const BY_SHA_256: &str = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
    const BY_SHA_512: &str = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";

    fn of(lines: &[&str]) -> Result<Option<ExpectedDigest>, DigestError> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CONTENT_DIGEST, line.parse().expect("a header"));
        }
        ExpectedDigest::of(&headers)
    }

    fn holds(line: &str, parts: &[&[u8]]) -> bool {
        let mut hasher = of(&[line]).expect("valid").expect("there is one").hasher();
        for part in parts {
            hasher.update(part);
        }
        hasher.verify()
    }

    #[test]
    fn a_body_is_held_against_every_digest() {
        let both = format!("{BY_SHA_256}, {BY_SHA_512}");
        let unknown = format!("md5=:AAAA:, id-sha-512=1, {BY_SHA_256};a=1");
        for line in [BY_SHA_256, BY_SHA_512, &both, &unknown] {
            assert!(holds(line, &[BODY]), "{line}");
            assert!(holds(line, &[&BODY[..5], b"", &BODY[5..]]), "{line}");
            assert!(!holds(line, &[&BODY[1..]]), "{line}");
            assert!(!holds(line, &[BODY, b"\r\n"]), "{line}");
            assert!(!holds(line, &[]), "{line}");
        }
        let (other_256, other_512) = (
            BY_SHA_256.replace("X48", "Y48"),
            BY_SHA_512.replace("WZD", "XZD"),
        );
        for line in [
            format!("{other_256}, {BY_SHA_512}"),
            format!("{BY_SHA_256}, {other_512}"),
        ] {
            assert!(!holds(&line, &[BODY]), "all digests must match: {line}");
        }
        assert_eq!(content_digest(BODY), BY_SHA_256);
        assert!(holds(content_digest(b"").to_str().expect("text"), &[]));
    }

    #[test]
    fn what_says_nothing_is_refused() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(
            of(&[BY_SHA_256, BY_SHA_512]),
            Err(DigestError::Duplicated { lines: 2 })
        );
        for line in ["md5=:AAAA:", "", "SHA-256=1"] {
            let refused = of(&[line]);
            let malformed = matches!(refused, Err(DigestError::Malformed { .. }));
            assert!(
                malformed || refused == Err(DigestError::Unsupported),
                "{line}: {refused:?}"
            );
        }
        for line in [
            "sha-256=abc",
            "sha-256",
            "sha-256=(:AAAA:)",
            "sha-256=:AA",
            "sha-512=1, garbage(",
        ] {
            assert!(
                matches!(of(&[line]), Err(DigestError::Malformed { .. })),
                "{line}"
            );
        }
        for (line, found) in [("sha-256=:AAAA:", 3), ("sha-512=::", 0)] {
            assert!(
                matches!(of(&[line]), Err(DigestError::Length { found: f, .. }) if f == found),
                "{line}"
            );
        }
    }
}
