use std::{
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};

use super::{
    fixtures::{Key, claims},
    key_set::{KeySetError, Selection},
    *,
};
use crate::auth::jwt::{TokenError, Tokens};

/// Short enough for a test, long enough for a slow machine to do several things within.
const PAUSE: Duration = Duration::from_millis(700);

fn quick() -> Cadence {
    Cadence {
        refresh: Duration::from_secs(3600),
        pause: PAUSE,
    }
}

/// What the provider answers.
#[derive(Clone)]
enum Answer {
    Keys(Value),
    Status(StatusCode),
    Text(String),
    Redirect(String),
    Silence,
}

/// An identity provider on loopback that counts its requests.
struct Provider {
    address: SocketAddr,
    answer: Mutex<Answer>,
    asked: AtomicUsize,
}

impl Provider {
    async fn start(answer: Answer) -> Arc<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), answer).await
    }

    async fn start_at(address: SocketAddr, answer: Answer) -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .expect("a free port");
        let provider = Arc::new(Self {
            address: listener.local_addr().expect("bound"),
            answer: Mutex::new(answer),
            asked: AtomicUsize::new(0),
        });
        let (moved, asked) = (provider.clone(), provider.clone());
        let routes = Router::new()
            .route("/jwks", get(async move || asked.reply().await))
            .route("/moved", get(async move || moved.reply().await));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        provider
    }

    async fn reply(&self) -> Response {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answer.lock().expect("no panic").clone();
        match answer {
            Answer::Keys(keys) => axum::Json(json!({ "keys": keys })).into_response(),
            Answer::Status(status) => status.into_response(),
            Answer::Text(text) => text.into_response(),
            Answer::Redirect(to) => {
                self.set(Answer::Keys(json!([Key::ed().jwk("moved")])));
                (StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
            }
            Answer::Silence => std::future::pending().await,
        }
    }

    fn set(&self, answer: Answer) {
        *self.answer.lock().expect("no panic") = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn url(&self) -> String {
        format!("http://{}/jwks", self.address)
    }
}

/// Tokens that trust a place's keys, kept fresh until the end of the test.
async fn trusting(location: &str, cadence: Cadence) -> Tokens {
    let (jwks, keeper) = Jwks::open(location, cadence).await.expect("a good place");
    tokio::spawn(keeper.run(CancellationToken::new()));
    let ring = format!("k:{}", "01".repeat(32)).parse().expect("valid");
    Tokens::new(&ring).trusting(jwks)
}

#[tokio::test]
async fn a_rotated_set_is_fetched_once_for_all_who_wait() {
    let (old, new) = (Key::ec(), Key::ec());
    let provider = Provider::start(Answer::Keys(json!([old.jwk("old")]))).await;
    let tokens = trusting(&provider.url(), quick()).await;
    let with_old = old.token_of("old", &claims());
    tokens
        .verify(&with_old)
        .await
        .expect("waits for the first set");
    assert_eq!(provider.asked(), 1);

    provider.set(Answer::Keys(json!([new.jwk("new")])));
    tokio::time::sleep(PAUSE).await;
    tokens
        .verify(&with_old)
        .await
        .expect("a known key needs no fresh set");
    assert_eq!(provider.asked(), 1);
    let with_new = new.token_of("new", &claims());
    let all = futures_util::future::join_all((0..50).map(|_| tokens.verify(&with_new))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(provider.asked(), 2, "one refresh for fifty tokens");
    assert!(
        matches!(tokens.verify(&with_old).await, Err(TokenError::NoKey)),
        "what the provider has taken back counts no longer"
    );
}

#[tokio::test]
async fn unknown_kids_are_no_flood_for_the_provider() {
    let key = Key::ed();
    let provider = Provider::start(Answer::Keys(json!([key.jwk("k")]))).await;
    let tokens = trusting(&provider.url(), Cadence::default()).await;
    tokens
        .verify(&key.token_of("k", &claims()))
        .await
        .expect("in order");
    let forged: Vec<_> = (0..200)
        .map(|index| Key::ed().token_of(&format!("kid {index}"), &claims()))
        .collect();
    let refused =
        futures_util::future::join_all(forged.iter().map(|token| tokens.verify(token))).await;
    assert!(
        refused
            .iter()
            .all(|result| matches!(result, Err(TokenError::NoKey)))
    );
    assert_eq!(provider.asked(), 1, "the pause has not passed");
}

#[tokio::test]
async fn a_caller_who_leaves_does_not_stop_the_refresh() {
    let (old, new) = (Key::ed(), Key::ed());
    let provider = Provider::start(Answer::Keys(json!([old.jwk("old")]))).await;
    let tokens = trusting(&provider.url(), quick()).await;
    tokens
        .verify(&old.token_of("old", &claims()))
        .await
        .expect("in order");
    provider.set(Answer::Keys(json!([new.jwk("new")])));
    tokio::time::sleep(PAUSE).await;
    let token = new.token_of("new", &claims());
    let left = futures_util::FutureExt::now_or_never(tokens.verify(&token));
    assert!(left.is_none(), "the caller waits, and leaves");
    tokens.verify(&token).await.expect("fetched by the keeper");
    assert_eq!(provider.asked(), 2);
}

#[tokio::test]
async fn a_failing_refresh_keeps_the_keys() {
    let key = Key::ed();
    let provider = Provider::start(Answer::Keys(json!([key.jwk("k")]))).await;
    let tokens = trusting(&provider.url(), quick()).await;
    let token = key.token_of("k", &claims());
    tokens.verify(&token).await.expect("in order");
    let unknown = Key::ed();
    for answer in [
        Answer::Status(StatusCode::INTERNAL_SERVER_ERROR),
        Answer::Text("<html>Sign in</html>".into()),
        Answer::Keys(json!([])),
        Answer::Text(" ".repeat(2 << 20)),
    ] {
        let before = provider.asked();
        provider.set(answer);
        tokio::time::sleep(PAUSE).await;
        let refused = tokens.verify(&unknown.token_of("u", &claims())).await;
        assert!(matches!(refused, Err(TokenError::NoKey)));
        assert!(provider.asked() > before, "it was asked");
        tokens.verify(&token).await.expect("the old keys stay");
    }
    provider.set(Answer::Keys(json!([unknown.jwk("u")])));
    // After a failure it is asked again by itself.
    tokio::time::sleep(PAUSE * 2).await;
    let before = provider.asked();
    tokens
        .verify(&unknown.token_of("u", &claims()))
        .await
        .expect("it has recovered");
    assert_eq!(provider.asked(), before);
}

#[tokio::test]
async fn a_provider_that_is_down_keeps_nobody_from_starting() {
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = free.local_addr().expect("bound");
    drop(free);
    let tokens = trusting(&format!("http://{address}/jwks"), quick()).await;
    let key = Key::ec();
    let token = key.token_of("k", &claims());
    assert!(matches!(
        tokens.verify(&token).await,
        Err(TokenError::NoKey)
    ));
    Provider::start_at(address, Answer::Keys(json!([key.jwk("k")]))).await;
    tokio::time::sleep(PAUSE).await;
    tokens.verify(&token).await.expect("it came up");
}

#[tokio::test]
async fn a_silent_provider_holds_nobody_who_has_a_known_key() {
    let key = Key::ec();
    let provider = Provider::start(Answer::Keys(json!([key.jwk("k")]))).await;
    let tokens = trusting(&provider.url(), quick()).await;
    let token = key.token_of("k", &claims());
    tokens.verify(&token).await.expect("in order");
    provider.set(Answer::Silence);
    tokio::time::sleep(PAUSE).await;
    let waiting = tokens.clone();
    let unknown = Key::ec().token_of("u", &claims());
    let waits = tokio::spawn(async move { waiting.verify(&unknown).await });
    while provider.asked() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::timeout(Duration::from_secs(1), tokens.verify(&token))
        .await
        .expect("at once")
        .expect("in order");
    waits.abort();
}

#[tokio::test]
async fn redirects_stay_with_the_host_that_was_named() {
    let elsewhere = Provider::start(Answer::Keys(json!([Key::ed().jwk("moved")]))).await;
    for (to, is_followed) in [
        ("/moved".to_owned(), true),
        (format!("http://{}/moved", elsewhere.address), false),
        ("file:///etc/passwd".to_owned(), false),
    ] {
        let provider = Provider::start(Answer::Redirect(to.clone())).await;
        let loaded = Source::new(&provider.url())
            .expect("a good place")
            .load()
            .await;
        assert_eq!(loaded.is_ok(), is_followed, "{to}: {loaded:?}");
    }
    assert_eq!(elsewhere.asked(), 0);
}

#[tokio::test]
async fn a_file_is_read_at_start_and_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("keys.json");
    let open = async |location: String| Jwks::open(&location, quick()).await.map(|_| ());
    let missing = open(path.display().to_string()).await;
    assert!(matches!(missing, Err(JwksError::Read { .. })));
    for broken in ["", "{", "[]", r#"{ "keys": [] }"#, r#"{ "keys": {} }"#] {
        std::fs::write(&path, broken).expect("written");
        let error = open(path.display().to_string())
            .await
            .expect_err("a broken file");
        let text = chain(&error);
        assert!(
            text.contains("keys.json") && text.contains("ORFEAS_JWT_JWKS"),
            "{text}"
        );
    }
    for nonsense in [
        "ftp://host/keys",
        "https://me:secret@host/keys",
        "http://",
        "file://host/keys",
    ] {
        let refused = open(nonsense.to_owned()).await;
        assert!(matches!(refused, Err(JwksError::Location)), "{nonsense}");
    }

    let (old, new) = (Key::ec(), Key::ed());
    std::fs::write(&path, json!({ "keys": [old.jwk("1")] }).to_string()).expect("written");
    let url = url::Url::from_file_path(&path).expect("absolute");
    let tokens = trusting(url.as_str(), quick()).await;
    tokens
        .verify(&old.token_of("1", &claims()))
        .await
        .expect("read at start");
    std::fs::write(&path, json!({ "keys": [new.jwk("2")] }).to_string()).expect("written");
    tokio::time::sleep(PAUSE).await;
    tokens
        .verify(&new.token_of("2", &claims()))
        .await
        .expect("read again");
}

#[test]
fn keys_that_can_not_verify_are_left_out() {
    use jsonwebtoken::Algorithm;
    let key = Key::ec();
    let with = |name: &str, value: Value| {
        let mut jwk = key.jwk("k");
        jwk[name] = value;
        jwk
    };
    let parse = |keys: Value| KeySet::parse(json!({ "keys": keys }).to_string().as_bytes());
    let mut short = Key::rsa().jwk("k");
    short["n"] = super::fixtures::base64url([0xff; 128]).into();
    for useless in [
        with("use", "enc".into()),
        with("key_ops", json!(["sign"])),
        with("alg", "ES384".into()),
        with("alg", "HS256".into()),
        with("crv", "P-384".into()),
        with("kty", "RSA".into()),
        with("x", "AAAA".into()),
        with("y", "not base64!".into()),
        with("kid", 7.into()),
        short,
        json!({ "kty": "oct", "k": "AAAA", "kid": "k" }),
        json!("text"),
    ] {
        let set = parse(json!([useless]));
        assert!(matches!(set, Err(KeySetError::NoneUsable)), "{useless}");
    }
    let good = [
        with("use", "sig".into()),
        with("key_ops", json!(["verify"])),
        with("x5c", json!(["AAAA"])),
        Key::rsa().jwk("k"),
    ];
    for jwk in good {
        let set = parse(json!([jwk, { "kty": "oct", "k": "AAAA", "kid": "s" }])).expect("one");
        assert!(matches!(
            set.select(Some("s"), Algorithm::HS256),
            Selection::Unknown
        ));
    }
    assert!(matches!(
        parse(json!([key.jwk("a"), key.jwk("a")]))
            .expect("two")
            .select(Some("a"), Algorithm::ES256),
        Selection::Unfit
    ));
    let many: Vec<_> = (0..65).map(|index| key.jwk(&index.to_string())).collect();
    assert!(matches!(parse(json!(many)), Err(KeySetError::TooMany(65))));
    assert_eq!(
        format!("{:?}", parse(json!([key.jwk("k")])).expect("one")),
        "[(Some(\"k\"), ES256)]"
    );
}
