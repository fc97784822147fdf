//! A thread that starts a child process and stays with it until its end.
//!
//! The system sends a child its parent-death signal when the *thread* that started it ends, not the process. A thread of
//! tokio's blocking pool ends after ten idle seconds and would take Postgres with it; this one ends after its child.

use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

/// A child process with its thread.
#[derive(Debug)]
pub struct Keeper {
    process: Pid,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_stopping: bool,
    /// Outer: whether it has ended. Inner: how, where the system said.
    exit: Option<Option<ExitStatus>>,
}

impl Keeper {
    /// Starts the command on a thread of its own.
    ///
    /// # Errors
    /// The system's, for the thread or for the process.
    pub fn spawn(mut command: Command) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let (spawned, first_word) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name("postgres-keeper".to_owned())
            .spawn(move || {
                let child = command.spawn();
                let process = child
                    .as_ref()
                    .map(Pid::from_child)
                    .map_err(|error| io::Error::from(error.kind()));
                match (child, process) {
                    (Ok(child), Ok(process)) => {
                        // The other end waits for this word and for nothing else.
                        let _ = spawned.send(Ok(process));
                        theirs.keep(child, process);
                    }
                    (Err(error), _) | (_, Err(error)) => {
                        let _ = spawned.send(Err(error));
                    }
                }
            })?;
        let process = first_word.recv().map_err(io::Error::other)??;
        Ok(Self { process, shared })
    }

    /// The child's process id.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.process.as_raw_nonzero().get().unsigned_abs()
    }

    /// Signals the child to stop unless it has ended.
    pub fn signal(&self, signal: Signal) {
        let mut state = self.shared.lock();
        state.is_stopping = true;
        if state.exit.is_none() {
            // Under the lock the child is at most a zombie: its number can't be another process's yet.
            let _ = rustix::process::kill_process(self.process, signal);
        }
    }

    /// Waits for the child's end: `None` when it still runs after `wait_max`, else how it ended, where that is known.
    #[must_use]
    pub fn wait_timeout(&self, wait_max: Duration) -> Option<Option<ExitStatus>> {
        let state = self.shared.lock();
        let (state, _) = self
            .shared
            .ended
            .wait_timeout_while(state, wait_max, |state| state.exit.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        state.exit
    }
}

impl Shared {
    /// Blocks until the child has ended.
    fn keep(&self, mut child: Child, process: Pid) {
        // Waits without reaping, so that the number stays the child's until the lock is held.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let waited =
            rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::Pid(process), options));
        let mut state = self.lock();
        let exit = waited.ok().and_then(|_| child.wait().ok());
        state.exit = Some(exit);
        if !state.is_stopping {
            let how = exit.map_or_else(|| "how is unknown".to_owned(), |status| status.to_string());
            tracing::error!("Postgres ended by itself ({how}); the reason is in its log");
        }
        self.ended.notify_all();
    }

    /// Nothing panics while it is held, so a poisoned state is still a whole one.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use rustix::process::Signal;

    use super::Keeper;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn the_end_is_seen_and_says_how() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exit 7"]);
        let keeper = Keeper::spawn(command).expect("a shell");
        let status = keeper
            .wait_timeout(LONG)
            .expect("it ends")
            .expect("the system says how");
        assert_eq!(status.code(), Some(7));
        keeper.signal(Signal::INT);
        assert!(
            keeper.wait_timeout(Duration::ZERO).is_some(),
            "it came back to life"
        );
    }

    #[test]
    fn a_signal_ends_it() {
        let mut command = Command::new("/bin/sleep");
        command.arg("60");
        let keeper = Keeper::spawn(command).expect("a sleeper");
        assert!(
            keeper.wait_timeout(Duration::from_millis(20)).is_none(),
            "it ended at once"
        );
        keeper.signal(Signal::TERM);
        let status = keeper
            .wait_timeout(LONG)
            .expect("it ends")
            .expect("the system says how");
        assert!(!status.success());
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let error = Keeper::spawn(Command::new("/nonexistent/program"))
            .expect_err("there is no such program");
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }
}
