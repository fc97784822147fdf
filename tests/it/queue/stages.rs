//! Many conversions that enter their stages at once.

use std::sync::Arc;

use futures_util::future::join_all;
use orfeas::{
    conversion::{NodeId, Priority, Stage},
    db::{
        DatabaseError,
        conversions::{Attempt, Entered},
    },
    worker::stages::StageWriter,
};
use tokio::sync::Barrier;

use super::{database_with, seed};
use crate::harness::seed::{attempt, scalar, submission, submit};

#[tokio::test(flavor = "multi_thread")]
async fn many_enter_together_and_each_hears_its_own_answer() {
    let database = database_with(8).await;
    submit(&database, submission("alice", Priority::User, true, 40)).await;
    let node = NodeId::new();
    let rows = database.claim(node, &seed::models(), 40).await.unwrap();
    let attempts: Vec<Attempt> = rows.iter().map(attempt).collect();
    database.cancel(rows[3].id).await.unwrap();
    let stale = Attempt {
        number: 2,
        ..attempts[4]
    };
    let writer = StageWriter::new(database.clone());
    for stage in [Stage::Encode, Stage::Reconstruct, Stage::Mesh] {
        let start = Arc::new(Barrier::new(attempts.len() + 2));
        let entering = attempts.iter().copied().chain([stale]).map(|attempt| {
            let (writer, start) = (writer.clone(), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                writer.enter(attempt, stage).await
            })
        });
        // Leases are renewed in the meantime, over the same rows.
        let renewing = {
            let (database, start, attempts) =
                (database.clone(), Arc::clone(&start), attempts.clone());
            tokio::spawn(async move {
                start.wait().await;
                for _ in 0..20 {
                    database.renew_leases(node, &attempts).await.unwrap();
                }
            })
        };
        let entered = join_all(entering).await;
        renewing.await.unwrap();
        for (place, entered) in entered.into_iter().enumerate() {
            match (place, entered.unwrap()) {
                (3, answer) => assert_eq!(answer.unwrap(), Entered::CancelRequested),
                (40, answer) => assert!(matches!(answer, Err(DatabaseError::Lost)), "{answer:?}"),
                (_, answer) => assert_eq!(answer.unwrap(), Entered::Yes),
            }
        }
    }
    let steps =
        "SELECT count(*) FROM conversion_event WHERE stage IN ('encode', 'reconstruct', 'mesh')";
    assert_eq!(scalar(&database, steps).await, 3 * 39);
    seed::check_all(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_given_up_leaves_the_others_their_turn() {
    let database = database_with(4).await;
    submit(&database, submission("alice", Priority::User, true, 12)).await;
    let rows = database
        .claim(NodeId::new(), &seed::models(), 12)
        .await
        .unwrap();
    let writer = StageWriter::new(database.clone());
    let enter = |place: usize| {
        let (writer, attempt) = (writer.clone(), attempt(&rows[place]));
        tokio::spawn(async move { writer.enter(attempt, Stage::Encode).await })
    };
    // Some of these write for the others when they are given up.
    let given_up: Vec<_> = (0..6).map(enter).collect();
    tokio::task::yield_now().await;
    let stay: Vec<_> = (6..12).map(enter).collect();
    given_up.iter().for_each(tokio::task::JoinHandle::abort);
    for entered in join_all(stay).await {
        assert_eq!(entered.unwrap().unwrap(), Entered::Yes);
    }
    seed::check_all(&database).await;
}
