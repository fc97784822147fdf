//! Transactions whose client hangs up at any moment.

use std::time::Duration;

use orfeas::db::{Database, DatabaseOptions};
use rand::RngExt;

use crate::harness::{World, seed};

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_left_as_it_begins_takes_nobody_s_writes_along() {
    let world = World::new().await;
    let elsewhere = world.database().await;
    let shared = Database::connect(DatabaseOptions {
        url: world.database_url.clone(),
        connections_max: 1,
        acquire_max: Duration::from_secs(30),
    })
    .await
    .unwrap();
    let write = |statement| sqlx::query(statement).execute(seed::pool(&shared));
    write("CREATE TABLE written (round int)").await.unwrap();
    for round in 1..=300 {
        let patience = Duration::from_micros(rand::rng().random_range(0..1_500));
        // Whether it had begun by then does not matter: it is dropped.
        drop(tokio::time::timeout(patience, shared.begin()).await);
        write("INSERT INTO written VALUES (0)").await.unwrap();
        let seen = seed::scalar(&elsewhere, "SELECT count(*) FROM written").await;
        assert_eq!(seen, round, "a write outside transactions is not committed");
    }
}
