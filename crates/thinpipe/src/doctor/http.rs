//! What is asked of a server over Streamable HTTP: nothing that runs a tool or changes anything but
//! sessions of the doctor's own, which it ends again.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};
use thinpipe_proto::header as mcp;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::session::UpstreamSessionId;
use thinpipe_transport::upstream::Upstream;

use super::list::{List, Lists, read_all};
use super::observation::{Resumed, Second, SessionId, Sessions, Stream};
use super::pipe::Offer;
use super::wire::{Events, Heard, Reply, Wire, client_info};

/// The id of a session that no server has given.
const UNKNOWN: &str = "00000000-0000-4000-8000-0123456789ab";
/// The origin of a page that has no business with any server.
const FOREIGN: &str = "https://thinpipe-doctor.invalid";
/// What was sent once is sent again within this, or not at all.
const REPLAY: Duration = Duration::from_secs(3);

/// A session that the doctor has opened.
struct Opened<'a> {
    wire: Wire<'a>,
    capabilities: Value,
    reply: Reply,
}

/// Looks at Streamable HTTP with sessions.
///
/// # Errors
/// If no session can be opened.
pub(super) async fn sessions(
    upstream: &Upstream,
    revision: Revision,
    watch: Duration,
) -> Result<(Sessions, Offer), String> {
    let first = Opened::open(upstream, revision).await?;
    let mut seen = Sessions {
        revision: Some(first.wire.revision),
        id: id_of(&first.reply.headers),
        ids_kept: true,
        ..Sessions::default()
    };
    note(&mut seen, &first.reply);
    let (lists, sample) = first.lists(&mut seen).await;
    seen.stream = listen(&first.wire, watch, &mut seen).await;
    seen.resumed = match &sample {
        Some(id) => resume(&first.wire, id).await,
        None => None,
    };
    refusals(&first.wire, &mut seen).await;
    seen.second = second(&first, revision, &lists).await;
    if seen.id == SessionId::Valid {
        seen.deleted = first.wire.delete().await.ok();
        if seen.deleted.is_some_and(|status| status < 300) {
            seen.after_delete = status_of(first.wire.ask("doctor-ended", "ping").await);
        }
    }
    let capabilities = first.capabilities.clone();
    Ok((seen, (capabilities, lists)))
}

/// Looks at stateless Streamable HTTP: its lists, and the status of a GET. `discovered` is the result
/// of `server/discover`.
pub(super) async fn stateless(
    upstream: &Upstream,
    revision: Revision,
    discovered: &Value,
) -> (Option<u16>, Lists) {
    let wire = Wire {
        upstream,
        revision,
        session: None,
    };
    let page = async |capability: &str, method: &str, cursor: Option<&str>| {
        let reply = wire.page(capability, method, cursor).await?;
        reply.result().cloned()
    };
    let lists = read_all(&discovered["capabilities"], page).await;
    let get = wire.listen(None).await.ok();
    (get.map(|response| response.status.as_u16()), lists)
}

impl<'a> Opened<'a> {
    async fn open(upstream: &'a Upstream, revision: Revision) -> Result<Self, String> {
        let mut wire = Wire {
            upstream,
            revision,
            session: None,
        };
        // A number, where other requests have text: both have to come back as they are.
        let reply = wire.post(&initialize(1, revision), |_| {}).await?;
        wire.session = reply.headers.get(mcp::SESSION_ID).cloned();
        let result = reply.result()?;
        let named = result["protocolVersion"].as_str().unwrap_or_default();
        let Some(agreed) = Revision::from_bytes(named.as_bytes()) else {
            wire.close().await;
            return Err(format!("it agreed to a revision nobody knows: {named:?}"));
        };
        wire.revision = agreed;
        let capabilities = result["capabilities"].clone();
        wire.initialized().await?;
        Ok(Self {
            wire,
            capabilities,
            reply,
        })
    }

    /// Its lists, and the id of an event of theirs with something behind it.
    async fn lists(&self, seen: &mut Sessions) -> (Lists, Option<String>) {
        let mut sample = None;
        let page = async |capability: &str, method: &str, cursor: Option<&str>| {
            let reply = self.wire.page(capability, method, cursor).await?;
            note(seen, &reply);
            if sample.is_none() {
                sample = resumable(&reply.ids);
            }
            reply.result().cloned()
        };
        let lists = read_all(&self.capabilities, page).await;
        (lists, sample)
    }
}

/// The request `initialize`, of a client that can do nothing.
pub(super) fn initialize(id: impl Into<Value>, revision: Revision) -> Value {
    let id: Value = id.into();
    json!({ "jsonrpc": "2.0", "id": id, "method": "initialize", "params": {
        "protocolVersion": revision.as_str(),
        "capabilities": {},
        "clientInfo": client_info(),
    }})
}

fn note(seen: &mut Sessions, reply: &Reply) {
    seen.ids_kept &= reply.id_kept;
    seen.streams_answers |= reply.event_stream;
    seen.primes |= reply.primed;
    seen.event_ids.extend(reply.ids.iter().cloned());
}

