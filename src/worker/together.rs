//! Writing what many ask for at once: what comes while a statement is under way shares the next one. Alone nobody waits, and
//! under load many pay for one.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// What waits for the next statement, and who asked for it.
type Waiting<T> = Vec<(T, oneshot::Sender<()>)>;

/// Requests of one kind; cheap to clone.
#[derive(Debug)]
pub(super) struct Together<T> {
    waiting: Arc<Mutex<Waiting<T>>>,
    /// Held by the one who writes for all that wait.
    writing: Arc<tokio::sync::Mutex<()>>,
}

impl<T> Clone for Together<T> {
    fn clone(&self) -> Self {
        Self {
            waiting: Arc::clone(&self.waiting),
            writing: Arc::clone(&self.writing),
        }
    }
}

impl<T> Default for Together<T> {
    fn default() -> Self {
        Self {
            waiting: Arc::default(),
            writing: Arc::default(),
        }
    }
}

impl<T> Together<T> {
    /// Asks for one more, and says whether it was done. If not, it was refused, or the statement failed, or whoever wrote for
    /// others was given up in the middle of it: which one it is, only a statement of its own tells.
    ///
    /// `write` does what it is given and says for each whether it has.
    pub(super) async fn ask(&self, one: T, write: impl AsyncFnOnce(&[T]) -> Vec<bool>) -> bool {
        let (sender, mut done) = oneshot::channel();
        self.waiting().push((one, sender));
        {
            let _writing = self.writing.lock().await;
            let (together, askers): (Vec<T>, Vec<_>) =
                mem::take(&mut *self.waiting()).into_iter().unzip();
            if !together.is_empty() {
                for (is_done, asker) in write(&together).await.into_iter().zip(askers) {
                    if is_done {
                        // Whoever was given up meanwhile needs no answer.
                        let _ = asker.send(());
                    }
                }
            }
        }
        done.try_recv().is_ok()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
