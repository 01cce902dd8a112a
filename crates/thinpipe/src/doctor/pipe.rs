//! What is asked of servers that are a pipe of messages: child processes, and HTTP+SSE.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::Message;
use thinpipe_transport::ByteBudget;
use thinpipe_transport::upstream::pipe::{DEFAULT_MAX_MESSAGE, Pipe, PipeError};
use thinpipe_transport::upstream::probe::{self, ProbeError, Verdict};
use thinpipe_transport::upstream::stdio::{StdioConfig, StdioUpstream};
use thinpipe_transport::upstream::{Upstream, sse};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::http::initialize;
use super::list::{Lists, read_all};
use super::observation::{HttpSse, Stdio};
use super::wire::{PATIENCE, meta, result_of};
use crate::causes::with_causes;

/// For the first answer of a child: it may have to be downloaded first.
const START: Duration = Duration::from_secs(60);

/// What a child spoke, and what was seen of it.
pub(super) struct Child {
    pub(super) verdict: Verdict,
    pub(super) stdio: Stdio,
    pub(super) offer: Result<Offer, String>,
    /// What one of 2026-07-28 answers who asks it for a session; `None`: it has none.
    pub(super) session: Option<Session>,
}

/// A session of a child: its revision, if it is a known one, and the server's capabilities.
pub(super) type Session = (Option<Revision>, Value);

/// What came of looking at a child.
#[derive(Default)]
struct Look {
    first_answer: Option<Duration>,
    offer: Option<Result<Offer, String>>,
    session: Option<Session>,
}

/// The capabilities of a server, and its lists.
pub(super) type Offer = (Value, Lists);

/// Looks at a server that is a program.
///
/// # Errors
/// If it cannot be found out what it speaks. All children have ended then, as they have afterwards.
pub(super) async fn child(config: StdioConfig) -> Result<Child, ProbeError> {
    let tasks = TaskTracker::new();
    let grace = config.stdin_grace;
    let (stop, budget) = (CancellationToken::new(), ByteBudget::default());
    let upstream = StdioUpstream::new(config, budget, tasks.clone(), stop);
    let verdict = probe::probe_stdio(&upstream).await;
    let died_on_discover = upstream.stats().spawned > 1;
    let looked = match &verdict {
        Ok(verdict) => Some(look(&upstream, verdict).await),
        Err(_) => None,
    };
    // Each session has been dropped, which is the end of its child's input.
    let asked_to_leave = Instant::now();
    tasks.close();
    tasks.wait().await;
    let took = asked_to_leave.elapsed();
    let verdict = verdict?;
    let look = looked.unwrap_or_default();
    let stats = upstream.stats();
    let seen = Stdio {
        died_on_discover,
        first_answer: look.first_answer,
        noise: stats.noise,
        left_after: (stats.killed == 0 && took < grace).then_some(took),
    };
    Ok(Child {
        verdict,
        stdio: seen,
        offer: look
            .offer
            .unwrap_or_else(|| Ok((Value::Null, Lists::new()))),
        session: look.session,
    })
}

async fn look(upstream: &StdioUpstream, verdict: &Verdict) -> Look {
    let (first_answer, offer) = look_at_lists(upstream, verdict).await;
    let session = match verdict.modern() {
        // A program may serve sessions and not say so, as those of the official SDKs do, and the gateway
        // tries it for clients that have some.
        Some(_) => session(upstream, first_answer).await,
        None => None,
    };
    Look {
        first_answer,
        offer: Some(offer),
        session,
    }
}

/// What a child answers who asks for a session; one of its own, as one child is of one era.
async fn session(upstream: &StdioUpstream, first_answer: Option<Duration>) -> Option<Session> {
    let mut talk = Talk::new(upstream.spawn().ok()?);
    // It starts as slowly as before.
    let patience = first_answer.unwrap_or_default() + PATIENCE;
    talk.initialize(patience).await.ok()
}

async fn look_at_lists(
    upstream: &StdioUpstream,
    verdict: &Verdict,
) -> (Option<Duration>, Result<Offer, String>) {
    let started = Instant::now();
    let spawned = upstream.spawn().map_err(|error| with_causes(&error));
    let mut talk = match spawned {
        Ok(pipe) => Talk::new(pipe),
        Err(error) => return (None, Err(error)),
    };
    let opened = match verdict.modern().and_then(<[_]>::first) {
        Some(revision) => talk.discover(*revision).await,
        None => talk.initialize(START).await.map(|(_, offered)| offered),
    };
    match opened {
        Ok(capabilities) => {
            let took = started.elapsed();
            let lists = talk.lists(&capabilities).await;
            (Some(took), Ok((capabilities, lists)))
        }
        Err(error) => (None, Err(error)),
    }
}

