//! One request of the doctor's over HTTP, and what came back.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde_json::{Value, json};
use thinpipe_proto::header as mcp;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::meta_key;
use thinpipe_proto::sse::{Decoder, Item};
use thinpipe_transport::ByteBudget;
use thinpipe_transport::body::{Body, BodyStream, Filled};
use thinpipe_transport::upstream::{Upstream, UpstreamRequest, UpstreamResponse};

use crate::causes::with_causes;

/// Bytes of one answer, or of one event.
const MAX_ANSWER: usize = 16 << 20;
/// Ids of events that are remembered.
const MAX_IDS: usize = 256;
/// For one answer, to its last byte.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// What one request got.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// The response to the request, if there is one in the body.
    pub(super) response: Option<Value>,
    pub(super) event_stream: bool,
    /// Ids of its events, in order.
    pub(super) ids: Vec<String>,
    /// The first event had an id and no data.
    pub(super) primed: bool,
    /// The response has exactly the id of its request.
    pub(super) id_kept: bool,
}

/// A stream of events that is read for some time.
pub(super) struct Events {
    body: Option<Box<dyn BodyStream>>,
    decoder: Decoder,
}

/// The next thing on a stream.
#[derive(Debug)]
pub(super) enum Heard {
    Event {
        id: Option<String>,
        data: Option<Value>,
    },
    /// A comment, or another sign of life.
    Comment,
    End,
}

/// Sends requests of one session, or of none.
#[derive(Debug, Clone)]
pub(super) struct Wire<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) revision: Revision,
    pub(super) session: Option<HeaderValue>,
}

impl Wire<'_> {
    /// POSTs a message; `change` has the last word on its headers.
    ///
    /// # Errors
    /// For people: no answer, or one that breaks off.
    pub(super) async fn post(
        &self,
        message: &Value,
        change: impl FnOnce(&mut HeaderMap),
    ) -> Result<Reply, String> {
        let mut headers = self.headers("application/json, text/event-stream");
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        if self.revision.is_modern()
            && let Some(Ok(method)) = message["method"].as_str().map(HeaderValue::from_str)
        {
            headers.insert(mcp::METHOD, method);
        }
        change(&mut headers);
        let body = Bytes::from(message.to_string());
        let response = self.send(Method::POST, headers, body).await?;
        let wanted = message.get("id").cloned();
        let reading = read(response, wanted);
        match tokio::time::timeout(PATIENCE, reading).await {
            Ok(reply) => reply,
            Err(_) => Err(format!("the answer was not complete within {PATIENCE:?}")),
        }
    }

    /// A request by its method, without parameters but what the revision wants.
    pub(super) async fn ask(&self, id: impl Into<Value>, method: &str) -> Result<Reply, String> {
        self.post(&self.request(id, method), |_| {}).await
    }

    /// A page of a list, behind the cursor if there is one.
    pub(super) async fn page(
        &self,
        capability: &str,
        method: &str,
        cursor: Option<&str>,
    ) -> Result<Reply, String> {
        let mut message = self.request(format!("doctor-{capability}"), method);
        if let Some(cursor) = cursor {
            message["params"]["cursor"] = cursor.into();
        }
        self.post(&message, |_| {}).await
    }

    /// Says that the session is initialized; one that cannot be told is ended.
    ///
    /// # Errors
    /// As [`post`](Self::post).
    pub(super) async fn initialized(&self) -> Result<(), String> {
        let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        let told = self.post(&initialized, |_| {}).await;
        if told.is_err() {
            self.close().await;
        }
        told.map(drop)
    }

    /// Ends the session, if there is one and the server lets it be ended.
    pub(super) async fn close(&self) {
        if self.session.is_some()
            && let Err(error) = self.delete().await
        {
            tracing::debug!(error, "a session of the doctor's was not ended");
        }
    }

    /// The message of a request.
    pub(super) fn request(&self, id: impl Into<Value>, method: &str) -> Value {
        let id: Value = id.into();
        let params = match self.revision.is_modern() {
            true => json!({ "_meta": meta(self.revision) }),
            false => json!({}),
        };
        json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
    }

    /// A GET of the event stream, after an event if there is one. Its body is unread.
    pub(super) async fn listen(&self, after: Option<&str>) -> Result<UpstreamResponse, String> {
        let mut headers = self.headers("text/event-stream");
        if let Some(Ok(id)) = after.map(HeaderValue::from_str) {
            headers.insert(mcp::LAST_EVENT_ID, id);
        }
        self.send(Method::GET, headers, Bytes::new()).await
    }

    /// The end of the session: its status.
    pub(super) async fn delete(&self) -> Result<u16, String> {
        let headers = self.headers("application/json, text/event-stream");
        let response = self.send(Method::DELETE, headers, Bytes::new()).await?;
        Ok(response.status.as_u16())
    }

    fn headers(&self, accept: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        let version = HeaderValue::from_static(self.revision.as_str());
        if self.session.is_some() || self.revision.is_modern() {
            headers.insert(mcp::PROTOCOL_VERSION, version);
        }
        if let Some(session) = &self.session {
            headers.insert(mcp::SESSION_ID, session.clone());
        }
        headers
    }

    async fn send(
        &self,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<UpstreamResponse, String> {
        let request = UpstreamRequest {
            method,
            headers,
            body,
            repeatable: false,
        };
        let sent = self.upstream.send(request).await;
        sent.map_err(|error| with_causes(&error))
    }
}

