//! One LISTEN connection a node, and the hub that passes on what it hears.
//!
//! Notifications are for speed. Whoever waits reads the tables again when woken, and is woken, too, whenever the
//! connection was made anew: what was missed meanwhile is in the tables.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnection, PgListener, PgNotification};
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::{Database, connection::kept_open};
use crate::{
    auth::api_key::KeyId,
    conversion::{BatchId, ConversionId, NodeId, Stage},
};

const CHANNELS: [&str; 9] = [
    "orfeas_event",
    "orfeas_progress",
    "orfeas_draft",
    "orfeas_queue",
    "orfeas_cancel",
    "orfeas_key",
    "orfeas_webhook",
    "orfeas_erasure",
    "orfeas_ping",
];

/// How often a node notifies itself, to know that its LISTEN connection carries.
const PING_EVERY: Duration = Duration::from_secs(4);
/// A connection silent for this long is given up: two pings were lost. With reconnecting, less than the 15 s
/// within which a broken connection must be noticed.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// For how long the last percentage of a stage, and the picture of a coarse shape, are remembered; a conversion seldom
/// takes longer without a new one.
const HEARD_KEPT: Duration = Duration::from_secs(120);
/// The longest picture of a draft, in characters: Postgres takes payloads of up to 8,000 bytes, ids and names included.
pub const DRAFT_MAX: usize = 7_700;
/// Wakes kept for a slow waiter; one that falls further behind is told to read everything again.
const WAKES_MAX: usize = 64;

/// What a subscription waits on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    Conversion(ConversionId),
    Batch(BatchId),
}

/// How far one attempt is within its stage. Not stored: the next one replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fraction {
    #[serde(rename = "c")]
    pub conversion: ConversionId,
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchId>,
    #[serde(rename = "a")]
    pub attempt: i16,
    #[serde(rename = "s")]
    pub stage: Stage,
    /// 0..=1.
    #[serde(rename = "f")]
    pub value: f32,
}

/// A small picture of the coarse shape of one attempt. Not stored: it is worth something only until the mesh is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    #[serde(rename = "c")]
    pub conversion: ConversionId,
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchId>,
    #[serde(rename = "a")]
    pub attempt: i16,
    /// A WebP in base64, at most [`DRAFT_MAX`] characters.
    #[serde(rename = "p")]
    pub webp: Arc<str>,
}

/// Why a waiter is woken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wake {
    /// Rows changed, or may have: read them.
    Changed,
    /// A transient step.
    Fraction(Fraction),
    /// There is a picture of this conversion's coarse shape.
    Drafted(ConversionId),
}

/// Passes notifications on within this process; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    topics: Mutex<HashMap<Topic, broadcast::Sender<Wake>>>,
    latest: Mutex<HashMap<ConversionId, (Instant, Fraction)>>,
    drafts: Mutex<HashMap<ConversionId, (Instant, Draft)>>,
    queue: Notify,
    webhooks: Notify,
    erasures: Notify,
    keys: broadcast::Sender<KeyId>,
    cancels: broadcast::Sender<ConversionId>,
    heard: Mutex<Option<Instant>>,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            topics: Mutex::default(),
            latest: Mutex::default(),
            drafts: Mutex::default(),
            queue: Notify::new(),
            webhooks: Notify::new(),
            erasures: Notify::new(),
            keys: broadcast::channel(WAKES_MAX).0,
            cancels: broadcast::channel(WAKES_MAX).0,
            heard: Mutex::default(),
        }
    }
}

#[derive(Deserialize)]
struct EventPayload {
    conversion: ConversionId,
    batch: Option<BatchId>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing panics while holding these locks; if it did, the maps would still be sound.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps what was heard of a conversion in the place of what was heard before. It may come after the transition that
/// made it stale: such is swept when the map has doubled.
fn remember<T>(
    heard: &Mutex<HashMap<ConversionId, (Instant, T)>>,
    conversion: ConversionId,
    news: T,
) {
    let mut heard = lock(heard);
    if heard.len().is_power_of_two() {
        heard.retain(|_, (at, _)| at.elapsed() < HEARD_KEPT);
    }
    heard.insert(conversion, (Instant::now(), news));
}

impl Hub {
    /// Wakes for one topic. Subscribe first, read the rows after, and nothing is missed.
    #[must_use]
    pub fn subscribe(&self, topic: Topic) -> broadcast::Receiver<Wake> {
        let mut topics = lock(&self.0.topics);
        // Topics whose last waiter left are swept when the map has doubled; so it stays as small as its use.
        if topics.len().is_power_of_two() {
            topics.retain(|_, sender| sender.receiver_count() > 0);
        }
        topics
            .entry(topic)
            .or_insert_with(|| broadcast::channel(WAKES_MAX).0)
            .subscribe()
    }

    /// Completes when conversions may have been queued; see [`tokio::sync::Notify::notified`].
    #[must_use]
    pub fn queue(&self) -> &Notify {
        &self.0.queue
    }

