//! Live progress: first the state now, or what came after a given transition; then each change; then the end.
//!
//! Stored transitions are read from the event table, so that none is lost; percentages between them come by
//! notification and may be skipped.

use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use async_graphql::{
    Context, ID, Result, Subscription,
    dataloader::{self, DataLoader},
};
use async_stream::{stream, try_stream};
use futures_util::Stream;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{
    Services,
    error::ApiError,
    guard::{Require, principal},
    loader::{BatchNews, EventsAfter, Loader},
    query::{find_batch, find_conversion},
    types::{
        batch::{BatchCounts, mean_progress},
        conversion::fraction,
        progress::{BatchProgress, ConversionProgress},
        queue::QueueStatus,
    },
};
use crate::{
    auth::principal::Permission,
    conversion::{BatchId, ConversionId, Status},
    db::{
        entities::conversion,
        events::PAGE,
        listen::{Fraction, Topic, Wake},
    },
};

/// Waiters look again by themselves after this long, should a notification ever be lost.
const POLL: Duration = Duration::from_secs(10);
/// The queue's state is sent when it has changed, looked at this often.
const QUEUE_POLL: Duration = Duration::from_secs(1);

/// Live access.
#[derive(Debug)]
pub struct Subscription;

/// What can be followed as it happens.
#[Subscription]
impl Subscription {
    /// Follows one conversion to its end. Without `after` it begins with the state now; with the `sequence` of the
    /// last event that you saw it begins right after that.
    #[graphql(guard = "Require(Permission::Read)")]
    async fn conversion_progress(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The conversion's global id.")] id: ID,
        #[graphql(
            desc = "The `sequence` of the last event that was seen; default: begin with the state now."
        )]
        after: Option<i32>,
    ) -> Result<impl Stream<Item = Result<ConversionProgress>>> {
        let services = context.data::<Services>()?.clone();
        let no_such = || ApiError::not_found("conversion");
        let id: ConversionId = id.parse().map_err(|_| no_such())?;
        let wakes = services.hub.subscribe(Topic::Conversion(id));
        let row = find_conversion(&services, principal(context)?, id)
            .await?
            .ok_or_else(no_such)?;
        let now = ConversionProgress::of_row(&row, fraction(&services, &row));
        let loader = context.data::<DataLoader<Loader>>()?;
        Ok(follow_conversion(loader, now, after, wakes))
    }

    /// Follows a batch until all of its conversions have ended.
    #[graphql(guard = "Require(Permission::Read)")]
    async fn batch_progress(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The batch's global id.")] id: ID,
        #[graphql(
            desc = "The `sequence` of the last event that was seen; default: begin with the state now."
        )]
        after: Option<i32>,
    ) -> Result<impl Stream<Item = Result<BatchProgress>>> {
        let services = context.data::<Services>()?.clone();
        let no_such = || ApiError::not_found("batch");
        let id: BatchId = id.parse().map_err(|_| no_such())?;
        let wakes = services.hub.subscribe(Topic::Batch(id));
        find_batch(&services, principal(context)?, id)
            .await?
            .ok_or_else(no_such)?;
        let loader = context.data::<DataLoader<Loader>>()?;
        Ok(follow_batch(services, loader, id, after, wakes))
    }

    /// The queue's state, whenever it has changed, at most once a second.
    #[graphql(guard = "Require(Permission::Admin)")]
    async fn queue_status(
        &self,
        context: &Context<'_>,
    ) -> Result<impl Stream<Item = Result<QueueStatus>>> {
        let database = context.data::<Services>()?.database.clone();
        Ok(stream! {
            let mut before = None;
            let mut tick = tokio::time::interval(QUEUE_POLL);
            loop {
                tick.tick().await;
                match database.queue_state().await {
                    Ok(state) if before.as_ref() != Some(&state) => {
                        before = Some(state.clone());
                        yield Ok(QueueStatus(state));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        yield Err(ApiError::from(error).into());
                        return;
                    }
                }
            }
        })
    }
}

/// What is news without a change of rows.
#[derive(Debug, Clone, Copy)]
enum Step {
    Fraction(Fraction),
    /// There is a picture of this conversion's coarse shape.
    Drafted(ConversionId),
}

impl Step {
    fn conversion(&self) -> ConversionId {
        match self {
            Self::Fraction(step) => step.conversion,
            Self::Drafted(conversion) => *conversion,
        }
    }

    /// The state after it, if it is news to who knows `state`.
    fn after(&self, state: ConversionProgress) -> Option<ConversionProgress> {
        match self {
            Self::Fraction(step) => state.advanced(step),
            // Where it stands is as before, and its picture is looked up as it is asked for.
            Self::Drafted(_) => (state.status == Status::Running).then_some(state),
        }
    }
}

