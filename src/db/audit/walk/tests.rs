use uuid::Uuid;

use super::*;

fn ring() -> Keyring {
    format!("new:{},old:{}", "01".repeat(32), "02".repeat(32))
        .parse()
        .expect("valid")
}

fn event(number: u128) -> StoredEvent {
    StoredEvent {
        id: Uuid::from_u128(number),
        at_microseconds: Some(1),
        kind: "mutation".into(),
        actor: None,
        key_id: None,
        operation: None,
        outcome: "OK".into(),
        address: None,
        request_id: None,
        node_id: None,
        count: 1,
        details: "{}".into(),
    }
}

/// A chain whose first half an older master sealed.
fn links(count: i64) -> Vec<Link> {
    let mut previous = GENESIS.to_vec();
    let link = |seq: i64| {
        let master = if seq <= count / 2 { "old" } else { "new" };
        let event = event(u128::from(seq.unsigned_abs()));
        let key = ring().named(master, KeyUse::Audit).expect("in the ring");
        previous = chain::seal(&key, seq, &previous, &event)
            .into_bytes()
            .to_vec();
        let seal = Seal {
            seq,
            event_id: event.id,
            master: master.into(),
            mac: previous.clone(),
        };
        Link {
            seal,
            event: Some(event),
        }
    };
    (1..=count).map(link).collect()
}

fn walk(links: Vec<Link>, ring: &Keyring) -> Report {
    let mut walk = Walk::new(ring, None, None);
    for link in links {
        walk.step(link);
    }
    walk.finish(Vec::new())
}

fn id(number: u128) -> AuditEventId {
    AuditEventId(Uuid::from_u128(number))
}

#[test]
fn an_untouched_chain_holds_over_a_change_of_masters() {
    let report = walk(links(9), &ring());
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.events_verified, report.last_seq), (9, 9));
}

#[test]
fn events_that_changed_places_are_told_from_changed_ones() {
    let mut swapped = links(9);
    let (second, sixth) = (swapped[1].clone(), swapped[5].clone());
    (swapped[1].event, swapped[1].seal.event_id) = (sixth.event, sixth.seal.event_id);
    (swapped[5].event, swapped[5].seal.event_id) = (second.event, second.seal.event_id);
    let report = walk(swapped, &ring());
    // The sixth was sealed by another master: in the second's place nothing shows that it fits elsewhere.
    let findings = &report.findings;
    assert_eq!(findings.len(), 2, "{findings:?}");
    assert_eq!(report.events_verified, 7);

    let mut swapped = links(9);
    let (seventh, ninth) = (swapped[6].clone(), swapped[8].clone());
    (swapped[6].event, swapped[6].seal.event_id) = (ninth.event, ninth.seal.event_id);
    (swapped[8].event, swapped[8].seal.event_id) = (seventh.event, seventh.seal.event_id);
    let moved = |seq, number| Finding::Moved {
        seq,
        event: id(number),
    };
    assert_eq!(walk(swapped, &ring()).findings, [moved(7, 9), moved(9, 7)]);
}

#[test]
fn whole_seals_that_changed_places_are_found() {
    let mut swapped = links(9);
    swapped.swap(5, 7);
    (swapped[5].seal.seq, swapped[7].seal.seq) = (6, 8);
    let report = walk(swapped, &ring());
    let places: Vec<i64> = report
        .findings
        .iter()
        .map(|finding| match finding {
            Finding::Moved { seq, .. } | Finding::Changed { seq, .. } => *seq,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(places, [6, 7, 8, 9]);
    assert!(matches!(report.findings[0], Finding::Moved { seq: 6, .. }));
}

#[test]
fn what_is_gone_is_named() {
    let mut cut = links(9);
    cut.drain(2..5);
    cut[3].event = None;
    let report = walk(cut, &ring());
    assert_eq!(
        report.findings,
        [
            Finding::SealsRemoved { from: 3, to: 5 },
            Finding::EventRemoved {
                seq: 7,
                event: id(7)
            },
        ]
    );
    // The one after the gap can't be verified, those after it can.
    assert_eq!(report.events_verified, 4);
}

#[test]
fn a_chain_can_begin_nowhere_but_at_its_beginning() {
    let report = walk(links(9).split_off(3), &ring());
    assert_eq!(report.findings, [Finding::SealsRemoved { from: 1, to: 3 }]);
}

#[test]
fn a_master_that_is_gone_is_named_once() {
    let new: Keyring = format!("new:{}", "01".repeat(32)).parse().expect("valid");
    let report = walk(links(9), &new);
    let unknown = Finding::UnknownMaster {
        seq: 1,
        more: 3,
        master: "old".into(),
    };
    assert_eq!(report.findings, [unknown]);
    assert_eq!(report.events_verified, 5);
    // A key of the same name that is another key is no such key.
    let wrong: Keyring = format!("new:{},old:{}", "01".repeat(32), "03".repeat(32))
        .parse()
        .expect("valid");
    assert_eq!(walk(links(9), &wrong).findings.len(), 4);
}

#[test]
fn a_long_list_of_findings_is_cut_and_says_so() {
    let mut gone = links(1_200);
    for link in &mut gone {
        link.event = None;
    }
    let report = walk(gone, &ring());
    assert_eq!(
        (report.findings.len(), report.findings_left_out),
        (1_000, 200)
    );
}

#[test]
fn numbers_at_the_end_of_the_range_do_no_harm() {
    let mut far = links(2);
    far[1].seal.seq = i64::MAX;
    assert!(!walk(far, &ring()).is_clean());
}
