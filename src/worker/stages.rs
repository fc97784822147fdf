//! Writing down how the conversions of a node get on: which stage each enters, and that it has succeeded.

use std::sync::Arc;

use crate::{
    conversion::Stage,
    db::{
        Database, DatabaseError,
        conversions::{Attempt, Entered, Success},
        together::{Coming, Together},
    },
};

/// The way into stages, and out of the last one, that the conversions of a node share; cheap to clone.
#[derive(Debug, Clone)]
pub struct StageWriter {
    database: Database,
    entering: Together<(Attempt, Stage)>,
    succeeding: Together<Arc<Success>>,
}

impl StageWriter {
    /// A way into a database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self {
            database,
            entering: Together::default(),
            succeeding: Together::default(),
        }
    }

    /// As [`Database::enter_stage`].
    ///
    /// # Errors
    /// As [`Database::enter_stage`].
    pub async fn enter(&self, attempt: Attempt, stage: Stage) -> Result<Entered, DatabaseError> {
        let enter_all = async |together: &[(Attempt, Stage)]| {
            // An error is met again by each of them.
            let entered = self.database.enter_stages(together).await;
            let entered = entered.unwrap_or_default();
            let is_in = |(attempt, _): &_| entered.contains(attempt);
            together.iter().map(is_in).collect()
        };
        if self.entering.ask((attempt, stage), enter_all).await {
            return Ok(Entered::Yes);
        }
        self.database.enter_stage(attempt, stage).await
    }

    /// Says that a conversion will have succeeded in a moment: those that end at about the same time are written down together.
    pub fn succeeding(&self) -> Coming {
        self.succeeding.coming()
    }

    /// As [`Database::succeed`].
    ///
    /// # Errors
    /// As [`Database::succeed`].
    pub async fn succeed(&self, success: &Arc<Success>) -> Result<Entered, DatabaseError> {
        let succeed_all = async |together: &[Arc<Success>]| {
            // As above.
            let ended = self.database.succeed_together(together).await;
            let ended = ended.unwrap_or_default();
            let has_ended = |success: &Arc<Success>| ended.contains(&success.attempt);
            together.iter().map(has_ended).collect()
        };
        if self.succeeding.ask(Arc::clone(success), succeed_all).await {
            return Ok(Entered::Yes);
        }
        self.database.succeed(success).await
    }
}
