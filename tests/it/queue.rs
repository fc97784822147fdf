//! Who is claimed when, and by whom.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use orfeas::{
    conversion::{AfterFailure, ConversionId, Failure, NodeId, Priority, Stage, Status},
    db::{
        Database, DatabaseError, DatabaseOptions,
        conversions::{Canceled, Entered},
        entities::conversion::Model,
    },
};

use crate::harness::{
    World,
    seed::{self, attempt, scalar, sql, submission, submit},
};

mod fairness;
mod stages;

async fn database() -> Database {
    database_with(4).await
}

async fn database_with(connections_max: u32) -> Database {
    let options = DatabaseOptions {
        url: World::new().await.database_url,
        connections_max,
        acquire_max: Duration::from_secs(30),
    };
    let database = Database::connect(options).await.unwrap();
    database.migrate().await.unwrap();
    database
}

async fn claim(database: &Database, count: u32) -> Vec<Model> {
    database
        .claim(NodeId::new(), &seed::models(), count)
        .await
        .unwrap()
}

/// Claims one after another until nothing is left: the order of the queue.
async fn claim_all(database: &Database) -> Vec<Model> {
    let mut order = Vec::new();
    loop {
        let next = claim(database, 1).await;
        if next.is_empty() {
            return order;
        }
        order.extend(next);
    }
}

