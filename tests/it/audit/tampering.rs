//! Somebody with the owner's rights in Postgres, but without the master keys.

use orfeas::{
    conversion::AuditEventId,
    db::{
        Database,
        audit::{
            head::Head,
            verify::{Finding, HeadState},
        },
    },
};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::{database, fill, ring, seal, verify};
use crate::harness::seed::{pool, scalar, sql, try_sql};

const TABLES: [&str; 4] = [
    "audit_event",
    "audit_seal",
    "audit_pending",
    "audit_checkpoint",
];

/// Does it without the triggers that guard against mistakes.
async fn tamper(database: &Database, statements: &str) {
    let mut script = String::new();
    for table in TABLES {
        script += &format!("ALTER TABLE {table} DISABLE TRIGGER ALL; ");
    }
    script += statements;
    for table in TABLES {
        script += &format!("; ALTER TABLE {table} ENABLE TRIGGER ALL");
    }
    sqlx::raw_sql(AssertSqlSafe(script))
        .execute(pool(database))
        .await
        .unwrap();
}

async fn save(database: &Database) {
    for table in TABLES {
        sql(database, &format!("DROP TABLE IF EXISTS saved_{table}")).await;
        let copy = format!("CREATE TABLE saved_{table} AS SELECT * FROM {table}");
        sql(database, &copy).await;
    }
}

/// Puts everything back as it was saved.
async fn restore(database: &Database) {
    let put_back = TABLES.map(|table| {
        format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM saved_{table}")
    });
    tamper(database, &put_back.join("; ")).await;
}

