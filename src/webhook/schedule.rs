//! When a delivery is tried again. Pure.

use std::time::Duration;

use crate::{
    db::{entities::webhook_delivery::DeliveryError, webhooks::Undelivered},
    egress::{Answer, EgressError},
};

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;

/// How long after an attempt that did not deliver the next one comes.
pub const DELAYS: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * MINUTE),
    Duration::from_secs(30 * MINUTE),
    Duration::from_secs(2 * HOUR),
    Duration::from_secs(5 * HOUR),
    Duration::from_secs(10 * HOUR),
    Duration::from_secs(6 * HOUR),
];
/// After this time nothing is tried again.
pub const RETRY_FOR: Duration = Duration::from_secs(24 * HOUR);
/// A receiver that asks for more patience gets this much.
const ASKED_MAX: Duration = DELAYS[5];

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Delivered {
        status_code: u16,
    },
    /// Worth another attempt, not before the receiver wants it.
    Again {
        error: DeliveryError,
        status_code: Option<u16>,
        asked: Option<Duration>,
    },
    /// No attempt will change it.
    ForGood {
        error: DeliveryError,
        status_code: Option<u16>,
    },
}

impl Verdict {
    /// Worth another attempt, without an answer.
    #[must_use]
    pub fn again(error: DeliveryError) -> Self {
        Self::Again {
            error,
            status_code: None,
            asked: None,
        }
    }

    /// What an answer means, by Standard Webhooks.
    #[must_use]
    pub fn of(answer: &Answer) -> Self {
        let status_code = answer.status;
        let again = |error, asked| Self::Again {
            error,
            status_code: Some(status_code),
            asked,
        };
        match status_code {
            200..=299 => Self::Delivered { status_code },
            300..=399 => again(DeliveryError::Redirected, None),
            410 => Self::ForGood {
                error: DeliveryError::Gone,
                status_code: Some(status_code),
            },
            429 | 503 => again(DeliveryError::Refused, answer.retry_after),
            _ => again(DeliveryError::Refused, None),
        }
    }
}

/// What the log says of a call without an answer.
#[must_use]
pub fn reason(error: &EgressError) -> DeliveryError {
    match error {
        EgressError::Url(_) | EgressError::NotPublic | EgressError::Lookup(_) => {
            DeliveryError::NotPublic
        }
        EgressError::TimedOut(_) => DeliveryError::Timeout,
        EgressError::Redirects | EgressError::Redirect(_) => DeliveryError::Redirected,
        EgressError::NoClient => DeliveryError::Internal,
        EgressError::Connect(_)
        | EgressError::Broken(_)
        | EgressError::Status { .. }
        | EgressError::TooLarge { .. }
        | EgressError::Compressed => DeliveryError::Unreachable,
    }
}

/// When the attempt after the `made`th comes; `None`: that was the last. `chance` in 0..=1 takes up to a tenth off the delay, so
/// that what failed together does not come back together.
#[must_use]
pub fn delay_after(made: i32, asked: Option<Duration>, chance: f64) -> Option<Duration> {
    let place = usize::try_from(made).ok()?.checked_sub(1)?;
    let delay = DELAYS
        .get(place)?
        .mul_f64(1.0 - chance.clamp(0.0, 1.0) / 10.0);
    Some(delay.max(asked.unwrap_or_default().min(ASKED_MAX)))
}

/// What is to be stored of an attempt that did not deliver; `None` for one that did.
#[must_use]
pub fn undelivered(verdict: Verdict, made: i32, chance: f64) -> Option<Undelivered> {
    match verdict {
        Verdict::Delivered { .. } => None,
        Verdict::Again {
            error,
            status_code,
            asked,
        } => Some(Undelivered {
            error,
            status_code,
            again_after: delay_after(made, asked, chance),
        }),
        Verdict::ForGood { error, status_code } => Some(Undelivered {
            error,
            status_code,
            again_after: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, retry_after: Option<u64>) -> Verdict {
        Verdict::of(&Answer {
            status,
            retry_after: retry_after.map(Duration::from_secs),
            body: bytes::Bytes::new(),
        })
    }

    #[test]
    fn a_day_holds_all_attempts() {
        let sum: Duration = DELAYS.iter().sum();
        assert!(sum < RETRY_FOR, "{sum:?}");
        assert!(sum > RETRY_FOR * 9 / 10, "{sum:?}");
        assert_eq!(delay_after(8, None, 0.0), None);
        assert_eq!(delay_after(0, None, 0.0), None, "none was made");
    }

    #[test]
    fn chance_shortens_by_a_tenth_and_no_more() {
        for (made, delay) in (1..).zip(DELAYS) {
            assert_eq!(delay_after(made, None, 0.0), Some(delay));
            assert_eq!(delay_after(made, None, 1.0), Some(delay.mul_f64(0.9)));
        }
    }

    #[test]
    fn receivers_are_given_the_time_that_they_ask_for_within_bounds() {
        let seconds = Duration::from_secs;
        assert_eq!(delay_after(1, Some(seconds(90)), 0.5), Some(seconds(90)));
        assert_eq!(delay_after(2, Some(seconds(90)), 0.0), Some(seconds(300)));
        assert_eq!(
            delay_after(1, Some(seconds(86_400)), 0.0),
            Some(seconds(36_000))
        );
    }

    #[test]
    fn answers_mean_what_the_specification_says() {
        for status in [200, 204, 299] {
            let delivered = Verdict::Delivered {
                status_code: status,
            };
            assert_eq!(answered(status, None), delivered);
            assert_eq!(undelivered(delivered, 1, 0.0), None);
        }
        for status in [429, 503] {
            let asked = undelivered(answered(status, Some(77)), 1, 0.0).expect("not delivered");
            assert_eq!(asked.again_after, Some(Duration::from_secs(77)));
        }
        for (status, error) in [
            (400, DeliveryError::Refused),
            (500, DeliveryError::Refused),
            (301, DeliveryError::Redirected),
            (101, DeliveryError::Refused),
        ] {
            let end = undelivered(answered(status, Some(77)), 1, 0.0).expect("not delivered");
            assert_eq!((end.error, end.status_code), (error, Some(status)));
            assert_eq!(end.again_after, Some(DELAYS[0]), "{status}");
        }
        let gone = undelivered(answered(410, None), 1, 0.0).expect("not delivered");
        assert_eq!((gone.error, gone.again_after), (DeliveryError::Gone, None));
    }
}
