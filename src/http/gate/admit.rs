//! Whether a known caller may go on, and what that costs.

use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::{
    Admitted, Agent, Caller, Gate, Keyed, Origin,
    refusal::{Refusal, check_network, limited, unauthenticated, unsigned, verdict},
};
use crate::{
    auth::{principal::Principal, signature},
    db::quotas::Use,
    graphql::{
        error::{ApiError, ErrorCode},
        operation::Operation,
    },
};

/// How much longer than a signature's window a nonce is remembered: node clocks may differ by that much.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(60);

impl Gate {
    /// Lets a caller through to an operation, and charges it: an agent one request, a person its submissions. A refusal
    /// is in the audit log.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when the signature has grown old, was used before, or the key has ended; `RATE_LIMITED`;
    /// `INTERNAL` when the database does not answer.
    pub async fn admit(
        &self,
        origin: &Origin,
        caller: &Caller,
        operation: Option<&Operation>,
    ) -> Result<Admitted, Refusal> {
        let started = Instant::now();
        let admitted = match caller {
            Caller::Person(principal) => self.admit_person(principal.clone(), operation).await,
            Caller::Agent(agent) => self.admit_agent(origin, agent).await,
        };
        metrics::histogram!("orfeas_admission_seconds", "step" => "admit")
            .record(started.elapsed());
        admitted.inspect_err(|refusal| {
            self.tally.count(
                Some(&caller.principal()),
                operation,
                Some(refusal.error.code),
            );
            self.note_refused(origin, caller, operation, refusal);
        })
    }

    async fn admit_agent(&self, origin: &Origin, agent: &Agent) -> Result<Admitted, Refusal> {
        let Agent {
            key,
            generation,
            signed,
        } = agent;
        // Once more: a slow body may have made it old.
        signed
            .check_fresh(OffsetDateTime::now_utc())
            .map_err(|error| unsigned(&error))?;
        let until = OffsetDateTime::from_unix_timestamp(signed.created()).map_err(|_| {
            unauthenticated("The signature's `created` is no time: send seconds since 1970.")
        })? + signature::WINDOW
            + CLOCKS_APART_MAX;
        let admission = self
            .database
            .admit_request(Use {
                key: &key.row.id,
                generation: *generation,
                nonce: Some((signed.nonce_hash(), until)),
            })
            .await
            .map_err(ApiError::from)?;
        let (version, rate) = verdict(admission)?;
        let keyed = Keyed {
            generation: *generation,
            version,
            rate,
        };
        let principal = key.principal();
        self.up_to_date(origin, principal, key.row.version, keyed)
            .await
    }

    /// The caller as the key stands now, where it has changed since it was copied.
    async fn up_to_date(
        &self,
        origin: &Origin,
        principal: Principal,
        known: i32,
        keyed: Keyed,
    ) -> Result<Admitted, Refusal> {
        let (Some(keys), Some(id)) = (&self.keys, principal.key()) else {
            return Err(unauthenticated("This server lets no programs in.").into());
        };
        if keyed.version == known {
            return Ok(Admitted {
                principal,
                keyed: Some(keyed),
            });
        }
        let key = keys.read(id).await.map_err(ApiError::from)?;
        let key = key.ok_or_else(|| unauthenticated("The key has been removed."))?;
        check_network(origin, &key)?;
        Ok(Admitted {
            principal: key.principal(),
            keyed: Some(Keyed {
                version: key.row.version,
                ..keyed
            }),
        })
    }

    async fn admit_person(
        &self,
        principal: Principal,
        operation: Option<&Operation>,
    ) -> Result<Admitted, Refusal> {
        let submissions = operation.map_or(0, |operation| operation.submissions);
        self.charge_person(&principal, submissions).await?;
        Ok(Admitted::person(principal))
    }

    async fn charge_person(&self, principal: &Principal, submissions: u32) -> Result<(), Refusal> {
        if submissions == 0 {
            return Ok(());
        }
        let burst = principal.burst();
        if submissions > burst {
            let message = format!(
                "You may make {burst} submissions a minute, and this is {submissions} in one request: send batches."
            );
            return Err(ApiError::new(ErrorCode::QueryTooComplex, message).into());
        }
        let per_minute = principal.quotas.requests_per_minute;
        let rate = self
            .database
            .charge_person(&principal.owner, per_minute, submissions)
            .await
            .map_err(ApiError::from)?;
        if rate.retry.is_some() {
            return Err(limited(rate, "submissions"));
        }
        Ok(())
    }

    /// Lets an operation over an open connection through, and charges it like a request. A refusal is in the audit log.
    ///
    /// # Errors
    /// As for [`Self::admit`]; `FORBIDDEN` for an agent's mutation.
    pub async fn admit_operation(
        &self,
        origin: &Origin,
        connected: &Admitted,
        operation: Option<&Operation>,
    ) -> Result<Admitted, ApiError> {
        let principal = &connected.principal;
        let admitted = match connected.keyed {
            Some(keyed) => {
                self.admit_keyed_operation(origin, principal, keyed, operation)
                    .await
            }
            None => self.admit_person(principal.clone(), operation).await,
        };
        admitted.map_err(|refusal| {
            self.tally
                .count(Some(principal), operation, Some(refusal.error.code));
            self.note_refused_operation(origin, connected, operation, &refusal.error);
            refusal.error
        })
    }

    async fn admit_keyed_operation(
        &self,
        origin: &Origin,
        principal: &Principal,
        connected: Keyed,
        operation: Option<&Operation>,
    ) -> Result<Admitted, Refusal> {
        if operation.is_some_and(Operation::is_mutation) {
            return Err(ApiError::new(
                ErrorCode::Forbidden,
                "Programs send mutations by signed HTTP requests, not over a connection.",
            )
            .into());
        }
        let Some(key) = principal.key() else {
            return Err(unauthenticated("The connection has no key.").into());
        };
        let used = Use {
            key,
            generation: connected.generation,
            nonce: None,
        };
        let admission = self
            .database
            .admit_request(used)
            .await
            .map_err(ApiError::from)?;
        let (version, rate) = verdict(admission)?;
        let keyed = Keyed {
            version,
            rate,
            ..connected
        };
        self.up_to_date(origin, principal.clone(), connected.version, keyed)
            .await
    }
}