/// The events in the order of their seals.
async fn ids(database: &Database) -> Vec<AuditEventId> {
    let ids: Vec<Uuid> = sqlx::query_scalar("SELECT event_id FROM audit_seal ORDER BY seq")
        .fetch_all(pool(database))
        .await
        .unwrap();
    ids.into_iter().map(AuditEventId).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_changed_column_of_an_event_is_found() {
    let database = database().await;
    fill(&database, 6).await;
    let ids = ids(&database).await;
    save(&database).await;
    let columns = [
        "at = at + interval '1 microsecond'",
        "kind = 'command'",
        "actor = 'user:mallory'",
        "actor = NULL",
        "key_id = 'ofk_00000000000000000000'",
        "operation = 'deleteConversion'",
        "operation = NULL",
        "outcome = 'FORBIDDEN'",
        "address = '192.0.2.2'",
        "request_id = 'request-2'",
        "node_id = gen_random_uuid()",
        "details = '{\"images\": 1}'",
        "kind = 'refusals', count = 2",
    ];
    for column in columns {
        tamper(
            &database,
            &format!("UPDATE audit_event SET {column} WHERE id = '{}'", ids[2].0),
        )
        .await;
        let report = verify(&database, None).await;
        let changed = Finding::Changed {
            seq: 3,
            event: ids[2],
        };
        assert_eq!(report.findings, [changed], "{column}");
        assert_eq!(report.events_verified, 5, "{column}");
        restore(&database).await;
    }
    assert!(verify(&database, None).await.is_clean());
}

/// Nine sealed events, saved to be put back.
struct Log {
    database: Database,
    ids: Vec<AuditEventId>,
}

impl Log {
    async fn new() -> Self {
        let database = database().await;
        fill(&database, 9).await;
        save(&database).await;
        let ids = ids(&database).await;
        Self { database, ids }
    }

    /// That this seal holds the event that was sealed under another number.
    fn moved(&self, seq: i64, event: usize) -> Finding {
        let event = self.ids[event - 1];
        Finding::Moved { seq, event }
    }

    fn changed(&self, seq: i64, event: usize) -> Finding {
        let event = self.ids[event - 1];
        Finding::Changed { seq, event }
    }

    async fn check<const N: usize>(&self, cases: [(String, Vec<Finding>); N]) {
        for (statements, findings) in cases {
            tamper(&self.database, &statements).await;
            let report = verify(&self.database, None).await;
            assert_eq!(report.findings, findings, "{statements}");
            restore(&self.database).await;
        }
        assert!(verify(&self.database, None).await.is_clean());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_is_found() {
    let log = Log::new().await;
    let third = log.ids[2].0;
    let cases = [
        (
            format!("DELETE FROM audit_event WHERE id = '{third}'"),
            vec![Finding::EventRemoved {
                seq: 3,
                event: log.ids[2],
            }],
        ),
        (
            format!("DELETE FROM audit_event WHERE id = '{third}'; DELETE FROM audit_seal WHERE seq = 3"),
            vec![Finding::SealsRemoved { from: 3, to: 3 }],
        ),
        (
            "DELETE FROM audit_event WHERE id IN (SELECT event_id FROM audit_seal WHERE seq <= 2);
             DELETE FROM audit_seal WHERE seq <= 2"
                .to_owned(),
            vec![Finding::SealsRemoved { from: 1, to: 2 }],
        ),
        // The gap closed by counting on: the chain shows where.
        (
            format!(
                "DELETE FROM audit_event WHERE id = '{third}'; DELETE FROM audit_seal WHERE seq = 3;
                 UPDATE audit_seal SET seq = seq + 100 WHERE seq > 3; UPDATE audit_seal SET seq = seq - 101 WHERE seq > 100"
            ),
            vec![
                log.changed(3, 4),
                log.changed(4, 5),
                log.moved(5, 6),
                log.moved(6, 7),
                log.moved(7, 8),
                log.moved(8, 9),
            ],
        ),
    ];
    log.check(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_moved_or_forged_is_found() {
    let log = Log::new().await;
    let cases = [
        (
            // Two events that took each other's id.
            "ALTER TABLE audit_event DROP CONSTRAINT audit_event_pkey;
             UPDATE audit_event SET id = other.event_id FROM saved_audit_seal mine, saved_audit_seal other
             WHERE mine.event_id = audit_event.id AND mine.seq IN (4, 6) AND other.seq = 10 - mine.seq;
             ALTER TABLE audit_event ADD PRIMARY KEY (id)"
                .to_owned(),
            vec![log.changed(4, 4), log.changed(6, 6)],
        ),
        (
            "ALTER TABLE audit_seal DROP CONSTRAINT audit_seal_event_id_key;
             UPDATE audit_seal SET event_id = (SELECT event_id FROM saved_audit_seal saved WHERE saved.seq = 10 - audit_seal.seq)
             WHERE seq IN (4, 6); ALTER TABLE audit_seal ADD UNIQUE (event_id)"
                .to_owned(),
            vec![log.moved(4, 6), log.moved(6, 4)],
        ),
        (
            "UPDATE audit_seal SET mac = sha256(mac) WHERE seq = 5".to_owned(),
            vec![log.changed(5, 5), log.changed(6, 6)],
        ),
        (
            "UPDATE audit_seal SET master = 'other' WHERE seq = 5".to_owned(),
            vec![Finding::UnknownMaster {
                seq: 5,
                more: 0,
                master: "other".into(),
            }],
        ),
        // A seal that somebody makes up for an event that was never sealed.
        (
            format!(
                "INSERT INTO audit_event (id, at, kind, outcome, actor) VALUES ('{}', now(), 'mutation', 'OK', 'user:mallory');
                 INSERT INTO audit_seal VALUES (10, '{0}', 'test', sha256('x'))",
                Uuid::from_u128(7)
            ),
            vec![Finding::Changed {
                seq: 10,
                event: AuditEventId(Uuid::from_u128(7)),
            }],
        ),
        // A checkpoint that makes the beginning look pruned.
        (
            "DELETE FROM audit_event WHERE id IN (SELECT event_id FROM audit_seal WHERE seq <= 2);
             INSERT INTO audit_checkpoint SELECT 2, mac, master, mac, now(), 2 FROM audit_seal WHERE seq = 2;
             DELETE FROM audit_seal WHERE seq <= 2"
                .to_owned(),
            vec![Finding::CheckpointChanged { seq: 2 }],
        ),
    ];
    log.check(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_kept_from_the_sealer_is_found_after_a_minute() {
    let database = database().await;
    fill(&database, 2).await;
    let hidden = Uuid::from_u128(9);
    let insert = |seconds: u32| {
        format!(
            "INSERT INTO audit_event (id, at, kind, outcome) VALUES ('{hidden}', now() - interval '{seconds} s', 'mutation', 'OK')"
        )
    };
    tamper(&database, &insert(50)).await;
    seal(&database).await;
    assert!(verify(&database, None).await.is_clean());
    tamper(
        &database,
        &format!(
            "DELETE FROM audit_event WHERE id = '{hidden}'; {}",
            insert(61)
        ),
    )
    .await;
    let unsealed = Finding::Unsealed {
        count: 1,
        oldest: AuditEventId(hidden),
    };
    assert_eq!(verify(&database, None).await.findings, [unsealed]);

    // Nor does one go without a trace that the sealer has not come to.
    let database = super::database().await;
    let event = super::mutation("alice");
    database
        .insert_audit(std::slice::from_ref(&event))
        .await
        .unwrap();
    tamper(&database, "DELETE FROM audit_event").await;
    seal(&database).await;
    let removed = Finding::RemovedUnsealed {
        count: 1,
        event: event.id,
    };
    assert_eq!(verify(&database, None).await.findings, [removed]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_was_cut_off_is_found_by_an_exported_head() {
    const CUT: &str =
        "DELETE FROM audit_event WHERE id IN (SELECT event_id FROM audit_seal WHERE seq > 4);
        DELETE FROM audit_seal WHERE seq > 4";
    let database = database().await;
    let empty = database.audit_head(&ring()).await.unwrap();
    fill(&database, 3).await;
    let early = database.audit_head(&ring()).await.unwrap();
    fill(&database, 3).await;
    let late = database.audit_head(&ring()).await.unwrap();
    assert_eq!((empty.seq, early.seq, late.seq), (0, 3, 6));
    for head in [&empty, &early, &late] {
        let report = verify(&database, Some(head)).await;
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(report.head, Some(HeadState::OnChain));
    }

    tamper(&database, CUT).await;
    // What is left fits together: without a head nobody can tell.
    assert!(verify(&database, None).await.is_clean());
    assert!(verify(&database, Some(&early)).await.is_clean());
    let cut_off = Finding::CutOff {
        head_seq: 6,
        last_seq: 4,
    };
    let report = verify(&database, Some(&late)).await;
    assert_eq!(report.findings, [cut_off]);
    assert_eq!(report.head, Some(HeadState::NotOnChain));

    // The chain goes on over the place.
    fill(&database, 3).await;
    assert!(verify(&database, None).await.is_clean());
    assert_eq!(
        verify(&database, Some(&late)).await.findings,
        [Finding::HeadDiffers { seq: 6 }]
    );

    // A head that somebody wrote is none.
    for forged in [
        Head {
            seq: 4,
            ..late.clone()
        },
        Head {
            mac: early.mac.clone(),
            ..late.clone()
        },
        Head {
            at: early.at.clone(),
            ..late.clone()
        },
        Head {
            signature: "?".into(),
            ..late.clone()
        },
    ] {
        let report = verify(&database, Some(&forged)).await;
        assert_eq!(report.findings, [Finding::HeadForged], "{forged:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_master_keys_vouch_for_nothing() {
    let database = database().await;
    fill(&database, 3).await;
    let other = format!("test:{}", "ff".repeat(32)).parse().unwrap();
    let report = database.verify_audit(&other, None).await.unwrap();
    assert_eq!((report.events_verified, report.findings.len()), (0, 3));
    let rotated = format!("next:{},{}", "ff".repeat(32), crate::harness::MASTER_KEYS)
        .parse()
        .unwrap();
    database
        .insert_audit(&[super::mutation("alice")])
        .await
        .unwrap();
    database.seal_pending(&rotated).await.unwrap();
    let report = database.verify_audit(&rotated, None).await.unwrap();
    assert!(
        report.is_clean() && report.events_verified == 4,
        "{report:?}"
    );
    assert_eq!(
        scalar(
            &database,
            "SELECT count(*) FROM audit_seal WHERE master = 'next'"
        )
        .await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_refused() {
    let database = database().await;
    fill(&database, 1).await;
    sql(
        &database,
        "INSERT INTO audit_checkpoint SELECT seq, mac, master, mac, now(), 1 FROM audit_seal",
    )
    .await;
    for table in ["audit_event", "audit_seal", "audit_checkpoint"] {
        let column = if table == "audit_event" {
            "outcome"
        } else {
            "master"
        };
        for statement in [
            format!("UPDATE {table} SET {column} = {column}"),
            format!("DELETE FROM {table}"),
            format!("TRUNCATE {table}"),
            format!(
                "SET LOCAL orfeas.audit_pruning = 'on'; UPDATE {table} SET {column} = {column}"
            ),
            format!("SET LOCAL orfeas.audit_pruning = 'on'; TRUNCATE {table}"),
        ] {
            let refused = sqlx::raw_sql(AssertSqlSafe(statement.clone()))
                .execute(pool(&database))
                .await
                .unwrap_err();
            let refused = refused.as_database_error().unwrap();
            assert_eq!(refused.code().as_deref(), Some("55000"), "{statement}");
        }
    }
    for row in [
        "'typo', NULL, 'OK', 1, '{}'",
        "'mutation', 'alice', 'OK', 1, '{}'",
        "'mutation', NULL, 'ok', 1, '{}'",
        "'mutation', NULL, 'OK', 2, '{}'",
        "'refusals', NULL, 'OK', 0, '{}'",
        "'mutation', NULL, 'OK', 1, '[]'",
        "'mutation', NULL, 'OK', 1, jsonb_build_object('a', repeat('x', 5000))",
    ] {
        let insert = format!(
            "INSERT INTO audit_event (id, kind, actor, outcome, count, details) SELECT gen_random_uuid(), {row}::jsonb"
        );
        let refused = try_sql(&database, &insert).await.unwrap_err();
        let refused = refused.as_database_error().unwrap();
        assert_eq!(refused.code().as_deref(), Some("23514"), "{row}");
    }
}
