//! A program that a test speaks for.

use std::panic::Location;

use serde_json::{Value, json};
use thinpipe_gateway::{ChildUpstream, ProgramEra, Reached};
use thinpipe_testkit::DEADLINE;
use thinpipe_transport::upstream::stdio::StdioConfig;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Joins a child's standard streams to a socket of the test. When the test closes it, the child dies as if
/// it were killed; when its input ends, it leaves.
const RELAY: &str = r#"
exec 3<>"/dev/tcp/127.0.0.1/$1"
{ cat <&3; kill -KILL $$; } &
cat >&3
kill $!
"#;

pub(crate) const STAMP: &str = "io.modelcontextprotocol/subscriptionId";

/// A program, of which each process is the test's to speak for.
pub(crate) struct Scripted(TcpListener);

impl Scripted {
    pub(crate) async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("a free port"))
    }

    fn process(&self) -> StdioConfig {
        let address = self.0.local_addr();
        let port = address.expect("a bound socket has an address").port();
        let mut config = StdioConfig::new("up".into(), "bash");
        config.args = ["-c", RELAY, "relay"].map(Into::into).to_vec();
        config.args.push(port.to_string().into());
        config
    }

    /// It is asked what it speaks.
    pub(crate) fn unknown(&self) -> Reached {
        self.process().into()
    }

    /// It is known to speak 2026-07-28.
    pub(crate) fn modern(&self) -> Reached {
        Reached::Stdio(ChildUpstream {
            pin: Some(ProgramEra::Modern),
            ..ChildUpstream::new(self.process())
        })
    }

    /// The next process that is started.
    pub(crate) async fn process_started(&self) -> Speaker {
        let accepted = tokio::time::timeout(DEADLINE, self.0.accept()).await;
        let (stream, _) = accepted
            .expect("a child was started")
            .expect("a connection");
        let (reading, writing) = stream.into_split();
        Speaker {
            reading: BufReader::new(reading),
            writing,
        }
    }

    /// Whether another process was started and has come so far as to say so.
    pub(crate) async fn is_started_again(&self) -> bool {
        std::future::poll_fn(|cx| std::task::Poll::Ready(self.0.poll_accept(cx).is_ready())).await
    }
}

/// One process of a program.
pub(crate) struct Speaker {
    reading: BufReader<OwnedReadHalf>,
    writing: OwnedWriteHalf,
}

impl Speaker {
    /// The next message that the gateway has sent; `None`: it has closed the pipe.
    pub(crate) async fn heard(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = tokio::time::timeout(DEADLINE, self.reading.read_line(&mut line)).await;
        let read = read.expect("a line comes, or the end").unwrap_or(0);
        (read > 0).then(|| serde_json::from_str(&line).expect("a line is a message"))
    }

    /// The next message, which has this method.
    #[track_caller]
    pub(crate) fn hears<'a>(
        &'a mut self,
        method: &'a str,
    ) -> impl Future<Output = Value> + use<'a> {
        let at = Location::caller();
        async move {
            let message = self.heard().await;
            let message =
                message.unwrap_or_else(|| panic!("{method} awaited at {at}, but the end"));
            assert_eq!(message["method"], method, "at {at}: {message}");
            message
        }
    }

    pub(crate) async fn say(&mut self, message: impl ToString) {
        let line = format!("{}\n", message.to_string());
        let written = self.writing.write_all(line.as_bytes()).await;
        written.expect("the child takes it");
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
