//! What a mutation was about, told by its resolvers for the audit log.

use std::sync::{Arc, Mutex, PoisonError};

use async_graphql::Context;

use crate::db::audit::details::Details;

/// Details of one request; the request carries one copy, whoever writes the log keeps another.
#[derive(Debug, Clone, Default)]
pub struct Trail(Arc<Mutex<Details>>);

impl Trail {
    /// What was noted so far.
    #[must_use]
    pub fn details(&self) -> Details {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Adds to the details of the request, where somebody keeps them.
pub fn note(context: &Context<'_>, add: impl FnOnce(Details) -> Details) {
    if let Some(Trail(details)) = context.data_opt::<Trail>() {
        let mut details = details.lock().unwrap_or_else(PoisonError::into_inner);
        *details = add(std::mem::take(&mut *details));
    }
}