/// How the doctor introduces itself.
pub(super) fn client_info() -> Value {
    json!({ "name": "thinpipe-doctor", "version": env!("CARGO_PKG_VERSION") })
}

/// Header lines of the command line, `Name: value`.
///
/// # Errors
/// For people.
pub(super) fn headers_of(lines: &[String]) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in lines {
        // The value may be a secret: only the name is ever shown.
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| anyhow::anyhow!("--header: write it as in `Name: value`"))?;
        let name: HeaderName = name.trim().parse().map_err(|_| {
            anyhow::anyhow!("--header: `{}` is no name of a header", name.escape_debug())
        })?;
        let mut value = HeaderValue::from_str(value.trim()).map_err(|_| {
            anyhow::anyhow!("--header: the value of `{name}` is no line of printable text")
        })?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

async fn read(response: UpstreamResponse, wanted: Option<Value>) -> Result<Reply, String> {
    let mut reply = Reply {
        status: response.status.as_u16(),
        headers: response.headers.clone(),
        event_stream: response.is_event_stream(),
        id_kept: true,
        ..Reply::default()
    };
    if !reply.event_stream {
        let body = response.collect(MAX_ANSWER, &ByteBudget::default()).await;
        let body = body.map_err(|error| with_causes(&error))?;
        let message = serde_json::from_slice(&body).ok();
        reply.take(message, wanted.as_ref());
        return Ok(reply);
    }
    let mut events = Events::of(response);
    let mut first = true;
    loop {
        match events.next().await? {
            Heard::End => return Ok(reply),
            Heard::Comment => {}
            Heard::Event { id, data } => {
                reply.primed |= first && id.is_some() && data.is_none();
                first = false;
                if reply.ids.len() < MAX_IDS {
                    reply.ids.extend(id);
                }
                reply.take(data, wanted.as_ref());
                if reply.response.is_some() {
                    return Ok(reply);
                }
            }
        }
    }
}

/// What a request of 2026-07-28 says of itself, of a client that can do nothing.
pub(super) fn meta(revision: Revision) -> Value {
    json!({
        (meta_key::PROTOCOL_VERSION): revision.as_str(),
        (meta_key::CLIENT_CAPABILITIES): {},
        (meta_key::CLIENT_INFO): client_info(),
    })
}

/// The result in a response, or the error in words.
pub(super) fn result_of(response: &Value) -> Result<&Value, String> {
    response.get("result").ok_or_else(|| {
        let error = &response["error"];
        let text = error["message"].as_str().unwrap_or_default();
        format!("error {}: {text}", error["code"])
    })
}

impl Reply {
    /// Keeps the message if it is the response.
    fn take(&mut self, message: Option<Value>, wanted: Option<&Value>) {
        let Some(message) = message.filter(|message| message.get("method").is_none()) else {
            return;
        };
        let answers = message.get("result").is_some() || message.get("error").is_some();
        if answers && wanted.is_some() {
            let error_without = message.get("error").is_some() && message["id"].is_null();
            self.id_kept &= message.get("id") == wanted || error_without;
            self.response = Some(message);
        }
    }

    /// The result, or why there is none.
    pub(super) fn result(&self) -> Result<&Value, String> {
        match &self.response {
            Some(message) => result_of(message),
            None => Err(format!("status {} without a response", self.status)),
        }
    }
}

impl Events {
    pub(super) fn of(response: UpstreamResponse) -> Self {
        let mut decoder = Decoder::new(MAX_ANSWER);
        let body = match response.into_body() {
            Body::Stream(stream) => Some(stream),
            Body::Full(bytes) => {
                decoder.push(bytes);
                None
            }
            Body::Empty => None,
        };
        Self { body, decoder }
    }

    /// The next event or comment. Cancel-safe: what was read is kept.
    pub(super) async fn next(&mut self) -> Result<Heard, String> {
        loop {
            if let Some(item) = self.decoder.next_item().map_err(|e| with_causes(&e))? {
                return Ok(match item {
                    Item::Event(event) => Heard::Event {
                        id: event.id.map(|id| String::from_utf8_lossy(&id).into_owned()),
                        data: event
                            .data
                            .filter(|data| !data.is_empty())
                            .map(|data| serde_json::from_slice(&data).unwrap_or(Value::Null)),
                    },
                    _ => Heard::Comment,
                });
            }
            let Some(body) = &mut self.body else {
                return Ok(Heard::End);
            };
            let mut chunk = Vec::new();
            let filled = poll_fn(|cx| body.poll_fill(cx, &mut chunk)).await;
            let filled = filled.map_err(|error| with_causes(&error))?;
            self.decoder.push(chunk.into());
            if filled == Filled::End {
                self.body = None;
            }
        }
    }
}
