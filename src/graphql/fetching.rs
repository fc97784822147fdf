//! Pictures that are named by a URL.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::error::{ApiError, ErrorCode};
use crate::{
    conversion::Owner,
    egress::{Egress, EgressError, GetLimits, Target},
    error_chain::chain,
};

/// Fetches of a node at a time. Each may hold as many bytes as a picture may have.
const NODE_FETCHES_MAX: usize = 32;
/// Of these, fetches of one owner: whoever names servers that never answer takes no more than this from others.
const OWNER_FETCHES_MAX: usize = 8;
/// A submission's pictures together may take this many times as long as one.
const ROUND_TIMES: u32 = 3;

/// What pictures are fetched with.
#[derive(Debug)]
pub struct FetcherOptions {
    pub egress: Egress,
    pub bytes_max: u64,
    /// For one picture, from the wait for a free place to its last byte.
    pub time_max: Duration,
    /// Ends what is under way: a node that stops waits for its mutations.
    pub stop: CancellationToken,
}

/// Fetches pictures, a bounded number at a time.
#[derive(Debug, Clone)]
pub struct Fetcher {
    options: Arc<FetcherOptions>,
    node: Arc<Semaphore>,
    /// Of those who have fetches under way.
    owners: Arc<Mutex<HashMap<Owner, Weak<Semaphore>>>>,
}

/// The pictures of one submission.
#[derive(Debug)]
pub struct Round<'a> {
    fetcher: &'a Fetcher,
    owner: Arc<Semaphore>,
    ends: Instant,
}

impl Fetcher {
    #[must_use]
    pub fn new(options: FetcherOptions) -> Self {
        Self {
            options: Arc::new(options),
            node: Arc::new(Semaphore::new(NODE_FETCHES_MAX)),
            owners: Arc::default(),
        }
    }

    /// Begins with the pictures of one submission.
    #[must_use]
    pub fn round(&self, owner: &Owner) -> Round<'_> {
        Round {
            fetcher: self,
            owner: self.places_of(owner),
            ends: Instant::now() + self.options.time_max * ROUND_TIMES,
        }
    }

    fn places_of(&self, owner: &Owner) -> Arc<Semaphore> {
        // Nothing can be half done in there.
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        owners.retain(|_, places| places.strong_count() > 0);
        if let Some(places) = owners.get(owner).and_then(Weak::upgrade) {
            return places;
        }
        let places = Arc::new(Semaphore::new(OWNER_FETCHES_MAX));
        owners.insert(owner.clone(), Arc::downgrade(&places));
        places
    }
}

impl Round<'_> {
    /// The bytes behind a URL.
    ///
    /// # Errors
    /// `INVALID_INPUT` for what is no such URL, `IMAGE_FETCH_FAILED`, `IMAGE_TOO_LARGE`, and `OVERLOADED` when there
    /// was no place in time or the node stops.
    pub async fn fetch(&self, url: &str) -> Result<Bytes, ApiError> {
        let FetcherOptions {
            egress,
            bytes_max,
            time_max,
            stop,
        } = &*self.fetcher.options;
        let target = egress.check(url).map_err(|error| refused(None, &error))?;
        let ends = self.ends.min(Instant::now() + *time_max);
        let fetch = async {
            let _places = timeout_at(ends, self.places())
                .await
                .map_err(|_| overloaded("The server is fetching too many pictures at once."))?;
            let limits = GetLimits {
                bytes_max: *bytes_max,
                deadline: ends.saturating_duration_since(Instant::now()),
            };
            let fetched = egress.get(&target, limits).await;
            fetched.map_err(|error| refused(Some(&target), &error))
        };
        tokio::select! {
            fetched = fetch => fetched,
            () = stop.cancelled() => Err(overloaded("The server is about to stop.")),
        }
    }

    /// One of the owner's first, so that nobody holds a place of all while waiting for one of their own.
    async fn places(&self) -> [OwnedSemaphorePermit; 2] {
        let open = "these semaphores are never closed";
        let own = self.owner.clone().acquire_owned().await.expect(open);
        let node = &self.fetcher.node;
        [own, node.clone().acquire_owned().await.expect(open)]
    }
}

