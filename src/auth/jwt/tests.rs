use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::*;
use crate::auth::jwks::{
    Cadence,
    fixtures::{Key, base64url, claims, in_seconds, message},
};

fn ring(text: &str) -> Keyring {
    text.parse().expect("valid")
}

fn own() -> Tokens {
    Tokens::new(&ring(&format!("k:{}", "01".repeat(32))))
}

fn parties() -> Parties {
    Parties {
        issuer: Some("https://id.example".into()),
        audience: Some("orfeas".into()),
    }
}

fn with(mut claims: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims
}

fn hmac_token(secret: &[u8], header: &Value, claims: &Value) -> String {
    let message = message(header, claims);
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("any length");
    mac.update(message.as_bytes());
    format!("{message}.{}", base64url(mac.finalize().into_bytes()))
}

/// Tokens of a server that trusts these keys, read from a file.
async fn trusting(keys: &[Value]) -> Tokens {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), json!({ "keys": keys }).to_string()).expect("written");
    let path = file.path().display().to_string();
    let (jwks, _) = Jwks::open(&path, Cadence::default())
        .await
        .expect("a good set");
    own().trusting(jwks)
}

#[tokio::test]
async fn tokens_hold_for_their_keys_and_their_time() {
    let old = ring(&format!("old:{}", "02".repeat(32)));
    let both = ring(&format!("new:{},old:{}", "01".repeat(32), "02".repeat(32)));
    let token = Tokens::new(&old).issue("alice", &["admin".into()], Duration::from_secs(60));
    let person = Tokens::new(&both)
        .verify(&token)
        .await
        .expect("the old key still verifies");
    assert!(person.admin && person.subject == "alice");

    let stranger = Tokens::new(&ring(&format!("x:{}", "03".repeat(32))));
    for token in [token.as_str(), "rubbish", "", "a.b.c", ".."] {
        assert!(
            matches!(stranger.verify(token).await, Err(TokenError::Invalid(_))),
            "{token}"
        );
    }

    let past = json!({ "sub": "a", "exp": 1_000 });
    let secret = old.signing(KeyUse::Jwt);
    let token = hmac_token(secret.expose(), &json!({ "alg": "HS256" }), &past);
    assert!(matches!(
        Tokens::new(&both).verify(&token).await,
        Err(TokenError::Expired)
    ));
}

#[tokio::test]
async fn other_algorithms_and_missing_claims_are_refused() {
    let tokens = own();
    let sign = |algorithm, claims: &Value| {
        jsonwebtoken::encode(&Header::new(algorithm), claims, &tokens.signing).expect("signs")
    };
    tokens
        .verify(&sign(Algorithm::HS256, &claims()))
        .await
        .expect("in order");
    assert!(
        tokens
            .verify(&sign(Algorithm::HS512, &claims()))
            .await
            .is_err(),
        "the algorithm is pinned"
    );
    for senseless in [
        json!({ "sub": "alice" }),
        json!({ "exp": in_seconds(600) }),
        json!({ "sub": "", "exp": in_seconds(600) }),
        json!({ "sub": "a\nb", "exp": in_seconds(600) }),
        json!({ "sub": "x".repeat(201), "exp": in_seconds(600) }),
        json!({ "sub": "alice", "exp": 1e300 }),
        json!({ "sub": "alice", "exp": "tomorrow" }),
        with(claims(), &json!({ "nbf": in_seconds(5) })),
    ] {
        let token = sign(Algorithm::HS256, &senseless);
        assert!(tokens.verify(&token).await.is_err(), "{senseless}");
    }
}

#[tokio::test]
async fn own_tokens_carry_the_parties_that_are_set() {
    let hour = Duration::from_secs(3600);
    let bound = own().between(parties());
    let token = bound.issue("alice", &[], hour);
    bound.verify(&token).await.expect("our own");
    own().verify(&token).await.expect("nothing is demanded");
    bound
        .verify(&own().issue("alice", &[], hour))
        .await
        .expect("issued before the parties were set");
    for other in [
        Parties {
            issuer: Some("https://elsewhere.example".into()),
            ..parties()
        },
        Parties {
            audience: Some("billing".into()),
            ..parties()
        },
    ] {
        let token = own().between(other.clone()).issue("alice", &[], hour);
        assert!(bound.verify(&token).await.is_err(), "{other:?}");
    }
}

