//! How many attempts are under way, to whom and for whom.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Counts attempts by host and by owner; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Lanes(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    hosts: HashMap<String, u32>,
    owners: HashMap<String, u32>,
}

/// An attempt that counts until this is dropped, however it ends.
#[derive(Debug)]
pub struct Place {
    lanes: Lanes,
    host: String,
    owner: String,
}

impl Lanes {
    /// Counts an attempt.
    #[must_use]
    pub fn take(&self, host: &str, owner: &str) -> Place {
        let mut counts = self.lock();
        *counts.hosts.entry(host.to_owned()).or_default() += 1;
        *counts.owners.entry(owner.to_owned()).or_default() += 1;
        Place {
            lanes: self.clone(),
            host: host.to_owned(),
            owner: owner.to_owned(),
        }
    }

    /// Attempts by host.
    #[must_use]
    pub fn hosts(&self) -> Vec<(String, u32)> {
        listed(&self.lock().hosts)
    }

    /// Attempts by owner.
    #[must_use]
    pub fn owners(&self) -> Vec<(String, u32)> {
        listed(&self.lock().owners)
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Nothing panics while holding the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.lanes.lock();
        give_back(&mut counts.hosts, &self.host);
        give_back(&mut counts.owners, &self.owner);
    }
}

fn listed(counts: &HashMap<String, u32>) -> Vec<(String, u32)> {
    counts
        .iter()
        .map(|(name, count)| (name.clone(), *count))
        .collect()
}

fn give_back(counts: &mut HashMap<String, u32>, name: &str) {
    if let Some(count) = counts.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            counts.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back() {
        let lanes = Lanes::default();
        let first = lanes.take("a:443", "user:alice");
        let second = lanes.take("a:443", "user:bob");
        assert_eq!(lanes.hosts(), [("a:443".to_owned(), 2)]);
        assert_eq!(lanes.owners().len(), 2);
        drop(first);
        assert_eq!(lanes.hosts(), [("a:443".to_owned(), 1)]);
        assert_eq!(lanes.owners(), [("user:bob".to_owned(), 1)]);
        drop(second);
        assert!(lanes.hosts().is_empty() && lanes.owners().is_empty());
    }
}
