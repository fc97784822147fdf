//! The part of a node that tells hooks of what has happened: it claims deliveries, makes them, and tries again.
//!
//! Postgres is the truth. Triggers make the deliveries; a claim is a lease, and every later write names the attempt. A node
//! that dies in the middle leaves its deliveries to another: each is made at least once, under one id.

use std::{
    fmt,
    pin::pin,
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use bytes::Bytes;
use time::OffsetDateTime;
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, debug, field, info, info_span, warn};

use self::{
    lanes::Lanes,
    schedule::{RETRY_FOR, Verdict, reason, undelivered},
};
use crate::{
    auth::{
        keyring::Keyring,
        webhook::{WebhookSecret, signatures},
    },
    conversion::{
        NodeId,
        provenance::{Provenance, TraceContext},
    },
    crash::{self, Point},
    db::{
        Database, DatabaseError,
        entities::webhook_delivery::{DeliveryError, DeliveryStatus, Model},
        listen::Hub,
        webhooks::DeliveryClaim,
    },
    egress::Egress,
    error_chain::chain,
    graphql::Schema,
    telemetry::context,
};

pub mod lanes;
pub mod payload;
pub mod schedule;

/// How the table is looked at when nothing is heard: retries come due without a notification.
const POLL: Duration = Duration::from_secs(1);
/// Attempts of a node side by side. They wait for others most of the time.
const ATTEMPTS_MAX: usize = 128;
/// Of those, to one host and for one owner: whoever is slow keeps nobody else waiting.
const HOST_MAX: u32 = 4;
const OWNER_MAX: u32 = 32;
/// How long a receiver may take, the connection included.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// How long an attempt may take as a whole.
const ATTEMPT_MAX: Duration = Duration::from_secs(40);
/// Longer than any attempt.
const LEASE: Duration = Duration::from_secs(60);
/// How long attempts may go on after the node was asked to stop, before they are handed back.
const GRACE: Duration = Duration::from_secs(5);

/// What deliveries are made with; cheap to clone.
#[derive(Clone)]
pub struct Deliverer {
    pub node: NodeId,
    pub database: Database,
    pub hub: Hub,
    /// What is told is asked of it.
    pub schema: Schema,
    /// Secrets come from it.
    pub keyring: Keyring,
    pub egress: Egress,
}

impl fmt::Debug for Deliverer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deliverer")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

