//! POST: messages of a client, handed to the handler; what it answers goes to the session's stream.

use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use thinpipe_proto::classify::{self, Class, Refusal, Served};
use thinpipe_proto::header::{LAST_EVENT_ID, PROTOCOL_VERSION, SESSION_ID};
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{self, Kind, Message, Payload, RequestId, code, meta_key};
use tokio::sync::oneshot;

use super::SseMount;
use super::writer::{StreamWriter, pump};
use crate::body::{Body, BoxFuture};
use crate::server::dispatch::{
    Answering, Envelope, admission, begin, initialized_already, invalid, unknown_session,
};
use crate::server::exchange::{Answer, Content, Exchange, Inbound};
use crate::server::permit::Permit;
use crate::server::reply::Holds;
use crate::server::session::stream::StreamSession;
use crate::server::session::{InFlight, SessionSlot};
use crate::server::{Shared, batch, ladder};

/// How long `notifications/initialized` may hold up its 202: a handler may ask its client before it is done,
/// and some clients post one message at a time.
const HOLDS_UP: Duration = Duration::from_secs(1);

/// What a message becomes: something that runs without its client's POST.
struct Job {
    future: BoxFuture<Answer>,
    /// Its id, if it is a request, which has to be answered.
    id: Option<RequestId>,
    running: Option<InFlight>,
    kind: JobKind,
}

impl Job {
    fn is_initialized(&self) -> bool {
        matches!(self.kind, JobKind::Initialized(_))
    }
}

enum JobKind {
    /// Runs to its end without its client: what it opens has to be closed again.
    Initialize,
    /// When it was taken, the handler is asked for what it has to say unasked.
    Initialized(Box<Exchange>),
    Other,
}

/// Takes what a client has posted to an open stream.
pub(crate) fn post(
    shared: &Arc<Shared>,
    mut envelope: Envelope,
    mount: &Arc<SseMount>,
    of: &StreamSession,
    body: Bytes,
    permit: Permit,
) -> Answering {
    // SDK clients send a version once they have agreed on one, and it changes nothing here.
    for name in [PROTOCOL_VERSION, SESSION_ID, LAST_EVENT_ID] {
        envelope.headers.remove(name);
    }
    // It may have ended while the body was on its way.
    if of.session.is_ended() || of.stream.buffer().is_closed() {
        let answer = unknown_session(None);
        ladder::log_late_refusal(&answer, &envelope.requester);
        return Answering::ready(shared, answer, Holds::default());
    }
    of.session.touch();
    match jobs(shared, &envelope, of, body) {
        Ok(jobs) => start(shared, mount, of, jobs, permit),
        Err(answer) => {
            ladder::log_late_refusal(&answer, &envelope.requester);
            Answering::ready(shared, answer, Holds::default())
        }
    }
}

/// One for each message; more than one only for a batch.
fn jobs(
    shared: &Arc<Shared>,
    envelope: &Envelope,
    of: &StreamSession,
    body: Bytes,
) -> Result<Vec<Job>, Answer> {
    let payload = Payload::parse(body).map_err(|error| {
        let revision = Some(of.session.revision());
        Answer::refused_message(Refusal::from(error), revision)
    })?;
    admission::ask_for(envelope, &payload)?;
    let message = match payload {
        Payload::Batch(_) => return batch(shared, envelope, of, payload),
        Payload::Single(message) => message,
    };
    Ok(vec![single(shared, envelope, of, message)?])
}

/// A message. A request that is refused gets the error on the stream, where SDK clients wait for it: some
/// see nothing of an error in the POST. There are told only those that an error with this id would tell
/// something else: the call with that id still runs, or they may come again.
fn single(
    shared: &Arc<Shared>,
    envelope: &Envelope,
    of: &StreamSession,
    message: Message,
) -> Result<Job, Answer> {
    if message.kind() != Kind::Request {
        return told(envelope, of, message);
    }
    let running = Some(begin(shared, &of.session, &message)?);
    let id = message.id().cloned();
    let asked = if is_initialize(&message) {
        initialize(shared, envelope, of, message)
    } else if of.stream.is_open() {
        Ok(call(envelope, of, message))
    } else {
        before_initialize(&message)
    };
    let (future, kind) = asked.unwrap_or_else(|refusal| {
        ladder::log_error_on_stream(&refusal, &envelope.requester);
        (Box::pin(std::future::ready(refusal)), JobKind::Other)
    });
    Ok(Job {
        future,
        id,
        running,
        kind,
    })
}

fn is_initialize(message: &Message) -> bool {
    message.kind() == Kind::Request && message.method() == Some("initialize")
}

/// What answers a request.
type Asked = (BoxFuture<Answer>, JobKind);

fn initialize(
    shared: &Arc<Shared>,
    envelope: &Envelope,
    of: &StreamSession,
    message: Message,
) -> Result<Asked, Answer> {
    ladder::check_initialize(&message)?;
    let slot = SessionSlot::of_stream(shared.sessions.clone(), of);
    let slot = slot.ok_or_else(|| initialized_already(message.id()))?;
    let inbound = Inbound::Initialize(message, slot);
    let exchange = envelope.exchange(inbound, Revision::NEWEST_LEGACY);
    let future = Arc::clone(&envelope.endpoint.handler).handle(exchange);
    Ok((future, JobKind::Initialize))
}

