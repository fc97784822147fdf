//! Quotas, at the statements that charge them.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use orfeas::{
    auth::{
        keyring::Keyring,
        principal::{Permissions, Quotas},
    },
    conversion::NodeId,
    db::{
        Database, DatabaseOptions,
        api_keys::{KeyState, NewKey},
        entities::api_key,
        quotas::{Admission, Use},
    },
};
use proptest::prelude::*;

use crate::harness::{
    MASTER_KEYS, World,
    seed::{self, sql},
};

mod conversions;

const NO_LIMITS: Quotas = Quotas {
    requests_per_minute: 600,
    conversions_at_once: None,
    conversions_per_day: None,
    images_per_batch: 16,
};

async fn databases(count: usize) -> Vec<Database> {
    let world = World::new().await;
    let open = (0..count).map(|_| {
        Database::connect(DatabaseOptions {
            url: world.database_url.clone(),
            connections_max: 8,
            acquire_max: Duration::from_secs(30),
        })
    });
    let databases: Vec<Database> = join_all(open)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    databases[0].migrate().await.unwrap();
    databases
}

async fn database() -> Database {
    databases(1).await.remove(0)
}

async fn key(database: &Database, per_minute: u32) -> api_key::Model {
    let ring: Keyring = MASTER_KEYS.parse().unwrap();
    database.register_ring(&ring, NodeId::new()).await.unwrap();
    let key = NewKey {
        name: "test".into(),
        permissions: Permissions::USER,
        quotas: Quotas {
            requests_per_minute: per_minute,
            ..NO_LIMITS
        },
        networks: None,
        expires_at: None,
        webhook: None,
        created_by: "test".into(),
    };
    database.create_key(key, ring.signing_name()).await.unwrap()
}

async fn admit(database: &Database, key: &api_key::Model, nonce: Option<[u8; 32]>) -> Admission {
    let until = time::OffsetDateTime::now_utc() + Duration::from_secs(360);
    let request = Use {
        key: &key.id,
        generation: key.generation,
        nonce: nonce.map(|nonce| (nonce, until)),
    };
    database.admit_request(request).await.unwrap()
}

/// A caller's allowance: refills evenly, holds `burst` requests at most. What the SQL must do, said another way.
struct Bucket {
    per_minute: f64,
    burst: f64,
    /// Seconds that the requests charged so far lie ahead.
    ahead: f64,
}

impl Bucket {
    fn charge(&mut self, cost: f64) -> bool {
        let step = 60.0 / self.per_minute;
        let fits = self.ahead + cost * step <= self.burst * step + 1e-9;
        if fits {
            self.ahead += cost * step;
        }
        fits
    }

    fn remaining(&self) -> f64 {
        self.burst - self.ahead * self.per_minute / 60.0
    }
}

#[derive(Debug)]
struct Charged {
    charged: bool,
    remaining: i32,
    reset_seconds: f64,
    retry_seconds: f64,
}