/// Looks at a server on HTTP+SSE: its lists, and whether it serves two clients at a time.
///
/// # Errors
/// If it cannot be used.
pub(super) async fn http_sse(upstream: &Upstream) -> Result<(HttpSse, Offer), String> {
    let mut first = Talk::new(open(upstream).await.map_err(|error| with_causes(&error))?);
    let (_, capabilities) = first.initialize(START).await?;
    let lists = first.lists(&capabilities).await;
    let second = match open(upstream).await {
        Ok(pipe) => Talk::new(pipe).initialize(START).await.is_ok(),
        Err(_) => false,
    };
    // A server with one transport for all gives the first client's answers to the second.
    let first_goes_on = first.ask("ping", json!({}), PATIENCE).await.is_ok();
    let seen = HttpSse {
        two_at_a_time: second && first_goes_on,
    };
    Ok((seen, (capabilities, lists)))
}

/// Whether the server names an endpoint that no client may use, and which.
pub(super) async fn foreign_endpoint(upstream: &Upstream) -> Option<String> {
    match open(upstream).await {
        Err(error @ PipeError::BadEndpoint { .. }) => Some(with_causes(&error)),
        _ => None,
    }
}

async fn open(upstream: &Upstream) -> Result<Pipe, PipeError> {
    let budget = ByteBudget::default();
    sse::open(upstream, HeaderMap::new(), DEFAULT_MAX_MESSAGE, &budget).await
}

/// One session, with one request at a time.
struct Talk {
    pipe: Pipe,
    /// Goes with every request of the stateless revisions.
    meta: Option<Value>,
    last_id: u64,
}

impl Talk {
    fn new(pipe: Pipe) -> Self {
        Self {
            pipe,
            meta: None,
            last_id: 0,
        }
    }

    /// Opens the session.
    async fn initialize(&mut self, patience: Duration) -> Result<Session, String> {
        let message = initialize(0, Revision::NEWEST_LEGACY);
        let params = message["params"].clone();
        let result = self.ask("initialize", params, patience).await?;
        let named = result["protocolVersion"].as_str().unwrap_or_default();
        let revision = Revision::from_bytes(named.as_bytes());
        if let Some(revision) = revision {
            self.pipe.sender.negotiated(revision);
        }
        let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        let initialized = Bytes::from(initialized.to_string());
        let sent = self.pipe.sender.send(initialized).await;
        sent.map_err(|error| with_causes(&error))?;
        Ok((revision, result["capabilities"].clone()))
    }

    /// Asks for the server's capabilities without a session.
    async fn discover(&mut self, revision: Revision) -> Result<Value, String> {
        self.meta = Some(meta(revision));
        let result = self.ask("server/discover", json!({}), START).await?;
        Ok(result["capabilities"].clone())
    }

    async fn lists(&mut self, capabilities: &Value) -> Lists {
        let page = async |_: &str, method: &str, cursor: Option<&str>| {
            let params = cursor.map_or_else(|| json!({}), |c| json!({ "cursor": c }));
            self.ask(method, params, PATIENCE).await
        };
        read_all(capabilities, page).await
    }

    async fn ask(
        &mut self,
        method: &str,
        mut params: Value,
        patience: Duration,
    ) -> Result<Value, String> {
        self.last_id += 1;
        if let Some(meta) = &self.meta {
            params["_meta"] = meta.clone();
        }
        let id = self.last_id;
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let message = Bytes::from(message.to_string());
        let ours = |message: &Message| {
            let asked = message.kind().is_response()
                && message
                    .id()
                    .is_some_and(|found| found.as_json() == id.to_string().as_bytes());
            asked.then(|| message.source().clone())
        };
        let asked = self.pipe.ask(message, ours);
        let response = match tokio::time::timeout(patience, asked).await {
            Ok(response) => response.map_err(|error| with_causes(&error))?,
            Err(_) => return Err(format!("no answer to {method} within {patience:?}")),
        };
        let response: Value =
            serde_json::from_slice(&response).map_err(|error| error.to_string())?;
        result_of(&response).cloned()
    }
}