fn call(envelope: &Envelope, of: &StreamSession, message: Message) -> Asked {
    let inbound = Inbound::Message(message, Some(Arc::clone(&of.session)));
    let exchange = envelope.exchange(inbound, of.session.revision());
    let future = Arc::clone(&envelope.endpoint.handler).handle(exchange);
    (future, JobKind::Other)
}

/// Only `ping` may come before `initialize` was answered, and no handler has a session for it yet.
fn before_initialize(message: &Message) -> Result<Asked, Answer> {
    if let Some(id) = message.id().filter(|_| message.method() == Some("ping")) {
        let answer = Answer::json(rpc::response(id, b"{}"));
        return Ok((Box::pin(std::future::ready(answer)), JobKind::Other));
    }
    let (code, text) = if is_modern(message) {
        // In the words of servers that have never heard of it: from them, clients that try the newest
        // revision first know that they are to send `initialize`.
        (code::METHOD_NOT_FOUND, "Method not found")
    } else {
        (code::INVALID_REQUEST, NOT_INITIALIZED)
    };
    let (status, data) = (StatusCode::BAD_REQUEST, reason!("not_initialized"));
    Err(Answer::error(status, message.id(), code, text, Some(data)))
}

/// Whether a request is one of 2026-07-28, which this binding does not carry.
fn is_modern(message: &Message) -> bool {
    let claims = message.meta_json(meta_key::PROTOCOL_VERSION).is_some();
    claims || message.method() == Some("server/discover")
}

/// A notification or a response.
fn told(envelope: &Envelope, of: &StreamSession, message: Message) -> Result<Job, Answer> {
    if !of.stream.is_open() {
        return Err(invalid(None, NOT_INITIALIZED));
    }
    let kind = if message.method() == Some("notifications/initialized") {
        let inbound = Inbound::Listen(Arc::clone(&of.session), None);
        JobKind::Initialized(Box::new(envelope.exchange(inbound, of.session.revision())))
    } else {
        JobKind::Other
    };
    let (future, _) = call(envelope, of, message);
    Ok(Job {
        future,
        id: None,
        running: None,
        kind,
    })
}

const NOT_INITIALIZED: &str = "this session is not initialized yet; send initialize first";

/// The messages of a batch, side by side. The answer to each is an event of its own: an array would have to
/// wait for the slowest, and single messages are right in every revision.
fn batch(
    shared: &Arc<Shared>,
    envelope: &Envelope,
    of: &StreamSession,
    payload: Payload,
) -> Result<Vec<Job>, Answer> {
    let served = Served {
        legacy: true,
        modern: false,
    };
    let class = classify::classify_post(payload, &envelope.headers, served);
    let class = class.map_err(|refusal| Answer::refused(&refusal))?;
    let Class::Batch(messages) = class else {
        return Err(invalid(None, "this is no batch"));
    };
    if !of.stream.is_open() {
        return Err(invalid(None, NOT_INITIALIZED));
    }
    batch::check(&messages, of.session.revision(), of.stream.max_requests())?;
    let jobs = messages.into_iter();
    jobs.map(|message| single(shared, envelope, of, message))
        .collect()
}

/// Runs jobs beside the response to the POST, which says only that they were taken. By then they have begun,
/// in the order of the 202s, however many connections a client uses; and what follows
/// `notifications/initialized` begins when the handler is done with it.
fn start(
    shared: &Arc<Shared>,
    mount: &Arc<SseMount>,
    of: &StreamSession,
    mut jobs: Vec<Job>,
    permit: Permit,
) -> Answering {
    let is_batch = jobs.len() > 1;
    let runs_on = jobs
        .iter()
        .any(|job| matches!(job.kind, JobKind::Initialize));
    let is_initialized = !is_batch && jobs.iter().any(Job::is_initialized);
    let inline = mount.config.inline_json && !is_batch && jobs.iter().any(|job| job.id.is_some());
    let (sender, receiver) = inline.then(oneshot::channel).unzip();
    let work = match jobs.pop() {
        Some(job) if jobs.is_empty() => work(shared, mount, of, job, Some(permit), sender),
        last => {
            let all = jobs.into_iter().chain(last);
            let all = all.map(|job| work(shared, mount, of, job, None, None));
            all_of(all.collect(), permit)
        }
    };
    let (work, done) = match is_initialized {
        true => told_when_done(work),
        false => (work, None),
    };
    spawn(shared, of, work, runs_on);
    if let Some(done) = done {
        let answered = async move {
            // It ends with its sender. When it is late, the others do not wait any longer.
            let _ = tokio::time::timeout(HOLDS_UP, done).await;
            taken()
        };
        return Answering::waiting(shared, Box::pin(answered), Holds::default());
    }
    let Some(receiver) = receiver else {
        return Answering::ready(shared, taken(), Holds::default());
    };
    let session = Arc::clone(&of.session);
    let answered = async move {
        match receiver.await {
            Ok(message) => Answer::json(message),
            Err(_) if session.is_ended() => unknown_session(None),
            // The handler answers it on the stream itself, or it was cancelled.
            Err(_) => taken(),
        }
    };
    Answering::waiting(shared, Box::pin(answered), Holds::default())
}

