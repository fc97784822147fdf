//! People who come with a token of an identity provider.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use orfeas::{
    app::{App, AppError, AppOptions},
    config::Settings,
};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use crate::harness::{PROGRAM, World, client::Client};

const ISSUER: &str = "https://id.example";
const AUDIENCE: &str = "orfeas";
const WHO: &str = "{ viewer { name owner permissions } }";

/// An identity provider with one key, published in a file.
struct Provider {
    key: EcdsaKeyPair,
    file: tempfile::NamedTempFile,
}

impl Provider {
    fn new() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point = key.public_key().as_ref();
        let (x, y) = (&point[1..33], &point[33..]);
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "kid": "today", "use": "sig",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        });
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), json!({ "keys": [jwk] }).to_string()).unwrap();
        Self { key, file }
    }

    fn token(&self, claims: &Value) -> String {
        let header = Header {
            kid: Some("today".to_owned()),
            ..Header::new(Algorithm::ES256)
        };
        let der = self.key.to_pkcs8v1().unwrap();
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_ec_der(der.as_ref())).unwrap()
    }

    fn settings(&self, world: &World) -> Settings {
        Settings {
            orfeas_role: orfeas::config::Role::Api,
            orfeas_jwt_jwks: Some(self.file.path().display().to_string()),
            orfeas_jwt_issuer: Some(ISSUER.to_owned()),
            orfeas_jwt_audience: Some(AUDIENCE.to_owned()),
            ..world.settings()
        }
    }
}

fn claims() -> Value {
    let exp = (OffsetDateTime::now_utc() + Duration::minutes(5)).unix_timestamp();
    json!({ "sub": "alice", "exp": exp, "iss": ISSUER, "aud": [AUDIENCE] })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_s_token_opens_the_api_and_the_socket() {
    let world = World::new().await;
    let provider = Provider::new();
    let node = world.node_with(provider.settings(&world)).await;
    let client = |token| Client::new(node.app.api.unwrap(), Some(token));

    let alice = client(provider.token(&claims()));
    let viewer = alice.run(WHO, json!({})).await["viewer"].take();
    assert_eq!(viewer["name"], "alice");
    assert_eq!(viewer["owner"], "user:alice");
    assert!(!viewer["permissions"].to_string().contains("ADMIN"));
    // Opening it asserts that the server acknowledges.
    alice.socket().await;

    let mut admin = claims();
    admin["roles"] = json!(["admin"]);
    let viewer = client(provider.token(&admin)).run(WHO, json!({})).await;
    assert!(
        viewer["viewer"]["permissions"]
            .to_string()
            .contains("ADMIN")
    );

    // The server's own tokens still count: with the parties, as it issues them now, and without, as before.
    for own in [
        node.client("bob"),
        world.client(node.app.api.unwrap(), "bob"),
    ] {
        assert_eq!(own.run(WHO, json!({})).await["viewer"]["name"], "bob");
    }

    let stranger = Provider::new();
    let mut elsewhere = claims();
    elsewhere["aud"] = "billing".into();
    for token in [stranger.token(&claims()), provider.token(&elsewhere)] {
        let refused = client(token).refusal(WHO, json!({})).await;
        assert_eq!(refused, "UNAUTHENTICATED");
    }
    node.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_key_set_stops_the_start() {
    let world = World::new().await;
    let provider = Provider::new();
    std::fs::write(provider.file.path(), "no keys").unwrap();
    let options = AppOptions {
        settings: provider.settings(&world),
        program: PROGRAM.into(),
        engine: None,
        egress: None,
        metrics: None,
    };
    assert!(matches!(App::start(options).await, Err(AppError::Jwks(_))));
}
