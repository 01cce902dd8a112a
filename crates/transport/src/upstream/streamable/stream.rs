//! One stream of a session, over all the connections that carry it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use thinpipe_proto::backoff::{Backoff, is_passing, retry_after};
use thinpipe_proto::header::MediaType;
use thinpipe_proto::rpc::{Message, Payload, RequestId};
use thinpipe_proto::session::EventId;
use thinpipe_proto::sse::Event;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};

use super::MAX_HELD;
use super::messages::Reader;
use crate::body::{BodyError, BoxFuture};
use crate::upstream::pipe::PipeError;
use crate::upstream::pipe::events::Events;
use crate::upstream::{UpstreamError, UpstreamResponse};

/// How long a stream is read after its response, so that its connection can be used again.
const LINGER: Duration = Duration::from_secs(2);

/// What answers one request, or the standalone stream.
pub(super) struct Stream {
    /// `None`: the standalone one.
    request: Option<RequestId>,
    carrier: Carrier,
    /// What it is resumed after. `None`: it cannot be.
    last: Option<EventId>,
    /// What the server told us to wait before that.
    retry: Option<Duration>,
    backoff: Backoff,
    /// Running: the response has come.
    linger: Option<Pin<Box<Sleep>>>,
    is_held: bool,
    /// Given back when the response is there.
    place: Option<OwnedSemaphorePermit>,
}

/// Where it comes from now.
enum Carrier {
    /// A response that nobody has looked at.
    Fresh(UpstreamResponse),
    /// A message that is here already.
    Here(Payload),
    /// A JSON body.
    Whole(BoxFuture<Result<Bytes, BodyError>>),
    Events(Box<Events>),
    /// It broke off, and is asked for again after a while.
    Pausing(Pin<Box<Sleep>>),
    Asking(BoxFuture<Result<UpstreamResponse, UpstreamError>>),
    Over(Option<PipeError>),
}

/// What a stream says.
pub(super) enum Heard {
    Payload(Payload),
    /// A request is being answered by an event stream, and something came on it that is no message.
    Alive,
    /// The standalone stream goes on, but not from where it was.
    Gap,
    /// Nothing more; without an error, nothing is missing.
    Over(Option<PipeError>),
    SessionLost,
}

impl Stream {
    /// What answers a request, in whatever form.
    pub(super) fn answering(
        request: RequestId,
        response: UpstreamResponse,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self::new(Some(request), Carrier::Fresh(response), Some(place))
    }

    /// An answer that is here.
    pub(super) fn answered(
        request: RequestId,
        answer: Payload,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self::new(Some(request), Carrier::Here(answer), Some(place))
    }

    pub(super) fn standalone(response: UpstreamResponse) -> Self {
        Self::new(None, Carrier::Fresh(response), None)
    }

