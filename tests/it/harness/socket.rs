//! A raw `graphql-transport-ws` client.

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};

pub struct Socket {
    inner: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next_id: u32,
}

/// What comes over the socket.
#[derive(Debug)]
pub enum Received {
    Message(Value),
    Closed(Option<u16>),
}

impl Socket {
    /// Connects without signing in.
    pub async fn connect(api: SocketAddr) -> Self {
        let mut request = format!("ws://{api}/graphql").into_client_request().unwrap();
        request.headers_mut().insert(
            "Sec-WebSocket-Protocol",
            HeaderValue::from_static("graphql-transport-ws"),
        );
        let (inner, _) = connect_async(request).await.unwrap();
        Self { inner, next_id: 1 }
    }

    /// Connects with a signed upgrade, as agents do.
    pub async fn signed(api: SocketAddr, headers: axum::http::HeaderMap) -> Self {
        let mut request = format!("ws://{api}/graphql").into_client_request().unwrap();
        request.headers_mut().extend(headers);
        request.headers_mut().insert(
            "Sec-WebSocket-Protocol",
            HeaderValue::from_static("graphql-transport-ws"),
        );
        let (inner, _) = connect_async(request).await.unwrap();
        let mut socket = Self { inner, next_id: 1 };
        socket.send(json!({ "type": "connection_init" })).await;
        match socket.receive().await {
            Received::Message(message) => {
                assert_eq!(message["type"], "connection_ack", "{message}");
            }
            closed @ Received::Closed(_) => panic!("{closed:?}"),
        }
        socket
    }

    /// Connects and signs in.
    pub async fn open(api: SocketAddr, token: Option<&str>) -> Self {
        let mut socket = Self::connect(api).await;
        let payload = token.map(|token| json!({ "authorization": format!("Bearer {token}") }));
        socket
            .send(json!({ "type": "connection_init", "payload": payload }))
            .await;
        match socket.receive().await {
            Received::Message(message) => {
                assert_eq!(message["type"], "connection_ack", "{message}")
            }
            closed @ Received::Closed(_) => panic!("{closed:?}"),
        }
        socket
    }

    /// Asks for another sub-protocol; whether the server takes the connection.
    pub async fn is_taken(api: SocketAddr, protocol: &str) -> bool {
        let mut request = format!("ws://{api}/graphql").into_client_request().unwrap();
        request.headers_mut().insert(
            "Sec-WebSocket-Protocol",
            HeaderValue::from_str(protocol).unwrap(),
        );
        connect_async(request).await.is_ok()
    }

    /// Sends text that need not be a message of the protocol.
    pub async fn send_text(&mut self, text: &str) {
        self.inner
            .send(Message::text(text.to_owned()))
            .await
            .unwrap();
    }

    /// The code that the server closes with; what else comes before is skipped.
    pub async fn closed(&mut self) -> Option<u16> {
        loop {
            if let Received::Closed(code) = self.receive().await {
                return code;
            }
        }
    }

    /// The code of the error that an operation is refused with: before it begins (`error`), or by its field (`next`).
    pub async fn refusal(&mut self, query: &str, variables: Value) -> String {
        self.subscribe(query, variables).await;
        let message = self.message().await;
        let errors = match message["type"].as_str() {
            Some("error") => message["payload"].clone(),
            _ => message["payload"]["errors"].clone(),
        };
        super::client::check_errors(&json!({ "errors": errors }));
        let code = errors[0]["extensions"]["code"].as_str();
        code.unwrap_or_else(|| panic!("no error with a code: {message}"))
            .to_owned()
    }

    /// The next message of the protocol.
    pub async fn message(&mut self) -> Value {
        match self.receive().await {
            Received::Message(message) => message,
            closed @ Received::Closed(_) => panic!("{closed:?}"),
        }
    }

    /// Sends bytes as a binary frame.
    pub async fn send_binary(&mut self, bytes: &[u8]) {
        self.inner
            .send(Message::binary(bytes.to_vec()))
            .await
            .unwrap();
    }

    /// The status with which an upgrade is answered that comes from a page of this origin.
    pub async fn status_from(api: SocketAddr, origin: &str) -> u16 {
        let mut request = format!("ws://{api}/graphql").into_client_request().unwrap();
        for (name, value) in [
            ("Sec-WebSocket-Protocol", "graphql-transport-ws"),
            ("Origin", origin),
        ] {
            let value = HeaderValue::from_str(value).unwrap();
            request.headers_mut().insert(name, value);
        }
        match connect_async(request).await {
            Ok((_, response)) => response.status().as_u16(),
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
                response.status().as_u16()
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn send(&mut self, message: Value) {
        self.inner
            .send(Message::text(message.to_string()))
            .await
            .unwrap();
    }

    pub async fn receive(&mut self) -> Received {
        loop {
            let message = tokio::time::timeout(Duration::from_secs(60), self.inner.next())
                .await
                .expect("a message within a minute");
            match message {
                Some(Ok(Message::Text(text))) => {
                    return Received::Message(serde_json::from_str(&text).unwrap());
                }
                Some(Ok(Message::Close(frame))) => {
                    return Received::Closed(frame.map(|frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Received::Closed(None),
            }
        }
    }

    pub async fn subscribe(&mut self, query: &str, variables: Value) -> String {
        let id = self.next_id.to_string();
        self.next_id += 1;
        let payload = json!({ "query": query, "variables": variables });
        self.send(json!({ "id": id, "type": "subscribe", "payload": payload }))
            .await;
        id
    }

    /// The next event of the only subscription; `None` when it is complete.
    pub async fn event(&mut self) -> Option<Value> {
        match self.receive().await {
            Received::Message(mut message) => match message["type"].as_str() {
                Some("next") => {
                    assert!(message["payload"].get("errors").is_none(), "{message}");
                    Some(message["payload"]["data"].take())
                }
                Some("complete") => None,
                _ => panic!("unexpected: {message}"),
            },
            closed @ Received::Closed(_) => panic!("{closed:?}"),
        }
    }

    /// All events until the subscription is complete.
    pub async fn events(&mut self, query: &str, variables: Value) -> Vec<Value> {
        self.subscribe(query, variables).await;
        let mut events = Vec::new();
        while let Some(event) = self.event().await {
            events.push(event);
        }
        events
    }
}
