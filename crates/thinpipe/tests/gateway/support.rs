//! A gateway as its users run it: the program, with a configuration file.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use thinpipe_testkit::{Client, Event, Process, Response, Upstream, rpc};

/// Whether anything looks at the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nobody does: bytes go through.
    Pass,
    /// Three interceptors read every message, and change none.
    Inspect,
}

/// What stands in the file beside addresses: TOML before the upstream's table, and within it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Settings<'a> {
    pub(crate) gateway: &'a str,
    pub(crate) upstream: &'a str,
}

impl<'a> Settings<'a> {
    pub(crate) const fn of_gateway(gateway: &'a str) -> Self {
        Self {
            gateway,
            upstream: "",
        }
    }

    pub(crate) const fn of_upstream(upstream: &'a str) -> Self {
        Self {
            gateway: "",
            upstream,
        }
    }
}

/// A running gateway. It is killed with its test.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) url: String,
    pub(crate) process: Process,
    _file: File,
}

impl Gateway {
    pub(crate) async fn start(upstream: &Upstream, mode: Mode, settings: Settings<'_>) -> Self {
        let (gateway, more) = (settings.gateway, settings.upstream);
        let (url, interceptors) = (upstream.url(), interceptors(mode));
        Self::with_file(&format!(
            "{gateway}\n[[upstreams]]\nurl = \"{url}\"\n{more}\n{interceptors}"
        ))
        .await
    }

    /// With interceptors of its own: `interceptors` is TOML.
    pub(crate) async fn with_interceptors(upstream: &Upstream, interceptors: &str) -> Self {
        Self::start(upstream, Mode::Pass, Settings::of_upstream(interceptors)).await
    }

    /// With this behind the addresses in its file.
    pub(crate) async fn with_file(text: &str) -> Self {
        let text = format!("listen = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n{text}");
        let file = File::new(&text);
        let arguments = [Path::new("serve"), Path::new("--config"), &file.path];
        let process = Process::start(env!("CARGO_BIN_EXE_thinpipe"), arguments);
        let url = process.word_after("listening on ").await;
        // In a log of JSON, the text is a string in an object.
        let url = url.split('"').next().unwrap_or_default().to_owned();
        Self {
            url,
            process,
            _file: file,
        }
    }

    /// A client in a session of the newest revision that has them.
    pub(crate) async fn client(&self) -> Client {
        self.client_of(rpc::LEGACY[0]).await
    }

    /// A client in a session of this revision.
    pub(crate) async fn client_of(&self, revision: &str) -> Client {
        let mut client = Client::new(&self.url);
        client.initialize(revision).await;
        client
    }

    /// A client outside of any session.
    pub(crate) fn stranger(&self) -> Client {
        Client::new(&self.url)
    }

    /// What `/status` says.
    pub(crate) async fn status(&self) -> Value {
        self.admin("/status").await.json().await
    }

    /// What the admin address answers at a path.
    pub(crate) async fn admin(&self, path: &str) -> Response {
        let admin = self.process.word_after("admin on ").await;
        Client::new(&format!("{admin}{path}")).get().await
    }

    /// Until the upstream has been asked what it speaks, and has answered.
    pub(crate) async fn knows_upstream(&self) {
        self.process.line_with("speaks").await;
    }
}

/// A server, a gateway in front of it, and a client in a session.
pub(crate) type Started = (Upstream, Gateway, Client);

pub(crate) async fn start(mode: Mode, settings: Settings<'_>) -> Started {
    start_before(Upstream::start().await, mode, settings).await
}

/// As [`start`], with interceptors of its own: `interceptors` is TOML.
pub(crate) async fn start_with(interceptors: &str) -> Started {
    start(Mode::Pass, Settings::of_upstream(interceptors)).await
}

/// As [`start`], with a server whose streams can be resumed.
pub(crate) async fn start_resumable(mode: Mode) -> Started {
    let upstream = Upstream::start().await;
    upstream.set(|behaviour| behaviour.event_ids = true);
    start_before(upstream, mode, Settings::default()).await
}

async fn start_before(upstream: Upstream, mode: Mode, settings: Settings<'_>) -> Started {
    let gateway = Gateway::start(&upstream, mode, settings).await;
    let client = gateway.client().await;
    (upstream, gateway, client)
}

/// The events that answer a request, on a stream that ends properly.
pub(crate) async fn events_of(client: &Client, request: String) -> Vec<Event> {
    let (events, end) = client.post(request).await.events_to_end().await;
    assert_eq!(end, Ok(()), "{events:?}");
    events
}

fn interceptors(mode: Mode) -> &'static str {
    match mode {
        Mode::Pass => "",
        Mode::Inspect => READING,
    }
}

/// Three that read everything, in both directions. None of them finds anything in the tests' messages.
const READING: &str = r#"
[[upstreams.interceptors]]
type = "log"
level = "trace"

[[upstreams.interceptors]]
type = "redact"
rules = [{ pointer = "/params/arguments/no such argument" }, { pointer = "/result/no such member" }]

[[upstreams.interceptors]]
type = "rules"
rules = [{ when = { methods = ["notifications/none"] }, then = [{ reject = {} }] }]
"#;

/// A configuration file that goes with its gateway.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
}

impl File {
    pub(crate) fn new(text: &str) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("thinpipe-gateway-{}-{number}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).expect("a file can be written");
        Self { path }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
