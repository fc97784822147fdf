//! Where conversions compute: pools with as many threads as there are cores, at a lower priority than the rest.
//!
//! With a thread for each conversion, sixty conversions at once would leave the thread that feeds a GPU a quarter of a
//! core, and the GPU idle. Here whoever comes first is computed first, and the device's thread goes before all of them.
//! What makes the next query of a model takes milliseconds and has a pool of its own, so that it doesn't stand in line
//! behind meshes that are being written while the device has nothing to do.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::OnceLock,
    thread,
};

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::oneshot;
use tracing::{Span, debug};

use super::error::PipelineError;

/// Threads that compute alike.
struct Pool {
    threads: OnceLock<ThreadPool>,
    name: &'static str,
    /// How nice its threads are: at 5 they get a quarter of a core where a thread at 0 wants it, at 15 a thirtieth.
    niceness: i32,
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
    drop(start_on(&SAMPLING, work));
}

fn start_on<T: Send + 'static>(
    pool: &'static Pool,
    work: impl FnOnce() -> T + Send + 'static,
) -> oneshot::Receiver<thread::Result<T>> {
    let (sender, receiver) = oneshot::channel();
    // What is logged there is logged of the conversion.
    let span = Span::current();
    pool.threads().spawn(move || {
        // Whoever waits no more, needs no answer.
        drop(sender.send(span.in_scope(|| catch_unwind(AssertUnwindSafe(work)))));
    });
    receiver
}

async fn compute_on<T: Send + 'static>(
    pool: &'static Pool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PipelineError> {
    let receiver = start_on(pool, work);
    let done = receiver.await.map_err(|_| PipelineError::Panicked {
        reason: "it was not computed".into(),
    })?;
    done.map_err(|panic| PipelineError::Panicked {
        reason: words(panic.as_ref()).to_owned(),
    })
}

impl Pool {
    fn threads(&'static self) -> &'static ThreadPool {
        self.threads.get_or_init(|| {
            ThreadPoolBuilder::new()
                .thread_name(|number| format!("{}-{number}", self.name))
                .start_handler(|_| {
                    // Of this thread alone, as Linux has it. Without it things only get slower.
                    if let Err(error) = rustix::process::setpriority_process(None, self.niceness) {
                        debug!(%error, "A computing thread keeps its priority");
                    }
                })
                .build()
                .expect("threads can be made when the first conversion computes")
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
