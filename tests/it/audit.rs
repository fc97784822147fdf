//! The audit log: written by many, chained by one, and what happens when somebody touches it.

use orfeas::{
    auth::{
        api_key::KeyId,
        jwt::Identity,
        keyring::Keyring,
        principal::{Principal, Quotas},
    },
    db::{
        Database,
        audit::{
            event::{AuditEvent, Outcome},
            head::Head,
            sealer::Sealing,
            verify::Report,
        },
    },
};
use time::OffsetDateTime;

use crate::harness::{MASTER_KEYS, World};

mod reading;
mod retention;
mod tampering;
mod writing;

fn ring() -> Keyring {
    MASTER_KEYS.parse().unwrap()
}

async fn database() -> Database {
    let database = World::new().await.database().await;
    database.migrate().await.unwrap();
    database
}

fn person(name: &str) -> Principal {
    let identity = Identity {
        subject: name.into(),
        admin: false,
        expires_at: OffsetDateTime::now_utc(),
    };
    let quotas = Quotas {
        requests_per_minute: 10,
        conversions_at_once: None,
        conversions_per_day: None,
        images_per_batch: 1,
    };
    Principal::user(identity, quotas)
}

fn mutation(name: &str) -> AuditEvent {
    AuditEvent::mutation(&person(name), "submitConversion", Outcome::OK)
        .from_address([192, 0, 2, 1].into())
        .request_id("request-1")
}

fn refusal(key: &KeyId) -> AuditEvent {
    AuditEvent::refusal(Outcome::code("RATE_LIMITED")).claiming(key.clone())
}

/// Stores so many events one by one, so that their order is their times', and seals them.
async fn fill(database: &Database, count: usize) {
    for index in 0..count {
        let event = mutation(&format!("person-{index}"));
        database.insert_audit(&[event]).await.unwrap();
    }
    seal(database).await;
}

async fn seal(database: &Database) {
    while database.seal_pending(&ring()).await.unwrap() != Sealing::Done(0) {}
}

async fn verify(database: &Database, head: Option<&Head>) -> Report {
    database.verify_audit(&ring(), head).await.unwrap()
}

async fn check_clean(database: &Database, events: u64) {
    let report = verify(database, None).await;
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!(report.events_verified, events);
}
