//! Signatures of webhooks, by Standard Webhooks 1.0: HMAC-SHA256 over the message's id, the time and the body.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Length of a secret in bytes.
pub const WEBHOOK_SECRET_BYTES: usize = 32;

/// What an owner's webhooks are signed with. The owner checks with it that they are from this server.
#[derive(Clone)]
pub struct WebhookSecret(Zeroizing<[u8; WEBHOOK_SECRET_BYTES]>);

impl WebhookSecret {
    /// What every secret starts with.
    pub const PREFIX: &'static str = "whsec_";

    /// The secret of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: Zeroizing<[u8; WEBHOOK_SECRET_BYTES]>) -> Self {
        Self(bytes)
    }

    /// As libraries of Standard Webhooks take it: `whsec_` and base64. For its owner alone.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        let digits = Zeroizing::new(STANDARD.encode(self.0.as_slice()));
        Zeroizing::new(format!("{}{}", Self::PREFIX, digits.as_str()))
    }

    /// One signature of a message: `v1,` and base64.
    ///
    /// `sent_at` is in seconds since 1970. The id holds no dot, so that no other message has the same text.
    #[must_use]
    pub fn sign(&self, id: &str, sent_at: i64, body: &[u8]) -> String {
        sign(self.0.as_slice(), id, sent_at, body)
    }
}

fn sign(key: &[u8], id: &str, sent_at: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(format!("{id}.{sent_at}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(hidden)")
    }
}

/// Signatures by several secrets, as the header has them: a receiver that knows one of them is content.
#[must_use]
pub fn signatures(secrets: &[WebhookSecret], id: &str, sent_at: i64, body: &[u8]) -> String {
    let each: Vec<String> = secrets
        .iter()
        .map(|secret| secret.sign(id, sent_at, body))
        .collect();
    each.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_the_specification_says() {
        // The example of the specification's reference libraries.
        let key = STANDARD
            .decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
            .expect("base64");
        let signature = sign(
            &key,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn secrets_are_shown_on_purpose_only() {
        let secret = WebhookSecret::from_bytes(Zeroizing::new([7; WEBHOOK_SECRET_BYTES]));
        assert_eq!(format!("{secret:?}"), "WebhookSecret(hidden)");
        assert_eq!(
            secret.expose().as_str(),
            format!("whsec_{}", STANDARD.encode([7; 32]))
        );
        let other = WebhookSecret::from_bytes(Zeroizing::new([8; WEBHOOK_SECRET_BYTES]));
        let both = signatures(&[secret.clone(), other.clone()], "whd_1", 5, b"{}");
        let each = format!(
            "{} {}",
            secret.sign("whd_1", 5, b"{}"),
            other.sign("whd_1", 5, b"{}")
        );
        assert_eq!(both, each);
        assert_ne!(
            secret.sign("whd_1", 5, b"{}"),
            secret.sign("whd_1", 6, b"{}")
        );
    }
}
