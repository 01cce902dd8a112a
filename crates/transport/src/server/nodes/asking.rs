//! Having another node answer: what was asked, what has come, and what becomes of it when that node dies.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use thinpipe_proto::header::carried_request_header;
use thinpipe_proto::session::NodeId;
use thinpipe_proto::tunnel::{
    Broken, ExchangeId, Frame, Head, Part, Piece, Progress, ReceiveWindow, Received, TunnelRequest,
    encode,
};
use thinpipe_store::{DeliverError, EventLog, StoreError};

use super::Nodes;
use super::pulse::{self, Standing};
use crate::io::now;

/// After so much silence a node is asked whether an exchange is still there. Doubled each time that it is, up to
/// [`MAX_SILENCE`].
const FIRST_SILENCE: Duration = Duration::from_secs(2);

/// How long is waited for the answer to that.
const ANSWERED_WITHIN: Duration = Duration::from_secs(4);

/// How often it is asked without an answer before it is given up: it says that it is alive, and does not hear.
const MAX_PROBES: u32 = 2;

/// How long is waited before a request is delivered again to a node that may be back soon.
const AGAIN: Duration = Duration::from_millis(100);

/// The longest silence, of either of them.
pub(super) const MAX_SILENCE: Duration = Duration::from_secs(30);

/// Why another node has not answered.
#[derive(Debug)]
pub(crate) enum NotAnswered {
    /// It is dead, and has not seen the request.
    Dead,
    /// It does not hold the session. Nothing has run.
    NotHere,
    /// It takes nothing more now. Nothing has run.
    Busy,
    /// The store failed before it had the request.
    Store(StoreError),
    /// It may have run.
    Unknown,
}

/// Exchanges that others answer for this node.
#[derive(Default)]
pub(super) struct Exchanges {
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Arc<Slot>>>,
}

/// What has come of one exchange.
pub(super) struct Slot {
    to: NodeId,
    state: Mutex<State>,
}

struct State {
    window: ReceiveWindow,
    head: Option<Head>,
    pieces: VecDeque<Piece>,
    end: Option<End>,
    reader: Option<Waker>,
    /// When it said something, or was asked.
    heard_at: Instant,
    /// When it was told something.
    spoken_at: Instant,
    silence: Duration,
    /// How often it was asked since it said something.
    probes: u32,
}

/// Why nothing more comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The body is complete.
    Complete,
    /// The other node says so.
    Broken(Broken),
    /// The other node is dead.
    Dead,
    /// This node is dead to the others.
    CutOff,
    /// The other node is alive, and does not answer.
    Silent,
    /// A piece is missing.
    Gap,
}

/// What a body gives next.
pub(super) enum Next {
    Piece(Piece, Option<Progress>),
    End(End),
}

impl Exchanges {
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Slot>>> {
        // Nothing panics while it is held.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn slot(&self, number: u64) -> Option<Arc<Slot>> {
        self.lock().get(&number).cloned()
    }

    /// The nodes that answer them, each as often as it does.
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        self.lock().values().map(|slot| slot.to.clone()).collect()
    }

    /// The exchanges with nodes for which this holds.
    pub(super) fn with(&self, mut concerns: impl FnMut(&NodeId) -> bool) -> Vec<Arc<Slot>> {
        let open = self.lock();
        open.values().filter(|s| concerns(&s.to)).cloned().collect()
    }

    /// Those of which nothing was heard for too long, with what to say to them; without a word, those of which nothing
    /// more is to be heard.
    pub(super) fn silent(&self) -> Vec<(u64, Arc<Slot>, Option<Progress>)> {
        let now = now();
        let open = self.lock();
        let silent = open.iter().filter_map(|(number, slot)| {
            let word = slot.lock().silent_at(now)?;
            Some((*number, Arc::clone(slot), word))
        });
        silent.collect()
    }
}

impl Slot {
    fn new(to: NodeId) -> Self {
        Self {
            to,
            state: Mutex::new(State {
                window: ReceiveWindow::default(),
                head: None,
                pieces: VecDeque::new(),
                end: None,
                reader: None,
                heard_at: now(),
                spoken_at: now(),
                silence: FIRST_SILENCE,
                probes: 0,
            }),
        }
    }

