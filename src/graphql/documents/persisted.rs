//! Documents that clients have sent once, under their hashes. A node keeps its own, in memory: whoever misses one sends it
//! once more.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::hash::DocumentHash;

/// More than any set of frontends has.
const DOCUMENTS_MAX: usize = 2_000;
/// A document has at most 128 KiB, a usual one about 1.
const BYTES_MAX: usize = 8 << 20;

/// The documents used last.
#[derive(Debug)]
pub struct Persisted {
    by_hash: HashMap<DocumentHash, Entry>,
    /// By when they were last used.
    by_use: BTreeMap<u64, DocumentHash>,
    uses: u64,
    bytes: usize,
    documents_max: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Entry {
    text: Arc<str>,
    used: u64,
}

impl Default for Persisted {
    fn default() -> Self {
        Self::new(DOCUMENTS_MAX, BYTES_MAX)
    }
}

impl Persisted {
    fn new(documents_max: usize, bytes_max: usize) -> Self {
        Self {
            by_hash: HashMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
            bytes: 0,
            documents_max,
            bytes_max,
        }
    }

    /// A document that is kept.
    pub fn find(&mut self, hash: &DocumentHash) -> Option<Arc<str>> {
        let entry = self.by_hash.get_mut(hash)?;
        self.by_use.remove(&entry.used);
        self.uses += 1;
        entry.used = self.uses;
        self.by_use.insert(self.uses, *hash);
        Some(entry.text.clone())
    }

    /// Keeps a document; those not used for longest make room.
    pub fn insert(&mut self, hash: DocumentHash, text: Arc<str>) {
        if self.find(&hash).is_some() || text.len() > self.bytes_max {
            return;
        }
        self.uses += 1;
        self.bytes += text.len();
        self.by_use.insert(self.uses, hash);
        let entry = Entry {
            text,
            used: self.uses,
        };
        self.by_hash.insert(hash, entry);
        while self.by_hash.len() > self.documents_max || self.bytes > self.bytes_max {
            let Some((_, oldest)) = self.by_use.pop_first() else {
                return;
            };
            if let Some(entry) = self.by_hash.remove(&oldest) {
                self.bytes -= entry.text.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut persisted = Persisted::new(3, 100);
        let hash = |text: &str| DocumentHash::of(text);
        for text in ["a", "b", "c"] {
            persisted.insert(hash(text), text.into());
        }
        assert_eq!(persisted.find(&hash("a")).as_deref(), Some("a"));
        persisted.insert(hash("d"), "d".into());
        let kept = |persisted: &mut Persisted| {
            ["a", "b", "c", "d"].map(|text| persisted.find(&hash(text)).is_some())
        };
        assert_eq!(kept(&mut persisted), [true, false, true, true]);
        // The same once more changes nothing.
        persisted.insert(hash("d"), "d".into());
        assert_eq!(
            (
                persisted.bytes,
                persisted.by_hash.len(),
                persisted.by_use.len()
            ),
            (3, 3, 3)
        );
    }

    #[test]
    fn bytes_are_bounded() {
        let mut persisted = Persisted::new(1_000, 100);
        for number in 0..50 {
            let text = format!("{number:030}");
            persisted.insert(DocumentHash::of(&text), text.into());
            assert!(persisted.bytes <= 100 && persisted.by_hash.len() == persisted.by_use.len());
        }
        assert_eq!(persisted.by_hash.len(), 3);
        let long = "x".repeat(101);
        persisted.insert(DocumentHash::of(&long), long.into());
        assert_eq!(
            persisted.by_hash.len(),
            3,
            "what can't fit drives nothing out"
        );
    }
}