    /// Wakes who claims here: conversions were queued through this node, and the notice of it is yet to go through the database.
    pub fn queued(&self) {
        self.0.queue.notify_waiters();
    }

    /// The same for whoever waits for a conversion that has ended here.
    pub fn ended(&self, conversion: ConversionId, batch: Option<BatchId>) {
        self.hear_event(EventPayload { conversion, batch });
    }

    /// Completes when webhooks may be due; see [`tokio::sync::Notify::notified`].
    #[must_use]
    pub fn webhooks(&self) -> &Notify {
        &self.0.webhooks
    }

    /// Completes when bytes may be to be erased; see [`tokio::sync::Notify::notified`].
    #[must_use]
    pub fn erasures(&self) -> &Notify {
        &self.0.erasures
    }

    /// The API keys that have changed.
    #[must_use]
    pub fn keys(&self) -> broadcast::Receiver<KeyId> {
        self.0.keys.subscribe()
    }

    /// The conversions whose owners call them off while they run.
    #[must_use]
    pub fn cancels(&self) -> broadcast::Receiver<ConversionId> {
        self.0.cancels.subscribe()
    }

    /// The latest transient step heard of a conversion's attempt.
    #[must_use]
    pub fn latest(&self, id: ConversionId, attempt: i16, stage: Stage) -> Option<f32> {
        let latest = lock(&self.0.latest);
        latest
            .get(&id)
            .filter(|(_, known)| known.attempt == attempt && known.stage == stage)
            .map(|(_, known)| known.value)
    }

    /// The picture of an attempt's coarse shape, while it runs.
    #[must_use]
    pub fn draft(&self, id: ConversionId, attempt: i16) -> Option<Arc<str>> {
        let drafts = lock(&self.0.drafts);
        let (_, draft) = drafts.get(&id)?;
        (draft.attempt == attempt).then(|| Arc::clone(&draft.webp))
    }

    /// Whether the LISTEN connection is up and was heard lately.
    #[must_use]
    pub fn is_hearing(&self) -> bool {
        lock(&self.0.heard).is_some_and(|at| at.elapsed() < SILENCE_MAX)
    }

    fn wake(&self, topic: Topic, wake: Wake) {
        if let Some(sender) = lock(&self.0.topics).get(&topic) {
            // Without a receiver nobody waits; that is no error.
            let _ = sender.send(wake);
        }
    }

    fn wake_all(&self) {
        for sender in lock(&self.0.topics).values() {
            let _ = sender.send(Wake::Changed);
        }
        self.0.queue.notify_waiters();
        self.0.webhooks.notify_waiters();
        self.0.erasures.notify_waiters();
    }

    fn hear(&self, notification: &PgNotification) {
        *lock(&self.0.heard) = Some(Instant::now());
        let payload = notification.payload();
        let understood = match notification.channel() {
            "orfeas_queue" => {
                self.0.queue.notify_waiters();
                true
            }
            "orfeas_webhook" => {
                self.0.webhooks.notify_waiters();
                true
            }
            "orfeas_erasure" => {
                self.0.erasures.notify_waiters();
                true
            }
            "orfeas_key" => payload.parse().map(|id| self.0.keys.send(id)).is_ok(),
            "orfeas_event" => serde_json::from_str(payload)
                .map(|event| self.hear_event(event))
                .is_ok(),
            "orfeas_progress" => serde_json::from_str(payload)
                .map(|steps| self.hear_progress(steps))
                .is_ok(),
            "orfeas_draft" => serde_json::from_str(payload)
                .map(|draft| self.hear_draft(draft))
                .is_ok(),
            "orfeas_cancel" => Uuid::try_parse(payload)
                .map(|id| self.0.cancels.send(ConversionId(id)))
                .is_ok(),
            _ => true,
        };
        if !understood {
            warn!(
                channel = notification.channel(),
                payload, "A notification was not understood; is another version running?"
            );
        }
    }

    fn hear_event(&self, EventPayload { conversion, batch }: EventPayload) {
        // The new stage starts its own count; an ended conversion needs none.
        lock(&self.0.latest).remove(&conversion);
        self.wake(Topic::Conversion(conversion), Wake::Changed);
        if let Some(batch) = batch {
            self.wake(Topic::Batch(batch), Wake::Changed);
        }
    }

    fn hear_draft(&self, draft: Draft) {
        let (conversion, batch) = (draft.conversion, draft.batch);
        remember(&self.0.drafts, conversion, draft);
        self.wake(Topic::Conversion(conversion), Wake::Drafted(conversion));
        if let Some(batch) = batch {
            self.wake(Topic::Batch(batch), Wake::Drafted(conversion));
        }
    }

