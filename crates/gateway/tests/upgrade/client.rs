//! A client with a session, and what it says.

use serde_json::{Value, json};
use thinpipe_testkit::{Client, rpc};

pub(crate) use crate::caller::{Asked, Binding, Caller};
use crate::front::Front;

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
        Self::connect(front, binding, initialize).await.0
    }

    /// The client that it is over Streamable HTTP.
    pub(crate) fn streamable(&self) -> &Client {
        match self {
            Self::Streamable { client, .. } => client,
            Self::HttpSse(_) => panic!("it is one of HTTP+SSE"),
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
        match self {
            Self::Streamable { standalone, .. } => drop(standalone.take()),
            Self::HttpSse(_) => panic!("its stream is its session"),
        }
    }

    /// Ends the session in order.
    pub(crate) async fn end(self) {
        match self {
            Self::Streamable { client, .. } => assert_eq!(client.delete().await.status, 200),
            // Its stream is its session.
            Self::HttpSse(client) => drop(client),
        }
    }
}
