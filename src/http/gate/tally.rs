//! Requests by key, operation and code. Each label has a bounded set of values, whatever clients send.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use crate::{
    auth::{api_key::KeyId, principal::Principal},
    graphql::{error::ErrorCode, operation::Operation},
};

/// Keys that a node's metrics name. The figures of a key stay until the node stops, so these are the first that came;
/// who has more keys finds the rest in the audit log.
const KEYS_MAX: usize = 100;

const PEOPLE: &str = "people";
const NOBODY: &str = "nobody";
const OTHER: &str = "other";

/// Counts what becomes of requests.
#[derive(Debug, Default)]
pub struct Tally {
    keys: Mutex<HashSet<KeyId>>,
}

impl Tally {
    /// One request more. `who` is `None` where nobody known stands behind it, `code` where it went well.
    pub fn count(
        &self,
        who: Option<&Principal>,
        operation: Option<&Operation>,
        code: Option<ErrorCode>,
    ) {
        let key = match who {
            None => NOBODY.to_owned(),
            Some(principal) => match principal.key() {
                None => PEOPLE.to_owned(),
                Some(key) => self.label(key),
            },
        };
        metrics::counter!(
            "orfeas_requests_total",
            "key" => key,
            "operation" => operation.and_then(Operation::root_field).unwrap_or(OTHER),
            "code" => code.map_or("OK", ErrorCode::as_str),
        )
        .increment(1);
    }

    fn label(&self, key: &KeyId) -> String {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if !keys.contains(key) {
            if keys.len() >= KEYS_MAX {
                return OTHER.to_owned();
            }
            keys.insert(key.clone());
        }
        key.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_keys_have_names() {
        let tally = Tally::default();
        let keys: Vec<KeyId> = (0..=KEYS_MAX).map(|_| KeyId::new()).collect();
        for key in &keys[..KEYS_MAX] {
            assert_eq!(tally.label(key), key.to_string());
        }
        assert_eq!(tally.label(&keys[KEYS_MAX]), OTHER);
        assert_eq!(tally.label(&keys[0]), keys[0].to_string(), "it stays named");
    }
}
