//! What a keyed response tells of the quota, in the fields of the IETF's draft
//! (draft-ietf-httpapi-ratelimit-headers): the policy, and what is left of it.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::db::quotas::Rate;

const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Adds `RateLimit`, `RateLimit-Policy` and, for a refusal, `Retry-After`.
pub fn add(headers: &mut HeaderMap, rate: &Rate) {
    let Rate {
        allowed,
        remaining,
        reset_seconds,
        retry,
    } = *rate;
    let reset = reset_seconds.ceil();
    let text = |text: String| HeaderValue::from_str(&text).expect("digits and plain letters");
    headers.insert(POLICY, text(format!("\"requests\";q={allowed};w=60")));
    headers.insert(LIMIT, text(format!("\"requests\";r={remaining};t={reset}")));
    if let Some(seconds) = retry {
        headers.insert(
            header::RETRY_AFTER,
            text(format!("{}", seconds.ceil().max(1.0))),
        );
    }
}