#[tokio::test]
async fn a_provider_may_sign_with_each_kind_of_key() {
    let keys = [Key::rsa(), Key::ec(), Key::ed()];
    let published: Vec<_> = keys.iter().map(|key| key.jwk(key.algorithm())).collect();
    let tokens = trusting(&published).await;
    for key in &keys {
        let person = tokens
            .verify(&key.token_of(key.algorithm(), &claims()))
            .await
            .unwrap_or_else(|error| panic!("{}: {error:?}", key.algorithm()));
        assert!(person.subject == "alice" && !person.admin);
        let bare = json!({ "alg": key.algorithm() });
        tokens
            .verify(&key.token(&bare, &claims()))
            .await
            .expect("one key of this kind, so no kid is needed");
        let admin = with(claims(), &json!({ "roles": ["editor", "admin"] }));
        let person = tokens.verify(&key.token_of(key.algorithm(), &admin)).await;
        assert!(person.expect("in order").admin);

        let mut forged = key.token_of(key.algorithm(), &claims());
        let payload = base64url(with(claims(), &json!({ "sub": "root" })).to_string());
        let parts: Vec<_> = forged.split('.').map(str::to_owned).collect();
        forged = format!("{}.{payload}.{}", parts[0], parts[2]);
        assert!(matches!(
            tokens.verify(&forged).await,
            Err(TokenError::Invalid(_))
        ));
    }
    let own_token = own().issue("bob", &[], Duration::from_secs(60));
    assert_eq!(
        tokens
            .verify(&own_token)
            .await
            .expect("ours count too")
            .subject,
        "bob"
    );
    assert!(matches!(
        own().verify(&keys[0].token_of("RS256", &claims())).await,
        Err(TokenError::NoKey)
    ));
}

#[tokio::test]
async fn algorithms_can_not_be_confused() {
    let (rsa, ec) = (Key::rsa(), Key::ec());
    let published = [rsa.jwk("r"), ec.jwk("e")];
    let tokens = trusting(&published).await;
    // The public key, in every form in which it lies about, as an HMAC secret.
    let modulus = published[0]["n"].as_str().expect("text").to_owned();
    for secret in [rsa.public_pem(), modulus.into_bytes(), Vec::new()] {
        for algorithm in ["HS256", "HS384", "HS512", "RS256"] {
            let header = json!({ "alg": algorithm, "kid": "r" });
            let token = hmac_token(&secret, &header, &claims());
            assert!(tokens.verify(&token).await.is_err(), "{algorithm}");
        }
    }
    for algorithm in ["none", "None", "NONE", ""] {
        let message = message(&json!({ "alg": algorithm, "kid": "r" }), &claims());
        for signature in ["", "AA"] {
            let token = format!("{message}.{signature}");
            assert!(tokens.verify(&token).await.is_err(), "{algorithm}");
        }
    }
    // A header that names another algorithm than its key's, whoever signed.
    for (algorithm, id) in [
        ("RS256", "e"),
        ("ES256", "r"),
        ("EdDSA", "e"),
        ("PS256", "r"),
        ("RS512", "r"),
    ] {
        for key in [&rsa, &ec] {
            let token = key.token(&json!({ "alg": algorithm, "kid": id }), &claims());
            let refused = tokens.verify(&token).await;
            assert!(
                matches!(refused, Err(TokenError::NoKey)),
                "{algorithm} {id}"
            );
        }
    }
    // A key that the token brings along is nobody's.
    let stranger = Key::ec();
    let header = json!({ "alg": "ES256", "kid": "e", "jwk": stranger.jwk("e") });
    assert!(
        tokens
            .verify(&stranger.token(&header, &claims()))
            .await
            .is_err()
    );
    let header = json!({ "alg": "ES256", "kid": "e", "crit": ["exp"], "exp": 1 });
    assert!(tokens.verify(&ec.token(&header, &claims())).await.is_err());
}

