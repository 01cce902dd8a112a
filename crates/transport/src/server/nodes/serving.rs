//! Answering what came to another node: the request is handled as if its client were here, and the answer goes
//! back in pieces, as fast as they are read there.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use thinpipe_proto::session::NodeId;
use thinpipe_proto::tunnel::{
    Broken, ContentKind, ExchangeId, Frame, Head, MAX_PIECE, Part, Piece, Progress, SendWindow,
    TunnelRequest, encode,
};
use thinpipe_store::DeliverError;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Nodes;
use super::asking::MAX_SILENCE;
use super::over::Over;
use super::pulse::Standing;
use crate::body::{BodyError, Filled};
use crate::io::now;
use crate::server::dispatch::{self, Answering};
use crate::server::exchange::Content;
use crate::server::permit::Permit;
use crate::server::reply::{Holds, Reply, ReplyBody, Running};
use crate::server::{Shared, ladder, service};

/// How long is waited before something is delivered again that could not be.
const AGAIN: Duration = Duration::from_millis(100);

/// An asker of which nothing was heard for so long has left. One that waits says something at least every
/// [`MAX_SILENCE`], and once more often than one of its words is lost.
const UNHEARD: Duration = MAX_SILENCE.saturating_mul(3);

/// Exchanges of other nodes that are answered here, or were a short while ago.
#[derive(Default)]
pub(super) struct Served {
    open: Mutex<BTreeMap<ExchangeId, Arc<Serving>>>,
    over: Mutex<Over>,
}

/// One of them.
pub(super) struct Serving {
    window: Mutex<SendWindow>,
    /// When the asker said something.
    heard_at: Mutex<Instant>,
    /// Pieces that have been delivered.
    delivered: AtomicU64,
    /// There may be room in the window.
    room: Notify,
    /// Nobody waits for the answer any more.
    left: CancellationToken,
}

impl Served {
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ExchangeId, Arc<Serving>>> {
        // Nothing panics while it is held.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn over(&self) -> MutexGuard<'_, Over> {
        // Nothing panics while it is held.
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an exchange that begins, unless it is known: what comes again is not run again, whether it runs still or
    /// has run.
    fn enter(&self, id: &ExchangeId, left: CancellationToken) -> Option<Arc<Serving>> {
        let mut open = self.lock();
        if open.contains_key(id) || self.over().has(id, now()) {
            return None;
        }
        let serving = Arc::new(Serving::begun(left));
        open.insert(id.clone(), Arc::clone(&serving));
        Some(serving)
    }

    fn leave_off(&self, id: &ExchangeId) {
        let mut open = self.lock();
        if open.remove(id).is_some() {
            self.over().add(id.clone(), now());
        }
    }

    pub(super) fn get(&self, id: &ExchangeId) -> Option<Arc<Serving>> {
        self.lock().get(id).cloned()
    }

    /// Lets go of the exchanges whose asker was not heard of for too long: the word that it has left may have been
    /// lost, or have come before what it had asked.
    pub(super) fn leave_unheard(&self) {
        let now = now();
        for serving in self.lock().values() {
            if now >= *serving.heard_at() + UNHEARD {
                tracing::debug!("an answer is given up whose asker was not heard of for too long");
                serving.left.cancel();
            }
        }
    }

    /// The nodes that ask, each as often as it does.
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        self.lock().keys().map(|id| id.asker.clone()).collect()
    }

    /// Lets go of the exchanges of these nodes.
    pub(super) fn leave(&self, mut concerns: impl FnMut(&NodeId) -> bool) {
        for (id, serving) in self.lock().iter() {
            if concerns(&id.asker) {
                serving.left.cancel();
            }
        }
    }
}

impl Serving {
    fn begun(left: CancellationToken) -> Self {
        Self {
            window: Mutex::default(),
            heard_at: Mutex::new(now()),
            delivered: AtomicU64::new(0),
            room: Notify::new(),
            left,
        }
    }

