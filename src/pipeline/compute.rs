//! Where conversions compute: pools with as many threads as there are cores, at a lower priority than the rest.
//!
//! With a thread for each conversion, sixty conversions at once would leave the thread that feeds a GPU a quarter of a
//! core, and the GPU idle. Here whoever comes first is computed first, and the device's thread goes before all of them.
//! What makes the next query of a model takes milliseconds and has a pool of its own, so that it doesn't stand in line
//! behind meshes that are being written while the device has nothing to do.
//!
//! A thread of rayon's that waits for a part of its work takes what is next meanwhile, a whole other conversion's among it, and
//! goes on only when that has ended, which has taken something itself by then. With all that wait in rayon's own line, one in
//! twenty took seconds for milliseconds of work (docs/PERFORMANCE.md). So they wait before it, for a place.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
    thread,
};

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tracing::{Span, debug};

use super::error::PipelineError;

/// Threads that compute alike.
struct Pool {
    threads: OnceLock<Threads>,
    name: &'static str,
    /// How nice its threads are: at 5 they get a quarter of a core where a thread at 0 wants it, at 15 a thirtieth.
    niceness: i32,
}

/// As many as there are cores, and a place for each thing that is computed at a time.
struct Threads {
    rayon: ThreadPool,
    places: Arc<Semaphore>,
}

/// How much is computed at a time: one thing for each thread, and a quarter more for threads that wait for a part of theirs.
fn places(threads: usize) -> usize {
    threads + threads.div_ceil(4)
}

/// What a device waits for.
static SAMPLING: Pool = Pool {
    threads: OnceLock::new(),
    name: "sample",
    niceness: 5,
};

/// Everything else.
static REST: Pool = Pool {
    threads: OnceLock::new(),
    name: "compute",
    niceness: 15,
};

/// Computes on the pool of what takes long. What it spawns with rayon's `scope` and `join` runs there, too.
///
/// # Errors
/// [`PipelineError::Panicked`]: a panic there is an error of this conversion alone.
pub(super) async fn compute<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PipelineError> {
    compute_on(&REST, work).await
}

/// The same before all of that: for the milliseconds between two queries.
///
/// # Errors
/// As [`compute`].
pub(super) async fn compute_soon<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PipelineError> {
    compute_on(&SAMPLING, work).await
}

/// Starts what takes milliseconds and nobody waits for; a panic there ends as nothing.
pub(super) fn start_soon(work: impl FnOnce() + Send + 'static) {
    drop(start_on(SAMPLING.threads(), None, work));
}

fn start_on<T: Send + 'static>(
    threads: &'static Threads,
    place: Option<OwnedSemaphorePermit>,
    work: impl FnOnce() -> T + Send + 'static,
) -> oneshot::Receiver<thread::Result<T>> {
    let (sender, receiver) = oneshot::channel();
    // What is logged there is logged of the conversion.
    let span = Span::current();
    threads.rayon.spawn(move || {
        let done = span.in_scope(|| catch_unwind(AssertUnwindSafe(work)));
        drop(place);
        // Whoever waits no more, needs no answer.
        drop(sender.send(done));
    });
    receiver
}

async fn compute_on<T: Send + 'static>(
    pool: &'static Pool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PipelineError> {
    let threads = pool.threads();
    let place = Arc::clone(&threads.places).acquire_owned().await;
    let receiver = start_on(threads, Some(place.expect("it is never closed")), work);
    let done = receiver.await.map_err(|_| PipelineError::Panicked {
        reason: "it was not computed".into(),
    })?;
    done.map_err(|panic| PipelineError::Panicked {
        reason: words(panic.as_ref()).to_owned(),
    })
}

impl Pool {
    fn threads(&'static self) -> &'static Threads {
        self.threads.get_or_init(|| {
            let rayon = ThreadPoolBuilder::new()
                .thread_name(|number| format!("{}-{number}", self.name))
                .start_handler(|_| {
                    // Of this thread alone, as Linux has it. Without it things only get slower.
                    if let Err(error) = rustix::process::setpriority_process(None, self.niceness) {
                        debug!(%error, "A computing thread keeps its priority");
                    }
                })
                .build()
                .expect("threads can be made when the first conversion computes");
            let places = Arc::new(Semaphore::new(places(rayon.current_num_threads())));
            Threads { rayon, places }
        })
    }
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it said nothing")
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        time::Duration,
    };

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn what_is_computed_comes_back_and_a_panic_is_an_error() {
        assert_eq!(compute(|| 6 * 7).await.unwrap(), 42);
        let error = compute(|| panic!("planned {}", 1)).await.unwrap_err();
        assert!(
            matches!(&error, PipelineError::Panicked { reason } if reason == "planned 1"),
            "{error:?}"
        );
        // The thread lives on.
        assert_eq!(compute(|| 1).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn no_more_is_under_way_than_there_are_places() {
        let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let one = || {
            let (under_way, most) = (Arc::clone(&under_way), Arc::clone(&most));
            compute(move || {
                most.fetch_max(1 + under_way.fetch_add(1, SeqCst), SeqCst);
                // Parts that another thread may take, so that this one waits and takes something else.
                let pause = || thread::sleep(Duration::from_millis(1));
                rayon::join(pause, pause);
                under_way.fetch_sub(1, SeqCst);
            })
        };
        let places = places(REST.threads().rayon.current_num_threads());
        for done in join_all((0..20 * places).map(|_| one())).await {
            done.unwrap();
        }
        let most = most.load(SeqCst);
        assert!((1..=places).contains(&most), "{most} of {places}");
    }

    #[tokio::test]
    async fn it_runs_behind_the_rest_and_on_no_more_threads_than_cores() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let seen = || {
            let niceness = rustix::process::getpriority_process(None).unwrap();
            (niceness, rayon::current_num_threads())
        };
        for (seen, pool) in [
            (compute(seen).await, &REST),
            (compute_soon(seen).await, &SAMPLING),
        ] {
            let (niceness, threads) = seen.unwrap();
            assert_eq!(threads, cores);
            assert!(niceness >= pool.niceness, "{niceness}");
        }
    }
}
