//! The attempts that run on this node.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use crate::{conversion::ConversionId, db::conversions::Attempt, pipeline::stage::Interrupt};

const GO_ON: u8 = 0;
const CANCEL: u8 = 1;
const STOP: u8 = 2;

/// Whether an attempt is to go on; shared between the attempt and whoever may end it.
#[derive(Debug, Clone, Default)]
pub struct Signal(Arc<AtomicU8>);

impl Signal {
    fn raise(&self, value: u8) {
        // The first reason stands.
        let _ = self
            .0
            .compare_exchange(GO_ON, value, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// The [`Interrupt`] that was raised.
    pub fn check(&self) -> Result<(), Interrupt> {
        match self.0.load(Ordering::Relaxed) {
            GO_ON => Ok(()),
            CANCEL => Err(Interrupt::Canceled),
            _ => Err(Interrupt::Stopping),
        }
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
                signal.raise(CANCEL);
            }
        }
    }

    /// Asks all attempts to end, to be handed back.
    pub fn stop_all(&self) {
        self.lock().values().for_each(|signal| signal.raise(STOP));
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
