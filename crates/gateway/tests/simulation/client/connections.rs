//! Requests of a client: to any of the gateways, over a connection that is there or a new one.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use thinpipe_testkit::network::{Host, Http, HttpRequest, Rng, Socket};
use thinpipe_testkit::{Event, EventReader, Headers};
use tokio::time::timeout;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(2);

/// How long a stream may be silent: gateways write comments more often.
const SILENCE: Duration = Duration::from_secs(6);

/// In so many of a thousand cases what may be repeated is.
const REPEATED: u64 = 100;

/// Unused connections that are kept.
const MAX_IDLE: usize = 4;

pub(crate) struct Connections {
    host: Host,
    gateways: Arc<[String]>,
    token: String,
    inner: Mutex<Inner>,
}

struct Inner {
    rng: Rng,
    idle: Vec<(String, Http<Socket>)>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Lost {
    /// Nobody has heard the request: it may be sent again.
    Unsent,
    /// It may have been heard.
    Unknown(io::Error),
}

/// An answer whose body has not been read.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    http: Http<Socket>,
    gateway: String,
    events: EventReader,
}

impl Connections {
    pub(crate) fn new(host: Host, gateways: Arc<[String]>, token: &str, rng: Rng) -> Self {
        Self {
            host,
            gateways,
            token: token.to_owned(),
            inner: Mutex::new(Inner {
                rng,
                idle: Vec::new(),
            }),
        }
    }

    /// Draws from what this client decides by.
    pub(crate) fn draw<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.inner.lock().unwrap().rng)
    }

    /// Sends a request and waits so long for the head of its answer.
    pub(crate) async fn send(
        &self,
        (method, target): (&str, &str),
        headers: Headers,
        body: impl Into<Bytes>,
        patience: Duration,
    ) -> Result<Answer, Lost> {
        let (gateway, idle) = {
            let mut inner = self.inner.lock().unwrap();
            let at = inner.rng.index(self.gateways.len());
            let gateway = self.gateways[at].clone();
            let idle = inner.idle.iter().position(|(to, _)| *to == gateway);
            let idle = idle.filter(|_| inner.rng.per_mille(500));
            (gateway, idle.map(|at| inner.idle.swap_remove(at).1))
        };
        let mut http = match idle {
            Some(http) => http,
            None => match timeout(CONNECT, self.host.connect(&gateway)).await {
                Ok(Ok(socket)) => Http::new(socket),
                _ => return Err(Lost::Unsent),
            },
        };
        let request = self.request(method, target, headers, body.into());
        let answered = timeout(patience, async {
            http.send(&request).await?;
            http.response().await
        });
        match answered.await {
            Ok(Ok((status, headers))) => Ok(Answer {
                status,
                headers,
                http,
                gateway,
                events: EventReader::new(),
            }),
            Ok(Err(error)) => Err(Lost::Unknown(error)),
            Err(_) => Err(Lost::Unknown(io::ErrorKind::TimedOut.into())),
        }
    }

    /// The same, of a request that may be repeated: sometimes it comes twice, at any two gateways, and one of the answers
    /// is dropped. Which of them is heard first is anybody's guess.
    pub(crate) async fn send_again(
        &self,
        line: (&str, &str),
        headers: Headers,
        patience: Duration,
    ) -> Result<Answer, Lost> {
        let (is_twice, is_last) = self.draw(|rng| (rng.per_mille(REPEATED), rng.per_mille(500)));
        if !is_twice {
            return self.send(line, headers, "", patience).await;
        }
        let (one, other) = tokio::join!(
            self.send(line, headers.clone(), "", patience),
            self.send(line, headers, "", patience),
        );
        self.host.network().note("the same comes twice");
        if is_last { other } else { one }
    }

    fn request(&self, method: &str, target: &str, headers: Headers, body: Bytes) -> HttpRequest {
        let mut all = Headers::new();
        all.push("Host", "localhost");
        all.push("Authorization", format!("Bearer {}", self.token));
        if method == "POST" {
            all.push("Content-Type", "application/json");
        }
        all.push("Accept", "application/json, text/event-stream");
        for (name, value) in headers.iter() {
            all.push(name, value);
        }
        HttpRequest {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: all,
            body,
        }
    }

    /// Keeps the connection of an answer that was read whole.
    pub(crate) fn done(&self, answer: Answer) {
        let mut inner = self.inner.lock().unwrap();
        if answer.http.is_idle() && inner.idle.len() < MAX_IDLE {
            inner.idle.push((answer.gateway, answer.http));
        }
    }

    /// Closes what is not in use.
    pub(crate) fn close_idle(&self) {
        let idle = std::mem::take(&mut self.inner.lock().unwrap().idle);
        drop(idle);
    }
}

impl Answer {
    pub(crate) fn gateway(&self) -> &str {
        &self.gateway
    }

    pub(crate) fn is_stream(&self) -> bool {
        let kind = self.headers.get("content-type").unwrap_or_default();
        self.status == 200 && kind.starts_with("text/event-stream")
    }

    /// The answer to a request that says nothing before: as JSON, or the message of a stream. `null` if it is none.
    pub(crate) async fn only(&mut self) -> io::Result<Value> {
        if !self.is_stream() {
            return self.json().await;
        }
        let mut said = Value::Null;
        while let Some(event) = self.event().await? {
            if event.has_message() {
                said = serde_json::from_str(&event.data.unwrap_or_default()).unwrap_or_default();
            }
        }
        Ok(said)
    }

    /// The rest of it, as JSON; `null` if it is none.
    pub(crate) async fn json(&mut self) -> io::Result<Value> {
        let mut body = Vec::new();
        while let Some(data) = self.data().await? {
            body.extend_from_slice(&data);
        }
        Ok(serde_json::from_slice(&body).unwrap_or_default())
    }

    /// The next event; `None`: the stream has ended as it should.
    pub(crate) async fn event(&mut self) -> io::Result<Option<Event>> {
        loop {
            if let Some(event) = self.events.next_event() {
                if event.is_comment() {
                    continue;
                }
                return Ok(Some(event));
            }
            match self.data().await? {
                Some(data) => self.events.push(&data),
                None => return Ok(None),
            }
        }
    }

    async fn data(&mut self) -> io::Result<Option<Bytes>> {
        match timeout(SILENCE, self.http.body()).await {
            Ok(data) => data,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}