    /// Who answers.
    pub(super) fn node(&self) -> &NodeId {
        &self.to
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it, unless it has ended. What has come before is still given out.
    pub(super) fn end(&self, end: End) {
        let mut state = self.lock();
        state.end.get_or_insert(end);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Takes what the other node says.
    pub(super) fn take(&self, part: Part) {
        let mut state = self.lock();
        if state.end.is_some() {
            return;
        }
        state.heard_at = now();
        state.probes = 0;
        state.silence = match part {
            // That an exchange is still there is a reason to ask for that less often.
            Part::Sent(_) => (state.silence * 2).min(MAX_SILENCE),
            _ => FIRST_SILENCE,
        };
        let end = state.part(part);
        drop(state);
        match end {
            Some(end) => self.end(end),
            None => self.wake(),
        }
    }

    /// What it was to be asked has not reached it: that it says nothing is no sign that it does not hear.
    pub(super) fn not_asked(&self) {
        let mut state = self.lock();
        state.probes = state.probes.saturating_sub(1);
    }

    fn wake(&self) {
        let reader = self.lock().reader.take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn poll_head(&self, cx: &Context<'_>) -> Poll<Result<Head, End>> {
        let mut state = self.lock();
        if let Some(head) = state.head.take() {
            return Poll::Ready(Ok(head));
        }
        match state.end {
            Some(end) => Poll::Ready(Err(end)),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn poll_next(&self, cx: &Context<'_>) -> Poll<Next> {
        let mut state = self.lock();
        if let Some(piece) = state.pieces.pop_front() {
            state.window.on_consumed(piece.bytes.len());
            let progress = state.window.poll_acknowledge();
            if progress.is_some() {
                state.spoken_at = now();
            }
            return Poll::Ready(Next::Piece(piece, progress));
        }
        match state.end {
            Some(end) => Poll::Ready(Next::End(end)),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl State {
    /// What to say to a node that was silent for too long, or that has not heard for too long that it is waited for;
    /// `Some(None)`: it was asked often enough.
    fn silent_at(&mut self, now: Instant) -> Option<Option<Progress>> {
        let is_due = match self.probes {
            0 => now >= self.heard_at + self.silence || now >= self.spoken_at + MAX_SILENCE,
            _ => now >= self.heard_at + ANSWERED_WITHIN,
        };
        if self.end.is_some() || !is_due {
            return None;
        }
        if self.probes == MAX_PROBES {
            return Some(None);
        }
        self.probes += 1;
        self.heard_at = now;
        self.spoken_at = now;
        Some(Some(self.window.consumed()))
    }

    /// What the other node says; `Some` if nothing comes after it.
    fn part(&mut self, part: Part) -> Option<End> {
        match part {
            Part::Head(head) => {
                let mut head = *head;
                let number = 0;
                let piece = std::mem::replace(&mut head.piece, nothing());
                let end = self.piece(number, piece);
                if self.head.is_none() && end != Some(End::Gap) {
                    self.head = Some(head);
                }
                end
            }
            Part::Piece { number, piece } => self.piece(number, piece),
            Part::Broken(broken) => Some(End::Broken(broken)),
            Part::Sent(pieces) => self.window.on_sent(pieces).err().map(|_| End::Gap),
            // What only an asker says.
            Part::Ask(_) | Part::Acknowledge(_) | Part::Probe(_) | Part::Leave => Some(End::Gap),
        }
    }

    fn piece(&mut self, number: u64, piece: Piece) -> Option<End> {
        match self.window.on_piece(number, piece.bytes.len()) {
            Ok(Received::Next) => {
                let is_last = piece.is_last;
                self.pieces.push_back(piece);
                is_last.then_some(End::Complete)
            }
            Ok(Received::Again) => None,
            Err(_) => Some(End::Gap),
        }
    }
}

/// Takes out the headers that stay on this node.
fn keep_carried(headers: &mut HeaderMap, named: &[HeaderName]) {
    let stays = |name: &&HeaderName| !carried_request_header(name) && !named.contains(name);
    let doomed: Vec<_> = headers.keys().filter(stays).cloned().collect();
    for name in doomed {
        tracing::debug!(header = %name, "a header is not carried to another node");
        headers.remove(&name);
    }
}

fn nothing() -> Piece {
    Piece {
        bytes: Bytes::new(),
        at_boundary: true,
        is_last: false,
    }
}

/// An exchange that another node answers. Dropped before its end, it tells that node that nobody waits any more.
pub(crate) struct Asking {
    nodes: Nodes,
    number: u64,
    slot: Arc<Slot>,
    is_over: bool,
}

impl Nodes {
    fn id_of(&self, number: u64) -> ExchangeId {
        ExchangeId {
            asker: self.this().clone(),
            number,
        }
    }

    /// Has another node answer a request, and waits for the beginning of the answer. The client's credentials stay
    /// here, where they were looked at: the other node is told whose request it is. So do all headers that nobody
    /// has said to be none.
    ///
    /// # Errors
    /// [`NotAnswered`].
    pub(crate) async fn ask(
        &self,
        to: &NodeId,
        mut request: TunnelRequest,
    ) -> Result<(Head, Asking), NotAnswered> {
        keep_carried(&mut request.headers, &self.inner.carried_headers);
        if self.inner.pulse.decided().await != Standing::In {
            let why = "this node is cut off from the others";
            return Err(NotAnswered::Store(StoreError::Unavailable(why.into())));
        }
        let number = self.inner.asked.next.fetch_add(1, Ordering::Relaxed);
        let slot = Arc::new(Slot::new(to.clone()));
        self.inner.asked.lock().insert(number, Arc::clone(&slot));
        self.inner.pulse.watch();
        let mut asking = Asking {
            nodes: self.clone(),
            number,
            slot,
            is_over: false,
        };
        let part = Part::Ask(Box::new(request));
        let message = encode(&Frame::Exchange(self.id_of(number), part));
        let why = match self.deliver_ask(to, &message).await {
            Err(error) => self.not_delivered(to, &message, error).await,
            Ok(()) => match poll_fn(|cx| asking.slot.poll_head(cx)).await {
                Ok(head) => return Ok((head, asking)),
                Err(end) => self.not_begun(to, &message, end).await,
            },
        };
        // What may run there has to hear that nobody waits.
        asking.is_over = !matches!(why, NotAnswered::Unknown);
        Err(why)
    }

    /// Delivers a request. While nobody can tell that the other node is dead, it is waited for: it says that it is
    /// alive as soon as it can.
    async fn deliver_ask(&self, to: &NodeId, message: &Bytes) -> Result<(), DeliverError> {
        let until = now() + pulse::TTL;
        loop {
            let delivered = self.inner.inbox.deliver(to, message.clone()).await;
            let is_early = matches!(delivered, Err(DeliverError::Gone)) && !self.is_steady();
            if !is_early || now() >= until {
                return delivered;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn not_delivered(
        &self,
        to: &NodeId,
        message: &Bytes,
        error: DeliverError,
    ) -> NotAnswered {
        match error {
            DeliverError::Gone if self.is_steady() => NotAnswered::Dead,
            // Whether it is dead could not be found out.
            DeliverError::Gone => NotAnswered::Busy,
            DeliverError::Full => NotAnswered::Busy,
            DeliverError::Refused(error) => NotAnswered::Store(error),
            // It may have been delivered all the same.
            DeliverError::Store(error) => match self.withdraw(to, message).await {
                true => NotAnswered::Store(error),
                false => NotAnswered::Unknown,
            },
            _ => NotAnswered::Unknown,
        }
    }

    async fn not_begun(&self, to: &NodeId, message: &Bytes, end: End) -> NotAnswered {
        match end {
            End::Broken(Broken::NotHere) => NotAnswered::NotHere,
            End::Broken(Broken::Refused | Broken::Unreadable) => NotAnswered::Busy,
            End::Dead if self.withdraw(to, message).await => NotAnswered::Dead,
            // That node may well be alive.
            End::CutOff | End::Silent if self.withdraw(to, message).await => NotAnswered::Busy,
            End::Complete | End::Broken(_) | End::Dead | End::CutOff | End::Silent | End::Gap => {
                NotAnswered::Unknown
            }
        }
    }

    /// Whether a message was taken back, so that nobody will get it.
    async fn withdraw(&self, to: &NodeId, message: &Bytes) -> bool {
        match self.inner.inbox.withdraw(to, message).await {
            Ok(withdrawn) => withdrawn,
            Err(error) => {
                tracing::debug!(%error, "whether a request was seen cannot be found out");
                false
            }
        }
    }
}

impl Asking {
    /// The next piece of the body.
    pub(super) fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Next> {
        let next = std::task::ready!(self.slot.poll_next(cx));
        match &next {
            Next::Piece(_, Some(progress)) => self.say(Part::Acknowledge(*progress)),
            Next::Piece(piece, None) => self.is_over |= piece.is_last,
            Next::End(_) => {}
        }
        Poll::Ready(next)
    }

    /// The history of streams.
    pub(super) fn log(&self) -> &Arc<dyn EventLog> {
        &self.nodes.inner.log
    }

    fn say(&self, part: Part) {
        let (outbox, id) = (&self.nodes.inner.outbox, self.nodes.id_of(self.number));
        outbox.send(&self.slot.to, id, part);
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.nodes.inner.asked.lock().remove(&self.number);
        let told = matches!(self.slot.lock().end, Some(End::Complete | End::Broken(_)));
        if !told && !self.is_over {
            self.say(Part::Leave);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 5.8: who answers hears that it is waited for, also while it says so much that nobody has to ask, and its client
    /// takes so little that nothing is acknowledged.
    #[tokio::test(start_paused = true)]
    async fn f9_who_answers_hears_of_who_waits() {
        let slot = Slot::new(NodeId::nobody());
        let mut spoken_at = now();
        for number in 0..60 {
            let piece = Piece {
                bytes: Bytes::from_static(b"piece"),
                ..nothing()
            };
            slot.take(Part::Piece { number, piece });
            tokio::time::advance(Duration::from_millis(1900)).await;
            if slot.lock().silent_at(now()).is_some() {
                spoken_at = now();
            }
            let silence = now() - spoken_at;
            assert!(silence <= MAX_SILENCE, "{number}: {silence:?}");
        }
    }
}
