use serde_json::json;

use super::*;

const DOCUMENT: &str = "query Models { models { name } }";
const OTHER: &str = "{ viewer { name } }";

fn asked(body: serde_json::Value) -> Asked {
    serde_json::from_value(body).expect("a request")
}

fn hash_of(text: &str) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(Sha256::digest(text))
}

fn persisted(hash: &str) -> serde_json::Value {
    json!({ "persistedQuery": { "version": 1, "sha256Hash": hash } })
}

fn code(documents: &Documents, body: serde_json::Value) -> ErrorCode {
    documents.find(asked(body)).expect_err("refused").code
}

async fn open(
    manifest: Option<serde_json::Value>,
    trusted_only: bool,
) -> Result<Documents, String> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let manifest = manifest.map(|manifest| {
        std::fs::write(file.path(), manifest.to_string()).expect("written");
        file.path().to_owned()
    });
    let options = DocumentOptions {
        manifest,
        trusted_only,
    };
    Documents::open(options)
        .await
        .map_err(|error| error.to_string())
}

#[test]
fn a_request_has_a_document_or_names_one() {
    for body in [
        json!({}),
        json!({ "query": null }),
        json!({ "variables": {} }),
        json!({ "qeury": OTHER }),
        json!({ "extensions": { "other": 1 } }),
    ] {
        let error = serde_json::from_value::<Asked>(body.clone()).expect_err("refused");
        assert!(error.to_string().contains("no document"), "{body}: {error}");
    }
    for body in [
        json!({ "query": 7 }),
        json!({ "query": OTHER, "variables": [] }),
        json!({ "query": OTHER, "operationName": {} }),
        json!({ "query": OTHER, "extensions": "x" }),
        json!({ "documentId": 7 }),
        json!([]),
    ] {
        assert!(
            serde_json::from_value::<Asked>(body.clone()).is_err(),
            "{body}"
        );
    }
    let read = asked(
        json!({ "query": OTHER, "variables": null, "operationName": null, "extensions": null, "documentId": null, "more": 1 }),
    );
    assert_eq!(read.request.query, OTHER);
    let read = asked(json!({ "query": OTHER, "variables": { "a": [1] }, "operationName": "A" }));
    assert_eq!(read.request.operation_name.as_deref(), Some("A"));
    assert_eq!(read.request.variables.len(), 1);
}

#[tokio::test]
async fn a_document_is_named_once_it_was_kept() {
    let documents = open(None, false).await.expect("nothing is wrong");
    let hash = hash_of(DOCUMENT);
    assert_eq!(
        code(&documents, json!({ "extensions": persisted(&hash) })),
        ErrorCode::PersistedQueryNotFound
    );
    let sent = || asked(json!({ "query": DOCUMENT, "extensions": persisted(&hash) }));
    let found = documents.find(sent()).expect("the hash is right");
    let keep = found.keep.expect("it is new");
    // Nobody has said yet that it is valid.
    assert_eq!(
        code(&documents, json!({ "extensions": persisted(&hash) })),
        ErrorCode::PersistedQueryNotFound
    );
    documents.keep(keep);
    for body in [
        json!({ "extensions": persisted(&hash) }),
        json!({ "extensions": persisted(&hash.to_uppercase()) }),
        json!({ "documentId": format!("sha256:{hash}") }),
    ] {
        let found = documents.find(asked(body)).expect("it was kept");
        assert_eq!((found.request.query.as_str(), found.keep), (DOCUMENT, None));
    }
    assert_eq!(documents.find(sent()).expect("as before").keep, None);
}