    fn lock(&self) -> MutexGuard<'_, SendWindow> {
        // Nothing panics while it is held.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard_at(&self) -> MutexGuard<'_, Instant> {
        // Nothing panics while it is held.
        self.heard_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The asker has passed on so much.
    pub(super) fn acknowledged(&self, progress: Progress) {
        *self.heard_at() = now();
        if self.lock().on_acknowledged(progress).is_err() {
            self.left.cancel();
        }
        self.room.notify_one();
    }

    /// Pieces that have been delivered.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Acquire)
    }

    pub(super) fn leave(&self) {
        self.left.cancel();
    }

    async fn may_send(&self) {
        while !self.lock().may_send() {
            self.room.notified().await;
        }
    }
}

/// Begins to answer what another node asks.
pub(super) fn begin(
    nodes: &Nodes,
    shared: &Arc<Shared>,
    id: ExchangeId,
    request: Box<TunnelRequest>,
) {
    // A node that has stopped does not find out any more that an asker is gone.
    let left = nodes.inner.stopped.child_token();
    let Some(serving) = nodes.inner.served.enter(&id, left) else {
        tracing::debug!("a request of another node came again, and is not run again");
        return;
    };
    nodes.inner.pulse.watch();
    let task = Task {
        nodes: nodes.clone(),
        shared: Arc::clone(shared),
        id,
        serving,
        _permit: nodes.inner.room.take(),
    };
    let left = task.serving.left.clone();
    shared.workplaces.spawn(&shared.tasks, async move {
        let answering = crate::io::timed(Box::pin(task.run(*request)));
        // Cancel-safe: what is dropped here is a client that has left.
        let _ = left.run_until_cancelled(answering).await;
    });
}

struct Task {
    nodes: Nodes,
    shared: Arc<Shared>,
    id: ExchangeId,
    serving: Arc<Serving>,
    /// `None`: as many exchanges are answered as may be.
    _permit: Option<Permit>,
}

impl Task {
    async fn run(self, request: TunnelRequest) {
        match self.begin(request).await {
            Ok(answering) => {
                let reply = service::in_time(&self.shared, answering).await;
                self.reply(reply).await;
            }
            Err(broken) => self.send(Part::Broken(broken)).await,
        }
    }

    async fn begin(&self, request: TunnelRequest) -> Result<Answering, Broken> {
        let shared = &self.shared;
        // Others may have taken the session that is asked for.
        if self.nodes.inner.pulse.decided().await != Standing::In {
            return Err(Broken::Refused);
        }
        let permit = shared.requests.take().filter(|_| self._permit.is_some());
        let Some(permit) = permit else {
            let text = "too many requests of other nodes are being answered";
            let answer = ladder::busy(None, text, None);
            return Ok(Answering::ready(shared, answer, Holds::default()));
        };
        dispatch::tunnelled(shared, request, permit).await
    }

    async fn reply(&self, reply: Reply) {
        let length = reply.length();
        let content = match reply.content() {
            Content::Json => ContentKind::Json,
            Content::EventStream => ContentKind::EventStream,
            Content::Other(kind) => ContentKind::Other(kind.clone()),
            Content::OnStream | Content::Cancelled => ContentKind::Other(None),
        };
        let mut body = Source::new(reply.body);
        let piece = match body.begin() {
            Ok(piece) => piece,
            Err(error) => return self.send(broken_by(&error)).await,
        };
        let is_last = piece.is_last;
        let head = Head {
            status: reply.status,
            content,
            headers: reply.headers,
            length,
            piece,
        };
        let bytes = head.piece.bytes.len();
        self.send_piece(Part::Head(Box::new(head)), bytes).await;
        if !is_last {
            self.pieces(body).await;
        }
    }

    /// The rest of the body. What it comes from is read only when there is room for it.
    async fn pieces(&self, mut body: Source) {
        let mut number = 1;
        loop {
            tokio::select! {
                // The end first, or a reader with much room would never hear of it.
                biased;
                // Cancel-safe: a token stays cancelled. The reader is too slow to be told more.
                () = self.shared.forced.cancelled() => {
                    return self.send(Part::Broken(Broken::Lost)).await;
                }
                // Cancel-safe: nothing is taken before it returns.
                () = self.serving.may_send() => {}
            }
            let piece = match poll_fn(|cx| body.poll_piece(cx)).await {
                Ok(piece) => piece,
                Err(error) => return self.send(broken_by(&error)).await,
            };
            let (bytes, is_last) = (piece.bytes.len(), piece.is_last);
            self.send_piece(Part::Piece { number, piece }, bytes).await;
            number += 1;
            if is_last {
                return;
            }
        }
    }

