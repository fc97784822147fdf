//! The chain's arithmetic: which bytes are authenticated, and in which order. Pure.
//!
//! Every field is written with its length before it, and an absent one differs from an empty one: two different events
//! never have the same bytes. Each use of the key begins with a label of its own.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::stored::StoredEvent;
use crate::auth::keyring::DerivedKey;

/// Bytes of a mac.
pub const MAC_BYTES: usize = 32;
/// What the first seal follows.
pub const GENESIS: [u8; MAC_BYTES] = [0; MAC_BYTES];

const SEAL_LABEL: &[u8] = b"orfeas/audit-seal/1";
const CHECKPOINT_LABEL: &[u8] = b"orfeas/audit-checkpoint/1";
const HEAD_LABEL: &[u8] = b"orfeas/audit-head/1";

/// Takes fields, each so that none can be taken for another.
trait Fields {
    fn bytes(&mut self, bytes: &[u8]);

    fn field(&mut self, value: Option<&[u8]>) {
        match value {
            None => self.bytes(&[0]),
            Some(value) => {
                self.bytes(&[1]);
                let length = u64::try_from(value.len()).expect("lengths fit 64 bits");
                self.bytes(&length.to_be_bytes());
                self.bytes(value);
            }
        }
    }

    fn event(&mut self, event: &StoredEvent) {
        let StoredEvent {
            id,
            at_microseconds,
            kind,
            actor,
            key_id,
            operation,
            outcome,
            address,
            request_id,
            node_id,
            count,
            details,
        } = event;
        let text = |text: &Option<String>| text.as_ref().map(|text| text.as_bytes().to_vec());
        self.field(Some(id.as_bytes()));
        let at = at_microseconds.map(i64::to_be_bytes);
        self.field(at.as_ref().map(<[u8; 8]>::as_slice));
        self.field(Some(kind.as_bytes()));
        for optional in [actor, key_id, operation] {
            self.field(text(optional).as_deref());
        }
        self.field(Some(outcome.as_bytes()));
        for optional in [address, request_id] {
            self.field(text(optional).as_deref());
        }
        self.field(node_id.as_ref().map(|node| node.as_bytes().as_slice()));
        self.field(Some(&count.to_be_bytes()));
        self.field(Some(details.as_bytes()));
    }
}

impl Fields for Hmac<Sha256> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

fn start(key: &DerivedKey, label: &[u8]) -> Hmac<Sha256> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes keys of any length");
    mac.field(Some(label));
    mac
}

/// A mac that is computed, to be stored or held against a stored one.
#[derive(Debug)]
pub struct Computed(Hmac<Sha256>);

impl Computed {
    /// Whether a stored mac is this one; takes as long for a wrong one.
    #[must_use]
    pub fn is(&self, stored: &[u8]) -> bool {
        self.0.clone().verify_slice(stored).is_ok()
    }

    /// The bytes.
    #[must_use]
    pub fn into_bytes(self) -> [u8; MAC_BYTES] {
        self.0.finalize().into_bytes().into()
    }
}

/// The mac of the seal number `seq` (from 1) over an event, which follows a seal with the mac `previous`.
#[must_use]
pub fn seal(key: &DerivedKey, seq: i64, previous: &[u8], event: &StoredEvent) -> Computed {
    let mut mac = start(key, SEAL_LABEL);
    mac.field(Some(&seq.to_be_bytes()));
    mac.field(Some(previous));
    mac.event(event);
    Computed(mac)
}

/// What retention leaves of the part of the chain that it removes.
#[derive(Debug, Clone, PartialEq, Eq, sea_orm::FromQueryResult)]
pub struct Checkpoint {
    /// The last seal that was removed.
    pub seq: i64,
    /// Its mac, which the next seal follows.
    pub mac: Vec<u8>,
    /// The master key whose audit key vouches for this row.
    pub master: String,
    pub own_mac: Vec<u8>,
    /// Since 1970, by the database's clock; unset for a time that is none.
    pub pruned_at_microseconds: Option<i64>,
    pub events_pruned: i64,
}

/// The mac that vouches for a checkpoint.
#[must_use]
pub fn checkpoint(key: &DerivedKey, checkpoint: &Checkpoint) -> Computed {
    let Checkpoint {
        seq,
        mac,
        master,
        own_mac: _,
        pruned_at_microseconds,
        events_pruned,
    } = checkpoint;
    let mut own = start(key, CHECKPOINT_LABEL);
    own.field(Some(&seq.to_be_bytes()));
    own.field(Some(mac));
    own.field(Some(master.as_bytes()));
    let at = pruned_at_microseconds.map(i64::to_be_bytes);
    own.field(at.as_ref().map(<[u8; 8]>::as_slice));
    own.field(Some(&events_pruned.to_be_bytes()));
    Computed(own)
}

/// The mac that vouches for an exported head.
#[must_use]
pub fn head(key: &DerivedKey, seq: i64, mac: &[u8], at: &str) -> Computed {
    let mut own = start(key, HEAD_LABEL);
    own.field(Some(&seq.to_be_bytes()));
    own.field(Some(mac));
    own.field(Some(at.as_bytes()));
    Computed(own)
}

/// A mac as text.
#[must_use]
pub fn to_text(mac: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(mac)
}

/// The mac of a text; `None` when it is none.
#[must_use]
pub fn from_text(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests;
