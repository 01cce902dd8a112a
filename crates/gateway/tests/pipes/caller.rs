//! A client with a session, over either binding: the same scenario runs over both.

use serde_json::Value;
use thinpipe_testkit::{Client, Connection, Response, SseClient};

use crate::front::Front;

/// How a client is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binding {
    Streamable,
    HttpSse,
}

/// A client in a session.
pub(crate) enum Caller {
    Streamable {
        client: Client,
        standalone: Option<Box<Response>>,
    },
    HttpSse(Box<SseClient>),
}

/// A request of a client, and where its answer comes.
pub(crate) enum Asked {
    /// A POST without a response yet.
    Waiting(Box<Connection>),
    Stream(Box<Response>),
    Json(Option<Value>),
    /// On the stream of the session.
    Session,
}

impl Caller {
    /// A client that opens its session like this, and the result of that.
    pub(crate) async fn connect(
        front: &Front,
        binding: Binding,
        initialize: String,
    ) -> (Self, Value) {
        match binding {
            Binding::Streamable => {
                let mut client = Client::new(&front.mcp);
                let initialized = client.open(initialize).await;
                let standalone = None;
                (Self::Streamable { client, standalone }, initialized)
            }
            Binding::HttpSse => {
                let mut client = SseClient::open(&front.sse).await;
                let initialized = client.begin(initialize).await;
                (Self::HttpSse(Box::new(client)), initialized)
            }
        }
    }

    /// Opens the standalone stream, where there is one of its own.
    pub(crate) async fn listen(&mut self) {
        if let Self::Streamable { client, standalone } = self {
            let stream = client.get().await;
            assert_eq!(stream.status, 200);
            *standalone = Some(Box::new(stream));
        }
    }

    /// The next message that belongs to no request.
    pub(crate) async fn unasked(&mut self) -> Value {
        match self {
            Self::Streamable { standalone, .. } => {
                let stream = standalone.as_mut().expect("the client listens");
                stream.next_message().await
            }
            Self::HttpSse(client) => client.stream.next_message().await,
        }
    }

    /// A notification or a response.
    pub(crate) async fn tell(&self, message: impl ToString) {
        let response = match self {
            Self::Streamable { client, .. } => client.post(message).await,
            Self::HttpSse(client) => client.post(message).await,
        };
        assert_eq!(response.status, 202);
    }

    pub(crate) async fn ask(&self, request: impl ToString) -> Asked {
        match self {
            Self::Streamable { client, .. } => {
                Asked::Waiting(Box::new(client.post(request).send().await))
            }
            Self::HttpSse(client) => {
                client.tell(request).await;
                Asked::Session
            }
        }
    }

    /// The next message about a request, its answer in the end.
    pub(crate) async fn next(&mut self, asked: &mut Asked) -> Value {
        if matches!(asked, Asked::Waiting(_)) {
            let Asked::Waiting(connection) = std::mem::replace(asked, Asked::Session) else {
                unreachable!("it was just looked at");
            };
            let mut response = connection.response().await;
            assert_eq!(
                response.status, 200,
                "R228: whatever the upstream's status is"
            );
            *asked = if response.is_stream() {
                Asked::Stream(Box::new(response))
            } else {
                Asked::Json(Some(response.json().await))
            };
        }
        match (asked, self) {
            (Asked::Stream(response), _) => response.next_message().await,
            (Asked::Json(answer), _) => answer.take().expect("there is one answer"),
            (_, caller) => caller.unasked().await,
        }
    }
}
