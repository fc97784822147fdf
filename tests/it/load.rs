//! Many agents at once, at several nodes.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{World, agent::Agent};

/// For how long everybody asks.
const TIME: Duration = Duration::from_secs(5);
const WHO: &str = "{ viewer { name } }";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_agents_at_three_nodes_get_what_is_theirs_and_no_more() {
    let world = World::new().await;
    let nodes = join_all((0..3).map(|_| world.api_node())).await;
    let apis: Vec<_> = nodes.iter().map(|node| node.app.api.unwrap()).collect();
    let admin = nodes[0].admin();
    // Five keys of which ten programs each want more than there is: ten a second, sixty at once.
    let greedy =
        join_all((0..5).map(|_| Agent::new(&admin, json!({ "requestsPerMinute": 600 })))).await;
    // Fifty keys of which one program each asks for a little less than it may: four a second.
    let modest =
        join_all((0..50).map(|_| Agent::new(&admin, json!({ "requestsPerMinute": 240 })))).await;

    let started = Instant::now();
    let ask = |agent: Agent, every: Duration| async move {
        let (mut admitted, mut refused, mut turn) = (0_u32, 0_u32, 0_usize);
        while started.elapsed() < TIME {
            let response = agent.send(agent.post(WHO, json!({}))).await;
            match response.status().as_u16() {
                200 => admitted += 1,
                429 => {
                    assert!(response.headers().contains_key("retry-after"));
                    refused += 1;
                }
                status => panic!("{status}: {}", response.text().await.unwrap()),
            }
            turn += 1;
            tokio::time::sleep_until((started + every * u32::try_from(turn).unwrap()).into()).await;
        }
        (admitted, refused)
    };
    let at = |agent: &Agent, turn: usize| agent.at(apis[turn % 3]);
    let greedy_tasks = greedy
        .iter()
        .flat_map(|agent| (0..10).map(move |turn| (agent, turn)));
    let greedy_tasks: Vec<_> = greedy_tasks
        .map(|(agent, turn)| tokio::spawn(ask(at(agent, turn), Duration::from_millis(100))))
        .collect();
    let modest_tasks: Vec<_> = modest
        .iter()
        .enumerate()
        .map(|(turn, agent)| tokio::spawn(ask(at(agent, turn), Duration::from_millis(260))))
        .collect();
    let greedy_counts = join_all(greedy_tasks).await;
    let seconds = started.elapsed().as_secs_f64();
    for counts in greedy_counts.chunks(10) {
        let sum = |pick: fn(&(u32, u32)) -> u32| {
            counts
                .iter()
                .map(|done| pick(done.as_ref().unwrap()))
                .sum::<u32>()
        };
        let (admitted, refused) = (sum(|counts| counts.0), sum(|counts| counts.1));
        assert!(
            f64::from(admitted) <= 60.0 + 10.0 * seconds + 1.0,
            "{admitted} in {seconds} s"
        );
        // Ten programs ask a hundred times a second where the machine keeps up; then the quota is used up to the last.
        if refused > 0 {
            assert!(admitted >= 60, "{admitted} admitted, {refused} refused");
        }
    }
    for counts in join_all(modest_tasks).await {
        let (admitted, refused) = counts.unwrap();
        assert_eq!(
            refused, 0,
            "of {admitted}: nobody under its quota is refused"
        );
        assert!(admitted > 2, "{admitted}");
    }
    for node in nodes {
        node.app.stop().await;
    }
}
