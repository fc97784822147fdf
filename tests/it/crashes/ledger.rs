//! What a client was promised, and whether it was kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::TryStreamExt;
use orfeas::{
    auth::jwt::Tokens,
    config::Role,
    conversion::{ConversionId, FAILURES_MAX, Owner, Status},
    db::{entities::conversion::Model, listen::Hub},
    retention::{
        eraser::Eraser,
        orphans::{SweepOptions, sweep},
    },
    storage::Storage,
};
use serde_json::{Value, json};

use super::{Addresses, PATIENCE, Site, ball};
use crate::{
    harness::{
        MASTER_KEYS,
        client::{SUBMIT, SUBMIT_BATCH, check_errors},
        seed::{self, all_rows, events, scalar, until},
    },
    nodes::check_published_once,
};

/// A submission that was answered.
#[derive(Debug, Clone)]
struct Accepted {
    owner: String,
    query: &'static str,
    variables: Value,
    /// Of its conversions.
    ids: Vec<String>,
}

/// Submits, insists, and remembers what it was told.
pub struct Ledger {
    http: reqwest::Client,
    tokens: Tokens,
    hook: String,
    accepted: Mutex<Vec<Accepted>>,
    deleted: AtomicUsize,
    /// Mutations that were answered without an error.
    answered: AtomicUsize,
    /// Requests without an answer, of which nobody knew whether they counted.
    doubts: AtomicUsize,
    /// Answers that said "not now".
    put_off: AtomicUsize,
    keys: AtomicUsize,
}

/// What became of everything.
#[derive(Debug, Default, Clone, Copy)]
pub struct Figures {
    pub conversions: usize,
    /// Attempts beyond one of each: what was computed again.
    pub again: usize,
    /// Conversions that took a node down three times, and were failed and retried by their owner.
    pub given_up: usize,
    pub doubts: usize,
    pub put_off: usize,
    /// Messages of hooks, and those of them that had come before under the same id.
    pub told: usize,
    pub told_again: usize,
    /// Files in the store that no row told of.
    pub orphans: u64,
}

