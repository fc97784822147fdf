//! Where conversions compute: pools with as many threads as there are cores, at a lower priority than the rest.
//!
//! With a thread for each conversion, sixty conversions at once would leave the thread that feeds a GPU a quarter of a
//! core, and the GPU idle. Here whoever comes first is computed first, and the device's thread goes before all of them.
//! What makes the next query of a model takes milliseconds and has a pool of its own, so that it doesn't stand in line
//! behind meshes that are being written while the device has nothing to do.
//!
//! Whatever is computed has a place, of which there are as many as cores, and threads for itself: all cores while it is
//! alone, half of them beside another one, and so on, down to one once half of the places are taken. They share no threads:
//! one of rayon's that waits for a part of its work takes up what lies in its pool meanwhile, a whole other conversion among
//! it, and goes on only when that has ended, which may have done the same by then (docs/PERFORMANCE.md).

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
}

/// A place for each thing that is computed at a time, as many as there are cores, and threads for it alone: more for the
/// first ones.
struct Threads {
    cores: usize,
    places: Arc<Semaphore>,
    free: Mutex<Free>,
}

/// Threads that nobody has now.
struct Free {
    /// For the first half of the places; the most threads last.
    several: Vec<Arc<ThreadPool>>,
    /// For any place, one thread each.
    single: Vec<Arc<ThreadPool>>,
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
};

/// Everything else.
static REST: Pool = Pool {
    threads: OnceLock::new(),
    name: "compute",
    niceness: 15,
};

/// Threads for what nobody waits for: enough for as many conversions as are not yet a crowd, in the time that one takes.
const BESIDE_THREADS: usize = 2;

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
    let place = pool.threads().place().await;
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
            let several =
                widths(cores).map(|width| self.made(width, format!("{}-of-{width}", self.name)));
            let single = (0..cores).map(|_| self.made(1, format!("{}-own", self.name)));
            Threads {
                cores,
                places: Arc::new(Semaphore::new(cores)),
                free: Mutex::new(Free {
                    several: several.collect(),
                    single: single.collect(),
                }),
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
    async fn place(&'static self) -> Place {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.expect("it is never closed");
        let taken = self.cores - self.places.available_permits();
        let is_single = 2 * taken > self.cores;
        let mut free = self.free();
        let own = if is_single {
            free.single.pop()
        } else {
            free.several.pop()
        };
        Place {
            of: self,
            threads: own.expect("there are threads for each place"),
            is_single,
            _one_of_so_many: place,
        }
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many threads come with each of the first half of the places, the most last: with one of them all cores, with two
/// half of them each, with four a quarter.
fn widths(cores: usize) -> impl Iterator<Item = usize> {
    let places = (1..=(cores / 2).max(1)).rev();
    places.map(move |place| cores / place.next_power_of_two())
}

impl Drop for Place {
    fn drop(&mut self) {
        // Before the place is free.
        let mut free = self.of.free();
        let threads = Arc::clone(&self.threads);
        if self.is_single {
            free.single.push(threads);
        } else {
            let count = threads.current_num_threads();
            let fewer = |other: &Arc<ThreadPool>| other.current_num_threads() <= count;
            let at = free.several.partition_point(fewer);
            free.several.insert(at, threads);
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
    };

    #[test]
    fn the_first_places_have_all_cores_among_them() {
        let widths = |cores| widths(cores).collect::<Vec<_>>();
        assert_eq!(widths(16), [2, 2, 2, 2, 4, 4, 8, 16]);
        assert_eq!(widths(6), [1, 3, 6]);
        assert_eq!((widths(2), widths(1)), (vec![2], vec![1]));
    }

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
        let mut counts = Vec::new();
        for done in join_all((0..20 * cores).map(|_| one())).await {
            counts.push(done.unwrap());
        }
        let most = most.load(SeqCst);
        assert!((1..=cores).contains(&most), "{most} of {cores}");
        // All but those that came first and last.
        let keep_to_one = counts.iter().filter(|&&count| count == 1).count();
        assert!(keep_to_one >= 10 * cores, "{counts:?}");
        let free = POOL.threads().free();
        assert_eq!(free.single.len(), cores);
        let several = free.several.iter().map(|pool| pool.current_num_threads());
        assert!(several.eq(widths(cores)), "{:?}", free.several);
        drop(free);
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
