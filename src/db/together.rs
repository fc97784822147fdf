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
pub struct Together<T> {
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
    pub async fn ask(&self, one: T, write: impl AsyncFnOnce(&[T]) -> Vec<bool>) -> bool {
        let (sender, mut done) = oneshot::channel();
        self.waiting().push((one, sender));
        tokio::select! {
            biased;
            // Who has been written for doesn't take its turn: it would write for the first newcomer alone, and all others after it.
            is_done = &mut done => return is_done.is_ok(),
            _writing = self.writing.lock() => {
                let (together, askers): (Vec<T>, Vec<_>) =
                    mem::take(&mut *self.waiting()).into_iter().unzip();
                let written = write(&together).await;
                for (is_done, asker) in written.into_iter().zip(askers) {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn those_who_come_during_a_statement_share_the_next() {
        const ASKERS: usize = 16;
        const TURNS: usize = 50;
        let (together, sizes) = (Together::default(), Arc::new(Mutex::new(Vec::new())));
        let mut askers = JoinSet::new();
        for asker in 0..ASKERS {
            let (together, sizes) = (together.clone(), Arc::clone(&sizes));
            askers.spawn(async move {
                for turn in 0..TURNS {
                    let write = async |all: &[(usize, usize)]| {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        sizes.lock().unwrap().push(all.len());
                        // Every tenth is refused.
                        all.iter().map(|(_, turn)| turn % 10 != 9).collect()
                    };
                    assert_eq!(together.ask((asker, turn), write).await, turn % 10 != 9);
                }
            });
        }
        while let Some(asked) = askers.join_next().await {
            asked.unwrap();
        }
        let sizes = sizes.lock().unwrap();
        assert_eq!(
            sizes.iter().sum::<usize>(),
            ASKERS * TURNS,
            "each is written once"
        );
        // The first is alone, and all others are together from then on.
        assert!(sizes.len() <= 2 * TURNS + 1, "{} statements", sizes.len());
    }
}
