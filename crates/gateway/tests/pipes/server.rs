//! A server that is a pipe of messages, and that a test speaks for.

use std::sync::Arc;

use serde_json::{Value, json};
use thinpipe_gateway::{HttpUpstream, Reached};
use thinpipe_proto::revision::Binding;
use thinpipe_testkit::SseUpstream;
use thinpipe_transport::upstream::UpstreamConfig;

use crate::relay::{Process, Relay, with_method};

/// What carries a server's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    Stdio,
    HttpSse,
}

/// A server, of which each session is the test's to speak for.
pub(crate) enum Scripted {
    Stdio(Relay),
    HttpSse(Arc<SseUpstream>, usize),
}

impl Scripted {
    pub(crate) async fn start(carrier: Carrier) -> Self {
        match carrier {
            Carrier::Stdio => Self::Stdio(Relay::start().await),
            Carrier::HttpSse => {
                let upstream = SseUpstream::start().await;
                upstream.tell(|state| state.answers = false);
                Self::HttpSse(Arc::new(upstream), 0)
            }
        }
    }

    pub(crate) fn reached(&self) -> Reached {
        match self {
            Self::Stdio(program) => program.config().into(),
            Self::HttpSse(upstream, _) => {
                let url = upstream.url().parse().expect("a URL");
                Reached::Http(HttpUpstream {
                    pin: Some(Binding::HttpSse),
                    ..HttpUpstream::new(UpstreamConfig::new("up".into(), url))
                })
            }
        }
    }

    /// The next session that a client opens.
    pub(crate) async fn session(&mut self) -> Speaker {
        match self {
            Self::Stdio(program) => Speaker::Child(program.process_started().await),
            Self::HttpSse(upstream, next) => {
                let index = *next;
                upstream
                    .wait_until(|state| state.sessions.len() > index)
                    .await;
                *next += 1;
                Speaker::Stream {
                    upstream: Arc::clone(upstream),
                    index,
                    read: 0,
                }
            }
        }
    }
}

/// One session of a server.
pub(crate) enum Speaker {
    Child(Process),
    Stream {
        upstream: Arc<SseUpstream>,
        index: usize,
        read: usize,
    },
}

impl Speaker {
    /// The next message that the gateway has sent; `None`: it has ended the session.
    pub(crate) async fn heard(&mut self) -> Option<Value> {
        match self {
            Self::Child(process) => process.heard().await,
            Self::Stream {
                upstream,
                index,
                read,
            } => {
                let target = format!("/messages?sessionId={index}");
                let mut found = None;
                let (index, next) = (*index, *read);
                upstream
                    .wait_until(|state| {
                        let mut posts = state.posts.iter().filter(|post| post.target == target);
                        found = posts.nth(next).map(|post| post.body.clone());
                        found.is_some() || !state.sessions[index].open
                    })
                    .await;
                *read += usize::from(found.is_some());
                found
            }
        }
    }

    /// The next message, whatever it is.
    ///
    /// # Panics
    /// If the session ends instead.
    pub(crate) async fn hears_any(&mut self) -> Value {
        let message = self.heard().await;
        message.expect("the gateway says something")
    }

    /// The next message, which has this method.
    #[track_caller]
    pub(crate) fn hears<'a>(
        &'a mut self,
        method: &'a str,
    ) -> impl Future<Output = Value> + use<'a> {
        let at = std::panic::Location::caller();
        async move { with_method(self.heard().await, method, at) }
    }

    pub(crate) async fn say(&mut self, message: impl ToString) {
        match self {
            Self::Child(process) => process.say(message).await,
            Self::Stream {
                upstream, index, ..
            } => upstream.message(*index, message),
        }
    }

    /// As [`say`](Self::say), for a child that may be gone by then.
    pub(crate) async fn try_say(&mut self, message: &str) -> std::io::Result<()> {
        match self {
            Self::Child(process) => process.try_say(message).await,
            Self::Stream { .. } => Err(std::io::ErrorKind::Unsupported.into()),
        }
    }

    /// Answers a request that was heard.
    pub(crate) async fn answer(&mut self, request: &Value, result: Value) {
        let id = &request["id"];
        self.say(json!({"jsonrpc": "2.0", "id": id, "result": result}))
            .await;
    }

    /// `initialize` and `notifications/initialized`, with this revision.
    pub(crate) async fn begin(&mut self, revision: &str) -> Value {
        let initialize = self.hears("initialize").await;
        let result = json!({
            "protocolVersion": revision,
            "capabilities": {"tools": {"listChanged": true}, "resources": {}, "logging": {}},
            "serverInfo": {"name": "scripted", "version": "1"},
        });
        self.answer(&initialize, result).await;
        self.hears("notifications/initialized").await;
        initialize
    }

    /// Dies.
    pub(crate) fn cut(self) {
        match self {
            Self::Child(..) => {}
            Self::Stream {
                upstream, index, ..
            } => upstream.cut(index),
        }
    }

    /// Until the gateway has ended the session; what it says before is given back.
    pub(crate) async fn ends(mut self) -> Vec<Value> {
        let mut rest = Vec::new();
        while let Some(message) = self.heard().await {
            rest.push(message);
        }
        rest
    }
}
