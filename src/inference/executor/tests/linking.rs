//! What a trace shows of a pass that is for several conversions.

use std::sync::OnceLock;

use tracing::{Subscriber, info_span, span::Id};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

use super::script::*;

/// Of each link: the span that has it, by name and id, and the one that it leads to.
#[derive(Clone, Default)]
struct Links(Arc<Mutex<Vec<Link>>>);

/// A kind of span, one of its spans, and the span that it is linked to.
type Link = (&'static str, Id, Id);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Links {
    fn on_follows_from(&self, span: &Id, follows: &Id, context: Context<'_, S>) {
        let name = context.span(span).expect("it is there").name();
        let link = (name, span.clone(), follows.clone());
        self.0.lock().unwrap().push(link);
    }
}

/// The links of this whole process: executors have threads of their own.
fn links() -> Links {
    static LINKS: OnceLock<Links> = OnceLock::new();
    let set = || {
        let links = Links::default();
        let subscriber = tracing_subscriber::registry().with(links.clone());
        tracing::subscriber::set_global_default(subscriber).expect("no other test sets one");
        links
    };
    LINKS.get_or_init(set).clone()
}

#[tokio::test]
async fn a_shared_pass_and_those_that_it_is_for_are_linked_both_ways() {
    let links = links();
    let bench = bench(&[GPU]);
    let (gate, _first) = occupy(&bench).await;
    let askers = [info_span!("asker"), info_span!("asker")];
    let mut tickets = Vec::new();
    for (asker, value) in askers.iter().zip([1.0, 2.0]) {
        let enqueue = || bench.engine.enqueue(request(value)).unwrap();
        tickets.push(asker.in_scope(enqueue));
    }
    drop(gate);
    let mut batches = Vec::new();
    for mut ticket in tickets {
        batches.push(ticket.started().await.unwrap());
        ticket.finished().await.unwrap();
    }
    assert_eq!(batches[0].id, batches[1].id);
    assert_eq!(batches[0].images, 2);

    let links = links.0.lock().unwrap().clone();
    let ids = askers.map(|asker| asker.id().unwrap());
    let passes: Vec<_> = ids
        .iter()
        .map(|id| {
            let to_asker = links
                .iter()
                .filter(|(name, _, to)| *name == "encode_pass" && to == id);
            let passes: Vec<_> = to_asker.map(|(_, pass, _)| pass.clone()).collect();
            assert_eq!(passes.len(), 1, "{links:?}");
            passes[0].clone()
        })
        .collect();
    assert_eq!(passes[0], passes[1], "it is one pass for both");
    for id in &ids {
        assert!(links.contains(&("asker", id.clone(), passes[0].clone())));
    }
}
