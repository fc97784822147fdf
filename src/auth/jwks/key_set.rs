//! A set of public keys (JWK Set, RFC 7517), of which those are kept that can verify tokens.

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

/// Providers publish two to ten keys; more than this is not a key set but a way to make us busy.
const KEYS_MAX: usize = 64;
/// The shortest modulus that RFC 7518, section 3.3 allows, in bytes.
const RSA_BYTES_MIN: usize = 256;
/// Length of a coordinate of P-256 and of a public key of Ed25519, in bytes.
const CURVE_BYTES: usize = 32;

/// Why a text is no usable key set.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    #[error("it is not a JSON Web Key Set")]
    Json(#[source] serde_json::Error),
    #[error("it lists {0} keys, and {KEYS_MAX} are the most")]
    TooMany(usize),
    #[error("none of its keys verifies RS256, ES256 or EdDSA signatures")]
    NoneUsable,
}

/// The members of a JWK that decide whether and how a key is used; private ones are not even read.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    public_key_use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<serde_json::Value>,
}

#[derive(Clone)]
struct PublicKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// Public keys, each with the one algorithm that it may be used with.
#[derive(Clone, Default)]
pub struct KeySet(Vec<PublicKey>);

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|key| (&key.id, key.algorithm)))
            .finish()
    }
}

/// What a set has for a token.
#[derive(Debug)]
pub enum Selection<'a> {
    /// The one key that the token can be signed with.
    Key(&'a DecodingKey),
    /// No key has the token's `kid`: a newer set may hold it.
    Unknown,
    /// The key has another algorithm, or the token names none and not exactly one fits.
    Unfit,
}

impl KeySet {
    /// Reads a set. Keys that are symmetric, meant for encryption or of a kind not known here are left out.
    ///
    /// # Errors
    /// [`KeySetError`] when it can't be read, is too long, or nothing of it is left.
    pub fn parse(text: &[u8]) -> Result<Self, KeySetError> {
        let JwkSet { keys } = serde_json::from_slice(text).map_err(KeySetError::Json)?;
        if keys.len() > KEYS_MAX {
            return Err(KeySetError::TooMany(keys.len()));
        }
        // A key that lacks what all keys have is as unknown as one of a new kind.
        let usable: Vec<_> = keys
            .into_iter()
            .filter_map(|key| serde_json::from_value(key).ok())
            .filter_map(public_key)
            .collect();
        if usable.is_empty() {
            return Err(KeySetError::NoneUsable);
        }
        Ok(Self(usable))
    }

    /// The key for a token whose header has this `kid` and `alg`. The algorithm is the key's: a header that names
    /// another one gets no key.
    #[must_use]
    pub fn select(&self, id: Option<&str>, algorithm: Algorithm) -> Selection<'_> {
        if id.is_some() && !self.0.iter().any(|key| key.id.as_deref() == id) {
            return Selection::Unknown;
        }
        let mut fitting = self
            .0
            .iter()
            .filter(|key| (id.is_none() || key.id.as_deref() == id) && key.algorithm == algorithm);
        match (fitting.next(), fitting.next()) {
            (Some(only), None) => Selection::Key(&only.key),
            _ => Selection::Unfit,
        }
    }
}

fn public_key(jwk: Jwk) -> Option<PublicKey> {
    let is_for_signatures = jwk
        .public_key_use
        .as_deref()
        .is_none_or(|word| word == "sig")
        && jwk
            .key_ops
            .is_none_or(|operations| operations.iter().any(|operation| operation == "verify"));
    if !is_for_signatures {
        return None;
    }
    let (algorithm, name, key) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", None) => (Algorithm::RS256, "RS256", rsa(&jwk.n?, &jwk.e?)?),
        ("EC", Some("P-256")) => {
            let (x, y) = (curve_bytes(&jwk.x?)?, curve_bytes(&jwk.y?)?);
            // SEC 1, section 2.3.3: an uncompressed point.
            let point = [&[4], x.as_slice(), y.as_slice()].concat();
            (Algorithm::ES256, "ES256", DecodingKey::from_ec_der(&point))
        }
        ("OKP", Some("Ed25519")) => {
            let x = curve_bytes(&jwk.x?)?;
            (Algorithm::EdDSA, "EdDSA", DecodingKey::from_ed_der(&x))
        }
        _ => return None,
    };
    jwk.alg.is_none_or(|alg| alg == name).then_some(PublicKey {
        id: jwk.kid,
        algorithm,
        key,
    })
}

fn rsa(modulus: &str, exponent: &str) -> Option<DecodingKey> {
    let (modulus, exponent) = (base64url(modulus)?, base64url(exponent)?);
    // Some encoders write the sign's zero byte, which RFC 7518 forbids and the verifier does not take.
    let modulus = modulus.strip_prefix(&[0]).unwrap_or(&modulus);
    (modulus.len() >= RSA_BYTES_MIN)
        .then(|| DecodingKey::from_rsa_raw_components(modulus, &exponent))
}

fn curve_bytes(text: &str) -> Option<Vec<u8>> {
    base64url(text).filter(|bytes| bytes.len() == CURVE_BYTES)
}

fn base64url(text: &str) -> Option<Vec<u8>> {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .ok()
}