/// Waits for something to look at: a transient step, or (`None`) perhaps changed rows.
async fn next_wake(wakes: &mut Receiver<Wake>) -> Option<Step> {
    match tokio::time::timeout(POLL, wakes.recv()).await {
        Ok(Ok(Wake::Fraction(step))) => Some(Step::Fraction(step)),
        Ok(Ok(Wake::Drafted(conversion))) => Some(Step::Drafted(conversion)),
        // Fallen behind, the hub gone, or long silence: the rows know.
        Ok(Ok(Wake::Changed) | Err(RecvError::Lagged(_) | RecvError::Closed)) | Err(_) => None,
    }
}

/// What many who follow may ask for at once, read once.
async fn load<K>(
    loader: &DataLoader<Loader>,
    key: K,
) -> Result<Option<<Loader as dataloader::Loader<K>>::Value>, ApiError>
where
    K: Send + Sync + Hash + Eq + Clone + 'static,
    Loader: dataloader::Loader<K, Error = Arc<ApiError>>,
{
    let loaded = loader.load_one(key).await;
    loaded.map_err(|error| (*error).clone())
}

fn follow_conversion(
    loader: &DataLoader<Loader>,
    now: ConversionProgress,
    after: Option<i32>,
    mut wakes: Receiver<Wake>,
) -> impl Stream<Item = Result<ConversionProgress>> {
    try_stream! {
        // With `after`, only what came later is news; the state now is where percentages continue from.
        let mut state = match after {
            None => {
                yield now;
                now
            }
            // Nobody has seen what has not happened yet.
            Some(after) => ConversionProgress { sequence: after.clamp(0, now.sequence), ..now },
        };
        let mut seen = state.sequence;
        if after.is_none() && state.status.is_terminal() {
            return;
        }
        loop {
            let events = load(loader, EventsAfter(now.conversion, seen)).await?.unwrap_or_default();
            for event in &events {
                state = ConversionProgress::of_event(event);
                seen = event.sequence;
                yield state;
                if state.status.is_terminal() {
                    return;
                }
            }
            // Resumed after the end, or deleted meanwhile: nothing is left to say.
            if events.is_empty() && (state.status.is_terminal() || load(loader, now.conversion).await?.is_none()) {
                return;
            }
            if events.len() == PAGE {
                continue;
            }
            while let Some(step) = next_wake(&mut wakes).await {
                if let Some(further) = step.after(state) {
                    state = further;
                    yield state;
                }
            }
        }
    }
}

fn follow_batch(
    services: Services,
    loader: &DataLoader<Loader>,
    id: BatchId,
    after: Option<i32>,
    mut wakes: Receiver<Wake>,
) -> impl Stream<Item = Result<BatchProgress>> {
    try_stream! {
        let (snapshot_sequence, rows) = services.database.batch_snapshot(id).await.map_err(ApiError::from)?;
        let mut seen = after.map_or(snapshot_sequence, |after| after.clamp(0, snapshot_sequence));
        let mut states: HashMap<ConversionId, ConversionProgress> = HashMap::new();
        for row in &rows {
            states.insert(row.id, ConversionProgress::of_row(row, fraction(&services, row)));
        }
        if after.is_none() {
            let conversions = rows.iter().map(|row| states[&row.id]).collect();
            yield summary(&services, id, seen, &rows, conversions);
        }
        loop {
            let BatchNews { events, conversions: rows } = load(loader, EventsAfter(id, seen)).await?.unwrap_or_default();
            for event in &events {
                let state = ConversionProgress::of_event(event);
                states.insert(state.conversion, state);
                seen = event.batch_sequence.unwrap_or(seen);
                yield summary(&services, id, seen, &rows, vec![state]);
            }
            if events.len() == PAGE {
                continue;
            }
            // A row may be newer than the events: then the wake for that one is on its way.
            let is_told = |row: &conversion::Model| states.get(&row.id).is_some_and(|told| told.sequence >= row.sequence);
            if rows.iter().all(|row| row.status.is_terminal() && is_told(row)) {
                return;
            }
            while let Some(step) = next_wake(&mut wakes).await {
                let Some(further) = states.get(&step.conversion()).and_then(|state| step.after(*state)) else { continue };
                states.insert(step.conversion(), further);
                // The rows are as they were: a change of them comes as an event.
                yield summary(&services, id, seen, &rows, vec![further]);
            }
        }
    }
}

fn summary(
    services: &Services,
    batch: BatchId,
    sequence: i32,
    rows: &[conversion::Model],
    conversions: Vec<ConversionProgress>,
) -> BatchProgress {
    BatchProgress {
        batch,
        sequence,
        progress: mean_progress(services, rows),
        counts: BatchCounts::of(rows),
        conversions,
    }
}