#[tokio::test]
async fn a_symmetric_key_of_the_provider_signs_nothing() {
    let ec = Key::ec();
    let shared =
        json!({ "kty": "oct", "kid": "s", "alg": "HS256", "k": base64url("a shared secret") });
    let tokens = trusting(&[shared, ec.jwk("e")]).await;
    for id in ["s", "e"] {
        let header = json!({ "alg": "HS256", "kid": id });
        let token = hmac_token(b"a shared secret", &header, &claims());
        assert!(tokens.verify(&token).await.is_err());
    }
}

#[tokio::test]
async fn a_token_without_a_kid_needs_exactly_one_key_that_fits() {
    let keys = [Key::ec(), Key::ec(), Key::ed()];
    let published: Vec<_> = keys
        .iter()
        .enumerate()
        .map(|(index, key)| key.jwk(&index.to_string()))
        .collect();
    let tokens = trusting(&published).await;
    let bare = |key: &Key| key.token(&json!({ "alg": key.algorithm() }), &claims());
    tokens.verify(&bare(&keys[2])).await.expect("the only one");
    assert!(matches!(
        tokens.verify(&bare(&keys[0])).await,
        Err(TokenError::NoKey)
    ));
    tokens
        .verify(&keys[0].token_of("0", &claims()))
        .await
        .expect("named");
    assert!(
        matches!(
            tokens.verify(&keys[0].token_of("1", &claims())).await,
            Err(TokenError::Invalid(_))
        ),
        "the kid alone selects"
    );
}

#[tokio::test]
async fn a_provider_s_claims_are_held_against_the_settings() {
    let key = Key::ed();
    let tokens = trusting(&[key.jwk("k")]).await;
    let verify =
        async |tokens: &Tokens, claims: &Value| tokens.verify(&key.token_of("k", claims)).await;
    let leeway = FOREIGN_LEEWAY.as_secs().cast_signed();

    let late = json!({ "sub": "alice", "exp": in_seconds(-leeway / 2) });
    let person = verify(&tokens, &late).await.expect("within the leeway");
    assert!(person.expires_at > OffsetDateTime::now_utc());
    let past = json!({ "sub": "alice", "exp": in_seconds(-leeway - 5) });
    assert!(matches!(
        verify(&tokens, &past).await,
        Err(TokenError::Expired)
    ));
    let early = with(claims(), &json!({ "nbf": in_seconds(leeway + 60) }));
    assert!(verify(&tokens, &early).await.is_err());
    let soon = with(claims(), &json!({ "nbf": in_seconds(leeway / 2) }));
    verify(&tokens, &soon).await.expect("within the leeway");
    for lacking in [json!({ "sub": "alice" }), json!({ "exp": in_seconds(600) })] {
        assert!(verify(&tokens, &lacking).await.is_err(), "{lacking}");
    }
    for roles in [
        json!("admin"),
        json!({ "admin": true }),
        json!(["admin", 1]),
        json!(null),
    ] {
        let person = verify(&tokens, &with(claims(), &json!({ "roles": roles })))
            .await
            .expect("in order but for the roles");
        assert!(!person.admin, "{roles}");
    }
    let meant_for_others = with(claims(), &json!({ "aud": "billing" }));
    verify(&tokens, &meant_for_others)
        .await
        .expect("no audience is set");

    let bound = tokens.between(parties());
    let good = json!({ "iss": "https://id.example", "aud": ["mail", "orfeas"] });
    verify(&bound, &with(claims(), &good))
        .await
        .expect("both fit");
    for bad in [
        json!({}),
        json!({ "iss": "https://id.example" }),
        json!({ "aud": "orfeas" }),
        json!({ "iss": "https://id.example/", "aud": "orfeas" }),
        json!({ "iss": "https://id.example", "aud": "billing" }),
        json!({ "iss": "https://id.example", "aud": [] }),
        json!({ "iss": 1, "aud": "orfeas" }),
    ] {
        assert!(
            verify(&bound, &with(claims(), &bad)).await.is_err(),
            "{bad}"
        );
    }
}
