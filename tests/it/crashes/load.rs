//! Clients that keep nodes busy.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Addresses, Site, ledger::Ledger};

/// Clients that submit as long as there are nodes and little waits.
pub struct Load {
    over: CancellationToken,
    clients: JoinSet<()>,
}

impl Load {
    /// With fewer than `pending_max` conversions that wait or run, each of the clients submits so many pictures at once.
    pub fn start(
        site: &Arc<Site>,
        ledger: &Arc<Ledger>,
        nodes: &Addresses,
        pending_max: i64,
        clients: &[(&'static str, usize)],
    ) -> Self {
        let over = CancellationToken::new();
        let client = |&(owner, count): &_| {
            let (site, ledger) = (Arc::clone(site), Arc::clone(ledger));
            let (nodes, over) = (nodes.clone(), over.clone());
            async move {
                while !over.is_cancelled() {
                    if nodes.pick().is_some() && site.pending().await < pending_max {
                        ledger.submit(owner, count, &nodes).await;
                    } else {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        };
        let clients = clients.iter().map(client).collect();
        Self { over, clients }
    }

    /// Returns when what was submitted is answered: who goes away in the middle leaves something that may come later, of
    /// which the ledger doesn't know.
    pub async fn end(self) {
        self.over.cancel();
        self.clients.join_all().await;
    }
}
