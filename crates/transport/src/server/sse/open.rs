//! GET: a stream, and the session that lives as long as it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use thinpipe_proto::session::StreamId;
use thinpipe_proto::sse;

use super::SseMount;
use super::body::{Opened, SseBody};
use crate::server::dispatch::{Answering, Dispatched, Envelope, room_for_stream, session_failed};
use crate::server::event_buffer::EventBuffer;
use crate::server::exchange::Answer;
use crate::server::permit::Permit;
use crate::server::reply::Holds;
use crate::server::session::Session;
use crate::server::session::stream::{SessionStream, StreamSession};
use crate::server::{Shared, ladder};

/// Number of the one stream that such a session has.
const STREAM: StreamId = StreamId(0);

/// Opens a stream. What a client says of an earlier one (`Last-Event-ID`, a session id) is not looked at:
/// there is nothing to resume.
#[expect(
    clippy::async_yields_async,
    reason = "what comes later is the start of an answering, which its connection then drives"
)]
pub(crate) fn open(
    shared: &Arc<Shared>,
    envelope: Envelope,
    mount: Arc<SseMount>,
    permit: Permit,
) -> Dispatched {
    let shared = Arc::clone(shared);
    let from = envelope.requester.clone();
    Dispatched::Later(Box::pin(async move {
        let opened = try_open(&shared, envelope, mount).await;
        let answer = opened.unwrap_or_else(|refusal| {
            ladder::log_late_refusal(&refusal, &from);
            refusal
        });
        let holds = Holds {
            request: Some(permit),
            ..Holds::default()
        };
        Answering::ready(&shared, answer, holds)
    }))
}

async fn try_open(
    shared: &Arc<Shared>,
    envelope: Envelope,
    mount: Arc<SseMount>,
) -> Result<Answer, Answer> {
    room_for_stream(shared, None)?;
    let permit = mount.streams.take().ok_or_else(|| {
        let text = "too many streams are open on this endpoint";
        ladder::busy(None, text, Some(mount.streams.limit()))
    })?;
    let buffer = EventBuffer::new(mount.config.buffer(), STREAM);
    let limit = mount.config.max_requests_per_session;
    let stream = SessionStream::new(buffer.clone(), limit, mount.observer.clone());
    let of = open_session(shared, &envelope, stream).await?;
    let id = of.session.id();
    shared.broadcaster.insert(id.clone(), buffer.clone());
    if let Some(observer) = &mount.observer {
        observer.opened(&of.session, &envelope.headers);
    }
    tracing::debug!(session = ?id, endpoint = %mount.endpoint.name, "a stream was opened");
    let reader = buffer
        .reader()
        .with_prefix(first_event(&mount, &of.session));
    let opened = Opened::new(shared, mount, of, permit);
    Ok(Answer::events(SseBody::new(reader, opened)))
}

async fn open_session(
    shared: &Arc<Shared>,
    envelope: &Envelope,
    stream: SessionStream,
) -> Result<StreamSession, Answer> {
    let handler = Arc::clone(&envelope.endpoint.handler);
    let name = Arc::clone(&envelope.endpoint.name);
    let slot = shared
        .sessions
        .reserve(handler, name, envelope.principal.clone());
    let opened = match slot.await {
        Ok(slot) => slot.open_stream(stream).await,
        Err(error) => Err(error),
    };
    opened.map_err(|error| session_failed(&error, None))
}

/// Where to post to, as raw text and not as JSON (protocol notes 2.1).
fn first_event(mount: &SseMount, session: &Session) -> Bytes {
    let (path, id) = (mount.seen(&mount.messages_path), session.id().as_str());
    let uri = format!("{path}?sessionId={id}");
    let mut event = BytesMut::new();
    let (kind, retry) = (Some(&b"endpoint"[..]), Some(mount.config.retry));
    sse::encode(&mut event, kind, None, retry, Some(uri.as_bytes()));
    event.freeze()
}
