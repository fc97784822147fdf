//! Every way to be refused, and the sentence for it.

use super::*;
use crate::auth::api_key::KeyIdError;

const FULL: &str = r#""@method" "@path" "@query" "content-digest""#;

fn refusal(sent: &Sent) -> SignatureError {
    let error = sent.parse().expect_err("it must be refused");
    let text = error.to_string();
    assert!(text.len() > 20, "a sentence that tells what to do: {text}");
    error
}

#[test]
fn half_a_signature() {
    let (id, secret) = key();
    let mut sent = Sent::signed(&id, &secret);
    assert!(is_signed(&sent.headers));
    sent.headers.remove("signature");
    assert!(is_signed(&sent.headers));
    assert!(matches!(
        refusal(&sent),
        SignatureError::HalfSigned {
            absent: "Signature",
            present: "Signature-Input"
        }
    ));
    sent.headers.remove("signature-input");
    assert!(!is_signed(&sent.headers));
    sent.set("signature", "sig=:AAAA:");
    assert!(matches!(
        refusal(&sent),
        SignatureError::HalfSigned {
            absent: "Signature-Input",
            ..
        }
    ));
}

#[test]
fn what_can_t_be_read() {
    let (id, secret) = key();
    let sent = Sent::signed(&id, &secret).resigned(FULL, &parameters(&id), &secret);
    let with = |name, value: &str| {
        let mut sent = sent.clone();
        sent.set(name, value);
        refusal(&sent)
    };
    for input in [
        "sig=(",
        "sig=(\"@method\" \"@path)",
        "Sig=()",
        "sig=();created=,",
    ] {
        let error = with("signature-input", input);
        assert!(
            matches!(
                error,
                SignatureError::Malformed {
                    field: "Signature-Input",
                    ..
                }
            ),
            "{input}: {error}"
        );
    }
    for signature in ["sig=:A", "sig=:%%%%:", "=:AAAA:"] {
        let error = with("signature", signature);
        assert!(
            matches!(
                error,
                SignatureError::Malformed {
                    field: "Signature",
                    ..
                }
            ),
            "{signature}: {error}"
        );
    }
    for input in ["", "a=(), b=()"] {
        let error = with("signature-input", input);
        assert!(
            matches!(error, SignatureError::NotOne { .. }),
            "{input}: {error}"
        );
    }
    for signature in ["", "sig=:AAAA:, b=:AAAA:"] {
        let error = with("signature", signature);
        assert!(
            matches!(error, SignatureError::NotOne { .. }),
            "{signature}: {error}"
        );
    }
    assert_eq!(
        with("signature", "other=:AAAA:"),
        SignatureError::OtherLabel {
            label: "sig".into()
        }
    );
    for (name, value) in [
        ("signature-input", "sig=\"@method\""),
        ("signature", "sig=AAAA"),
        ("signature", "sig=\"AAAA\""),
        ("signature", "sig=(:AAAA:)"),
    ] {
        let error = with(name, value);
        assert!(
            matches!(error, SignatureError::Member { .. }),
            "{value}: {error}"
        );
    }
}

#[test]
fn repeated_fields() {
    let (id, secret) = key();
    let covered = r#""@method" "@path" "@query" "content-digest" "x-field""#;
    let mut sent = Sent::signed(&id, &secret);
    assert_eq!(
        refusal(&sent.clone().resigned(covered, &parameters(&id), &secret)),
        SignatureError::MissingField {
            field: "x-field".into()
        }
    );
    sent.set("x-field", "1");
    let sent = sent.resigned(covered, &parameters(&id), &secret);
    assert!(sent.counts(&id, &secret));
    for name in ["signature", "signature-input", "content-digest", "x-field"] {
        let mut twice = sent.clone();
        let value = twice.headers[name].clone();
        twice.headers.append(name, value);
        let error = refusal(&twice);
        assert!(
            matches!(&error, SignatureError::DuplicatedField { field, lines: 2 } if field.eq_ignore_ascii_case(name)),
            "{name}: {error}"
        );
    }
}

