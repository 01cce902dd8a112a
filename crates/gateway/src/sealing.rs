//! The `requestState` of a server of 2026-07-28, sealed for the principal it was given to (protocol notes
//! 5.5). The server sees the gateway alone, and takes a state from whoever has it.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use thinpipe_proto::bridge::shape::is_round_method;
use thinpipe_proto::header::MediaType;
use thinpipe_proto::rpc::{Message, Object, quoted, string};
use thinpipe_proto::session::Principal;
use thinpipe_proto::sse::{self, Decoder, Event, Item};
use thinpipe_transport::body::{Body, BodyError, BodyStream, BoxFuture, Filled};
use thinpipe_transport::upstream::UpstreamResponse;
use thinpipe_transport::{ByteBudget, Reserved};

use crate::clock::unix_now;
use crate::failure::{Failure, Reason};
use crate::seal::{self, Scope, Seals};

/// How long a state is good for. The server's own may end sooner. No setting: it is twice as long as anything waits
/// for a client here (the absolute cap, protocol notes 5.1), and whoever needs more has servers that can tell
/// principals apart, in front of which nothing need be sealed.
const AGE: Duration = Duration::from_secs(3600);

/// The member that holds it, in a result and in the params of what follows.
const STATE: &str = "requestState";

/// Bytes of what is sealed that say when it ends.
const EXPIRY: usize = size_of::<u64>();

/// Seals what one server gives, for one principal.
#[derive(Debug, Clone)]
pub(crate) struct Sealing {
    seals: Arc<Seals>,
    upstream: Arc<str>,
    principal: Principal,
}

/// The state cannot be used: changed, expired, another's, or not sealed at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stale;

impl Sealing {
    pub(crate) fn new(seals: Arc<Seals>, upstream: Arc<str>, principal: Principal) -> Self {
        Self {
            seals,
            upstream,
            principal,
        }
    }

    /// Whether the answer to this request may hold a state.
    pub(crate) fn concerns(request: &Message) -> bool {
        request.method().is_some_and(is_round_method)
    }

    /// The request with the server's own state in it, if it has one of the gateway's.
    ///
    /// # Errors
    /// [`Stale`].
    pub(crate) fn open(&self, request: Message) -> Result<Message, Stale> {
        let mut whole = Object::parse(request.source()).map_err(|_| Stale)?;
        let Some(mut params) = whole.object("params") else {
            return Ok(request);
        };
        let Some(sealed) = params.get(STATE).cloned() else {
            return Ok(request);
        };
        let sealed = string(&sealed).ok_or(Stale)?;
        let content = self.seals.open(self.scope(), &sealed).ok_or(Stale)?;
        let (expires, state) = content.split_first_chunk::<EXPIRY>().ok_or(Stale)?;
        let state = std::str::from_utf8(state).map_err(|_| Stale)?;
        if u64::from_be_bytes(*expires) <= unix_now() {
            return Err(Stale);
        }
        params.set(STATE, quoted(state));
        whole.set("params", params.into_bytes());
        Message::parse(whole.into_bytes()).map_err(|_| Stale)
    }

    /// The response with the server's state sealed; `None`: it has none. One that cannot be sealed ends the
    /// request with an error, since the call cannot go on: without a state it would begin anew, and with the
    /// server's own another principal could go on.
    pub(crate) fn seal(&self, response: &Message) -> Option<Bytes> {
        let result = response.result()?;
        let Ok(mut result) = Object::parse(&result) else {
            // A member is there twice, and it may be the state.
            return may_have_state(&result).then(|| self.unreadable(response));
        };
        let state = result.get(STATE).filter(|state| &***state != b"null")?;
        let Some(state) = string(state) else {
            return Some(self.unreadable(response));
        };
        let mut content = unix_now()
            .saturating_add(AGE.as_secs())
            .to_be_bytes()
            .to_vec();
        content.extend_from_slice(state.as_bytes());
        match self.seals.seal(self.scope(), &content) {
            Ok(sealed) => result.set(STATE, quoted(&sealed)),
            Err(error) => {
                let upstream = &*self.upstream;
                tracing::error!(%upstream, %error, "a requestState");
                let text = format!(
                    "{upstream} wants its client to keep {} bytes (requestState); {error}",
                    content.len() - EXPIRY
                );
                let failure = Failure::new(Reason::StateTooLong, text);
                return Some(failure.message(response.id(), upstream));
            }
        }
        Some(response.with_result(&result.into_bytes()))
    }

    /// In the place of a result of which nobody can tell what is in it: it would pass with the server's own state.
    fn unreadable(&self, response: &Message) -> Bytes {
        let upstream = &*self.upstream;
        let text = format!("{upstream} answered with a result that cannot be taken apart");
        tracing::warn!(
            upstream,
            "a result with a requestState cannot be taken apart"
        );
        Failure::new(Reason::Invalid, text).message(response.id(), upstream)
    }