#[test]
fn a_charge_is_what_the_model_says() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let database = runtime.block_on(database());
    let number = std::cell::Cell::new(0);
    // `ahead` is where a caller stands; costs follow each other within milliseconds. Rates are slow enough for a second
    // of a busy machine not to matter: a step takes two seconds at least.
    let cases = (
        1_u32..=30,
        1_u32..=20,
        -2.0_f64..3.0,
        prop::collection::vec(1_u32..=4, 1..12),
    );
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(150));
    runner
        .run(&cases, |(per_minute, burst, share, costs)| {
            number.set(number.get() + 1);
            let who = format!("caller {}", number.get());
            let step = 60.0 / f64::from(per_minute);
            // Half a step off, where a moment more or less changes no verdict.
            let ahead = ((share * f64::from(burst)).floor() + 0.5) * step;
            let mut bucket = Bucket {
                per_minute: per_minute.into(),
                burst: burst.into(),
                ahead: ahead.max(0.0),
            };
            runtime.block_on(async {
                sqlx::query("INSERT INTO request_rate VALUES ($1, clock_timestamp() + make_interval(secs => $2))")
                    .bind(&who)
                    .bind(ahead)
                    .execute(seed::pool(&database))
                    .await
                    .unwrap();
                for cost in costs.iter().filter(|cost| **cost <= burst) {
                    let (charged, remaining, reset_seconds, retry_seconds) =
                        sqlx::query_as("SELECT * FROM charge_rate($1, $2, $3, $4)")
                            .bind(&who)
                            .bind(i32::try_from(per_minute).unwrap())
                            .bind(i32::try_from(burst).unwrap())
                            .bind(i32::try_from(*cost).unwrap())
                            .fetch_one(seed::pool(&database))
                            .await
                            .unwrap();
                    let found = Charged { charged, remaining, reset_seconds, retry_seconds };
                    // A caller that was not ahead at all stands at the very edge of a step: `0` is exact there.
                    let expected = bucket.charge(f64::from(*cost));
                    assert_eq!(found.charged, expected, "{found:?} {per_minute} {burst} {ahead} {cost}");
                    assert!((found.reset_seconds - bucket.ahead).abs() < 1.0, "{found:?} {}", bucket.ahead);
                    let remaining = bucket.remaining().max(0.0);
                    assert!(
                        f64::from(found.remaining) <= remaining + 0.9 && f64::from(found.remaining) > remaining - 1.1,
                        "{found:?} {remaining}"
                    );
                    let must_wait = bucket.ahead + f64::from(*cost) * step - f64::from(burst) * step;
                    let wait = if expected { 0.0 } else { must_wait };
                    assert!((found.retry_seconds - wait).abs() < 1.0, "{found:?} {wait}");
                }
            });
            Ok(())
        })
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_nodes_together_admit_no_request_too_many_and_refuse_none_too_few() {
    let nodes = databases(3).await;
    // Ten a second, sixty at once.
    let key = key(&nodes[0], 600).await;
    let started = Instant::now();
    let clients = (0..100_usize).map(|client| {
        let (database, key) = (nodes[client % 3].clone(), key.clone());
        tokio::spawn(async move {
            let mut admitted = 0;
            while started.elapsed() < Duration::from_secs(3) {
                let nonce: [u8; 32] = rand::random();
                match admit(&database, &key, Some(nonce)).await {
                    Admission::Admitted { .. } => admitted += 1,
                    Admission::Limited { rate } => {
                        let retry = rate.retry.unwrap();
                        // The moment may have come while the refusal was made.
                        assert!((0.0..0.2).contains(&retry), "{rate:?}");
                    }
                    other => panic!("{other:?}"),
                }
            }
            admitted
        })
    });
    let admitted: i32 = join_all(clients)
        .await
        .into_iter()
        .map(Result::unwrap)
        .sum();
    let seconds = started.elapsed().as_secs_f64();
    let allowed = 60.0 + 10.0 * seconds;
    assert!(
        f64::from(admitted) <= allowed + 1.0,
        "{admitted} in {seconds} s"
    );
    // The last were asked for after three seconds at the earliest, and somebody asked all the time.
    assert!(
        f64::from(admitted) >= 60.0 + 10.0 * 3.0 - 2.0,
        "{admitted} in {seconds} s"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_as_told_is_let_in() {
    let database = database().await;
    let key = key(&database, 300).await;
    let mut refusals = 0;
    for _ in 0..40 {
        if let Admission::Limited { rate } = admit(&database, &key, None).await {
            refusals += 1;
            tokio::time::sleep(Duration::from_secs_f64(rate.retry.unwrap())).await;
            let again = admit(&database, &key, None).await;
            assert!(matches!(again, Admission::Admitted { .. }), "{again:?}");
        }
    }
    assert!(refusals > 3, "{refusals}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_works_once_for_each_key_on_any_node() {
    let nodes = databases(3).await;
    let (one, other) = (key(&nodes[0], 6_000).await, key(&nodes[0], 6_000).await);
    let nonce = [7; 32];
    let tries = (0..30).map(|turn| admit(&nodes[turn % 3], &one, Some(nonce)));
    let verdicts = join_all(tries).await;
    let admitted = verdicts
        .iter()
        .filter(|verdict| matches!(verdict, Admission::Admitted { .. }));
    assert_eq!(admitted.count(), 1);
    let replayed = verdicts
        .iter()
        .filter(|verdict| matches!(verdict, Admission::Replayed));
    assert_eq!(replayed.count(), 29);
    assert!(matches!(
        admit(&nodes[1], &other, Some(nonce)).await,
        Admission::Admitted { .. }
    ));
    // Only what can't be used again is forgotten.
    nodes[0].forget_used().await.unwrap();
    assert!(matches!(
        admit(&nodes[2], &one, Some(nonce)).await,
        Admission::Replayed
    ));
    sql(
        &nodes[0],
        "UPDATE nonce SET keep_until = now() - interval '1 second'",
    )
    .await;
    assert_eq!(nodes[0].forget_used().await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_has_ended_admits_nobody() {
    let database = database().await;
    let key = key(&database, 600).await;
    assert!(matches!(
        admit(&database, &key, None).await,
        Admission::Admitted { version: 1, .. }
    ));
    let rotated = database
        .rotate_key(&key.id, &key.master, Duration::from_secs(60))
        .await;
    let rotated = rotated.unwrap().unwrap();
    assert_eq!((rotated.generation, rotated.version), (2, 2));
    let state = |generation, version| KeyState {
        id: key.id.clone(),
        generation,
        version,
    };
    let all = [state(1, 2), state(2, 2), state(2, 1), state(0, 2)];
    let ended = database.ended_keys(&all).await.unwrap();
    assert_eq!(ended, all[2..], "another version, a secret of long ago");
    for (key, name) in [(&key, "old"), (&rotated, "new")] {
        let verdict = admit(&database, key, None).await;
        assert!(
            matches!(verdict, Admission::Admitted { version: 2, .. }),
            "{name}: {verdict:?}"
        );
    }
    sql(
        &database,
        "UPDATE api_key SET previous_until = now() - interval '1 second'",
    )
    .await;
    assert_eq!(admit(&database, &key, None).await, Admission::Superseded);
    database
        .rotate_key(&key.id, &key.master, Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(
        admit(&database, &key, None).await,
        Admission::Superseded,
        "two rotations ago"
    );
    sql(
        &database,
        "UPDATE api_key SET expires_at = now() - interval '1 second'",
    )
    .await;
    assert_eq!(admit(&database, &rotated, None).await, Admission::Expired);
    database.revoke_key(&key.id).await.unwrap();
    assert_eq!(admit(&database, &rotated, None).await, Admission::Revoked);
    let undone = seed::try_sql(&database, "UPDATE api_key SET revoked_at = NULL").await;
    assert!(undone.is_err(), "a revoked key stays revoked");
    assert!(
        database
            .rotate_key(&key.id, &key.master, Duration::ZERO)
            .await
            .unwrap()
            .is_none()
    );
    let ended = database.ended_keys(&[state(3, 5)]).await.unwrap();
    assert_eq!(ended, [state(3, 5)]);
}
