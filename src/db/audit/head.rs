//! The chain's end, to be kept elsewhere: whoever cuts events off the end of the log can't cut them off there.

use sea_orm::FromQueryResult;
use serde::{Deserialize, Serialize};

use super::{chain, sealer::end};
use crate::{
    auth::keyring::{KeyUse, Keyring},
    db::{Database, DatabaseError},
};

/// Where the chain ended at some time, vouched for by a mac of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The last seal; 0 when there was none.
    pub seq: i64,
    /// Its mac, in base64url.
    pub mac: String,
    /// When it was exported, by the database's clock, as RFC 3339 writes it.
    pub at: String,
    /// Over the other three, in base64url.
    pub signature: String,
}

impl Head {
    /// The mac that the chain must have at [`Head::seq`]; `None` when a key of the ring didn't sign this head.
    #[must_use]
    pub fn verified_mac(&self, keyring: &Keyring) -> Option<Vec<u8>> {
        let mac = chain::from_text(&self.mac)?;
        let signature = chain::from_text(&self.signature)?;
        keyring
            .verifying(KeyUse::Audit)
            .iter()
            .any(|key| chain::head(key, self.seq, &mac, &self.at).is(&signature))
            .then_some(mac)
    }
}

impl Database {
    /// The end of the audit log's chain now.
    ///
    /// # Errors
    /// [`DatabaseError`] when a query fails.
    pub async fn audit_head(&self, keyring: &Keyring) -> Result<Head, DatabaseError> {
        #[derive(FromQueryResult)]
        struct Clock {
            at: String,
        }
        let end = end(self.connection()).await?;
        let clock = self
            .one::<Clock>(
                r#"SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at"#,
                [],
            )
            .await?
            .expect("a constant query yields one row");
        let key = keyring.signing(KeyUse::Audit);
        let signature = chain::head(&key, end.seq, &end.mac, &clock.at).into_bytes();
        Ok(Head {
            seq: end.seq,
            mac: chain::to_text(&end.mac),
            at: clock.at,
            signature: chain::to_text(&signature),
        })
    }
}