#[tokio::test]
async fn names_that_make_no_sense_are_refused() {
    let documents = open(None, false).await.expect("nothing is wrong");
    let hash = hash_of(DOCUMENT);
    for body in [
        json!({ "query": OTHER, "extensions": persisted(&hash) }),
        json!({ "extensions": { "persistedQuery": { "version": 2, "sha256Hash": hash } } }),
        json!({ "extensions": { "persistedQuery": { "sha256Hash": hash } } }),
        json!({ "extensions": { "persistedQuery": { "version": 1, "sha256Hash": "abc" } } }),
        json!({ "extensions": { "persistedQuery": { "version": 1 } } }),
        json!({ "extensions": { "persistedQuery": hash } }),
        json!({ "query": OTHER, "documentId": "a" }),
        json!({ "documentId": "a", "extensions": persisted(&hash) }),
    ] {
        assert_eq!(
            code(&documents, body.clone()),
            ErrorCode::InvalidInput,
            "{body}"
        );
    }
    assert_eq!(
        code(&documents, json!({ "documentId": "no-such" })),
        ErrorCode::PersistedQueryNotFound
    );
}

#[tokio::test]
async fn trusted_documents_are_known_by_id_hash_and_what_they_say() {
    let sha1 = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
    let apollo = json!({ "format": "apollo-persisted-query-manifest", "version": 1,
        "operations": [{ "id": sha1, "name": "Models", "type": "query", "body": DOCUMENT }] });
    for manifest in [json!({ sha1: DOCUMENT }), apollo] {
        let documents = open(Some(manifest), true).await.expect("it is valid");
        let hash = hash_of(DOCUMENT);
        for body in [
            json!({ "documentId": sha1 }),
            json!({ "documentId": format!("sha256:{hash}") }),
            json!({ "extensions": persisted(&hash) }),
            json!({ "query": DOCUMENT }),
            json!({ "query": "query Models {\n  models {\n    name\n  }\n}" }),
        ] {
            let found = documents.find(asked(body.clone())).expect("it is known");
            assert!(found.may_run, "{body}");
            assert_eq!(found.request.query, DOCUMENT, "the registered text runs");
        }
        for text in [
            "{ models { name } }",
            "query Models { models { name id } }",
            "{",
        ] {
            let found = documents
                .find(asked(json!({ "query": text })))
                .expect("a document");
            assert!(!found.may_run, "{text}");
            assert_eq!(found.request.query, text);
        }
        // What an admin made the node keep is not trusted for that.
        let hash = hash_of(OTHER);
        let sent = json!({ "query": OTHER, "extensions": persisted(&hash) });
        let found = documents.find(asked(sent)).expect("a document");
        documents.keep(found.keep.expect("it is new"));
        let named = documents.find(asked(json!({ "extensions": persisted(&hash) })));
        assert!(!named.expect("it was kept").may_run);
        // The pages go on.
        for text in own::documents() {
            assert!(
                documents
                    .find(asked(json!({ "query": text })))
                    .expect("a document")
                    .may_run
            );
        }
    }
}

#[tokio::test]
async fn a_bad_manifest_says_which_document_is_at_fault() {
    for (manifest, words) in [
        (json!([]), "is no manifest"),
        (json!({ "a": 7 }), "is no manifest"),
        (
            json!({ "gone": "{ viewer { none } }" }),
            "the document gone can't be used",
        ),
        (
            json!({ "open": "{ viewer {" }),
            "the document open can't be used",
        ),
        (
            json!({ "deep": "{".repeat(60) }),
            "the document deep can't be used",
        ),
        (json!({ "empty": "" }), "the document empty can't be used"),
        (
            json!({ "operations": [{ "id": "a", "body": OTHER }, { "id": "a", "body": DOCUMENT }] }),
            "the id a stands for two documents",
        ),
    ] {
        let error = open(Some(manifest.clone()), false)
            .await
            .expect_err("refused");
        assert!(error.contains(words), "{manifest}: {error}");
    }
    let missing = DocumentOptions {
        manifest: Some("no/such/file.json".into()),
        trusted_only: false,
    };
    assert!(matches!(
        Documents::open(missing).await,
        Err(ManifestError::Read { .. })
    ));
}
