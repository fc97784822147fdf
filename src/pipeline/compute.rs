//! Where conversions compute: on as many threads as there are cores, at a lower priority than the rest.
//!
//! With a thread for each conversion, sixty conversions at once would leave the thread that feeds a GPU a quarter of a
//! core, and the GPU idle. Here whoever comes first is computed first, and the device's thread goes before all of them.
//! What makes the next query of a model takes milliseconds and has a pool of its own, so that it doesn't stand in line
//! behind meshes that are being written while the device has nothing to do.
//!
//! Whatever is computed has a place, of which there are as many as cores, and threads for itself: all cores while one
//! conversion is computed, half of them each with two, down to one. How many those are is known by their [`Share`]s, which they
//! hold from one thing to the next, so that all of them go on alike. They share no threads: one of rayon's that waits for a part
//! of its work takes up what lies in its pool meanwhile, a whole other conversion among it, and goes on only when that has ended,
//! which may have done the same by then (docs/PERFORMANCE.md).

use std::{
    any::Any,
    iter,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::JoinHandle,
};
use tracing::{Instrument, Span, debug};

use super::error::PipelineError;

/// Threads that compute alike.
struct Pool {
    threads: OnceLock<Threads>,
    name: &'static str,
    /// How nice its threads are: at 5 they get a quarter of a core where a thread at 0 wants it, at 15 a thirtieth.
    niceness: i32,
}

/// A place for each thing that is computed at a time, as many as there are cores, and threads for it alone.
struct Threads {
    cores: usize,
    places: Arc<Semaphore>,
    /// What nobody has now, the most threads last.
    free: Mutex<Vec<Arc<ThreadPool>>>,
}

/// A place, and the threads that come with it.
struct Place {
    of: &'static Threads,
    threads: Arc<ThreadPool>,
    _one_of_so_many: OwnedSemaphorePermit,
}

/// How many conversions are computed, or will be in a moment.
#[derive(Debug)]
struct Shares(AtomicUsize);

static SHARES: Shares = Shares(AtomicUsize::new(0));

/// Held by a conversion while it computes or waits for little: the cores are divided among all that hold one.
#[derive(Debug)]
#[must_use]
pub(super) struct Share(&'static Shares);

impl Share {
    pub(super) fn take() -> Self {
        Self::of(&SHARES)
    }

    fn of(shares: &'static Shares) -> Self {
        shares.0.fetch_add(1, Relaxed);
        Self(shares)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
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

/// Threads for what nobody waits for: enough for as many conversions as are not yet a crowd, in the time that one takes.
const BESIDE_THREADS: usize = 4;

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

/// [`compute`] of what is wanted later: it is begun now.
pub(super) fn compute_ahead<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Begun<T> {
    Begun(tokio::spawn(compute(work).in_current_span()))
}

/// What is being computed; it goes on if this is dropped.
pub(super) struct Begun<T>(JoinHandle<Result<T, PipelineError>>);

impl<T> Begun<T> {
    /// What comes of it.
    ///
    /// # Errors
    /// As [`compute`].
    pub(super) async fn finished(self) -> Result<T, PipelineError> {
        self.0.await.expect("it neither panics nor is called off")
    }
}

/// Starts what takes milliseconds and nobody waits for; a panic there ends as nothing.
pub fn start_soon(work: impl FnOnce() + Send + 'static) {
    static BESIDE: OnceLock<Arc<ThreadPool>> = OnceLock::new();
    let threads = BESIDE.get_or_init(|| REST.made(BESIDE_THREADS, "beside".into()));
    drop(start_on(threads, work));
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
    let place = pool.threads().place(&SHARES).await;
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
            let cores = thread::available_parallelism().map_or(1, usize::from);
            let sets =
                widths(cores).map(|width| self.made(width, format!("{}-of-{width}", self.name)));
            Threads {
                cores,
                places: Arc::new(Semaphore::new(cores)),
                free: Mutex::new(sets.collect()),
            }
        })
    }

    /// Makes so many threads.
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
    /// Waits for a place.
    async fn place(&'static self, shares: &Shares) -> Place {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.expect("it is never closed");
        let fair = self.cores / shares.0.load(Relaxed).max(1).next_power_of_two();
        let mut free = self.free();
        // The most that are not too many; where all of those are taken, the fewest.
        let at = free.partition_point(|set| set.current_num_threads() <= fair);
        let threads = free.remove(at.saturating_sub(1));
        Place {
            of: self,
            threads,
            _one_of_so_many: place,
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<Arc<ThreadPool>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many threads the sets have, the most last: one set of all cores, two of half of them each, four of a quarter, which are
/// at least as many sets as cores.
fn widths(cores: usize) -> impl Iterator<Item = usize> {
    let halvings = (0..=cores.ilog2()).rev();
    halvings.flat_map(move |halving| iter::repeat_n(cores >> halving, 1 << halving))
}

impl Drop for Place {
    fn drop(&mut self) {
        // Before the place is free.
        let mut free = self.of.free();
        let threads = Arc::clone(&self.threads);
        let count = threads.current_num_threads();
        let at = free.partition_point(|other| other.current_num_threads() <= count);
        free.insert(at, threads);
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
    };

    #[test]
    fn there_are_threads_for_each_place_however_the_cores_are_divided() {
        let widths = |cores| widths(cores).collect::<Vec<_>>();
        assert_eq!(widths(8), [1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 8]);
        assert_eq!(widths(6), [1, 1, 1, 1, 3, 3, 6]);
        assert_eq!((widths(2), widths(1)), (vec![1, 1, 2], vec![1]));
    }

    #[tokio::test]
    async fn the_cores_are_divided_among_those_that_compute() {
        static SHARES: Shares = Shares(AtomicUsize::new(0));
        let threads = POOL.threads();
        let cores = threads.cores;
        let given = async || {
            let place = threads.place(&SHARES).await;
            let count = place.threads.current_num_threads();
            (place, count)
        };
        let first = Share::of(&SHARES);
        assert_eq!(given().await.1, cores);
        let second = Share::of(&SHARES);
        assert_eq!(given().await.1, (cores / 2).max(1));
        drop((first, second));
        assert_eq!(given().await.1, cores);

        // In a crowd each keeps to one, and nobody is left without.
        let crowd: Vec<_> = (0..cores).map(|_| Share::of(&SHARES)).collect();
        let mut places = Vec::new();
        for _ in 0..cores {
            let (place, count) = given().await;
            assert!(count == 1 || !cores.is_power_of_two(), "{count}");
            places.push(place);
        }
        assert_eq!(threads.places.available_permits(), 0);
        drop((crowd, places));
        let free = threads.free();
        let free = free.iter().map(|set| set.current_num_threads());
        assert!(free.eq(widths(cores)));
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