/// A submission of this many seconds ago.
async fn submit_ago(
    database: &Database,
    owner: &str,
    priority: Priority,
    batch: bool,
    seconds: u32,
) -> ConversionId {
    let rows = submit(database, submission(owner, priority, batch, 1)).await;
    let id = rows.conversions[0].id;
    let ago = format!("interval '{seconds} seconds'");
    sql(
        database,
        &format!(
            "UPDATE conversion SET rank = rank - {ago}, created_at = created_at - {ago}, run_at = run_at - {ago} WHERE id = '{}'",
            id.0
        ),
    )
    .await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_go_before_users_and_singles_before_batches() {
    let database = database().await;
    let mut expected = Vec::new();
    // Submitted in the opposite order, each by somebody else.
    for (owner, priority, batch) in [
        ("a", Priority::User, true),
        ("b", Priority::User, false),
        ("c", Priority::Agent, true),
        ("d", Priority::Agent, false),
    ] {
        expected.push(submit_ago(&database, owner, priority, batch, 0).await);
    }
    expected.reverse();
    for (place, id) in expected.iter().enumerate() {
        let ahead = database.queue_position(*id).await.unwrap();
        assert_eq!(ahead, Some(i64::try_from(place).unwrap()));
    }
    let order: Vec<_> = claim_all(&database)
        .await
        .iter()
        .map(|row| row.id)
        .collect();
    assert_eq!(order, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_ever() {
    let database = database().await;
    let old = submit_ago(&database, "patient", Priority::User, true, 120).await;
    let agent = submit_ago(&database, "agent", Priority::Agent, false, 0).await;
    let young = submit_ago(&database, "young", Priority::User, false, 30).await;
    let order: Vec<_> = claim_all(&database)
        .await
        .iter()
        .map(|row| row.id)
        .collect();
    assert_eq!(order, [old, agent, young]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_due_or_for_others_is_left_alone() {
    let database = database().await;
    let rows = submit(&database, submission("alice", Priority::User, true, 3)).await;
    let [due, later, other] = [0, 1, 2].map(|index| rows.conversions[index].id);
    let set =
        |set: &str, id: ConversionId| format!("UPDATE conversion SET {set} WHERE id = '{}'", id.0);
    sql(&database, &set("run_at = now() + interval '1 hour'", later)).await;
    sql(&database, &set("model = 'another'", other)).await;
    let claimed = claim(&database, 10).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].id, due);
    sql(&database, &set("run_at = now()", later)).await;
    assert_eq!(claim(&database, 10).await[0].id, later);
    let claimed = database
        .claim(NodeId::new(), &["another".into(), "third".into()], 10)
        .await
        .unwrap();
    assert_eq!(claimed[0].id, other);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_queue_gives_nothing_away() {
    let database = database().await;
    submit(&database, submission("alice", Priority::User, true, 3)).await;
    let running = claim(&database, 1).await;
    database.set_paused(true, "root").await.unwrap();
    assert_eq!(claim(&database, 10).await, []);
    let state = database.queue_state().await.unwrap();
    assert_eq!((state.paused, state.queued(), state.running), (true, 2, 1));
    let entered = database
        .enter_stage(attempt(&running[0]), Stage::Encode)
        .await;
    assert_eq!(entered.unwrap(), Entered::Yes, "what runs goes on");
    database.set_paused(false, "root").await.unwrap();
    assert_eq!(claim(&database, 10).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn claimers_at_once_share_the_queue_without_overlap() {
    let database = database_with(8).await;
    for owner in ["alice", "bob"] {
        submit(&database, submission(owner, Priority::User, true, 100)).await;
    }
    let claimers = join_all((0..8_u32).map(|claimer| {
        let database = database.clone();
        tokio::spawn(async move {
            let node = NodeId::new();
            let mut mine = Vec::new();
            loop {
                let next = database
                    .claim(node, &seed::models(), 1 + claimer)
                    .await
                    .unwrap();
                assert!(next.len() <= 1 + claimer as usize, "no more than asked for");
                assert!(next.iter().all(|row| row.node_id == Some(node)));
                // Rows that another one holds at this moment are skipped, so nothing now may be something later.
                if next.is_empty() && database.queue_state().await.unwrap().queued() == 0 {
                    return mine;
                }
                mine.extend(next.into_iter().map(|row| row.id));
            }
        })
    }))
    .await;
    let claimed: Vec<_> = claimers.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(claimed.len(), 200);
    assert_eq!(claimed.iter().collect::<BTreeSet<_>>().len(), 200);
    for row in seed::all_rows(&database).await {
        assert_eq!((row.status, row.attempt), (Status::Running, 1));
    }
    seed::check_all(&database).await;
}

/// One who claims a few and ends each in its own way, until the queue is empty.
async fn work(database: Database, seed: usize) {
    let node = NodeId::new();
    let mut turn = seed;
    loop {
        let rows = database.claim(node, &seed::models(), 4).await.unwrap();
        let state = database.queue_state().await.unwrap();
        if rows.is_empty() && state.queued() + state.running == 0 {
            return;
        }
        let attempts: Vec<_> = rows.iter().map(attempt).collect();
        database.renew_leases(node, &attempts).await.unwrap();
        join_all(rows.into_iter().map(|row| {
            turn += 1;
            end(&database, row, turn)
        }))
        .await;
    }
}

async fn end(database: &Database, row: Model, turn: usize) {
    let attempt = attempt(&row);
    let failure = Failure {
        code: "INTERNAL",
        message: "x".into(),
        retryable: true,
    };
    for stage in [Stage::Encode, Stage::Mesh] {
        match database.enter_stage(attempt, stage).await {
            Ok(Entered::Yes) => {}
            Ok(Entered::CancelRequested) => {
                return database.cancel_attempt(attempt).await.unwrap();
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    let after = if row.attempt < 2 {
        AfterFailure::Retry {
            delay: Duration::ZERO,
        }
    } else {
        AfterFailure::Fail
    };
    let ended = match turn % 4 {
        0 => database.fail(attempt, &failure, after).await,
        1 if row.attempt < 3 => database.hand_back(attempt).await,
        _ => {
            let files = vec![seed::mesh(&row)];
            let done = database.succeed(&seed::success(attempt, files)).await;
            match done.unwrap() {
                Entered::Yes => Ok(()),
                Entered::CancelRequested => database.cancel_attempt(attempt).await,
            }
        }
    };
    match ended {
        Ok(()) => {}
        Err(DatabaseError::Lost) => panic!("nobody else holds {row:#?}"),
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_batches_at_once_never_block_each_other() {
    let database = database_with(12).await;
    let submitter = {
        let database = database.clone();
        tokio::spawn(async move {
            let mut called_off = Vec::new();
            for owner in ["alice", "bob", "carol", "dave"] {
                let batches =
                    (0..3).map(|_| submit(&database, submission(owner, Priority::User, true, 10)));
                for rows in join_all(batches).await {
                    // Some are called off, wherever they are by then.
                    for row in rows.conversions.iter().step_by(5) {
                        match database.cancel(row.id).await.unwrap() {
                            Canceled::AlreadyEnded => {
                                let row = seed::row(&database, row.id).await;
                                assert!(row.status.is_terminal(), "{row:#?}");
                            }
                            Canceled::Now | Canceled::Requested => called_off.push(row.id),
                        }
                    }
                }
            }
            called_off
        })
    };
    let rescuer = {
        let database = database.clone();
        tokio::spawn(async move {
            loop {
                database.rescue().await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    };
    let early = join_all((0..4).map(|seed| tokio::spawn(work(database.clone(), seed)))).await;
    let called_off = submitter.await.unwrap();
    // Those who came when nothing had been submitted yet have left: these see the rest through.
    let late = join_all((0..4).map(|seed| tokio::spawn(work(database.clone(), seed)))).await;
    for ended in early.into_iter().chain(late) {
        ended.unwrap();
    }
    rescuer.abort();
    let rows = seed::all_rows(&database).await;
    assert_eq!(rows.len(), 120);
    assert!(rows.iter().all(|row| row.status.is_terminal()));
    for row in rows.iter().filter(|row| called_off.contains(&row.id)) {
        assert_ne!(row.status, Status::Succeeded, "it was called off: {row:#?}");
    }
    seed::check_all(&database).await;
    let deadlocks = scalar(
        &database,
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()",
    )
    .await;
    assert_eq!(deadlocks, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_reads_the_front_of_its_index_and_nothing_else() {
    let world = World::new().await;
    let database = world.database().await;
    database.migrate().await.unwrap();
    let one = seed::submit_one(&database, false).await;
    let copies = |count: u32, columns: &str| {
        format!(
            "INSERT INTO conversion (id, owner, priority, source_asset_id, model, options, rank, status, started_at,
                 finished_at, timings, quality)
             SELECT gen_random_uuid(), owner, priority, source_asset_id, model, options,
                 rank + make_interval(secs => n), {columns}
             FROM conversion, generate_series(1, {count}) n WHERE id = '{}'",
            one.id.0
        )
    };
    sql(&database, &copies(999, "'queued', NULL, NULL, NULL, NULL")).await;
    sql(
        &database,
        &copies(4000, "'succeeded', now(), now(), '{}', '{}'"),
    )
    .await;
    sql(&database, "VACUUM ANALYZE conversion").await;

    // The statement itself is watched, by the counters that Postgres keeps; a backend that ends has handed its in.
    let read = "SELECT coalesce(sum(idx_tup_read), 0)::bigint FROM pg_stat_user_indexes WHERE indexrelname = 'conversion_claim'";
    let walked = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'conversion'";
    let settled = async |query: &str| {
        let mut last = scalar(&database, query).await;
        loop {
            tokio::time::sleep(Duration::from_millis(1200)).await;
            let now = scalar(&database, query).await;
            if now == last {
                return now;
            }
            last = now;
        }
    };
    let before = (settled(read).await, settled(walked).await);
    let claimer = world.database().await;
    for _ in 0..10 {
        assert_eq!(claim(&claimer, 8).await.len(), 8);
    }
    claimer.close().await;
    let after = (settled(read).await, settled(walked).await);
    let entries = after.0 - before.0;
    assert!(
        (80..=1000).contains(&entries),
        "10 claims of 8 read {entries} entries of the index of 1,000"
    );
    assert_eq!(after.1, before.1, "the table was not walked through");
}