    /// The same for a response as it comes over HTTP. One that is no event stream is read whole; an event
    /// stream goes on as it comes, event by event.
    ///
    /// # Errors
    /// [`BodyError`]: it cannot be read, or a message is longer than `limit`.
    pub(crate) async fn around(
        self,
        response: UpstreamResponse,
        limit: usize,
        budget: &ByteBudget,
    ) -> Result<UpstreamResponse, BodyError> {
        let media_type = response.media_type;
        let mut unread = Body::Empty;
        let mut response = response.map_body(|body| {
            unread = body;
            Body::Empty
        });
        let body = match (media_type, unread) {
            (MediaType::Json, body) => {
                let body = self.read(body, limit, budget).await?;
                response.content_length = Some(body.len() as u64);
                body.into()
            }
            (MediaType::EventStream, Body::Stream(body)) => {
                let events = SealedEvents {
                    body,
                    sealing: self,
                    limit,
                    decoder: Decoder::new(limit),
                    room: budget.empty(),
                    input: Vec::new(),
                };
                Body::stream(events)
            }
            (MediaType::EventStream, Body::Full(events)) => {
                let (mut decoder, mut out) = (Decoder::new(limit), Vec::new());
                decoder.push(events);
                self.write_items(&mut decoder, limit, &mut out)?;
                response.content_length = Some(out.len() as u64);
                Body::Full(out.into())
            }
            (_, body) => body,
        };
        Ok(response.map_body(|_| body))
    }

    async fn read(
        &self,
        body: Body,
        limit: usize,
        budget: &ByteBudget,
    ) -> Result<Bytes, BodyError> {
        // The exchange has a time-out of its own, which is shorter.
        let deadline = tokio::time::Instant::now().into_std() + AGE;
        let body = body.collect(limit, deadline, budget).await?;
        let message = Message::parse(body.clone()).ok();
        match message.and_then(|message| self.seal(&message)) {
            Some(sealed) => Ok(budget.hold(sealed)?),
            None => Ok(body),
        }
    }

    /// Writes the events that are complete.
    fn write_items(
        &self,
        decoder: &mut Decoder,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), BodyError> {
        let too_long = |_| BodyError::TooLarge { limit };
        while let Some(item) = decoder.next_item().map_err(too_long)? {
            match item {
                Item::Comment(raw) => out.extend_from_slice(&raw),
                Item::Event(event) => self.write(&event, out),
            }
        }
        Ok(())
    }

    fn write(&self, event: &Event, out: &mut Vec<u8>) {
        let sealed = event.data.clone().and_then(|data| {
            // Most events have none, and are not read.
            let data = Some(data).filter(|data| may_have_state(data))?;
            self.seal(&Message::parse(data).ok()?)
        });
        let Some(sealed) = sealed else {
            out.extend_from_slice(&event.raw);
            return;
        };
        let mut encoded = BytesMut::with_capacity(sealed.len() + 64);
        let (kind, id) = (event.kind.as_deref(), event.id.as_deref());
        sse::encode(&mut encoded, kind, id, event.retry, Some(&sealed));
        out.extend_from_slice(&encoded);
    }

    fn scope(&self) -> Scope<'_> {
        Scope {
            kind: seal::Kind::ServerState,
            upstream: &self.upstream,
            principal: &self.principal,
        }
    }
}

/// An event stream in which states are sealed. It is as far as the server's own, whole events at a time.
struct SealedEvents {
    body: Box<dyn BodyStream>,
    sealing: Sealing,
    limit: usize,
    decoder: Decoder,
    /// For the event that is not complete.
    room: Reserved,
    /// Bytes on their way into the decoder.
    input: Vec<u8>,
}

impl BodyStream for SealedEvents {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        let before = out.len();
        while out.len() == before {
            let filled = ready!(self.body.poll_fill(cx, &mut self.input));
            if !self.input.is_empty() {
                self.decoder
                    .push(Bytes::from(std::mem::take(&mut self.input)));
                self.sealing
                    .write_items(&mut self.decoder, self.limit, out)?;
                self.room.resize(self.decoder.pending())?;
            }
            if matches!(filled?, Filled::End) {
                return Poll::Ready(Ok(Filled::End));
            }
        }
        Poll::Ready(Ok(Filled::More))
    }

    fn keep_alive(&self) -> Option<Duration> {
        self.body.keep_alive()
    }

    fn shut_down(&mut self, force: bool, out: &mut Vec<u8>) -> bool {
        self.body.shut_down(force, out)
    }

    fn unwatch(&mut self) -> bool {
        self.body.unwatch()
    }

    fn abandon(self: Box<Self>) -> Option<BoxFuture<()>> {
        self.body.abandon()
    }
}

/// Whether the member that holds it may be in a text, perhaps written with escapes.
fn may_have_state(text: &[u8]) -> bool {
    let has = |part: &[u8]| memchr::memmem::find(text, part).is_some();
    has(STATE.as_bytes()) || has(b"\\u")
}

#[cfg(test)]
mod tests;
