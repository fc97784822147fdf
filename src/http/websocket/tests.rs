use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use futures_util::{sink, stream};
use time::{Duration as Span, OffsetDateTime};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::http::standing::Over;

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_asked_and_then_given_up() {
    let asked = AtomicU32::new(0);
    let started = Instant::now();
    let mut ping = tokio::time::interval(PING_EVERY);
    let mut nothing = stream::pending();
    let heard = hear(&mut nothing, &mut ping, || {
        asked.fetch_add(1, Ordering::Relaxed);
    });
    assert!(heard.await.is_none());
    assert_eq!(started.elapsed().as_secs(), 60);
    assert!(asked.into_inner() >= 3);
    // A pong is an answer.
    let pong = || stream::iter([Ok(Message::Pong(Vec::new().into()))]);
    assert!(hear(&mut pong(), &mut ping, || ()).await.is_some());
    assert!(
        hear(&mut stream::empty(), &mut ping, || ()).await.is_none(),
        "it is gone"
    );
}

/// A day is for ever here.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);

/// Takes some messages, then nothing for so long, then all others; what it took.
fn stuck(
    after: u32,
    pause: Duration,
) -> (
    Arc<std::sync::Mutex<Vec<Message>>>,
    impl Sink<Message> + Unpin,
) {
    let taken = Arc::new(std::sync::Mutex::new(Vec::new()));
    let taking = taken.clone();
    let sink = sink::unfold(0, move |count, message: Message| {
        let taking = taking.clone();
        async move {
            if count == after {
                sleep(pause).await;
            }
            taking
                .lock()
                .expect("no test panics while it holds it")
                .push(message);
            Ok::<_, std::convert::Infallible>(count + 1)
        }
    });
    (taken, Box::pin(sink))
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_is_given_up() {
    let (taken, sink) = stuck(2, FOR_EVER);
    let (sender, queue) = mpsc::channel(QUEUE_MAX);
    let feeder = tokio::spawn(async move {
        let mut sent = 0;
        while sender.send(Message::Text("x".into())).await.is_ok() {
            sent += 1;
        }
        sent
    });
    let started = Instant::now();
    write(sink, queue).await;
    assert_eq!(started.elapsed(), DRAIN_MAX + CLOSE_MAX);
    assert_eq!(taken.lock().expect("the writer is done").len(), 2);
    let sent = feeder.await.expect("it ends with the queue");
    assert!(sent <= 3 + QUEUE_MAX, "the queue is bounded: {sent}");
}

#[tokio::test(start_paused = true)]
async fn who_wakes_up_after_it_was_given_up_reads_why() {
    let (taken, sink) = stuck(0, DRAIN_MAX + CLOSE_MAX / 2);
    let (sender, queue) = mpsc::channel(QUEUE_MAX);
    for _ in 0..2 {
        let message = Message::Text("x".into());
        sender.send(message).await.expect("there is room");
    }
    write(sink, queue).await;
    let taken = taken.lock().expect("the writer is done");
    assert!(
        matches!(&taken[..], [Message::Text(_), Message::Close(Some(frame))] if frame.code == 1013),
        "{taken:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_goodbye_is_the_last_word() {
    let (taken, sink) = stuck(10, FOR_EVER);
    let (sender, queue) = mpsc::channel(QUEUE_MAX);
    for message in [
        Message::Text("x".into()),
        Close::Over(Over::Revoked).into(),
        Message::Text("y".into()),
    ] {
        sender.send(message).await.expect("there is room");
    }
    write(sink, queue).await;
    let taken = taken.lock().expect("the writer is done");
    assert!(
        matches!(&taken[..], [Message::Text(_), Message::Close(Some(frame))] if frame.code == 4403),
        "{taken:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_right_to_be_here_ends() {
    let end = |signed_in: Option<Standing>| {
        let (sender, seen) = watch::channel(signed_in);
        async move {
            let started = Instant::now();
            let close = authority(started, seen).await;
            drop(sender);
            (close, started.elapsed().as_secs())
        }
    };
    assert_eq!(end(None).await, (Close::InitTimeout, 10));
    let revoked = CancellationToken::new();
    let signed_in = |expires_at| {
        Some(Standing {
            expires_at,
            revoked: revoked.clone(),
        })
    };
    let now = OffsetDateTime::now_utc();
    let (close, seconds) = end(signed_in(Some(now + Span::seconds(50)))).await;
    assert_eq!(close, Close::Over(Over::Expired));
    assert!((49..=50).contains(&seconds), "{seconds}");
    assert_eq!(
        end(signed_in(Some(now - Span::seconds(50)))).await,
        (Close::Over(Over::Expired), 0)
    );
    let soon = revoked.clone();
    tokio::spawn(async move {
        sleep(Duration::from_secs(7)).await;
        soon.cancel();
    });
    assert_eq!(end(signed_in(None)).await, (Close::Over(Over::Revoked), 7));
}
