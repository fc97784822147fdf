//! Places where a node can be made to die or to freeze, for the tests that do so.
//!
//! `ORFEAS_CRASH_AT=mesh-stored` has the process killed by SIGKILL at the first passing of that place, `mesh-stored:3` at the
//! third; `ORFEAS_FREEZE_AT` has it stopped by SIGSTOP, until somebody continues it. Only a build with debug assertions looks
//! at these variables: in an optimised one [`point`] is empty, so that nobody who can set a released program's environment can
//! make it die by this.

/// A place in the code between two things that have to hold together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Conversions are this node's, and nothing of them has begun.
    Claimed,
    /// A batch is encoded, and no field has been asked.
    InBatch,
    /// One of an attempt's files is in the store, the others are not.
    HalfStored,
    /// All of an attempt's files are in the store, and the database knows of none.
    MeshStored,
    /// The transaction that publishes a success is complete but for its commit.
    BeforeCommit,
    /// A success is published, and the worker has not heard so.
    Committed,
    /// The leases of what runs have just been renewed: the longest that others can have to wait.
    LeaseRenewed,
    /// The first step of a migration is done, and nothing is committed.
    InMigration,
    /// A submission is committed, and its client has no answer.
    Submitted,
    /// A hook's receiver has answered, and that is not written down.
    HookSent,
    /// Bytes are gone from the store, and the table still says that they are to be erased.
    Erased,
    /// Audit events are chained, and the seals are not committed.
    Sealing,
}

impl Point {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Claimed,
        Self::InBatch,
        Self::HalfStored,
        Self::MeshStored,
        Self::BeforeCommit,
        Self::Committed,
        Self::LeaseRenewed,
        Self::InMigration,
        Self::Submitted,
        Self::HookSent,
        Self::Erased,
        Self::Sealing,
    ];

    /// As the variable names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::InBatch => "in-batch",
            Self::HalfStored => "half-stored",
            Self::MeshStored => "mesh-stored",
            Self::BeforeCommit => "before-commit",
            Self::Committed => "committed",
            Self::LeaseRenewed => "lease-renewed",
            Self::InMigration => "in-migration",
            Self::Submitted => "submitted",
            Self::HookSent => "hook-sent",
            Self::Erased => "erased",
            Self::Sealing => "sealing",
        }
    }
}

/// Passes a place; where the environment names it, the process ends here.
#[cfg(debug_assertions)]
pub fn point(at: Point) {
    armed::pass(at);
}

/// Nothing: see the head of this module.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_: Point) {}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    };

    use rustix::process::{Signal, getpid, kill_process};

    use super::Point;

    /// What is to happen, where, and at which passing.
    #[derive(Debug, PartialEq, Eq)]
    pub(super) struct Order {
        pub(super) signal: Signal,
        pub(super) at: Point,
        pub(super) passing: u32,
    }

    impl Order {
        /// # Panics
        /// For a place that there is not: a test that names it would wait for nothing.
        pub(super) fn parse(signal: Signal, text: &str) -> Self {
            let (name, passing) = text.split_once(':').unwrap_or((text, "1"));
            let at = Point::ALL.into_iter().find(|point| point.name() == name);
            let passing = passing.parse().ok().filter(|passing| *passing > 0);
            match (at, passing) {
                (Some(at), Some(passing)) => Self {
                    signal,
                    at,
                    passing,
                },
                _ => panic!("there is no place {text} to die or to freeze at"),
            }
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "tests' own variables, which no released program reads"
    )]
    fn order() -> Option<&'static Order> {
        static ORDER: OnceLock<Option<Order>> = OnceLock::new();
        let order = ORDER.get_or_init(|| {
            let variables = [
                ("ORFEAS_CRASH_AT", Signal::KILL),
                ("ORFEAS_FREEZE_AT", Signal::STOP),
            ];
            variables.into_iter().find_map(|(name, signal)| {
                let text = std::env::var(name).ok()?;
                Some(Order::parse(signal, &text))
            })
        });
        order.as_ref()
    }

    pub(super) fn pass(at: Point) {
        static PASSED: AtomicU32 = AtomicU32::new(0);
        let Some(order) = order().filter(|order| order.at == at) else {
            return;
        };
        if PASSED.fetch_add(1, Ordering::SeqCst) + 1 == order.passing {
            // Neither can be caught: nothing is tidied up, as on a power cut.
            let sent = kill_process(getpid(), order.signal);
            assert!(sent.is_ok(), "no signal to oneself: {sent:?}");
        }
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use rustix::process::Signal;

    use super::{Point, armed::Order};

    #[test]
    fn every_place_is_named_once_and_may_be_passed_before() {
        for at in Point::ALL {
            for (text, passing) in [(at.name().to_owned(), 1), (format!("{}:3", at.name()), 3)] {
                let signal = Signal::KILL;
                let order = Order {
                    signal,
                    at,
                    passing,
                };
                assert_eq!(Order::parse(signal, &text), order);
            }
        }
    }

    #[test]
    #[should_panic(expected = "there is no place elsewhere")]
    fn a_place_that_there_is_not_is_refused() {
        Order::parse(Signal::KILL, "elsewhere");
    }
}
