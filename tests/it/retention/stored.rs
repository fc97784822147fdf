//! What an owner's files take, and how much they may.

use futures_util::future::join_all;
use orfeas::{
    config::{Role, Settings},
    conversion::{Owner, Priority},
    db::{
        quotas::Exceeded,
        submissions::{Admitted, Source, Submission},
    },
};
use serde_json::json;

use super::Place;
use crate::harness::{
    client::{SUBMIT, submission},
    pictures,
    seed::{self, sql},
};

fn of_bytes(owner: &str, bytes: i64, allowed: u64) -> Submission {
    let mut submission = seed::submission(owner, Priority::User, false, 1);
    if let Source::New(asset) = &mut submission.items[0].source {
        asset.bytes = bytes;
    }
    submission.stored_bytes_max = Some(allowed);
    submission
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_never_exceed_it_by_their_pictures() {
    let place = Place::new().await;
    let nodes = join_all((0..3).map(|_| place.world.database())).await;
    let submitted =
        join_all((0..60).map(|turn| nodes[turn % 3].submit(of_bytes("alice", 100, 1_050)))).await;
    let admitted = submitted
        .iter()
        .filter(|outcome| matches!(outcome, Ok(Admitted::New(_))));
    assert_eq!(admitted.count(), 10, "{submitted:?}");
    let refused = submitted.iter().filter(|outcome| {
        matches!(
            outcome,
            Ok(Admitted::Exceeded(Exceeded::Stored {
                allowed: 1_050,
                used: 1_000,
                added: 100,
            }))
        )
    });
    assert_eq!(refused.count(), 50);
    assert_eq!(
        place.count("asset").await,
        10,
        "who is refused stores nothing"
    );
    let usage = place.database.usage(&Owner::user("alice")).await.unwrap();
    assert_eq!(usage.stored_bytes, 1_000);
    // Another's is another's; what fits, fits.
    let bob = place
        .database
        .submit(of_bytes("bob", 1_050, 1_050))
        .await
        .unwrap();
    assert!(matches!(bob, Admitted::New(_)), "{bob:?}");
    let small = place
        .database
        .submit(of_bytes("alice", 50, 1_050))
        .await
        .unwrap();
    assert!(matches!(small, Admitted::New(_)), "{small:?}");
    place.check_counts().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_count_is_the_sum_whatever_comes_and_goes() {
    let place = Place::new().await;
    for round in 0..4 {
        let rows = place.succeeded("alice", round % 2 == 0, 3).await;
        place.succeeded("bob", false, 1).await;
        place.check_counts().await;
        place
            .database
            .delete_conversion(None, rows[0].id)
            .await
            .unwrap();
        place.check_counts().await;
    }
    let alice = Owner::user("alice");
    let usage = place.database.usage(&alice).await.unwrap();
    assert_eq!(
        usage.stored_bytes,
        4 * 2 * 3,
        "files of a byte by their rows"
    );
    // Rows that go by SQL, one or all.
    sql(&place.database, "DELETE FROM asset WHERE kind = 'preview'").await;
    place.check_counts().await;
    sql(&place.database, "DELETE FROM conversion").await;
    place.check_counts().await;
    sql(&place.database, "DELETE FROM asset").await;
    place.check_counts().await;
    assert_eq!(place.database.stored_bytes().await.unwrap(), 0);
    assert_eq!(place.count("owner_storage WHERE bytes = 0").await, 2);
    let broken = seed::try_sql(&place.database, "UPDATE owner_storage SET bytes = -1").await;
    broken.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_used_it_up_is_told_what_to_do() {
    let place = Place::new().await;
    let picture = pictures::CHEST.len();
    let settings = Settings {
        orfeas_role: Role::Api,
        user_max_stored_bytes: Some(picture as u64 * 2),
        ..place.world.settings()
    };
    let node = place.world.node_with(settings).await;
    let alice = node.client("alice");
    let quota = "{ viewer { quota { storedBytes storedBytesMax } } }";
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(alice.submit(pictures::CHEST, json!({})).await);
    }
    let shown = alice.run(quota, json!({})).await["viewer"]["quota"].take();
    assert_eq!(shown["storedBytes"].as_f64(), Some(picture as f64 * 2.0));
    assert_eq!(shown["storedBytesMax"], shown["storedBytes"]);
    let refused = alice
        .send(SUBMIT, submission(pictures::CHEST, json!({})))
        .await;
    let error = &refused["errors"][0];
    assert_eq!(error["extensions"]["code"], "QUOTA_EXCEEDED", "{error:#}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("delete conversions"), "{message}");
    assert_eq!(
        super::stored(&place.world).len(),
        2,
        "the refused picture is not kept"
    );

    // What is deleted makes room.
    let delete = "mutation ($id: ID!) { deleteConversion(id: $id) { deletedId } }";
    alice.run(delete, json!({ "id": ids[0] })).await;
    ids.push(alice.submit(pictures::CHEST, json!({})).await);

    // A retry adds nothing of itself; over the limit it is refused.
    let cancel = "mutation ($id: ID!) { cancelConversion(id: $id) { conversion { id } } }";
    alice.run(cancel, json!({ "id": ids[1] })).await;
    let retry = "mutation ($id: ID!) { retryConversion(id: $id) { conversion { id } } }";
    alice.run(retry, json!({ "id": ids[1] })).await;
    let claimed = place
        .database
        .claim(orfeas::conversion::NodeId::new(), &seed::models(), 1)
        .await
        .unwrap();
    place.succeed(&claimed[0]).await;
    let code = alice.refusal(retry, json!({ "id": ids[1] })).await;
    assert_eq!(code, "QUOTA_EXCEEDED");
    // Others have their own.
    node.client("bob").submit(pictures::CHEST, json!({})).await;
    node.app.stop().await;
}