    fn new(
        request: Option<RequestId>,
        carrier: Carrier,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            request,
            carrier,
            last: None,
            retry: None,
            backoff: Backoff::new(),
            linger: None,
            is_held: false,
            place,
        }
    }

    pub(super) fn request(&self) -> Option<&RequestId> {
        self.request.as_ref()
    }

    pub(super) fn hold(&mut self, is_held: bool) {
        self.is_held = is_held;
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>, reader: &Reader) -> Poll<Heard> {
        loop {
            if let Some(linger) = &mut self.linger
                && linger.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Heard::Over(None));
            }
            let heard = match &mut self.carrier {
                Carrier::Events(events) => {
                    let most = if self.is_held { MAX_HELD } else { usize::MAX };
                    let event = match events.poll_next(cx, most) {
                        Poll::Ready(event) => event,
                        Poll::Pending => {
                            let is_awaited = self.request.is_some() && self.linger.is_none();
                            return if events.take_heard() && is_awaited {
                                Poll::Ready(Heard::Alive)
                            } else {
                                Poll::Pending
                            };
                        }
                    };
                    let payload = event.and_then(|event| {
                        let last = reader.reading.resumes.then_some(&mut self.last);
                        note(&event, last, &mut self.retry, &mut self.backoff);
                        events.payload(event)
                    });
                    self.event(payload, reader)
                }
                Carrier::Whole(reading) => {
                    let read = ready!(reading.as_mut().poll(cx));
                    self.read(read, reader)
                }
                Carrier::Pausing(pause) => {
                    ready!(pause.as_mut().poll(cx));
                    let (client, last) = (reader.client.clone(), self.last.clone());
                    let asking = async move { client.get(last).await };
                    self.carrier = Carrier::Asking(Box::pin(asking));
                    None
                }
                Carrier::Asking(asking) => {
                    let asked = ready!(asking.as_mut().poll(cx));
                    self.asked(asked, reader)
                }
                _ => self.step(reader),
            };
            if let Some(heard) = heard {
                return Poll::Ready(heard);
            }
        }
    }

    /// What waits for nothing.
    fn step(&mut self, reader: &Reader) -> Option<Heard> {
        match std::mem::replace(&mut self.carrier, Carrier::Over(None)) {
            Carrier::Fresh(response) => {
                self.carrier = self.carrier_of(response, reader);
                None
            }
            Carrier::Here(payload) => Some(self.say(payload)),
            Carrier::Over(error) => Some(Heard::Over(error)),
            waiting => {
                self.carrier = waiting;
                None
            }
        }
    }

    fn carrier_of(&self, response: UpstreamResponse, reader: &Reader) -> Carrier {
        let name = reader.client.name();
        match response.media_type {
            MediaType::EventStream => {
                let body = response.into_body();
                let most = reader.reading.max_message;
                let mut events = Events::new(name, body, most, &reader.budget);
                if self.request.is_some() {
                    // Whoever asked keeps the time, and a server that waits for people says nothing.
                    events.outwait_silence();
                }
                Carrier::Events(Box::new(events))
            }
            MediaType::Json => {
                let (most, budget) = (reader.reading.max_message, reader.budget.clone());
                let body = response.into_body();
                Carrier::Whole(Box::pin(async move { body.gather(most, &budget).await }))
            }
            _ => Carrier::Over(Some(PipeError::Refused {
                upstream: name,
                status: response.status,
            })),
        }
    }

    /// What was in an event, or why there is none.
    fn event(
        &mut self,
        payload: Result<Option<Payload>, PipeError>,
        reader: &Reader,
    ) -> Option<Heard> {
        match payload {
            Ok(Some(payload)) => Some(self.say(payload)),
            Ok(None) => None,
            Err(error @ (PipeError::Ended { .. } | PipeError::Body { .. })) => {
                self.broke(error, reader);
                None
            }
            // It would come again, after every resumption.
            Err(error) => Some(Heard::Over(Some(error))),
        }
    }

    fn say(&mut self, payload: Payload) -> Heard {
        let answers = |message: &Message| {
            message.kind().is_response() && message.id() == self.request.as_ref()
        };
        let is_answered = match &payload {
            Payload::Single(message) => answers(message),
            Payload::Batch(messages) => messages.iter().any(answers),
        };
        if is_answered && self.request.is_some() && self.linger.is_none() {
            self.place = None;
            self.linger = Some(Box::pin(sleep(LINGER)));
        }
        Heard::Payload(payload)
    }

    /// A JSON body is here, or is not to be had.
    fn read(&mut self, read: Result<Bytes, BodyError>, reader: &Reader) -> Option<Heard> {
        let upstream = reader.client.name();
        let error = match read {
            Ok(body) => match Payload::parse(body) {
                Ok(payload) => {
                    let heard = self.say(payload);
                    let is_missing = self.linger.is_none();
                    let missing = is_missing.then_some(PipeError::Ended { upstream });
                    self.carrier = Carrier::Over(missing);
                    return Some(heard);
                }
                Err(error) => {
                    tracing::warn!(%upstream, %error, "an answer is no message");
                    PipeError::Ended { upstream }
                }
            },
            Err(BodyError::TooLarge { limit }) => PipeError::TooLarge { upstream, limit },
            Err(BodyError::NoRoom(source)) => PipeError::NoRoom { upstream, source },
            Err(source) => PipeError::Body { upstream, source },
        };
        Some(Heard::Over(Some(error)))
    }

    /// Its connection has ended. It is asked for again if that leads anywhere.
    fn broke(&mut self, error: PipeError, reader: &Reader) {
        let is_answered = self.linger.is_some();
        let goes_on = self.request.is_none() || self.last.is_some();
        let random = reader.client.random().chance();
        self.carrier = if is_answered {
            Carrier::Over(None)
        } else if goes_on && let Some(delay) = self.backoff.next_delay(random, self.retry) {
            Carrier::Pausing(Box::pin(sleep(delay)))
        } else {
            Carrier::Over(Some(error))
        };
    }

    /// The server was asked for the stream again.
    fn asked(
        &mut self,
        asked: Result<UpstreamResponse, UpstreamError>,
        reader: &Reader,
    ) -> Option<Heard> {
        let response = match asked {
            Ok(response) => response,
            Err(error) => {
                self.broke(error.into(), reader);
                return None;
            }
        };
        let status = response.status;
        if status == StatusCode::OK && response.is_event_stream() {
            self.carrier = self.carrier_of(response, reader);
            let is_gap = self.request.is_none() && self.last.is_none();
            return is_gap.then_some(Heard::Gap);
        }
        if reader.client.loses_session(status) {
            return Some(Heard::SessionLost);
        }
        let error = PipeError::Refused {
            upstream: reader.client.name(),
            status,
        };
        if is_passing(status) {
            self.retry = retry_after(&response.headers).or(self.retry);
            self.broke(error, reader);
        } else if self.request.is_none() && self.last.take().is_some() {
            // What came after the event is not to be had; what comes now may be.
            self.broke(error, reader);
        } else {
            self.carrier = Carrier::Over(Some(error));
        }
        None
    }
}

/// What an event says about resuming. Without a `last`, there is none.
fn note(
    event: &Event,
    last: Option<&mut Option<EventId>>,
    retry: &mut Option<Duration>,
    backoff: &mut Backoff,
) {
    let mut goes_on = event.data.as_ref().is_some_and(|data| !data.is_empty());
    if let (Some(id), Some(last)) = (&event.id, last) {
        // One that no header can carry cannot be resumed after; nor can what came before it, without
        // getting it twice. Copied: it lives longer than the event.
        let id = EventId::from_bytes(Bytes::copy_from_slice(id)).ok();
        goes_on |= id != *last;
        *last = id;
    }
    if event.retry.is_some() {
        *retry = event.retry;
    }
    if goes_on {
        backoff.reset();
    }
}
