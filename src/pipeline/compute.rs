//! Where conversions compute: pools with as many threads as there are cores, at a lower priority than the rest.
//!
//! With a thread for each conversion, sixty conversions at once would leave the thread that feeds a GPU a quarter of a
//! core, and the GPU idle. Here whoever comes first is computed first, and the device's thread goes before all of them.
//! What makes the next query of a model takes milliseconds and has a pool of its own, so that it doesn't stand in line
//! behind meshes that are being written while the device has nothing to do.
//!
//! While at least half of the cores are free, a conversion is spread over all threads. Beyond that each has one thread for
//! itself: a thread of rayon's that waits for a part of its work takes what is next meanwhile, a whole other conversion's among
//! it, and goes on only when that has ended, which has taken something itself by then. With all that wait in rayon's own line,
//! one in twenty took seconds for milliseconds of work; with a few more conversions than threads, threads stood idle under
//! conversions that waited for each other (docs/PERFORMANCE.md).

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
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
    /// Whether what it computes has parts that go side by side.
    has_parts: bool,
}

/// As many as there are cores, and a place for each thing that is computed at a time.
struct Threads {
    /// For things that are spread over all cores, and for those without parts.
    shared: Arc<ThreadPool>,
    /// Of one thread each, those that nobody has now: for things that keep to one core.
    single: Mutex<Vec<Arc<ThreadPool>>>,
    places: Arc<Semaphore>,
}

/// A place, and the threads that come with it.
struct Place {
    of: &'static Threads,
    threads: Arc<ThreadPool>,
    is_single: bool,
    _one_of_so_many: OwnedSemaphorePermit,
}

/// What a device waits for.
static SAMPLING: Pool = Pool {
    threads: OnceLock::new(),
    name: "sample",
    niceness: 5,
    has_parts: false,
};

/// Everything else.
static REST: Pool = Pool {
    threads: OnceLock::new(),
    name: "compute",
    niceness: 15,
    has_parts: true,
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
    drop(start_on(&SAMPLING.threads().shared, work));
}

fn start_on<T: Send + 'static>(
    threads: &ThreadPool,
    work: impl FnOnce() -> T + Send + 'static,
) -> oneshot::Receiver<thread::Result<T>> {
    let (sender, receiver) = oneshot::channel();
    // What is logged there is logged of the conversion.
    let span = Span::current();
    threads.spawn(move || {
        let done = span.in_scope(|| catch_unwind(AssertUnwindSafe(work)));
        // Whoever waits no more, needs no answer.
        drop(sender.send(done));
    });
    receiver
}

async fn compute_on<T: Send + 'static>(
    pool: &'static Pool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PipelineError> {
    let place = pool.threads().place(pool.has_parts).await;
    let threads = Arc::clone(&place.threads);
    let receiver = start_on(&threads, move || {
        // Given back when the work has ended, whether or not somebody waits for it still.
        let _place = place;
        work()
    });
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
            let shared = self.made(0, self.name.to_owned());
            let cores = shared.current_num_threads();
            let own = if self.has_parts { cores } else { 0 };
            let single = (0..own).map(|number| self.made(1, format!("{}-own-{number}", self.name)));
            Threads {
                shared,
                single: Mutex::new(single.collect()),
                places: Arc::new(Semaphore::new(cores)),
            }
        })
    }

    /// Makes so many threads; 0: as many as there are cores.
    fn made(&'static self, count: usize, name: String) -> Arc<ThreadPool> {
        let threads = ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(move |number| format!("{name}-{number}"))
            .start_handler(|_| {
                // Of this thread alone, as Linux has it. Without it things only get slower.
                if let Err(error) = rustix::process::setpriority_process(None, self.niceness) {
                    debug!(%error, "A computing thread keeps its priority");
                }
            })
            .build();
        Arc::new(threads.expect("threads can be made when the first conversion computes"))
    }
}

impl Threads {
    /// Waits for a place, for a thing that has parts or not.
    async fn place(&'static self, has_parts: bool) -> Place {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.expect("it is never closed");
        let cores = self.shared.current_num_threads();
        let taken = cores - self.places.available_permits();
        let is_single = has_parts && 2 * taken > cores;
        let threads = if is_single {
            let own = self.free().pop();
            own.expect("there is a thread for each place")
        } else {
            Arc::clone(&self.shared)
        };
        Place {
            of: self,
            threads,
            is_single,
            _one_of_so_many: place,
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<Arc<ThreadPool>>> {
        self.single.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_single {
            // Before the place is free.
            self.of.free().push(Arc::clone(&self.threads));
        }
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

    static POOL: Pool = Pool {
        threads: OnceLock::new(),
        name: "tried",
        niceness: 15,
        has_parts: true,
    };

    #[tokio::test]
    async fn alone_it_is_spread_over_all_cores_and_in_a_crowd_each_keeps_to_one() {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let alone = compute_on(&POOL, rayon::current_num_threads).await;
        assert_eq!(alone.unwrap(), cores);

        let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let one = || {
            let (under_way, most) = (Arc::clone(&under_way), Arc::clone(&most));
            compute_on(&POOL, move || {
                most.fetch_max(1 + under_way.fetch_add(1, SeqCst), SeqCst);
                // Parts that another thread may take, so that this one waits and takes something else.
                let pause = || thread::sleep(Duration::from_millis(1));
                rayon::join(pause, pause);
                under_way.fetch_sub(1, SeqCst);
                rayon::current_num_threads()
            })
        };
        let mut widths = Vec::new();
        for done in join_all((0..20 * cores).map(|_| one())).await {
            widths.push(done.unwrap());
        }
        let most = most.load(SeqCst);
        assert!((1..=cores).contains(&most), "{most} of {cores}");
        // All but those that came first and last.
        let keep_to_one = widths.iter().filter(|&&width| width == 1).count();
        assert!(keep_to_one >= 10 * cores, "{widths:?}");
        assert_eq!(POOL.threads().free().len(), cores);
        assert_eq!(POOL.threads().places.available_permits(), cores);
    }

    #[tokio::test]
    async fn it_runs_behind_the_rest_and_on_no_more_threads_than_cores() {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let seen = || {
            let niceness = rustix::process::getpriority_process(None).unwrap();
            (niceness, rayon::current_num_threads())
        };
        for (seen, pool) in [
            (compute(seen).await, &REST),
            (compute_soon(seen).await, &SAMPLING),
        ] {
            let (niceness, threads) = seen.unwrap();
            assert!((1..=cores).contains(&threads), "{threads}");
            assert!(niceness >= pool.niceness, "{niceness}");
        }
    }
}
