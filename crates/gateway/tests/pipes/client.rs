//! A client with a session, over either binding: the same scenario runs over both.

use serde_json::Value;
use thinpipe_testkit::{Client, Connection, Response, SseClient, rpc};

use crate::front::Front;
use crate::server::{Scripted, Speaker};

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
    /// A client and its session at the server.
    pub(crate) async fn begin(
        front: &Front,
        server: &mut Scripted,
        binding: Binding,
        revision: &str,
    ) -> (Self, Speaker) {
        let speaking = async {
            let mut speaker = server.session().await;
            speaker.begin(revision).await;
            speaker
        };
        tokio::join!(Self::open(front, binding, revision), speaking)
    }

    /// A client, with whoever answers its `initialize` elsewhere.
    pub(crate) async fn open(front: &Front, binding: Binding, revision: &str) -> Self {
        match binding {
            Binding::Streamable => {
                let mut client = Client::new(&front.mcp);
                client.initialize(revision).await;
                Self::Streamable {
                    client,
                    standalone: None,
                }
            }
            Binding::HttpSse => {
                let mut client = SseClient::open(&front.sse).await;
                client.initialize(revision).await;
                Self::HttpSse(Box::new(client))
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

    /// Asks for a list and is answered: what was said before has arrived by then.
    pub(crate) async fn settle(&mut self, speaker: &mut Speaker) {
        let mut asked = self
            .ask(rpc::request("settle", "tools/list", &serde_json::json!({})))
            .await;
        let request = speaker.hears("tools/list").await;
        speaker
            .answer(&request, serde_json::json!({"tools": []}))
            .await;
        assert_eq!(self.next(&mut asked).await["id"], "settle");
    }

    /// The session's id, as this side knows it.
    pub(crate) fn session(&self) -> &str {
        match self {
            Self::Streamable { client, .. } => client.session().expect("it has a session"),
            Self::HttpSse(client) => client.session(),
        }
    }

    /// Leaves without a word.
    pub(crate) fn leave(self) {
        drop(self);
    }

    /// Ends the session in order.
    pub(crate) async fn end(self) {
        match self {
            Self::Streamable { client, .. } => {
                assert_eq!(client.delete().await.status, 200);
                assert_eq!(client.post(rpc::call(9, "none")).await.status, 404);
            }
            // Its stream is its session.
            Self::HttpSse(client) => drop(client),
        }
    }

    /// The gateway has ended the session.
    pub(crate) async fn expect_over(mut self) {
        match &mut self {
            Self::Streamable { client, .. } => {
                thinpipe_testkit::eventually("the session is over", async || {
                    match client.post(rpc::initialized()).await.status {
                        404 => Ok(()),
                        status => Err(format!("status {status}")),
                    }
                })
                .await;
            }
            Self::HttpSse(client) => {
                let (events, end) = client.stream.events_to_end().await;
                assert_eq!((events, end), (Vec::new(), Ok(())));
            }
        }
    }
}
