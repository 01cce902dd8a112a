//! A small MCP client on the library's own client side, of either era.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use serde_json::{Value, json};
use thinpipe_proto::header as mcp;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::sse::{self, Decoder, Item};
use thinpipe_transport::ByteBudget;
use thinpipe_transport::body::{Body, BodyStream, Filled};
use thinpipe_transport::upstream::{Upstream, UpstreamConfig, UpstreamRequest, UpstreamResponse};

/// Bytes of an answer that is no stream.
const MAX_BODY: usize = 1 << 20;

/// The client. It keeps a session once it has one.
#[derive(Debug)]
pub(crate) struct Client {
    upstream: Upstream,
    session: Option<HeaderValue>,
    revision: Revision,
    last_id: i64,
}

/// The answer to a request: messages as they come, the response last.
pub(crate) struct Messages {
    source: Source,
    asked: Instant,
}

enum Source {
    /// A JSON body, which is one message.
    Single(Option<Value>),
    /// A stream of events.
    Stream(Box<Stream>),
}

struct Stream {
    /// `None` once it has ended.
    body: Option<Box<dyn BodyStream>>,
    decoder: Decoder,
    ready: VecDeque<Value>,
}

/// A message, and when it came.
#[derive(Debug)]
pub(crate) struct Arrived {
    /// The message.
    pub(crate) message: Value,
    /// Since the request was sent.
    pub(crate) after: Duration,
}

impl Client {
    /// A client of the endpoint at a URL.
    pub(crate) fn new(url: Uri) -> Self {
        let upstream = Upstream::new(UpstreamConfig::new("gateway".into(), url));
        Self {
            upstream,
            session: None,
            revision: Revision::NEWEST_LEGACY,
            last_id: 0,
        }
    }