impl Ledger {
    pub fn new(site: &Site) -> Self {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(40))
            .pool_max_idle_per_host(0)
            .build()
            .unwrap();
        Self {
            http,
            tokens: Tokens::new(&site.settings(Role::All).keyring().unwrap()),
            hook: site.receiver.url("/hook"),
            accepted: Mutex::default(),
            deleted: AtomicUsize::default(),
            answered: AtomicUsize::default(),
            doubts: AtomicUsize::default(),
            put_off: AtomicUsize::default(),
            keys: AtomicUsize::default(),
        }
    }

    pub fn accepted(&self) -> usize {
        let accepted = self.accepted.lock().unwrap();
        accepted.iter().map(|one| one.ids.len()).sum()
    }

    /// Submits pictures, together if they are several, and tries again until a node has answered.
    pub async fn submit(&self, owner: &str, count: usize, nodes: &Addresses) -> Vec<String> {
        let number = self.keys.fetch_add(1, Ordering::Relaxed);
        let image = |index: usize| {
            let red = u8::try_from((number * 7 + index * 31) % 256).unwrap();
            json!({ "base64": STANDARD.encode(ball(red)) })
        };
        let mut input = json!({
            "options": { "resolution": 32 },
            "idempotencyKey": format!("submission {number}"),
            "webhook": { "url": self.hook, "events": ["CONVERSION_STARTED", "CONVERSION_SUCCEEDED", "CONVERSION_FAILED", "BATCH_FINISHED"] },
        });
        let query = if count == 1 {
            input["image"] = image(0);
            SUBMIT
        } else {
            input["images"] = (0..count).map(image).collect();
            SUBMIT_BATCH
        };
        let variables = json!({ "input": input });
        let data = self.insist(nodes, owner, query, &variables).await;
        let ids = ids(&data);
        assert_eq!(ids.len(), count, "{data:#}");
        self.accepted.lock().unwrap().push(Accepted {
            owner: owner.to_owned(),
            query,
            variables,
            ids: ids.clone(),
        });
        ids
    }

    /// Deletes a conversion that has ended, on a node that dies of erasing it: perhaps before it has answered.
    pub async fn delete(&self, owner: &str, id: &str, api: SocketAddr) {
        let query = "mutation ($id: ID!) { deleteConversion(id: $id) { deletedId } }";
        drop(self.ask(api, owner, query, &json!({ "id": id })).await);
        self.deleted.fetch_add(1, Ordering::Relaxed);
        for one in self.accepted.lock().unwrap().iter_mut() {
            one.ids.retain(|kept| kept != id);
        }
    }

    /// The data of an answer, whatever number of tries it takes.
    async fn insist(
        &self,
        nodes: &Addresses,
        owner: &str,
        query: &str,
        variables: &Value,
    ) -> Value {
        let asked = Instant::now();
        loop {
            assert!(asked.elapsed() < PATIENCE, "nobody has answered");
            if let Some(api) = nodes.pick()
                && let Some(data) = self.ask(api, owner, query, variables).await
            {
                return data;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The data of an answer; `None` where there was none, or one that says that it is worth another try.
    pub async fn ask(
        &self,
        api: SocketAddr,
        owner: &str,
        query: &str,
        variables: &Value,
    ) -> Option<Value> {
        let token = self.tokens.issue(owner, &[], Duration::from_secs(3600));
        let request = self
            .http
            .post(format!("http://{api}/graphql"))
            .bearer_auth(token)
            .json(&json!({ "query": query, "variables": variables }));
        let answer = async { request.send().await?.json::<Value>().await };
        let Ok(mut answer) = answer.await else {
            self.doubts.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        check_errors(&answer);
        for error in answer["errors"].as_array().into_iter().flatten() {
            assert_eq!(error["extensions"]["retryable"], true, "{answer:#}");
        }
        if answer.get("errors").is_some() {
            self.put_off.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.answered.fetch_add(1, Ordering::Relaxed);
        Some(answer["data"].take())
    }

    /// As an owner does whose conversion was failed with `retryable`: has it made anew. The number of those.
    pub async fn retry_failed(&self, site: &Site, nodes: &Addresses) -> usize {
        let query = "mutation ($id: ID!) { retryConversion(id: $id) { conversion { id } } }";
        let mut retried = 0;
        for row in all_rows(&site.database).await {
            if row.status != Status::Failed {
                continue;
            }
            let retries = format!(
                "SELECT count(*) FROM conversion WHERE retry_of = '{}'",
                row.id.0
            );
            if scalar(&site.database, &retries).await == 0 {
                let owner = row.owner.as_str().trim_start_matches("user:");
                let variables = json!({ "id": row.id.to_string() });
                self.insist(nodes, owner, query, &variables).await;
                retried += 1;
            }
        }
        retried
    }

    /// Waits until everything has been told, sealed and erased.
    pub async fn until_quiet(&self, site: &Site) {
        for (what, query) in [
            (
                "all hooks are told",
                "SELECT count(*) FROM webhook_delivery WHERE status = 'pending'",
            ),
            (
                "all events are sealed",
                "SELECT count(*) FROM audit_pending",
            ),
            ("all bytes are erased", "SELECT count(*) FROM erasure"),
        ] {
            until(what, PATIENCE, async || {
                scalar(&site.database, query).await == 0
            })
            .await;
        }
    }

    /// Holds everything against what was promised, once all have ended. The nodes are at `nodes`.
    pub async fn check(&self, site: &Site, storage: &Storage, nodes: &Addresses) -> Figures {
        let rows = all_rows(&site.database).await;
        let given_up = self.check_ends(site, storage, &rows).await;
        self.check_repetitions(nodes, rows.len(), site).await;
        self.until_quiet(site).await;
        let orphans = check_store(site, storage).await;
        self.check_quotas(site, &rows).await;
        let (told, told_again) = check_hooks(site, &rows).await;
        self.check_audit(site).await;
        let attempts: usize = rows
            .iter()
            .map(|row| row.attempt.unsigned_abs() as usize)
            .sum();
        Figures {
            conversions: rows.len(),
            again: attempts - rows.len(),
            given_up,
            doubts: self.doubts.load(Ordering::Relaxed),
            put_off: self.put_off.load(Ordering::Relaxed),
            told,
            told_again,
            orphans,
        }
    }

    /// Each that was accepted has ended once: in success, or, where it took three nodes down, as failed and retried.
    async fn check_ends(&self, site: &Site, storage: &Storage, rows: &[Model]) -> usize {
        let there: BTreeSet<String> = rows.iter().map(|row| row.id.to_string()).collect();
        let accepted = self.accepted.lock().unwrap().clone();
        for id in accepted.iter().flat_map(|one| &one.ids) {
            assert!(there.contains(id), "{id} was accepted and is lost");
        }
        let mut given_up = 0;
        for row in rows {
            if row.status != Status::Failed {
                check_published_once(storage, &site.database, row).await;
                continue;
            }
            given_up += 1;
            assert_eq!(row.failures, FAILURES_MAX, "{row:#?}");
            assert_eq!(row.error_retryable, Some(true));
            let trail = events(&site.database, row.id).await;
            assert_eq!(seed::count(&trail, Status::Failed, None), 1);
            assert!(rows.iter().any(|other| other.retry_of == Some(row.id)));
        }
        seed::check_all(&site.database).await;
        given_up
    }

    /// The same submissions sent again find what they made, and make nothing.
    async fn check_repetitions(&self, nodes: &Addresses, rows: usize, site: &Site) {
        let accepted = self.accepted.lock().unwrap().clone();
        for one in accepted.iter().filter(|one| !one.ids.is_empty()) {
            let data = self
                .insist(nodes, &one.owner, one.query, &one.variables)
                .await;
            let found: Vec<String> = ids(&data);
            assert!(
                one.ids.iter().all(|id| found.contains(id)),
                "{found:?} instead of {:?}",
                one.ids
            );
        }
        assert_eq!(all_rows(&site.database).await.len(), rows);
    }

    async fn check_quotas(&self, site: &Site, rows: &[Model]) {
        let charged = "SELECT coalesce(sum(conversions), 0)::bigint FROM usage_day";
        assert_eq!(
            usize::try_from(scalar(&site.database, charged).await).unwrap(),
            rows.len() + self.deleted.load(Ordering::Relaxed)
                - rows
                    .iter()
                    .filter(|row| row.status == Status::Failed)
                    .count(),
            "each is charged once, and not what the server has failed"
        );
        let owners: BTreeSet<&str> = rows.iter().map(|row| row.owner.as_str()).collect();
        for owner in owners {
            let owner = Owner::user(owner.trim_start_matches("user:"));
            let usage = site.database.usage(&owner).await.unwrap();
            assert_eq!(usage.active, 0, "{owner:?}");
        }
        let wrong = scalar(
            &site.database,
            "SELECT count(*) FROM owner_storage FULL JOIN
                 (SELECT owner, sum(bytes) AS bytes FROM asset GROUP BY owner) summed USING (owner)
             WHERE owner_storage.bytes IS DISTINCT FROM coalesce(summed.bytes, 0)",
        );
        assert_eq!(wrong.await, 0, "owners whose count of bytes is not the sum");
    }

    /// The chain is whole, and every mutation that was answered is in it.
    async fn check_audit(&self, site: &Site) {
        let ring = MASTER_KEYS.parse().unwrap();
        let report = site.database.verify_audit(&ring, None).await.unwrap();
        assert!(report.is_clean(), "{report:#?}");
        let noted = scalar(
            &site.database,
            "SELECT count(*) FROM audit_event WHERE kind = 'mutation' AND outcome = 'OK'",
        );
        let answered = self.answered.load(Ordering::Relaxed);
        let noted = usize::try_from(noted.await).unwrap();
        assert!(noted >= answered, "{noted} events of {answered} answers");
    }
}

/// The conversions of an answer to a submission.
fn ids(data: &Value) -> Vec<String> {
    let text = |conversion: &Value| conversion["id"].as_str().map(str::to_owned);
    match data["submitBatch"]["items"].as_array() {
        Some(items) => items
            .iter()
            .filter_map(|item| text(&item["conversion"]))
            .collect(),
        None => text(&data["submitConversion"]["conversion"])
            .into_iter()
            .collect(),
    }
}

/// The store holds what rows tell of, and what it holds besides is found and erased; how many files those were.
async fn check_store(site: &Site, storage: &Storage) -> u64 {
    let options = SweepOptions {
        grace: Duration::ZERO,
        ..SweepOptions::default()
    };
    let report = sweep(&site.database, storage, options).await.unwrap();
    let eraser = Eraser {
        database: site.database.clone(),
        storage: storage.clone(),
        hub: Hub::default(),
    };
    // Nodes that are up erase as well.
    until("orphans are erased", PATIENCE, async || {
        eraser.step().await.unwrap();
        scalar(&site.database, "SELECT count(*) FROM erasure").await == 0
    })
    .await;
    let known: Vec<String> = sqlx::query_scalar("SELECT storage_key FROM asset ORDER BY 1")
        .fetch_all(seed::pool(&site.database))
        .await
        .unwrap();
    let mut stored = Vec::new();
    for prefix in ["sources", "conversions"] {
        let found: Vec<_> = storage.list(prefix).try_collect().await.unwrap();
        stored.extend(found.into_iter().map(|found| found.key));
    }
    stored.sort();
    assert_eq!(
        stored,
        BTreeSet::from_iter(known).into_iter().collect::<Vec<_>>()
    );
    report.orphans
}

/// Each end was told, under one id; how many messages came, and how many of them again.
async fn check_hooks(site: &Site, rows: &[Model]) -> (usize, usize) {
    let told = site.receiver.told();
    let mut ids: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for message in &told {
        let about = (message.event().to_owned(), message.about().to_owned());
        ids.entry(about)
            .or_default()
            .insert(message.id().to_owned());
    }
    for (about, ids) in &ids {
        assert_eq!(ids.len(), 1, "{about:?} was told as {ids:?}");
    }
    for row in rows {
        let id: ConversionId = row.id;
        let end = match row.status {
            Status::Failed => "conversion.failed",
            _ => "conversion.succeeded",
        };
        for event in ["conversion.started", end] {
            let about = (event.to_owned(), id.to_string());
            assert!(ids.contains_key(&about), "{about:?} was not told");
        }
    }
    (told.len(), told.len() - ids.len())
}
