//! Signed download URLs: whoever holds one may fetch one asset for a while.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use time::OffsetDateTime;

use super::keyring::{KeyUse, Keyring};
use crate::conversion::AssetId;

/// For how long a URL works: the contract's greatest.
pub const LIFETIME: Duration = Duration::from_secs(3600);

/// Makes and checks download URLs.
#[derive(Debug, Clone)]
pub struct Links {
    keyring: Keyring,
    base_url: String,
}

/// Why a download URL does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    #[error("the download URL has expired: query the conversion again for a new one")]
    Expired,
    #[error("the download URL is not valid")]
    Invalid,
}

impl Links {
    /// URLs below `base_url` (without a slash at its end), signed by a ring's keys.
    #[must_use]
    pub fn new(keyring: Keyring, base_url: &str) -> Self {
        Self {
            keyring,
            base_url: base_url.trim_end_matches('/').to_owned(),
        }
    }

    /// A URL for an asset that works for [`LIFETIME`].
    #[must_use]
    pub fn url(&self, id: AssetId, file_name: &str) -> String {
        let expires = (OffsetDateTime::now_utc() + LIFETIME).unix_timestamp();
        let signature = mac(
            self.keyring.signing(KeyUse::Download).expose(),
            id,
            file_name,
            expires,
        );
        let signature = URL_SAFE_NO_PAD.encode(signature.finalize().into_bytes());
        format!(
            "{}/assets/{id}/{file_name}?expires={expires}&signature={signature}",
            self.base_url
        )
    }

    /// Checks the parts of a URL, in constant time as far as the signature goes.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn verify(
        &self,
        id: AssetId,
        file_name: &str,
        expires: i64,
        signature: &str,
    ) -> Result<(), LinkError> {
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| LinkError::Invalid)?;
        let keys = self.keyring.verifying(KeyUse::Download);
        let signed = keys.iter().any(|key| {
            mac(key.expose(), id, file_name, expires)
                .verify_slice(&signature)
                .is_ok()
        });
        if !signed {
            return Err(LinkError::Invalid);
        }
        if expires < OffsetDateTime::now_utc().unix_timestamp() {
            return Err(LinkError::Expired);
        }
        Ok(())
    }
}

fn mac(key: &[u8], id: AssetId, file_name: &str, expires: i64) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    // The id has a fixed length and the time no slash in it, so that no two URLs have the same text.
    mac.update(format!("{id}/{expires}/{file_name}").as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_serves_one_asset_for_a_while() {
        let keyring: Keyring = format!("k:{}", "01".repeat(32)).parse().expect("valid");
        let links = Links::new(keyring, "http://localhost:1/");
        let id = AssetId::new();
        let url = url::Url::parse(&links.url(id, "mesh.glb")).expect("a URL");
        let query: std::collections::HashMap<_, _> = url.query_pairs().into_owned().collect();
        let (expires, signature) = (
            query["expires"].parse::<i64>().expect("a time"),
            &query["signature"],
        );
        assert_eq!(links.verify(id, "mesh.glb", expires, signature), Ok(()));
        assert_eq!(
            links.verify(id, "mesh.obj", expires, signature),
            Err(LinkError::Invalid)
        );
        assert_eq!(
            links.verify(AssetId::new(), "mesh.glb", expires, signature),
            Err(LinkError::Invalid)
        );
        assert_eq!(
            links.verify(id, "mesh.glb", expires + 1, signature),
            Err(LinkError::Invalid)
        );
        let past = mac(
            links.keyring.signing(KeyUse::Download).expose(),
            id,
            "mesh.glb",
            1_000,
        );
        let past = URL_SAFE_NO_PAD.encode(past.finalize().into_bytes());
        assert_eq!(
            links.verify(id, "mesh.glb", 1_000, &past),
            Err(LinkError::Expired)
        );
    }
}