/// The last event is the response: what can come again is behind the one before it.
fn resumable(ids: &[String]) -> Option<String> {
    let before = ids.len().checked_sub(2).map(|at| ids[at].clone());
    before.or_else(|| ids.first().cloned())
}

fn id_of(headers: &HeaderMap) -> SessionId {
    let Some(id) = headers.get(mcp::SESSION_ID) else {
        return SessionId::None;
    };
    match UpstreamSessionId::from_bytes(Bytes::copy_from_slice(id.as_bytes())) {
        Ok(_) => SessionId::Valid,
        Err(_) => SessionId::Invalid,
    }
}

fn status_of(reply: Result<Reply, String>) -> Option<u16> {
    reply.ok().map(|reply| reply.status)
}

/// What becomes of requests that are not as they should be. `ping` is the harmless one.
async fn refusals(wire: &Wire<'_>, seen: &mut Sessions) {
    let ping = wire.request("doctor-ping", "ping");
    let json_only = |headers: &mut HeaderMap| {
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::ACCEPT, json);
    };
    seen.json_only = status_of(wire.post(&ping, json_only).await);
    let foreign = |headers: &mut HeaderMap| {
        headers.insert(header::ORIGIN, HeaderValue::from_static(FOREIGN));
    };
    seen.foreign_origin = status_of(wire.post(&ping, foreign).await);
    if seen.id == SessionId::None {
        return;
    }
    let without = Wire {
        session: None,
        ..wire.clone()
    };
    seen.missing = status_of(without.post(&ping, |_| {}).await);
    let unknown = Wire {
        session: Some(HeaderValue::from_static(UNKNOWN)),
        ..wire.clone()
    };
    seen.unknown = status_of(unknown.post(&ping, |_| {}).await);
}

async fn second(first: &Opened<'_>, revision: Revision, lists: &Lists) -> Second {
    let request = initialize(2, revision);
    let fresh = Wire {
        session: None,
        revision,
        ..first.wire.clone()
    };
    // Asked for itself, since the status is of interest.
    let reply = match fresh.post(&request, |_| {}).await {
        Ok(reply) if reply.result().is_ok() => reply,
        Ok(reply) => return Second::Refused(reply.status),
        Err(_) => return Second::NotTried,
    };
    let session = reply.headers.get(mcp::SESSION_ID).cloned();
    if session.is_some() && session == first.wire.session {
        return Second::Same;
    }
    let other = Opened {
        wire: Wire {
            session,
            ..first.wire.clone()
        },
        capabilities: first.capabilities.clone(),
        reply,
    };
    if other.wire.initialized().await.is_err() {
        return Second::NotTried;
    }
    let (others, _) = other.lists(&mut Sessions::default()).await;
    let differs = |(method, list): &(&&'static str, &Result<List, String>)| {
        others.get(*method).is_none_or(|other| other != *list)
    };
    let differing = lists.iter().filter(differs).map(|(method, _)| *method);
    let differing = differing.collect();
    other.wire.close().await;
    Second::Own { differing }
}

/// Listens on the standalone stream until it has shown itself alive, or for so long.
async fn listen(wire: &Wire<'_>, watch: Duration, seen: &mut Sessions) -> Stream {
    let Ok(response) = wire.listen(None).await else {
        return Stream::NotTried;
    };
    if !response.status.is_success() {
        return Stream::Refused(response.status.as_u16());
    }
    if !response.is_event_stream() {
        return Stream::NotEvents;
    }
    let mut events = Events::of(response);
    let mut primed = false;
    let reading = async {
        loop {
            match events.next().await {
                Ok(Heard::Comment) => return true,
                // An event without data is how a stream begins, not a sign that it lives.
                Ok(Heard::Event { id, data: None }) => primed |= id.is_some(),
                Ok(Heard::Event { .. }) => return true,
                Ok(Heard::End) | Err(_) => return false,
            }
        }
    };
    let heard = tokio::time::timeout(watch, reading).await;
    seen.primes |= primed;
    Stream::Open {
        watched: watch,
        alive: heard == Ok(true),
        ended: heard == Ok(false),
    }
}

/// Asks for what followed an event. `None`: there was no answer.
async fn resume(wire: &Wire<'_>, after: &str) -> Option<Resumed> {
    let response = wire.listen(Some(after)).await.ok()?;
    if !response.status.is_success() || !response.is_event_stream() {
        return Some(Resumed::Refused(response.status.as_u16()));
    }
    let mut events = Events::of(response);
    let reading = async {
        loop {
            match events.next().await {
                Ok(Heard::Event { data: Some(_), .. }) => return Resumed::Replayed,
                Ok(Heard::Event { .. } | Heard::Comment) => {}
                Ok(Heard::End) | Err(_) => return Resumed::Silent,
            }
        }
    };
    let heard = tokio::time::timeout(REPLAY, reading).await;
    Some(heard.unwrap_or(Resumed::Silent))
}
