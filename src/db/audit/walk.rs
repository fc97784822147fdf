//! One walk along the chain, link by link. Pure.

use std::collections::{BTreeMap, HashMap};

use super::{
    chain::{self, Checkpoint, GENESIS},
    head::Head,
    stored::StoredEvent,
    verify::{Finding, HeadState, Link, Report, Seal},
};
use crate::{
    auth::keyring::{DerivedKey, KeyUse, Keyring},
    conversion::AuditEventId,
};

/// Findings that are listed; whoever has more of them needs no longer list.
const FINDINGS_MAX: usize = 1_000;
/// Seals that don't fit for which it is told whether they were moved or changed: each is tried in each one's place.
const SUSPECTS_MAX: usize = 16;

/// A seal that does not fit what it seals.
struct Suspect {
    seq: i64,
    previous: Vec<u8>,
    mac: Vec<u8>,
    key: DerivedKey,
    event: StoredEvent,
}

/// The state of a walk.
pub(super) struct Walk<'a> {
    keyring: &'a Keyring,
    keys: HashMap<String, Option<DerivedKey>>,
    begins_after: i64,
    seq: i64,
    /// The mac that the next seal follows; unset after a gap, where nobody knows.
    previous: Option<Vec<u8>>,
    head: Option<(i64, Vec<u8>)>,
    head_state: Option<HeadState>,
    verified: u64,
    suspects: Vec<Suspect>,
    /// By master: the first seal, and how many more.
    unknown: BTreeMap<String, (i64, u64)>,
    findings: Vec<Finding>,
    left_out: u64,
}

impl<'a> Walk<'a> {
    /// A walk that begins at the checkpoint.
    pub(super) fn new(
        keyring: &'a Keyring,
        checkpoint: Option<&Checkpoint>,
        head: Option<&Head>,
    ) -> Self {
        let begins_after = checkpoint.map_or(0, |checkpoint| checkpoint.seq);
        let mut walk = Self {
            keyring,
            keys: HashMap::new(),
            begins_after,
            seq: begins_after,
            previous: Some(
                checkpoint.map_or(GENESIS.to_vec(), |checkpoint| checkpoint.mac.clone()),
            ),
            head: None,
            head_state: None,
            verified: 0,
            suspects: Vec::new(),
            unknown: BTreeMap::new(),
            findings: Vec::new(),
            left_out: 0,
        };
        if let Some(checkpoint) = checkpoint {
            let vouched = walk
                .key(&checkpoint.master)
                .is_some_and(|key| chain::checkpoint(&key, checkpoint).is(&checkpoint.own_mac));
            if !vouched {
                walk.find(Finding::CheckpointChanged {
                    seq: checkpoint.seq,
                });
            }
        }
        if let Some(head) = head {
            walk.expect_head(head);
        }
        walk
    }

    /// The last seal that was looked at.
    pub(super) fn last_seq(&self) -> i64 {
        self.seq
    }

    fn expect_head(&mut self, head: &Head) {
        let Some(mac) = head.verified_mac(self.keyring) else {
            self.head_state = Some(HeadState::NotOnChain);
            self.find(Finding::HeadForged);
            return;
        };
        if head.seq < self.begins_after {
            self.head_state = Some(HeadState::Pruned);
            return;
        }
        self.head_state = Some(HeadState::NotOnChain);
        self.head = Some((head.seq, mac));
        let start = self.previous.clone().unwrap_or_default();
        self.meet_head(self.begins_after, &start);
    }

    fn meet_head(&mut self, seq: i64, mac: &[u8]) {
        if let Some((_, expected)) = self.head.take_if(|(head_seq, _)| *head_seq == seq) {
            if expected == mac {
                self.head_state = Some(HeadState::OnChain);
            } else {
                self.find(Finding::HeadDiffers { seq });
            }
        }
    }

    fn find(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.left_out += 1;
        }
    }

    fn key(&mut self, master: &str) -> Option<DerivedKey> {
        let keyring = self.keyring;
        let derive = || keyring.named(master, KeyUse::Audit);
        self.keys
            .entry(master.to_owned())
            .or_insert_with(derive)
            .clone()
    }

    /// Looks at the next link in the order of their numbers.
    pub(super) fn step(&mut self, Link { seal, event }: Link) {
        let expected = self.seq.saturating_add(1);
        if seal.seq != expected {
            self.find(Finding::SealsRemoved {
                from: expected,
                to: seal.seq - 1,
            });
            self.previous = None;
        }
        self.seq = seal.seq;
        self.meet_head(seal.seq, &seal.mac);
        let previous = self.previous.replace(seal.mac.clone());
        let event_id = AuditEventId(seal.event_id);
        let Some(event) = event else {
            self.find(Finding::EventRemoved {
                seq: seal.seq,
                event: event_id,
            });
            return;
        };
        let Some(key) = self.key(&seal.master) else {
            self.unknown
                .entry(seal.master)
                .and_modify(|(_, more)| *more += 1)
                .or_insert((seal.seq, 0));
            return;
        };
        // After a gap the first seal can't be verified; the gap itself is the finding.
        let Some(previous) = previous else { return };
        if chain::seal(&key, seal.seq, &previous, &event).is(&seal.mac) {
            self.verified += 1;
        } else if self.suspects.len() < SUSPECTS_MAX {
            let Seal { seq, mac, .. } = seal;
            self.suspects.push(Suspect {
                seq,
                previous,
                mac,
                key,
                event,
            });
        } else {
            self.find(Finding::Changed {
                seq: seal.seq,
                event: event_id,
            });
        }
    }

    /// The report, with what was found beside the chain.
    pub(super) fn finish(mut self, strays: Vec<Finding>) -> Report {
        for finding in classify(&self.suspects) {
            self.find(finding);
        }
        for (master, (seq, more)) in std::mem::take(&mut self.unknown) {
            self.find(Finding::UnknownMaster { seq, more, master });
        }
        if let Some((head_seq, _)) = self.head.take() {
            // The seals between here and there may be what is gone.
            let cut_off = head_seq > self.seq;
            self.find(if cut_off {
                Finding::CutOff {
                    head_seq,
                    last_seq: self.seq,
                }
            } else {
                Finding::HeadDiffers { seq: head_seq }
            });
        }
        for stray in strays {
            self.find(stray);
        }
        Report {
            begins_after: self.begins_after,
            last_seq: self.seq,
            events_verified: self.verified,
            head: self.head_state,
            findings: self.findings,
            findings_left_out: self.left_out,
        }
    }
}

/// Tells moved events from changed ones: a place where another suspect's event fits was that one's.
fn classify(suspects: &[Suspect]) -> Vec<Finding> {
    let macs: Vec<&[u8]> = suspects.iter().map(|suspect| &suspect.mac[..]).collect();
    let fits_another = |place: &Suspect| {
        suspects.iter().any(|other| {
            let previous = macs.iter().copied().chain([&place.previous[..]]);
            other.event.id != place.event.id
                && previous.into_iter().any(|previous| {
                    let mac = chain::seal(&place.key, place.seq, previous, &other.event);
                    macs.iter().any(|stored| mac.is(stored))
                })
        })
    };
    let finding = |place: &Suspect| {
        let (seq, event) = (place.seq, AuditEventId(place.event.id));
        if fits_another(place) {
            Finding::Moved { seq, event }
        } else {
            Finding::Changed { seq, event }
        }
    };
    suspects.iter().map(finding).collect()
}

#[cfg(test)]
mod tests;
