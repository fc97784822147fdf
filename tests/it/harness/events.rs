//! The raw events of one response.

use std::time::Duration;

use futures_util::{StreamExt, stream::BoxStream};
use serde_json::Value;

/// A stream of `graphql-sse`.
pub struct Events {
    chunks: BoxStream<'static, reqwest::Result<axum::body::Bytes>>,
    text: String,
}

impl Events {
    /// The events of a response, which must have some.
    pub fn of(response: reqwest::Response) -> Self {
        let headers = response.headers();
        assert_eq!(response.status(), 200);
        assert_eq!(headers["content-type"], "text/event-stream; charset=utf-8");
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(headers["x-accel-buffering"], "no");
        assert!(!headers.contains_key("content-encoding"));
        Self {
            chunks: response.bytes_stream().boxed(),
            text: String::new(),
        }
    }

    /// The next event and its data; `None` when nothing more comes. Comments are passed over.
    pub async fn event(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                if block.starts_with(':') {
                    continue;
                }
                let (event, data) = block.trim_end_matches('\n').split_once('\n').unwrap();
                let data = data.strip_prefix("data: ").unwrap();
                let data = if data.is_empty() {
                    Value::Null
                } else {
                    serde_json::from_str(data).unwrap()
                };
                return Some((event.strip_prefix("event: ").unwrap().to_owned(), data));
            }
            let chunk = tokio::time::timeout(Duration::from_secs(60), self.chunks.next()).await;
            match chunk.expect("something within a minute")? {
                Ok(chunk) => self.text.push_str(std::str::from_utf8(&chunk).unwrap()),
                Err(_) => return None,
            }
        }
    }

    /// The next answer.
    pub async fn answer(&mut self) -> Value {
        let (event, answer) = self.event().await.expect("an answer");
        assert_eq!(event, "next", "{answer}");
        super::client::check_errors(&answer);
        answer
    }

    /// All answers up to the end, which must be said and be the last.
    pub async fn answers(&mut self) -> Vec<Value> {
        let mut answers = Vec::new();
        loop {
            let (event, data) = self.event().await.expect("it says when it is complete");
            if event == "complete" {
                assert_eq!((data, self.event().await), (Value::Null, None));
                return answers;
            }
            super::client::check_errors(&data);
            answers.push(data);
        }
    }
}
