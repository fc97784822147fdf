//! Writing down which stage each conversion enters. Those that come while a statement is under way share the next one:
//! alone nobody waits, and under load many pay for one.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::{
    conversion::Stage,
    db::{
        Database, DatabaseError,
        conversions::{Attempt, Entered},
    },
};

/// Who waits to enter a stage.
#[derive(Debug)]
struct Entering {
    attempt: Attempt,
    stage: Stage,
    entered: oneshot::Sender<()>,
}

/// The way into stages that the conversions of a node share; cheap to clone.
#[derive(Debug, Clone)]
pub struct StageWriter {
    database: Database,
    waiting: Arc<Mutex<Vec<Entering>>>,
    /// Held by the one who writes for all that wait.
    writing: Arc<tokio::sync::Mutex<()>>,
}

impl StageWriter {
    /// A way into a database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self {
            database,
            waiting: Arc::default(),
            writing: Arc::default(),
        }
    }

    /// As [`Database::enter_stage`].
    ///
    /// # Errors
    /// As [`Database::enter_stage`].
    pub async fn enter(&self, attempt: Attempt, stage: Stage) -> Result<Entered, DatabaseError> {
        let (sender, mut entered) = oneshot::channel();
        self.waiting().push(Entering {
            attempt,
            stage,
            entered: sender,
        });
        {
            let _writing = self.writing.lock().await;
            let together = mem::take(&mut *self.waiting());
            if !together.is_empty() {
                self.enter_all(together).await;
            }
        }
        match entered.try_recv() {
            Ok(()) => Ok(Entered::Yes),
            // Refused, or whoever wrote was given up in the middle of it: what it is, only a statement of its own tells.
            Err(_) => self.database.enter_stage(attempt, stage).await,
        }
    }

    async fn enter_all(&self, together: Vec<Entering>) {
        let asked: Vec<_> = together
            .iter()
            .map(|one| (one.attempt, one.stage))
            .collect();
        // An error is met again by each of them.
        let entered = self.database.enter_stages(&asked).await.unwrap_or_default();
        for one in together {
            if entered.contains(&one.attempt) {
                // Whoever was given up meanwhile needs no answer.
                let _ = one.entered.send(());
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Entering>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
