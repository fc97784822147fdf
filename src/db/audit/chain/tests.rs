use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::auth::keyring::{KeyUse, Keyring};

impl Fields for Vec<u8> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

fn key(byte: &str) -> DerivedKey {
    let ring: Keyring = format!("k:{}", byte.repeat(32)).parse().expect("valid");
    ring.signing(KeyUse::Audit)
}

fn event() -> StoredEvent {
    StoredEvent {
        id: Uuid::from_u128(1),
        at_microseconds: Some(1_700_000_000_000_000),
        kind: "mutation".into(),
        actor: Some("user:alice".into()),
        key_id: None,
        operation: Some("submitConversion".into()),
        outcome: "OK".into(),
        address: Some("192.0.2.1".into()),
        request_id: Some("r1".into()),
        node_id: Some(Uuid::from_u128(2)),
        count: 1,
        details: "{}".into(),
    }
}

/// Each differs from [`event`] in one column.
fn changed() -> Vec<StoredEvent> {
    let text = |text: &str| Some(text.to_owned());
    vec![
        StoredEvent {
            id: Uuid::from_u128(3),
            ..event()
        },
        StoredEvent {
            at_microseconds: Some(1_700_000_000_000_001),
            ..event()
        },
        StoredEvent {
            at_microseconds: None,
            ..event()
        },
        StoredEvent {
            kind: "refusal".into(),
            ..event()
        },
        StoredEvent {
            actor: text("user:alicf"),
            ..event()
        },
        StoredEvent {
            actor: None,
            ..event()
        },
        StoredEvent {
            key_id: text("ofk_1"),
            ..event()
        },
        StoredEvent {
            key_id: text(""),
            ..event()
        },
        StoredEvent {
            operation: text("submitConversio"),
            ..event()
        },
        StoredEvent {
            outcome: "INTERNAL".into(),
            ..event()
        },
        StoredEvent {
            address: text("192.0.2.2"),
            ..event()
        },
        StoredEvent {
            request_id: None,
            ..event()
        },
        StoredEvent {
            node_id: None,
            ..event()
        },
        StoredEvent {
            count: 2,
            ..event()
        },
        StoredEvent {
            details: r#"{"a": 1}"#.into(),
            ..event()
        },
        // What one column loses the next one wins.
        StoredEvent {
            address: text("192.0.2.1r"),
            request_id: text("1"),
            ..event()
        },
        StoredEvent {
            actor: None,
            key_id: text("user:alice"),
            ..event()
        },
    ]
}

#[test]
fn every_column_and_every_place_changes_the_mac() {
    let made = seal(&key("01"), 7, &GENESIS, &event()).into_bytes();
    assert!(seal(&key("01"), 7, &GENESIS, &event()).is(&made));
    for other in changed() {
        assert!(
            !seal(&key("01"), 7, &GENESIS, &other).is(&made),
            "{other:?}"
        );
    }
    assert!(!seal(&key("01"), 8, &GENESIS, &event()).is(&made));
    assert!(!seal(&key("01"), 7, &[1; 32], &event()).is(&made));
    assert!(!seal(&key("01"), 7, &GENESIS[..31], &event()).is(&made));
    assert!(!seal(&key("02"), 7, &GENESIS, &event()).is(&made));
    assert!(!seal(&key("01"), 7, &GENESIS, &event()).is(&made[..31]));
}

#[test]
fn a_checkpoint_is_vouched_for_as_a_whole() {
    let vouched = Checkpoint {
        seq: 3,
        mac: vec![1; 32],
        master: "k".into(),
        own_mac: Vec::new(),
        pruned_at_microseconds: Some(5),
        events_pruned: 3,
    };
    let made = checkpoint(&key("01"), &vouched).into_bytes();
    let others = [
        Checkpoint {
            seq: 4,
            ..vouched.clone()
        },
        Checkpoint {
            mac: vec![2; 32],
            ..vouched.clone()
        },
        Checkpoint {
            master: "l".into(),
            ..vouched.clone()
        },
        Checkpoint {
            pruned_at_microseconds: None,
            ..vouched.clone()
        },
        Checkpoint {
            events_pruned: 4,
            ..vouched.clone()
        },
    ];
    for other in others {
        assert!(!checkpoint(&key("01"), &other).is(&made), "{other:?}");
    }
    // Nor does one kind of mac pass for another.
    assert!(!head(&key("01"), 3, &[1; 32], "k").is(&made));
}

/// Reads back what [`Fields`] wrote.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn field(&mut self) -> Option<Vec<u8>> {
        let (present, rest) = self.0.split_first().expect("a mark");
        self.0 = rest;
        if *present == 0 {
            return None;
        }
        let (length, rest) = self.0.split_at(8);
        let length = u64::from_be_bytes(length.try_into().expect("8 bytes"));
        let (value, rest) = rest.split_at(usize::try_from(length).expect("short"));
        self.0 = rest;
        Some(value.to_vec())
    }

    fn text(&mut self) -> Option<String> {
        self.field()
            .map(|bytes| String::from_utf8(bytes).expect("text"))
    }

    fn event(&mut self) -> StoredEvent {
        let uuid = |bytes: Vec<u8>| Uuid::from_slice(&bytes).expect("16 bytes");
        StoredEvent {
            id: self.field().map(uuid).expect("always there"),
            at_microseconds: self
                .field()
                .map(|bytes| i64::from_be_bytes(bytes.try_into().expect("8 bytes"))),
            kind: self.text().expect("always there"),
            actor: self.text(),
            key_id: self.text(),
            operation: self.text(),
            outcome: self.text().expect("always there"),
            address: self.text(),
            request_id: self.text(),
            node_id: self.field().map(uuid),
            count: self
                .field()
                .map(|bytes| i32::from_be_bytes(bytes.try_into().expect("4 bytes")))
                .expect("always there"),
            details: self.text().expect("always there"),
        }
    }
}

prop_compose! {
    fn any_event()(
        id: u128,
        at_microseconds: Option<i64>,
        texts in prop::array::uniform3(".{0,8}"),
        optional in prop::array::uniform5(prop::option::of(".{0,8}")),
        node: Option<u128>,
        count: i32,
    ) -> StoredEvent {
        let [kind, outcome, details] = texts;
        let [actor, key_id, operation, address, request_id] = optional;
        StoredEvent {
            id: Uuid::from_u128(id),
            at_microseconds,
            kind,
            actor,
            key_id,
            operation,
            outcome,
            address,
            request_id,
            node_id: node.map(Uuid::from_u128),
            count,
            details,
        }
    }
}

proptest! {
    /// What can be read back is never the same for two different events.
    #[test]
    fn the_bytes_of_an_event_are_its_own(event in any_event()) {
        let mut bytes = Vec::new();
        bytes.event(&event);
        let mut reader = Reader(&bytes);
        prop_assert_eq!(reader.event(), event);
        prop_assert!(reader.0.is_empty());
    }
}
