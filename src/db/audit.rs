//! The audit log: who did what, and what was refused.
//!
//! Writers insert and are done. A sealer on one node at a time chains what it finds by a keyed HMAC, so that a changed
//! or removed row is found by [`verify`]; the chain's end can be exported as a [`head::Head`], which finds an end that
//! was cut off. The key is derived from a master key and never in the database.

use tokio_util::sync::CancellationToken;

pub mod backlog;
pub mod chain;
pub mod details;
pub mod event;
pub mod head;
pub mod listing;
pub mod retention;
pub mod sealer;
pub mod stored;
pub mod verify;
mod walk;
pub mod writer;

use sealer::Sealer;
use writer::Auditor;

/// Writes and seals until `stop`; then what waits is written first, and sealed after.
pub async fn keep(auditor: Auditor, sealer: Sealer, stop: CancellationToken) {
    let written = CancellationToken::new();
    let writing = async {
        auditor.run(stop).await;
        written.cancel();
    };
    tokio::join!(writing, sealer.run(written.clone()));
}