    fn hear_progress(&self, steps: Vec<Fraction>) {
        for step in steps {
            remember(&self.0.latest, step.conversion, step);
            self.wake(Topic::Conversion(step.conversion), Wake::Fraction(step));
            if let Some(batch) = step.batch {
                self.wake(Topic::Batch(batch), Wake::Fraction(step));
            }
        }
    }
}

impl Database {
    /// Listens until `stop`, reconnecting whenever the connection breaks or falls silent, and sends what nodes left for
    /// listeners.
    pub async fn listen(&self, hub: Hub, node: NodeId, stop: CancellationToken) {
        tokio::join!(
            self.keep_listening(hub, node, &stop),
            self.send_notices(&stop)
        );
    }

    async fn keep_listening(&self, hub: Hub, node: NodeId, stop: &CancellationToken) {
        let mut delay = Duration::from_millis(100);
        loop {
            let connected = Instant::now();
            tokio::select! {
                () = stop.cancelled() => return,
                broken = self.listen_once(&hub, node) => warn!(reason = %broken, "The LISTEN connection broke; making a new one"),
            }
            *lock(&hub.0.heard) = None;
            metrics::counter!("orfeas_listen_reconnects_total").increment(1);
            if connected.elapsed() > SILENCE_MAX {
                delay = Duration::from_millis(100);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(delay) => {}
            }
            delay = (delay * 2).min(Duration::from_secs(3));
        }
    }

    async fn listen_once(&self, hub: &Hub, node: NodeId) -> ListenEnd {
        match self.try_listen(hub, node).await {
            Ok(end) => end,
            Err(error) => ListenEnd::Error(error),
        }
    }

    async fn try_listen(&self, hub: &Hub, node: NodeId) -> Result<ListenEnd, sqlx::Error> {
        // A connection can fall silent at any step, LISTEN itself included.
        let Ok(listener) = tokio::time::timeout(SILENCE_MAX / 2, self.listener()).await else {
            return Ok(ListenEnd::Silent);
        };
        let mut listener = listener?;
        *lock(&hub.0.heard) = Some(Instant::now());
        // What happened before LISTEN took effect was not heard.
        hub.wake_all();
        info!("Listening for notifications");
        let mut ping = tokio::time::interval(PING_EVERY);
        let mut pinger: Option<PgConnection> = None;
        loop {
            let silent_at = lock(&hub.0.heard).unwrap_or_else(Instant::now) + SILENCE_MAX;
            tokio::select! {
                // In this order: what has arrived counts before the silence, and the silence before another ping,
                // which may hang on the same broken network.
                biased;
                heard = listener.try_recv() => match heard? {
                    Some(notification) => hub.hear(&notification),
                    None => return Ok(ListenEnd::Closed),
                },
                () = tokio::time::sleep_until(silent_at.into()) => return Ok(ListenEnd::Silent),
                _ = ping.tick() => {
                    // On a connection of its own, so that a dead one shows here within the silence that it causes.
                    let sent = tokio::time::timeout(PING_EVERY, self.ping_listeners(&mut pinger, node)).await;
                    if !matches!(sent, Ok(Ok(()))) {
                        pinger = None;
                    }
                }
            }
        }
    }

    async fn listener(&self) -> Result<PgListener, sqlx::Error> {
        let pool = sqlx::postgres::PgPoolOptions::new()
            .max_connections(1)
            .connect_with(self.connect.clone())
            .await?;
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.ignore_pool_close_event(true);
        listener.listen_all(CHANNELS).await?;
        Ok(listener)
    }

    async fn ping_listeners(
        &self,
        pinger: &mut Option<PgConnection>,
        node: NodeId,
    ) -> Result<(), sqlx::Error> {
        let connection = kept_open(pinger, &self.connect).await?;
        sqlx::query("SELECT pg_notify('orfeas_ping', $1)")
            .bind(node.to_string())
            .execute(connection)
            .await?;
        Ok(())
    }

    /// Tells all nodes of transient steps, several at a time.
    ///
    /// # Errors
    /// [`super::DatabaseError`] when the statement fails; such a step is not worth another try.
    pub async fn publish(&self, steps: &[Fraction]) -> Result<(), super::DatabaseError> {
        // Postgres takes payloads of up to 8,000 bytes; a step has at most 150.
        for chunk in steps.chunks(50) {
            let payload = serde_json::to_string(chunk).expect("plain data has a JSON form");
            self.execute("SELECT pg_notify('orfeas_progress', $1)", [payload.into()])
                .await?;
        }
        Ok(())
    }

    /// Tells all nodes of a coarse shape.
    ///
    /// # Errors
    /// [`super::DatabaseError`] when the statement fails; a draft is not worth another try.
    pub async fn publish_draft(&self, draft: &Draft) -> Result<(), super::DatabaseError> {
        let payload = serde_json::to_string(draft).expect("plain data has a JSON form");
        self.execute("SELECT pg_notify('orfeas_draft', $1)", [payload.into()])
            .await?;
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum ListenEnd {
    #[error("the server closed it")]
    Closed,
    #[error("nothing was heard on it, not even this node's own pings")]
    Silent,
    #[error("{0}")]
    Error(sqlx::Error),
}