/// 202, in the words that deployed servers use.
fn taken() -> Answer {
    let text = Content::Other(Some(HeaderValue::from_static("text/plain; charset=utf-8")));
    Answer::new(
        StatusCode::ACCEPTED,
        text,
        Body::Full(Bytes::from_static(b"Accepted")),
    )
}

/// Runs one job to its answer on the stream.
fn work(
    shared: &Arc<Shared>,
    mount: &Arc<SseMount>,
    of: &StreamSession,
    job: Job,
    permit: Option<Permit>,
    inline: Option<oneshot::Sender<Bytes>>,
) -> BoxFuture<()> {
    let Job {
        future,
        id,
        running,
        kind,
    } = job;
    let mut writer = StreamWriter::new(shared, mount, of, id);
    writer.running = running;
    writer.inline = inline;
    let listening = Listening::of(kind, shared, mount);
    let of = of.clone();
    Box::pin(async move {
        let answer = future.await;
        let was_taken = answer.status.is_success();
        writer.answer(answer, permit).await;
        if let Some(listening) = listening.filter(|_| was_taken) {
            listening.begin(of);
        }
    })
}

/// Runs them side by side, in one task.
fn all_of(mut works: Vec<BoxFuture<()>>, permit: Permit) -> BoxFuture<()> {
    Box::pin(async move {
        let _permit = permit;
        poll_fn(|cx| {
            works.retain_mut(|work| work.as_mut().poll(cx).is_pending());
            if works.is_empty() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    })
}

/// The same, and something that ends with it.
fn told_when_done(work: BoxFuture<()>) -> (BoxFuture<()>, Option<oneshot::Receiver<Infallible>>) {
    let (working, done) = oneshot::channel();
    let work = async move {
        let _working = working;
        work.await;
    };
    (Box::pin(work), Some(done))
}

fn spawn(shared: &Arc<Shared>, of: &StreamSession, mut work: BoxFuture<()>, runs_on: bool) {
    let running = of.stream.run();
    if begin_now(&mut work).is_ready() {
        return;
    }
    let closed = of.session.closed().clone();
    let detaching = Arc::clone(shared);
    shared.tasks.spawn(async move {
        let _running = running;
        tokio::select! {
            biased;
            // Cancel-safe: it is only borrowed.
            () = &mut work => return,
            // Cancel-safe: a token stays cancelled.
            () = closed.cancelled() => {}
        }
        // The end of an E0 session cancels what runs in it (protocol notes, invariant 14), but for what
        // may have opened something already.
        if runs_on {
            detaching.detach(work, Holds::default());
        }
    });
}

/// Polls it once, here and now. A task of its own might come after that of the next message.
fn begin_now(work: &mut BoxFuture<()>) -> Poll<()> {
    // The task polls it again in any case, with a waker.
    let mut cx = Context::from_waker(Waker::noop());
    let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut cx)));
    // A handler that panics ends as in a task: its hook has told of it, and its request is answered when
    // `work` is dropped. The connection is not to blame.
    polled.unwrap_or(Poll::Ready(()))
}

/// What follows `notifications/initialized`.
struct Listening {
    exchange: Box<Exchange>,
    shared: Arc<Shared>,
    mount: Arc<SseMount>,
}

impl Listening {
    fn of(kind: JobKind, shared: &Arc<Shared>, mount: &Arc<SseMount>) -> Option<Self> {
        let JobKind::Initialized(exchange) = kind else {
            return None;
        };
        Some(Self {
            exchange,
            shared: Arc::clone(shared),
            mount: Arc::clone(mount),
        })
    }

    /// Asks the handler once for what it says unasked. It counts as nothing that runs: it says nothing
    /// until something happens, and goes on until the session ends.
    fn begin(self, of: StreamSession) {
        if !of.stream.begin_listening() {
            return;
        }
        if let Some(observer) = &self.mount.observer {
            observer.initialized(&of.session, of.stream.buffer());
        }
        let handler = Arc::clone(&self.mount.endpoint.handler);
        let closed = of.session.closed().clone();
        let mut writer = StreamWriter::new(&self.shared, &self.mount, &of, None);
        let work = async move {
            let answer = handler.handle(*self.exchange).await;
            // Anything else says that there is no such stream.
            if let (Content::EventStream, Body::Stream(stream)) = (answer.content, answer.body)
                && let Err(error) = pump(stream, &mut writer).await
            {
                tracing::debug!(%error, "what a handler says unasked has ended");
            }
        };
        self.shared.tasks.spawn(async move {
            // Cancel-safe: what is dropped here is dropped for good.
            let _ = closed.run_until_cancelled(work).await;
        });
    }
}