fn overloaded(why: &str) -> ApiError {
    ApiError::new(ErrorCode::Overloaded, format!("{why} Try again.")).retry_after(2.0)
}

/// The log learns where to and why; the client, who knows where to, what it may know.
fn refused(target: Option<&Target>, error: &EgressError) -> ApiError {
    if let Some(target) = target {
        tracing::info!(%target, cause = %chain(error), "A picture was not fetched from {target}");
    }
    match error {
        EgressError::Url(error) => ApiError::new(
            ErrorCode::InvalidInput,
            format!("The picture can't be fetched: {error}."),
        ),
        EgressError::TooLarge { bytes_max } => ApiError::new(
            ErrorCode::ImageTooLarge,
            format!(
                "The file behind the URL has more than the {bytes_max} bytes that are allowed: offer a smaller or more compressed picture."
            ),
        ),
        error => {
            let refusal = ApiError {
                retryable: error.is_passing(),
                ..ApiError::new(
                    ErrorCode::ImageFetchFailed,
                    format!("The picture could not be fetched: {error}."),
                )
            };
            match error {
                EgressError::Status {
                    retry_after: Some(asked),
                    ..
                } if refusal.retryable => refusal.retry_after(asked.as_secs_f64()),
                _ => refusal,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::EgressOptions;

    fn fetcher(time_max: Duration) -> Fetcher {
        Fetcher::new(FetcherOptions {
            egress: Egress::new(EgressOptions::default()),
            bytes_max: 1,
            time_max,
            stop: CancellationToken::new(),
        })
    }

    #[tokio::test]
    async fn an_owner_has_the_same_places_in_all_submissions_and_leaves_no_trace() {
        let fetcher = fetcher(Duration::from_secs(1));
        let (alice, bob) = (Owner::user("alice"), Owner::user("bob"));
        let (one, two) = (fetcher.round(&alice), fetcher.round(&alice));
        let mut held = Vec::new();
        for round in [&one, &two].into_iter().cycle().take(OWNER_FETCHES_MAX) {
            held.push(round.places().await);
        }
        let full = tokio::time::timeout(Duration::from_millis(20), two.places()).await;
        assert!(full.is_err(), "all of alice's are taken");
        let bobs = fetcher.round(&bob);
        held.push(bobs.places().await);
        drop((held, one, two, bobs));
        drop(fetcher.round(&bob));
        drop(fetcher.round(&bob));
        assert_eq!(
            fetcher.owners.lock().expect("whole").len(),
            1,
            "only the last one's"
        );
        assert_eq!(fetcher.node.available_permits(), NODE_FETCHES_MAX);
    }

    #[tokio::test]
    async fn whoever_finds_no_place_in_time_is_told_to_come_back() {
        let fetcher = fetcher(Duration::from_millis(20));
        let _all = fetcher
            .node
            .acquire_many(u32::try_from(NODE_FETCHES_MAX).expect("few"))
            .await;
        let refused = fetcher
            .round(&Owner::user("alice"))
            .fetch("https://93.184.215.14/a.png")
            .await
            .expect_err("no place");
        assert_eq!(refused.code, ErrorCode::Overloaded);
        assert!(refused.retryable && refused.retry_after_seconds.is_some());
    }

    #[test]
    fn only_what_may_pass_is_worth_another_try() {
        let inner = refused(None, &EgressError::NotPublic);
        assert_eq!(inner.code, ErrorCode::ImageFetchFailed);
        assert!(!inner.retryable);
        let later = refused(
            None,
            &EgressError::Status {
                status: 503,
                retry_after: Some(Duration::from_secs(7)),
            },
        );
        assert!(
            later.retryable && later.retry_after_seconds == Some(7),
            "{later:?}"
        );
        let gone = refused(
            None,
            &EgressError::Status {
                status: 404,
                retry_after: Some(Duration::from_secs(7)),
            },
        );
        assert!(
            !gone.retryable && gone.retry_after_seconds.is_none(),
            "{gone:?}"
        );
    }
}