    async fn send_piece(&self, part: Part, bytes: usize) {
        // Before it is delivered: it may be acknowledged before this goes on.
        self.serving.lock().on_sent(bytes);
        self.send(part).await;
        self.serving.delivered.fetch_add(1, Ordering::AcqRel);
    }

    /// Until it is delivered, or the asker is gone. What has come already may come again: pieces have numbers.
    async fn send(&self, part: Part) {
        let message = encode(&Frame::Exchange(self.id.clone(), part));
        loop {
            match self
                .nodes
                .inner
                .inbox
                .deliver(&self.id.asker, message.clone())
                .await
            {
                Ok(()) => return,
                Err(DeliverError::Gone) if self.nodes.is_steady() => {
                    self.serving.leave();
                    // Whoever polls this drops it.
                    return std::future::pending().await;
                }
                Err(error) => {
                    tracing::debug!(%error, "a piece of an answer to another node has to wait");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.nodes.inner.served.leave_off(&self.id);
    }
}

fn broken_by(error: &BodyError) -> Part {
    Part::Broken(if error.is_timeout() {
        Broken::TimedOut
    } else {
        Broken::Lost
    })
}

/// Where pieces come from.
struct Source {
    /// What is there and not sent yet.
    waiting: Bytes,
    body: Option<Box<Running>>,
    /// Why nothing comes after what is waiting.
    error: Option<BodyError>,
    at_boundary: bool,
}

impl Source {
    fn new(body: ReplyBody) -> Self {
        let (waiting, body) = match body {
            ReplyBody::Empty => (Bytes::new(), None),
            ReplyBody::Full(bytes) => (bytes, None),
            ReplyBody::Stream(running) => (Bytes::new(), Some(running.without_keep_alive())),
        };
        Self {
            waiting,
            body,
            error: None,
            at_boundary: true,
        }
    }

    /// What there is at once: whether it succeeds is told without waiting for the body.
    fn begin(&mut self) -> Result<Piece, BodyError> {
        let mut cx = Context::from_waker(Waker::noop());
        match self.poll_piece(&mut cx) {
            Poll::Ready(piece) => piece,
            Poll::Pending => Ok(Piece {
                bytes: Bytes::new(),
                at_boundary: self.at_boundary,
                is_last: false,
            }),
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, BodyError>> {
        if self.waiting.is_empty() {
            std::task::ready!(self.poll_fill(cx))?;
        }
        let bytes = self.waiting.split_to(self.waiting.len().min(MAX_PIECE));
        let is_whole = self.waiting.is_empty();
        Poll::Ready(Ok(Piece {
            bytes,
            at_boundary: is_whole && self.at_boundary,
            is_last: is_whole && self.body.is_none(),
        }))
    }

    /// What is ready together goes together, and the end with the last of it: a reader that has the one has the
    /// other too.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Err(error));
        }
        let mut out = Vec::new();
        while let Some(body) = &mut self.body {
            match body.poll_fill(cx, &mut out) {
                Poll::Ready(Ok(Filled::More)) if out.len() < MAX_PIECE => {}
                Poll::Ready(Ok(Filled::More)) => break,
                Poll::Ready(Ok(Filled::End)) => self.body = None,
                // What came before is passed on first.
                Poll::Ready(Err(error)) if out.is_empty() => return Poll::Ready(Err(error)),
                Poll::Ready(Err(error)) => {
                    self.error = Some(error);
                    break;
                }
                Poll::Pending if out.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        self.at_boundary = self.body.as_ref().is_none_or(|body| body.at_boundary());
        self.waiting = Bytes::from(out);
        Poll::Ready(Ok(()))
    }
}
