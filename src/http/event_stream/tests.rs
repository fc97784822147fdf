use async_graphql::Value;
use futures_util::stream;
use time::OffsetDateTime;

use super::*;
use crate::auth::{
    jwt::Identity,
    principal::{Principal, Quotas},
};

fn ends(expires_at: Option<OffsetDateTime>) -> Ends {
    let identity = Identity {
        subject: "alice".into(),
        admin: false,
        expires_at: expires_at.unwrap_or(OffsetDateTime::now_utc() + time::Duration::hours(1)),
    };
    let quotas = Quotas {
        requests_per_minute: 10,
        conversions_at_once: None,
        conversions_per_day: None,
        images_per_batch: 1,
    };
    Ends {
        admitted: Admitted::person(Principal::user(identity, quotas)),
        watching: None,
        stopping: CancellationToken::new(),
    }
}

fn answer() -> Answer {
    Answer::new(Value::from(7))
}

async fn text(answers: BoxStream<'static, Answer>, ends: Ends) -> String {
    let parts: Vec<Bytes> = events(answers, ends).collect().await;
    String::from_utf8(parts.concat()).expect("text")
}

#[tokio::test]
async fn answers_come_as_events_and_then_the_end() {
    let both = stream::iter([answer(), answer()]).boxed();
    assert_eq!(
        text(both, ends(None)).await,
        ":\n\nevent: next\ndata: {\"data\":7}\n\nevent: next\ndata: {\"data\":7}\n\nevent: complete\ndata: \n\n"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_shows_that_it_lives_until_the_token_ends() {
    let soon = OffsetDateTime::now_utc() + time::Duration::seconds(30);
    let written = text(stream::pending().boxed(), ends(Some(soon))).await;
    assert_eq!(written.matches(":\n\n").count(), 3, "{written}");
    assert!(
        written.contains("UNAUTHENTICATED") && written.ends_with(COMPLETE),
        "{written}"
    );
}

#[tokio::test]
async fn a_server_that_stops_breaks_off() {
    let ends = ends(None);
    let stopping = ends.stopping.clone();
    let answers = stream::once(async move {
        stopping.cancel();
        answer()
    });
    let written = text(answers.chain(stream::pending()).boxed(), ends).await;
    assert!(
        written.contains("event: next") && !written.contains("complete"),
        "{written}"
    );
}

#[tokio::test]
async fn a_panic_is_an_error_like_any_other() {
    let answers = stream::iter([true, false]).map(|fine| {
        assert!(fine, "this is the panic that the test wants");
        answer()
    });
    let written = text(answers.boxed(), ends(None)).await;
    assert!(
        written.contains("{\"data\":7}")
            && written.contains("INTERNAL")
            && written.ends_with(COMPLETE),
        "{written}"
    );
}
