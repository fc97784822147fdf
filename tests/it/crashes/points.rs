//! A node that dies at each named place, and another one that goes on.

use std::{
    os::unix::process::ExitStatusExt,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use orfeas::{config::Role, crash::Point, storage::Storage};
use rustix::process::Signal;

use super::{
    Addresses, PATIENCE, RECOVERY_MAX, Site,
    leases::Leases,
    ledger::{Figures, Ledger},
    load::Load,
};
use crate::harness::{
    Node,
    process::NodeProcess,
    seed::{scalar, until},
};

/// Conversions that wait or run at a time, at most.
const PENDING_MAX: i64 = 8;
/// Nodes that start, compute and die side by side.
const AT_ONCE: usize = 3;

/// Whom clients ask while the node that is to die lives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Front {
    /// Another one, which does not compute.
    Another,
    /// The one that is to die: what it does with requests is what is looked at.
    Itself,
}

struct Case {
    at: Point,
    passing: u32,
    front: Front,
}

const fn case(at: Point, passing: u32, front: Front) -> Case {
    Case { at, passing, front }
}

const CASES: [Case; 12] = [
    case(Point::Claimed, 2, Front::Another),
    case(Point::InBatch, 3, Front::Another),
    case(Point::HalfStored, 3, Front::Another),
    case(Point::MeshStored, 3, Front::Another),
    case(Point::BeforeCommit, 3, Front::Another),
    case(Point::Committed, 3, Front::Another),
    case(Point::LeaseRenewed, 1, Front::Another),
    case(Point::InMigration, 3, Front::Another),
    case(Point::Submitted, 2, Front::Itself),
    case(Point::HookSent, 2, Front::Itself),
    case(Point::Erased, 1, Front::Itself),
    case(Point::Sealing, 2, Front::Itself),
];

async fn until_killed(node: &mut NodeProcess) {
    let mut status = None;
    until("it dies", PATIENCE, async || {
        status = node.ended();
        status.is_some()
    })
    .await;
    let signal = status.and_then(|status| status.signal());
    assert_eq!(signal, Some(Signal::KILL.as_raw()), "{status:?}");
}

/// A node that serves until it dies at the place of the case; where clients are then, and who goes on submitting.
async fn until_dead(
    site: &Arc<Site>,
    ledger: &Arc<Ledger>,
    case: &Case,
    front: Option<&Node>,
) -> (Addresses, Option<Load>) {
    let order = format!("{}:{}", case.at.name(), case.passing);
    let started = site.process(&[("ORFEAS_CRASH_AT", &order)]).await;
    if case.at == Point::InMigration {
        let status = started.err().expect("it dies before it serves");
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()));
        let tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
        assert_eq!(scalar(&site.database, tables).await, 0, "half a schema");
        return (Addresses::default(), None);
    }
    let mut doomed = started.expect("it serves");
    let nodes = Addresses::of(front.map_or(doomed.api, |node| node.app.api.unwrap()));
    let loading = if case.at == Point::Erased {
        ledger.submit("alice", 4, &nodes).await;
        // By itself: what is deleted leaves a gap in its batch's transitions.
        let ids = ledger.submit("alice", 1, &nodes).await;
        site.until_all_ended().await;
        ledger.until_quiet(site).await;
        ledger.delete("alice", &ids[0], doomed.api).await;
        None
    } else {
        let clients = [("alice", 4), ("bob", 1)];
        Some(Load::start(site, ledger, &nodes, PENDING_MAX, &clients))
    };
    until_killed(&mut doomed).await;
    nodes.remove(doomed.api);
    (nodes, loading)
}

#[expect(clippy::print_stdout, reason = "figures are what it is for")]
async fn dies(case: &Case) -> (Figures, Vec<Duration>) {
    let site = Arc::new(Site::new().await);
    let ledger = Arc::new(Ledger::new(&site));
    let leases = Leases::watch(&site.database);
    // Before it there is no schema.
    let front = match (case.front, case.at) {
        (Front::Itself, _) | (_, Point::InMigration) => None,
        (Front::Another, _) => Some(site.node(Role::Api).await),
    };
    let (nodes, loading) = until_dead(&site, &ledger, case, front.as_ref()).await;
    let died = Instant::now();
    let heir = site.node(Role::All).await;
    nodes.add(heir.app.api.unwrap());
    // Who had no answer asks again, by the same key.
    let accepted = ledger.accepted();
    if let Some(loading) = loading {
        until("clients are answered again", PATIENCE, async || {
            ledger.accepted() > accepted
        })
        .await;
        loading.end().await;
    }
    ledger.submit("alice", 2, &nodes).await;
    site.release(&heir).await;
    site.until_all_ended().await;
    let ended = died.elapsed();
    let storage = Storage::open_folder(&site.world.assets).unwrap();
    let figures = ledger.check(&site, &storage, &nodes).await;
    let recoveries = leases.recoveries().await;
    println!(
        "{:14} {:3} conversions, {:2} computed again, back {:4.1} s after the lease's end at the latest, all ended {:4.1} s after \
         the death; {} files without a row, {} requests in doubt, {} messages, {} of them again",
        case.at.name(),
        figures.conversions,
        figures.again,
        recoveries.last().map_or(0.0, Duration::as_secs_f64),
        ended.as_secs_f64(),
        figures.orphans,
        figures.doubts,
        figures.told,
        figures.told_again,
    );
    heir.app.stop().await;
    if let Some(front) = front {
        front.app.stop().await;
    }
    (figures, recoveries)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_dies_at_any_named_place_loses_and_doubles_nothing() {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: an optimised build has no places to die at");
        return;
    }
    assert_eq!(CASES.map(|case| case.at), Point::ALL);
    let all: Vec<_> = stream::iter(&CASES)
        .map(async |case| (case, dies(case).await))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    for (case, (figures, recoveries)) in all {
        let name = case.at.name();
        assert_eq!(figures.given_up, 0, "{name}");
        assert!(
            recoveries.iter().all(|after| *after <= RECOVERY_MAX),
            "{name}: {recoveries:?}"
        );
        let holds = !matches!(
            case.at,
            Point::InMigration
                | Point::Submitted
                | Point::HookSent
                | Point::Erased
                | Point::Sealing
        );
        assert!(
            !holds || case.at == Point::Committed || !recoveries.is_empty(),
            "{name}: nothing was held when it died"
        );
        if case.at == Point::HookSent {
            assert!(figures.told_again >= 1, "it was told and not written down");
        }
        if case.at == Point::Submitted {
            assert!(figures.doubts >= 1, "somebody had no answer");
        }
        if matches!(
            case.at,
            Point::HalfStored | Point::MeshStored | Point::BeforeCommit
        ) {
            assert!(figures.orphans >= 1, "{name}: it had stored something");
        }
    }
}
