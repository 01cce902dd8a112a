//! A program that a test speaks for.

use std::io;
use std::panic::Location;

use serde_json::Value;
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

/// A program, of which each process is the test's to speak for.
pub(crate) struct Relay(pub(crate) TcpListener);

impl Relay {
    pub(crate) async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("a free port"))
    }

    pub(crate) fn config(&self) -> StdioConfig {
        let address = self.0.local_addr();
        let port = address.expect("a bound socket has an address").port();
        let mut config = StdioConfig::new("up".into(), "bash");
        config.args = ["-c", RELAY, "relay"].map(Into::into).to_vec();
        config.args.push(port.to_string().into());
        config
    }

    /// The next process that is started.
    pub(crate) async fn process_started(&self) -> Process {
        let accepted = tokio::time::timeout(DEADLINE, self.0.accept()).await;
        let (stream, _) = accepted
            .expect("a child was started")
            .expect("a connection");
        let (reading, writing) = stream.into_split();
        Process {
            reading: BufReader::new(reading),
            writing,
        }
    }
}

/// One process of a program. It dies when this is dropped.
pub(crate) struct Process {
    reading: BufReader<OwnedReadHalf>,
    writing: OwnedWriteHalf,
}

impl Process {
    /// The next message that the gateway has sent; `None`: it has closed the pipe.
    pub(crate) async fn heard(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = tokio::time::timeout(DEADLINE, self.reading.read_line(&mut line)).await;
        let read = read.expect("a line comes, or the end").unwrap_or(0);
        (read > 0).then(|| serde_json::from_str(&line).expect("a line is a message"))
    }

    pub(crate) async fn say(&mut self, message: impl ToString) {
        let line = format!("{}\n", message.to_string());
        let written = self.writing.write_all(line.as_bytes()).await;
        written.expect("the child takes it");
    }

    /// As [`say`](Self::say), for a child that may be gone by then.
    pub(crate) async fn try_say(&mut self, message: &str) -> io::Result<()> {
        let line = format!("{message}\n");
        let written = tokio::time::timeout(DEADLINE, self.writing.write_all(line.as_bytes()));
        written.await.expect("it is taken, or the child ends")
    }
}

/// What was heard `at` this place, which has this method.
pub(crate) fn with_method(heard: Option<Value>, method: &str, at: &Location<'_>) -> Value {
    let message = heard.unwrap_or_else(|| panic!("{method} awaited at {at}, but the end"));
    assert_eq!(message["method"], method, "at {at}: {message}");
    message
}