impl Deliverer {
    /// Delivers until `stop`; then begins nothing more, gives attempts 5 s to end, and hands the rest back.
    pub async fn run(self, stop: CancellationToken) {
        let lanes = Lanes::default();
        let mut attempts = JoinSet::new();
        loop {
            let mut woken = pin!(self.hub.webhooks().notified());
            woken.as_mut().enable(); // before the query, so that no wake is lost
            while attempts.try_join_next().is_some() {}
            self.begin(&mut attempts, &lanes).await;
            tokio::select! {
                () = stop.cancelled() => break,
                // There is room again, and what was to wait for this one may go.
                Some(_) = attempts.join_next() => {}
                () = woken => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
        let all_ended = async { while attempts.join_next().await.is_some() {} };
        if timeout(GRACE, all_ended).await.is_err() {
            attempts.shutdown().await;
            if let Err(error) = self.database.hand_back_deliveries(self.node).await {
                warn!(cause = %chain(&error), "Could not hand back webhook deliveries; their leases will run out");
            }
        }
    }

    async fn begin(&self, attempts: &mut JoinSet<()>, lanes: &Lanes) {
        let free = ATTEMPTS_MAX.saturating_sub(attempts.len());
        if free == 0 {
            return;
        }
        let claim = DeliveryClaim {
            node: self.node,
            count_max: u32::try_from(free).unwrap_or(u32::MAX),
            host_max: HOST_MAX,
            owner_max: OWNER_MAX,
            hosts: lanes.hosts(),
            owners: lanes.owners(),
            lease: LEASE,
            retry_for: RETRY_FOR,
        };
        match self.database.claim_deliveries(claim).await {
            Ok(rows) => {
                for row in rows {
                    let place = lanes.take(&row.host, row.owner.as_str());
                    let deliverer = self.clone();
                    attempts.spawn(async move {
                        deliverer.attempt(&row).await;
                        drop(place);
                    });
                }
            }
            Err(error) => {
                warn!(cause = %chain(&error), "Could not claim webhook deliveries; trying again");
            }
        }
    }

    /// Makes one attempt, under a span below the request that submitted what is told of.
    async fn attempt(&self, delivery: &Model) {
        let provenance = match self.database.provenance_of(delivery).await {
            Ok(provenance) => provenance,
            Err(error) => {
                // It is told all the same, as soon as the database answers.
                warn!(delivery.id = %delivery.id, cause = %chain(&error), "Could not read where webhook delivery {} comes from", delivery.id);
                Provenance::default()
            }
        };
        let span = info_span!(
            parent: None,
            "webhook",
            request.id = provenance.request_id,
            trace.id = field::Empty,
            delivery.id = %delivery.id,
            conversion.id = delivery.conversion_id.map(field::display),
            batch.id = delivery.batch_id.map(field::display),
            attempt = delivery.attempts,
            http.response.status_code = field::Empty,
            otel.kind = "client",
            otel.status_code = field::Empty,
        );
        let place = provenance.trace.as_ref();
        context::continue_at(&span, place);
        self.attempt_at(delivery, place).instrument(span).await;
    }

    async fn attempt_at(&self, delivery: &Model, place: Option<&TraceContext>) {
        let since = Instant::now();
        let verdict = match timeout(ATTEMPT_MAX, self.try_once(delivery, place)).await {
            Ok(Some(verdict)) => verdict,
            // Deleted, and the delivery with it.
            Ok(None) => return,
            Err(_) => Verdict::again(DeliveryError::Timeout),
        };
        if !matches!(verdict, Verdict::Delivered { .. }) {
            context::fail(&Span::current());
        }
        crash::point(Point::HookSent);
        metrics::histogram!("orfeas_webhook_attempt_seconds").record(since.elapsed());
        match self.keep(delivery, verdict).await {
            Ok(outcome) => {
                metrics::counter!("orfeas_webhook_attempts_total", "outcome" => outcome)
                    .increment(1);
            }
            Err(DatabaseError::Lost) => {
                debug!(delivery.id = %delivery.id, "Webhook delivery {} was another's by the end of the attempt", delivery.id);
            }
            Err(error) => {
                warn!(delivery.id = %delivery.id, cause = %chain(&error), "Could not keep what became of webhook delivery {}; it will be made again", delivery.id);
            }
        }
    }

    /// Stores how an attempt ended, and names it for the metrics.
    async fn keep(
        &self,
        delivery: &Model,
        verdict: Verdict,
    ) -> Result<&'static str, DatabaseError> {
        let attempt = delivery.attempt();
        if let Verdict::Delivered { status_code } = verdict {
            self.database.delivered(attempt, status_code).await?;
            return Ok("delivered");
        }
        let made = delivery.attempts - delivery.attempts_before;
        let end = undelivered(verdict, made, rand::random())
            .expect("only what was delivered has no other end");
        let status = self.database.undelivered(attempt, end).await?;
        if status == DeliveryStatus::Failed {
            info!(delivery.id = %delivery.id, reason = ?end.error, attempts = delivery.attempts, "Gave up webhook delivery {}", delivery.id);
            return Ok("given_up");
        }
        Ok("retried")
    }

    /// One attempt; `None` when there is nothing to tell any more.
    async fn try_once(&self, delivery: &Model, place: Option<&TraceContext>) -> Option<Verdict> {
        let secrets = match self.secrets(delivery).await {
            Ok(secrets) => secrets,
            Err(verdict) => return Some(verdict),
        };
        let body = match payload::compose(&self.schema, delivery).await {
            Ok(body) => body?,
            Err(error) => {
                warn!(delivery.id = %delivery.id, cause = %chain(&error), "Could not put together webhook delivery {}", delivery.id);
                return Some(Verdict::again(DeliveryError::Internal));
            }
        };
        let mut headers = headers(&secrets, &delivery.id.to_string(), &body);
        // What the request that submitted it named, where this node makes no spans.
        if let Some(own) = context::current().as_ref().or(place) {
            headers.insert("traceparent", written(own.parent()));
        }
        let answered = match self.egress.check(&delivery.url) {
            Ok(target) => self.egress.post(&target, headers, body, ANSWER_MAX).await,
            Err(error) => Err(error),
        };
        Some(match answered {
            Ok(answer) => {
                Span::current().record("http.response.status_code", answer.status);
                Verdict::of(&answer)
            }
            Err(error) => {
                debug!(delivery.id = %delivery.id, cause = %chain(&error), "No answer to webhook delivery {}", delivery.id);
                Verdict::again(reason(&error))
            }
        })
    }

    async fn secrets(&self, delivery: &Model) -> Result<Vec<WebhookSecret>, Verdict> {
        let secrets = self
            .database
            .webhook_secrets(&self.keyring, &delivery.owner)
            .await;
        match secrets {
            Ok(Some(secrets)) if !secrets.is_empty() => Ok(secrets),
            Ok(Some(_)) => {
                warn!(delivery.id = %delivery.id, "This node lacks the master key that webhook delivery {} is signed with", delivery.id);
                Err(Verdict::again(DeliveryError::Internal))
            }
            Ok(None) => Err(Verdict::ForGood {
                error: DeliveryError::KeyEnded,
                status_code: None,
            }),
            Err(error) => {
                warn!(delivery.id = %delivery.id, cause = %chain(&error), "Could not read who signs webhook delivery {}", delivery.id);
                Err(Verdict::again(DeliveryError::Internal))
            }
        }
    }
}

fn headers(secrets: &[WebhookSecret], id: &str, body: &Bytes) -> HeaderMap {
    let sent_at = OffsetDateTime::now_utc().unix_timestamp();
    let texts = [
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", sent_at.to_string()),
        ("webhook-signature", signatures(secrets, id, sent_at, body)),
    ];
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, text) in texts {
        headers.insert(name, written(&text));
    }
    headers
}

fn written(text: &str) -> HeaderValue {
    text.parse()
        .expect("ids, numbers and base64 are visible ASCII")
}
