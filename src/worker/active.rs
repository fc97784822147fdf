//! The attempts that run on this node.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::{conversion::ConversionId, db::conversions::Attempt, pipeline::stage::Interrupt};

/// Whether an attempt is to go on; shared between the attempt and whoever may end it.
#[derive(Debug, Clone, Default)]
pub struct Signal(Arc<watch::Sender<Option<Interrupt>>>);

impl Signal {
    fn raise(&self, interrupt: Interrupt) {
        self.0.send_if_modified(|raised| {
            // The first reason stands.
            let is_first = raised.is_none();
            raised.get_or_insert(interrupt);
            is_first
        });
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// The [`Interrupt`] that was raised.
    pub fn check(&self) -> Result<(), Interrupt> {
        self.0.borrow().map_or(Ok(()), Err)
    }

    /// Waits until it is not to go on.
    pub async fn interrupted(&self) -> Interrupt {
        let mut raised = self.0.subscribe();
        let raised = raised.wait_for(Option::is_some).await;
        raised.ok().and_then(|raised| *raised).expect(
            "the sender lives as long as this signal, and only some interrupt ends the wait",
        )
    }
}

/// The attempts in hand; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Active(Arc<Mutex<HashMap<Attempt, Signal>>>);

/// Takes its attempt off the list when dropped.
#[derive(Debug)]
pub struct Entry {
    active: Active,
    attempt: Attempt,
    pub signal: Signal,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.active.lock().remove(&self.attempt);
    }
}

impl Active {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Attempt, Signal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists an attempt for as long as the entry lives.
    #[must_use]
    pub fn enter(&self, attempt: Attempt) -> Entry {
        let signal = Signal::default();
        self.lock().insert(attempt, signal.clone());
        Entry {
            active: self.clone(),
            attempt,
            signal,
        }
    }

    /// Asks the attempt at a conversion to end, if it runs here.
    pub fn cancel(&self, id: ConversionId) {
        for (attempt, signal) in self.lock().iter() {
            if attempt.conversion == id {
                signal.raise(Interrupt::Canceled);
            }
        }
    }

    /// Asks all attempts to end, to be handed back.
    pub fn stop_all(&self) {
        self.lock()
            .values()
            .for_each(|signal| signal.raise(Interrupt::Stopping));
    }

    /// How many attempts run here.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// What runs here.
    #[must_use]
    pub fn attempts(&self) -> Vec<Attempt> {
        self.lock().keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_hears_the_signal_whenever_it_came() {
        let active = Active::default();
        let entry = active.enter(Attempt {
            conversion: ConversionId::new(),
            number: 1,
        });
        let (heard, ()) = tokio::join!(entry.signal.interrupted(), async { active.stop_all() });
        assert_eq!(heard, Interrupt::Stopping);
        assert_eq!(entry.signal.interrupted().await, Interrupt::Stopping);
    }

    #[test]
    fn signals_reach_their_attempt_alone() {
        let active = Active::default();
        let [one, other] = [1, 2].map(|number| {
            active.enter(Attempt {
                conversion: ConversionId::new(),
                number,
            })
        });
        active.cancel(one.attempt.conversion);
        assert_eq!(one.signal.check(), Err(Interrupt::Canceled));
        assert_eq!(other.signal.check(), Ok(()));
        active.stop_all();
        assert_eq!(
            one.signal.check(),
            Err(Interrupt::Canceled),
            "the first reason stands"
        );
        assert_eq!(other.signal.check(), Err(Interrupt::Stopping));
        drop(one);
        assert_eq!(active.attempts(), [other.attempt]);
    }
}
