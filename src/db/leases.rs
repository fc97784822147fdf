//! What a node does with many of its attempts at once.
//!
//! Statements over several rows lock them in the order of their ids, so that two of them never block each other.

use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::{
    Database, DatabaseError,
    conversions::{Attempt, LEASE, Moved},
    nodes::HEARTBEAT,
    statement,
};
use crate::{
    conversion::{NodeId, Stage},
    crash::{self, Point},
};

impl Database {
    /// Moves running attempts to later stages, and says which of them it moved. For the others see
    /// [`Self::enter_stage`].
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails; it moves none then.
    pub async fn enter_stages(
        &self,
        entering: &[(Attempt, Stage)],
    ) -> Result<Vec<Attempt>, DatabaseError> {
        let (ids, numbers) = columns(entering.iter().map(|(attempt, _)| *attempt));
        let stages: Vec<String> = entering
            .iter()
            .map(|(_, stage)| stage.as_str().to_owned())
            .collect();
        let moved: Vec<Moved> = self
            .all(
                "WITH held AS MATERIALIZED (
                     SELECT conversion.id, entering.stage
                     FROM conversion JOIN unnest($1::uuid[], $2::smallint[], $3::text[]) AS entering (id, attempt, stage)
                         ON conversion.id = entering.id AND conversion.attempt = entering.attempt
                     WHERE status = 'running' AND cancel_requested_at IS NULL
                     ORDER BY conversion.id FOR NO KEY UPDATE OF conversion
                 )
                 UPDATE conversion SET stage = held.stage, lease_until = now() + make_interval(secs => $4)
                 FROM held WHERE conversion.id = held.id RETURNING conversion.id, conversion.attempt",
                [ids.into(), numbers.into(), stages.into(), LEASE.as_secs_f64().into()],
            )
            .await?;
        self.notices.given();
        Ok(moved.into_iter().map(Attempt::from).collect())
    }

    /// Renews the leases of a node's live attempts.
    ///
    /// # Errors
    /// [`DatabaseError`] when the statement fails.
    pub async fn renew_leases(
        &self,
        node: NodeId,
        attempts: &[Attempt],
    ) -> Result<(), DatabaseError> {
        let (ids, numbers) = columns(attempts.iter().copied());
        let renew = statement(
            "WITH held AS MATERIALIZED (
                 SELECT conversion.id
                 FROM conversion JOIN unnest($2::uuid[], $3::smallint[]) AS live (id, attempt)
                     ON conversion.id = live.id AND conversion.attempt = live.attempt
                 WHERE status = 'running' AND node_id = $1
                 ORDER BY conversion.id FOR NO KEY UPDATE OF conversion
             )
             UPDATE conversion SET lease_until = now() + make_interval(secs => $4)
             FROM held WHERE conversion.id = held.id",
            [
                node.into(),
                ids.into(),
                numbers.into(),
                LEASE.as_secs_f64().into(),
            ],
        );
        // By the next heartbeat there must be time for another try.
        let connection = self.connection.within(HEARTBEAT);
        connection.execute_raw(renew).await?;
        crash::point(Point::LeaseRenewed);
        Ok(())
    }
}

/// Attempts as two columns.
fn columns(attempts: impl Iterator<Item = Attempt>) -> (Vec<Uuid>, Vec<i16>) {
    attempts
        .map(|attempt| (attempt.conversion.0, attempt.number))
        .unzip()
}
