//! Who gets how much when there is not enough for all.

use orfeas::conversion::{ConversionId, OWNER_STEP, Priority};

use super::{claim, claim_all, database};
use crate::harness::seed::{sql, submission, submit};

#[tokio::test(flavor = "multi_thread")]
async fn one_owner_can_not_starve_another() {
    let database = database().await;
    for batch in [true, false] {
        if batch {
            submit(&database, submission("greedy", Priority::User, true, 50)).await;
        } else {
            for _ in 0..50 {
                submit(&database, submission("greedy", Priority::User, false, 1)).await;
            }
        }
        submit(&database, submission("modest", Priority::User, batch, 1)).await;
        let order = claim_all(&database).await;
        assert_eq!(order.len(), 51);
        let place = order
            .iter()
            .position(|row| row.owner.as_str() == "user:modest")
            .unwrap();
        // Those before it are what the other's virtual time has let through since: one a second.
        let passed =
            order[place].created_at - order.iter().map(|row| row.created_at).min().unwrap();
        let most = 2 + passed.whole_seconds() / OWNER_STEP.as_secs().cast_signed();
        assert!(
            i64::try_from(place).unwrap() <= most,
            "place {place} after {passed}"
        );
        let own: Vec<_> = order
            .iter()
            .filter(|row| row.owner.as_str() == "user:greedy")
            .map(|row| row.id)
            .collect();
        assert!(own.is_sorted(), "an owner's own are served as they came");
        sql(&database, "DELETE FROM owner_clock").await;
    }
}

/// Jain's index of what owners got: 1 when all got the same, 1/n when one got everything.
fn fairness(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (shares.len() as f64 * squares)
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_share_alike_however_much_each_wants() {
    let database = database().await;
    // The greediest first; the others come within the second.
    let owners = ["a", "b", "c", "d", "e"];
    for (owner, count) in owners.into_iter().zip([160, 80, 40, 20, 12]) {
        submit(&database, submission(owner, Priority::Agent, true, count)).await;
    }
    let served = claim(&database, 50).await;
    let shares = owners.map(|owner| {
        let name = format!("user:{owner}");
        served
            .iter()
            .filter(|row| row.owner.as_str() == name)
            .count() as f64
    });
    let index = fairness(&shares);
    assert!(index > 0.98, "{index} {shares:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_starts_within_a_bound_under_full_load_of_agents() {
    let database = database().await;
    let agents = ["a", "b", "c", "d"];
    for agent in agents {
        submit(&database, submission(agent, Priority::Agent, true, 300)).await;
    }
    let person = submit(&database, submission("alice", Priority::User, false, 1)).await;
    let ahead = database
        .queue_position(person.conversions[0].id)
        .await
        .unwrap()
        .unwrap();
    // The bound: an agent's items are ranked 50 s before their virtual time and a person's single 10 s, so each agent
    // has at most 40 of its own before it, and one or two for the moments between the submissions; whatever agents
    // submit more than 50 s after it comes behind (singles are ranked 60 s ahead).
    assert!(ahead <= 4 * 42, "{ahead} are before it");
    let late = submit(&database, submission("e", Priority::Agent, false, 1)).await;
    sql(
        &database,
        &format!(
            "UPDATE conversion SET rank = rank + interval '51 seconds' WHERE id = '{}'",
            late.conversions[0].id.0
        ),
    )
    .await;
    let order = claim_all(&database).await;
    let place = |id: ConversionId| order.iter().position(|row| row.id == id).unwrap();
    assert_eq!(
        i64::try_from(place(person.conversions[0].id)).unwrap(),
        ahead
    );
    assert!(place(late.conversions[0].id) > place(person.conversions[0].id));
}