#[test]
fn too_little_is_covered() {
    let (id, secret) = key();
    let sent = Sent::signed(&id, &secret);
    for (covered, missing) in [
        ("", "\"@method\""),
        (r#""@path" "@query" "content-digest""#, "\"@method\""),
        (r#""@method" "@query" "content-digest""#, "\"@path\""),
        (r#""@method" "@path" "content-digest""#, "\"@query\""),
        (
            r#""@method" "@path" "@query-param";name="x" "content-digest""#,
            "\"@query\"",
        ),
        (
            r#""@method" "@request-target" "content-digest""#,
            "\"@path\"",
        ),
        (r#""@method" "@path" "@query""#, "\"content-digest\""),
        (
            r#""@method" "@target-uri" "content-type""#,
            "\"content-digest\"",
        ),
    ] {
        let error = refusal(&sent.clone().resigned(covered, &parameters(&id), &secret));
        assert_eq!(
            error,
            SignatureError::MissingComponent { component: missing },
            "{covered}"
        );
    }
}

#[test]
fn unknown_components() {
    let (id, secret) = key();
    let sent = Sent::signed(&id, &secret);
    for component in [
        r#""@foo""#,
        r#""@status""#,
        r#""@signature-params""#,
        r#""host";sf"#,
        r#""host";bs"#,
        r#""host";key="a""#,
        r#""@method";req"#,
        r#""host";tr"#,
        r#""Host""#,
        r#""two words""#,
        r#""""#,
        "host",
        "1",
        r#""@query-param""#,
        r#""@query-param";name=x"#,
        r#""@query-param";name="x";bs"#,
        r#""@query";name="x""#,
        r#""signature""#,
        r#""signature-input""#,
    ] {
        let covered = format!("{FULL} {component}");
        let error = refusal(&sent.clone().resigned(&covered, &parameters(&id), &secret));
        assert!(
            matches!(&error, SignatureError::UnknownComponent { component: named } if named == component),
            "{component}: {error}"
        );
    }
    for component in [
        "\"@method\"",
        "\"content-digest\"",
        "\"@query-param\";name=\"x\"",
    ] {
        let covered = format!("{FULL} {component} {component}");
        let error = refusal(&sent.clone().resigned(&covered, &parameters(&id), &secret));
        assert_eq!(
            error,
            SignatureError::DuplicatedComponent {
                component: component.into()
            }
        );
    }
    let many: String = (0..40).map(|number| format!(" \"x-{number}\"")).collect();
    let covered = format!("{FULL}{many}");
    assert_eq!(
        refusal(&sent.resigned(&covered, &parameters(&id), &secret)),
        SignatureError::TooManyComponents { components_max: 32 }
    );
}

#[test]
fn the_target() {
    let (id, secret) = key();
    let mut sent = Sent::signed(&id, &secret);
    let by_target = r#""@method" "@target-uri" "content-digest""#;
    let signed = sent.clone().resigned(by_target, &parameters(&id), &secret);
    assert!(signed.counts(&id, &secret));
    let mut elsewhere = signed.clone();
    elsewhere.public_url = Some(url("https://other.example"));
    assert!(!elsewhere.counts(&id, &secret), "signed for another server");
    elsewhere.public_url = None;
    assert_eq!(refusal(&elsewhere), SignatureError::NoPublicUrl);

    for (name, found) in [("y", 0), ("x", 2)] {
        sent.uri = "/graphql?x=1&x=2".parse().expect("a target");
        let covered = format!("{FULL} \"@query-param\";name=\"{name}\"");
        assert_eq!(
            refusal(&sent.clone().resigned(&covered, &parameters(&id), &secret)),
            SignatureError::QueryParameter {
                name: name.into(),
                found
            }
        );
    }
    sent.headers.remove("host");
    let covered = format!("{FULL} \"@authority\"");
    assert_eq!(
        refusal(&sent.resigned(&covered, &parameters(&id), &secret)),
        SignatureError::NoAuthority
    );
}

#[test]
fn parameters_that_are_wrong() {
    let (id, secret) = key();
    let sent = Sent::signed(&id, &secret);
    let with = |parameters: &str| refusal(&sent.clone().resigned(FULL, parameters, &secret));
    let (created, nonce, keyid) = (
        format!(";created={CREATED}"),
        ";nonce=\"0123456789\"",
        format!(";keyid=\"{id}\""),
    );
    for (parameters, name) in [
        (format!("{nonce}{keyid}"), "created"),
        (format!("{created}{keyid}"), "nonce"),
        (format!("{created}{nonce}"), "keyid"),
    ] {
        assert_eq!(with(&parameters), SignatureError::MissingParameter { name });
    }
    let all = parameters(&id);
    for (more, name) in [
        (";created=\"1\"", "created"),
        (";created=1.5", "created"),
        (";created", "created"),
        (";expires=soon", "expires"),
        (";nonce=12345678", "nonce"),
        (";nonce=:AAAAAAAAAAAA:", "nonce"),
        (";keyid=token", "keyid"),
        (";alg=hmac-sha256", "alg"),
        (";tag=1", "tag"),
    ] {
        let error = with(&format!("{all}{more}"));
        assert!(
            matches!(error, SignatureError::Parameter { name: n, .. } if n == name),
            "{more}: {error}"
        );
    }
    for name in ["key", "x"] {
        let error = with(&format!("{all};{name}=1"));
        assert_eq!(
            error,
            SignatureError::UnknownParameter { name: name.into() }
        );
    }
    for alg in ["HMAC-SHA256", "ed25519", "hmac-sha512", ""] {
        let error = with(&format!("{all};alg=\"{alg}\""));
        assert_eq!(error, SignatureError::Algorithm { found: alg.into() });
    }
    for found in [0, 7, 129] {
        let error = with(&format!("{created};nonce=\"{}\"{keyid}", "n".repeat(found)));
        assert_eq!(error, SignatureError::Nonce { found });
    }
    for (keyid, source) in [
        ("ofk_short", KeyIdError::Form),
        ("ofk_00000000000000000000", KeyIdError::Checksum),
    ] {
        let error = with(&format!("{created}{nonce};keyid=\"{keyid}\""));
        assert_eq!(error, SignatureError::KeyId(source));
    }
    for expires in [0, CREATED - 1, CREATED] {
        let error = with(&format!("{all};expires={expires}"));
        assert_eq!(
            error,
            SignatureError::ExpiresFirst {
                created: CREATED,
                expires
            }
        );
    }
    assert!(
        SignatureError::Mismatch
            .to_string()
            .contains("check the secret")
    );
}
