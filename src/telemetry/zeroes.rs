//! Counters that alerts ask about are there from the start: the increase of a series that is born at 1 is 0, so that
//! otherwise the first panic of a node would wake nobody.

use metrics::counter;

/// Without labels.
const PLAIN: [&str; 6] = [
    "orfeas_audit_lost_total",
    "orfeas_claimed_total",
    "orfeas_connections_stalled_total",
    "orfeas_http_panics_total",
    "orfeas_listen_reconnects_total",
    "orfeas_rescued_total",
];

/// With one label, and all that it can be.
const BY_LABEL: [(&str, &str, &[&str]); 3] = [
    (
        "orfeas_attempts_total",
        "outcome",
        &[
            "succeeded",
            "failed",
            "retried",
            "handed_back",
            "canceled",
            "lost",
            "unwritten",
        ],
    ),
    (
        "orfeas_subscribers_dropped_total",
        "reason",
        &[
            "too_slow",
            "expired",
            "revoked",
            "stopping",
            "not_signed_in",
            "misuse",
        ],
    ),
    (
        "orfeas_webhook_attempts_total",
        "outcome",
        &["delivered", "retried", "given_up"],
    ),
];

const MESHES: &str = "orfeas_meshes_total";
const FLAGS: [&str; 2] = ["true", "false"];

/// Keys have names of their own, which nobody knows beforehand: of these it is what all nodes have. Those of a key begin
/// at 0 by themselves, where `/metrics` is put together.
const REQUESTS: &str = "orfeas_requests_total";
const CALLERS: [&str; 3] = ["people", "nobody", "other"];
const OPERATIONS: [&str; 3] = ["submitConversion", "submitBatch", "other"];
/// What went well, and what didn't for a reason of the server's.
const CODES: [&str; 4] = ["OK", "INTERNAL", "OVERLOADED", "MODEL_UNAVAILABLE"];

/// Begins them at 0.
pub fn begin() {
    for name in PLAIN {
        counter!(name).increment(0);
    }
    for (name, label, values) in BY_LABEL {
        for value in values {
            counter!(name, label => *value).increment(0);
        }
    }
    for watertight in FLAGS {
        for manifold in FLAGS {
            for self_intersecting in FLAGS {
                counter!(
                    MESHES,
                    "watertight" => watertight,
                    "manifold" => manifold,
                    "self_intersecting" => self_intersecting,
                )
                .increment(0);
            }
        }
    }
    for caller in CALLERS {
        for operation in OPERATIONS {
            for code in CODES {
                counter!(REQUESTS, "key" => caller, "operation" => operation, "code" => code)
                    .increment(0);
            }
        }
    }
}
