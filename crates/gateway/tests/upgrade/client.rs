//! A client with a session, over either binding.

use serde_json::{Value, json};
use thinpipe_testkit::{Client, Connection, Response, SseClient, rpc};

use crate::front::Front;

/// How a client is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binding {
    Streamable,
    HttpSse,
}

/// A client in a session.
pub(crate) struct Caller {
    kind: Kind,
    /// The result of `initialize`.
    pub(crate) initialized: Value,
}

enum Kind {
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

/// What clients declare here.
pub(crate) fn able() -> Value {
    json!({"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {"listChanged": true}})
}

impl Caller {
    pub(crate) async fn begin(front: &Front, binding: Binding) -> Self {
        Self::declaring(front, binding, rpc::LEGACY[0], &able()).await
    }

    pub(crate) async fn declaring(
        front: &Front,
        binding: Binding,
        revision: &str,
        declared: &Value,
    ) -> Self {
        let initialize = rpc::initialize_declaring(0, revision, declared);
        match binding {
            Binding::Streamable => {
                let mut client = Client::new(&front.mcp);
                let initialized = client.open(initialize).await;
                let standalone = None;
                let kind = Kind::Streamable { client, standalone };
                Self { kind, initialized }
            }
            Binding::HttpSse => {
                let mut client = SseClient::open(&front.sse).await;
                let initialized = client.begin(initialize).await;
                let kind = Kind::HttpSse(Box::new(client));
                Self { kind, initialized }
            }
        }
    }

    /// The client that it is over Streamable HTTP.
    pub(crate) fn streamable(&self) -> &Client {
        match &self.kind {
            Kind::Streamable { client, .. } => client,
            Kind::HttpSse(_) => panic!("it is one of HTTP+SSE"),
        }
    }

    /// Opens the standalone stream, where there is one of its own.
    pub(crate) async fn listen(&mut self) {
        if let Kind::Streamable { client, standalone } = &mut self.kind {
            let stream = client.get().await;
            assert_eq!(stream.status, 200);
            *standalone = Some(Box::new(stream));
        }
    }

    /// The next message that belongs to no request.
    pub(crate) async fn unasked(&mut self) -> Value {
        match &mut self.kind {
            Kind::Streamable { standalone, .. } => {
                standalone.as_mut().unwrap().next_message().await
            }
            Kind::HttpSse(client) => client.stream.next_message().await,
        }
    }

    /// A notification or a response.
    pub(crate) async fn tell(&self, message: impl ToString) {
        let response = match &self.kind {
            Kind::Streamable { client, .. } => client.post(message).await,
            Kind::HttpSse(client) => client.post(message).await,
        };
        assert_eq!(response.status, 202);
    }

    pub(crate) async fn ask(&self, request: impl ToString) -> Asked {
        match &self.kind {
            Kind::Streamable { client, .. } => {
                Asked::Waiting(Box::new(client.post(request).send().await))
            }
            Kind::HttpSse(client) => {
                client.tell(request).await;
                Asked::Session
            }
        }
    }

    /// The next message about a request, its answer in the end.
    pub(crate) async fn next(&mut self, asked: &mut Asked) -> Value {
        if let Asked::Waiting(_) = asked {
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
        match asked {
            Asked::Stream(response) => response.next_message().await,
            Asked::Json(answer) => answer.take().expect("there is one answer"),
            Asked::Waiting(_) | Asked::Session => self.unasked().await,
        }
    }

    /// Asks, and is answered with nothing before that.
    pub(crate) async fn answer(&mut self, request: impl ToString) -> Value {
        let mut asked = self.ask(request).await;
        self.next(&mut asked).await
    }

    /// The result of a request.
    pub(crate) async fn result(&mut self, id: i64, method: &str, params: Value) -> Value {
        let answer = self.answer(rpc::request(id, method, &params)).await;
        assert!(answer["result"].is_object(), "{answer}");
        assert_eq!(answer["id"], id);
        answer["result"].clone()
    }

    /// Answers a question of the server.
    pub(crate) async fn reply(&self, question: &Value, result: Value) {
        self.tell(rpc::response(question["id"].clone(), &result))
            .await;
    }

    pub(crate) async fn cancel(&self, request: impl Into<Value>) {
        let params = json!({"requestId": request.into()});
        self.tell(rpc::notification("notifications/cancelled", &params))
            .await;
    }

    /// Leaves its standalone stream, or all of it.
    pub(crate) fn stop_listening(&mut self) {
        match &mut self.kind {
            Kind::Streamable { standalone, .. } => drop(standalone.take()),
            Kind::HttpSse(_) => panic!("its stream is its session"),
        }
    }

    /// Ends the session in order.
    pub(crate) async fn end(self) {
        match self.kind {
            Kind::Streamable { client, .. } => assert_eq!(client.delete().await.status, 200),
            // Its stream is its session.
            Kind::HttpSse(client) => drop(client),
        }
    }
}
