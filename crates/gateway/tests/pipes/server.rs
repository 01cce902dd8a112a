//! A server that is a pipe of messages, and that a test speaks for.

use std::sync::Arc;

use serde_json::{Value, json};
use thinpipe_gateway::{HttpUpstream, Reached};
use thinpipe_proto::revision::Binding;
use thinpipe_testkit::{DEADLINE, SseUpstream};
use thinpipe_transport::upstream::UpstreamConfig;
use thinpipe_transport::upstream::stdio::StdioConfig;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// What carries a server's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    Stdio,
    HttpSse,
}

/// Joins a child's standard streams to a socket of the test. When the test closes it, the child dies as if
/// it were killed; when its input ends, it leaves.
const RELAY: &str = r#"
exec 3<>"/dev/tcp/127.0.0.1/$1"
{ cat <&3; kill -KILL $$; } &
cat >&3
kill $!
"#;

/// A server, of which each session is the test's to speak for.
pub(crate) enum Scripted {
    Stdio(TcpListener),
    HttpSse(Arc<SseUpstream>, usize),
}

impl Scripted {
    pub(crate) async fn start(carrier: Carrier) -> Self {
        match carrier {
            Carrier::Stdio => {
                Self::Stdio(TcpListener::bind("127.0.0.1:0").await.expect("a free port"))
            }
            Carrier::HttpSse => {
                let upstream = SseUpstream::start().await;
                upstream.tell(|state| state.answers = false);
                Self::HttpSse(Arc::new(upstream), 0)
            }
        }
    }

    pub(crate) fn reached(&self) -> Reached {
        match self {
            Self::Stdio(listener) => {
                let port = listener
                    .local_addr()
                    .expect("a bound socket has an address")
                    .port();
                let mut config = StdioConfig::new("up".into(), "bash");
                config.args = ["-c", RELAY, "relay"].map(Into::into).to_vec();
                config.args.push(port.to_string().into());
                config.into()
            }
            Self::HttpSse(upstream, _) => Reached::Http(HttpUpstream {
                client: UpstreamConfig::new("up".into(), upstream.url().parse().expect("a URL")),
                pin: Some(Binding::HttpSse),
            }),
        }
    }

    /// The next session that a client opens.
    pub(crate) async fn session(&mut self) -> Speaker {
        match self {
            Self::Stdio(listener) => {
                let accepted = tokio::time::timeout(DEADLINE, listener.accept()).await;
                let (stream, _) = accepted
                    .expect("a child was started")
                    .expect("a connection");
                let (reading, writing) = stream.into_split();
                Speaker::Child(BufReader::new(reading), writing)
            }
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
    Child(BufReader<OwnedReadHalf>, OwnedWriteHalf),
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
            Self::Child(reading, _) => {
                let mut line = String::new();
                let read = tokio::time::timeout(DEADLINE, reading.read_line(&mut line)).await;
                let read = read.expect("a line comes, or the end").unwrap_or(0);
                (read > 0).then(|| serde_json::from_str(&line).expect("a line is a message"))
            }
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
        async move {
            let message = self.heard().await;
            let message =
                message.unwrap_or_else(|| panic!("{method} awaited at {at}, but the end"));
            assert_eq!(message["method"], method, "at {at}: {message}");
            message
        }
    }

    pub(crate) async fn say(&mut self, message: impl ToString) {
        match self {
            Self::Child(_, writing) => {
                let line = format!("{}\n", message.to_string());
                let written = writing.write_all(line.as_bytes()).await;
                written.expect("the child takes it");
            }
            Self::Stream {
                upstream, index, ..
            } => upstream.message(*index, message),
        }
    }

    /// As [`say`](Self::say), for a child that may be gone by then.
    pub(crate) async fn try_say(&mut self, message: &str) -> std::io::Result<()> {
        match self {
            Self::Child(_, writing) => {
                let line = format!("{message}\n");
                let written = tokio::time::timeout(DEADLINE, writing.write_all(line.as_bytes()));
                written.await.expect("it is taken, or the child ends")
            }
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
