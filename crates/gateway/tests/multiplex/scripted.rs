//! A program that a test speaks for.

use std::panic::Location;

use serde_json::{Value, json};
use thinpipe_gateway::{ChildUpstream, ProgramEra, Reached};

use crate::relay::{Process, Relay, with_method};

pub(crate) const STAMP: &str = "io.modelcontextprotocol/subscriptionId";

/// A program, of which each process is the test's to speak for.
pub(crate) struct Scripted(Relay);

impl Scripted {
    pub(crate) async fn start() -> Self {
        Self(Relay::start().await)
    }

    /// It is asked what it speaks.
    pub(crate) fn unknown(&self) -> Reached {
        self.0.config().into()
    }

    /// It is known to speak 2026-07-28.
    pub(crate) fn modern(&self) -> Reached {
        Reached::Stdio(ChildUpstream {
            pin: Some(ProgramEra::Modern),
            ..ChildUpstream::new(self.0.config())
        })
    }

    /// The next process that is started.
    pub(crate) async fn process_started(&self) -> Speaker {
        Speaker(self.0.process_started().await)
    }

    /// Whether another process was started and has come so far as to say so.
    pub(crate) async fn is_started_again(&self) -> bool {
        std::future::poll_fn(|cx| std::task::Poll::Ready(self.0.0.poll_accept(cx).is_ready())).await
    }
}

/// One process of a program.
pub(crate) struct Speaker(Process);

impl Speaker {
    /// The next message that the gateway has sent; `None`: it has closed the pipe.
    pub(crate) async fn heard(&mut self) -> Option<Value> {
        self.0.heard().await
    }

    /// The next message, which has this method.
    #[track_caller]
    pub(crate) fn hears<'a>(
        &'a mut self,
        method: &'a str,
    ) -> impl Future<Output = Value> + use<'a> {
        let at = Location::caller();
        async move { with_method(self.heard().await, method, at) }
    }

    pub(crate) async fn say(&mut self, message: impl ToString) {
        self.0.say(message).await;
    }

    pub(crate) async fn notify(&mut self, method: &str, params: Value) {
        self.say(json!({"jsonrpc": "2.0", "method": method, "params": params}))
            .await;
    }

    /// What belongs to a listen.
    pub(crate) async fn notify_listen(&mut self, listen: &Value, method: &str, mut params: Value) {
        params["_meta"] = json!({STAMP: listen["id"]});
        self.notify(method, params).await;
    }

    /// Grants all that a listen asks for.
    pub(crate) async fn acknowledge(&mut self, listen: &Value) {
        let params = json!({"notifications": listen["params"]["notifications"]});
        let method = "notifications/subscriptions/acknowledged";
        self.notify_listen(listen, method, params).await;
    }

    /// Answers a request that was heard.
    pub(crate) async fn answer(&mut self, request: &Value, mut result: Value) {
        result["resultType"] = "complete".into();
        let id = &request["id"];
        self.say(json!({"jsonrpc": "2.0", "id": id, "result": result}))
            .await;
    }

    pub(crate) async fn refuse(&mut self, request: &Value, code: i32, data: Value) {
        let error = json!({"code": code, "message": "no", "data": data});
        self.say(json!({"jsonrpc": "2.0", "id": request["id"], "error": error}))
            .await;
    }

    /// Dies.
    pub(crate) fn die(self) {}
}