    /// Opens a session. Gives the answer and the session's id, if the server gave one.
    ///
    /// # Errors
    /// A server that does not initialize.
    pub(crate) async fn initialize(&mut self) -> anyhow::Result<(Value, Option<String>)> {
        let params = json!({
            "protocolVersion": self.revision.as_str(),
            "capabilities": { "elicitation": {} },
            "clientInfo": client_info(),
        });
        let request = self.request("initialize", params);
        let answer = self.send(Method::POST, &request, HeaderMap::new()).await?;
        if answer.status != StatusCode::OK {
            let status = answer.status;
            let body = answer.collect(MAX_BODY, &ByteBudget::default()).await?;
            anyhow::bail!("{status}: {}", String::from_utf8_lossy(&body));
        }
        self.session = answer.headers.get(mcp::SESSION_ID).cloned();
        let id = self
            .session
            .as_ref()
            .and_then(|id| id.to_str().ok())
            .map(str::to_owned);
        let (response, _) = Messages::of(answer, Instant::now())
            .await?
            .response()
            .await?;
        self.post(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))
            .await?;
        Ok((response, id))
    }

    /// Sends a request of the session.
    ///
    /// # Errors
    /// No response.
    pub(crate) async fn call(&mut self, method: &str, params: Value) -> anyhow::Result<Messages> {
        let request = self.request(method, params);
        let asked = Instant::now();
        let answer = self.send(Method::POST, &request, HeaderMap::new()).await?;
        Messages::of(answer, asked).await
    }

    /// Sends a self-describing request (2026-07-28).
    ///
    /// # Errors
    /// No response.
    pub(crate) async fn call_stateless(
        &mut self,
        method: &str,
        mut params: Value,
    ) -> anyhow::Result<Messages> {
        let version = Revision::NEWEST.as_str();
        let meta = &mut params["_meta"];
        meta["io.modelcontextprotocol/protocolVersion"] = version.into();
        meta["io.modelcontextprotocol/clientCapabilities"] =
            json!({ "elicitation": { "form": {} } });
        meta["io.modelcontextprotocol/clientInfo"] = client_info();
        let mut headers = HeaderMap::new();
        headers.insert(mcp::PROTOCOL_VERSION, HeaderValue::from_static(version));
        headers.insert(mcp::METHOD, method.parse()?);
        if let Some(name) = params["name"].as_str() {
            headers.insert(mcp::NAME, mcp::encode_value(name).parse()?);
        }
        let request = self.request(method, params);
        let asked = Instant::now();
        let answer = self.send(Method::POST, &request, headers).await?;
        Messages::of(answer, asked).await
    }

    /// Sends a notification or a response; 202 is all that comes back.
    ///
    /// # Errors
    /// Anything else than 202.
    pub(crate) async fn post(&self, message: &Value) -> anyhow::Result<()> {
        let answer = self.send(Method::POST, message, HeaderMap::new()).await?;
        ensure!(
            answer.status == StatusCode::ACCEPTED,
            "202 expected, not {}",
            answer.status
        );
        Ok(())
    }

    /// Ends the session; gives the status.
    ///
    /// # Errors
    /// No response.
    pub(crate) async fn delete(&self) -> anyhow::Result<StatusCode> {
        Ok(self
            .send(Method::DELETE, &Value::Null, HeaderMap::new())
            .await?
            .status)
    }

    /// The status that a request of the session gets.
    ///
    /// # Errors
    /// No response.
    pub(crate) async fn status(&mut self, method: &str) -> anyhow::Result<StatusCode> {
        let request = self.request(method, json!({}));
        Ok(self
            .send(Method::POST, &request, HeaderMap::new())
            .await?
            .status)
    }

    fn request(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        json!({ "jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params })
    }

    async fn send(
        &self,
        method: Method,
        message: &Value,
        mut headers: HeaderMap,
    ) -> anyhow::Result<UpstreamResponse> {
        let both = HeaderValue::from_static("application/json, text/event-stream");
        headers.insert(header::ACCEPT, both);
        let stateless = headers.contains_key(mcp::PROTOCOL_VERSION);
        if let Some(session) = self.session.as_ref().filter(|_| !stateless) {
            headers.insert(mcp::SESSION_ID, session.clone());
            let version = HeaderValue::from_static(self.revision.as_str());
            headers.insert(mcp::PROTOCOL_VERSION, version);
        }
        let body = match message {
            Value::Null => Bytes::new(),
            message => {
                let json = HeaderValue::from_static("application/json");
                headers.insert(header::CONTENT_TYPE, json);
                Bytes::from(message.to_string())
            }
        };
        let request = UpstreamRequest {
            method,
            headers,
            body,
            repeatable: false,
        };
        Ok(self.upstream.send(request).await?)
    }
}

impl Messages {
    async fn of(answer: UpstreamResponse, asked: Instant) -> anyhow::Result<Self> {
        let status = answer.status;
        if answer.is_event_stream() {
            let body = match answer.into_body() {
                Body::Stream(stream) => Some(stream),
                Body::Empty | Body::Full(_) => None,
            };
            let decoder = Decoder::new(sse::DEFAULT_MAX_EVENT);
            let stream = Stream {
                body,
                decoder,
                ready: VecDeque::new(),
            };
            return Ok(Self {
                source: Source::Stream(Box::new(stream)),
                asked,
            });
        }
        let body = answer.collect(MAX_BODY, &ByteBudget::default()).await?;
        let message = serde_json::from_slice(&body).with_context(|| format!("status {status}"))?;
        Ok(Self {
            source: Source::Single(Some(message)),
            asked,
        })
    }

    /// The next message; `None` at the end.
    ///
    /// # Errors
    /// A stream that breaks off or cannot be read.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Arrived>> {
        let message = match &mut self.source {
            Source::Single(message) => message.take(),
            Source::Stream(stream) => stream.next().await?,
        };
        Ok(message.map(|message| Arrived {
            message,
            after: self.asked.elapsed(),
        }))
    }

    /// Whether the answer is a stream of events.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.source, Source::Stream(_))
    }

    /// The response, and how many messages came before it.
    ///
    /// # Errors
    /// A stream that ends without it.
    pub(crate) async fn response(mut self) -> anyhow::Result<(Value, usize)> {
        let mut before = 0;
        while let Some(Arrived { message, .. }) = self.next().await? {
            if message.get("method").is_none() {
                return Ok((message, before));
            }
            before += 1;
        }
        anyhow::bail!("the answer ended without a response")
    }
}

impl Stream {
    async fn next(&mut self) -> anyhow::Result<Option<Value>> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(Some(message));
            }
            let Some(body) = &mut self.body else {
                return Ok(None);
            };
            let mut chunk = Vec::new();
            let filled = poll_fn(|cx| body.poll_fill(cx, &mut chunk)).await?;
            if filled == Filled::End {
                self.body = None;
            }
            self.decoder.push(chunk.into());
            while let Some(item) = self.decoder.next_item()? {
                if let Item::Event(event) = item
                    && let Some(data) = event.data.filter(|data| !data.is_empty())
                {
                    self.ready.push_back(serde_json::from_slice(&data)?);
                }
            }
        }
    }
}

fn client_info() -> Value {
    json!({ "name": "thinpipe-demo", "version": env!("CARGO_PKG_VERSION") })
}
