//! Writing what many ask for at once: what comes while a statement is under way shares the next one, and one that begins waits
//! a moment for those who are known to come. Alone nobody waits, and under load many pay for one.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

/// The longest that a statement waits for those who are about to ask: half of what a small one takes.
const PATIENCE: Duration = Duration::from_millis(2);

/// What waits for the next statement, and who asked for it.
type Waiting<T> = Vec<(T, oneshot::Sender<()>)>;

/// Requests of one kind; cheap to clone.
#[derive(Debug)]
pub struct Together<T> {
    waiting: Arc<Mutex<Waiting<T>>>,
    /// Held by the one who writes for all that wait.
    writing: Arc<tokio::sync::Mutex<()>>,
    /// How many are about to ask.
    coming: Arc<watch::Sender<usize>>,
}

/// Held by one who is about to ask, until just before.
#[derive(Debug)]
#[must_use]
pub struct Coming(Arc<watch::Sender<usize>>);

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.send_modify(|coming| *coming -= 1);
    }
}

impl<T> Clone for Together<T> {
    fn clone(&self) -> Self {
        Self {
            waiting: Arc::clone(&self.waiting),
            writing: Arc::clone(&self.writing),
            coming: Arc::clone(&self.coming),
        }
    }
}

impl<T> Default for Together<T> {
    fn default() -> Self {
        Self {
            waiting: Arc::default(),
            writing: Arc::default(),
            coming: Arc::default(),
        }
    }
}

impl<T> Together<T> {
    /// Says that somebody will ask within milliseconds, as far as anybody knows.
    pub fn coming(&self) -> Coming {
        self.coming.send_modify(|coming| *coming += 1);
        Coming(Arc::clone(&self.coming))
    }

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
                let mut coming = self.coming.subscribe();
                // Who is late shares the next one.
                let _ = timeout(PATIENCE, coming.wait_for(|coming| *coming == 0)).await;
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
    use tokio::{task::JoinSet, time::Instant};

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

    #[tokio::test(start_paused = true)]
    async fn who_writes_waits_a_moment_for_those_who_are_coming() {
        let (together, sizes) = (Together::default(), Mutex::new(Vec::new()));
        let ask = async |one: u32| {
            let write = async |all: &[u32]| {
                sizes.lock().unwrap().push(all.len());
                vec![true; all.len()]
            };
            assert!(together.ask(one, write).await);
        };
        let began = Instant::now();
        ask(1).await;
        assert_eq!(began.elapsed(), Duration::ZERO, "nobody is coming");

        let coming = together.coming();
        let late = async {
            tokio::time::sleep(PATIENCE / 2).await;
            drop(coming);
            ask(3).await;
        };
        tokio::join!(ask(2), late);
        assert_eq!(*sizes.lock().unwrap(), [1, 2]);

        let _never = together.coming();
        let began = Instant::now();
        ask(4).await;
        assert!((PATIENCE..2 * PATIENCE).contains(&began.elapsed()));
    }
}
