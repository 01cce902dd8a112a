use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::Waker;

use thinpipe_proto::backoff::Backoff;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::RequestId;
use thinpipe_proto::session::Principal;
use thinpipe_store::MemoryStore;
use thinpipe_transport::ByteBudget;
use thinpipe_transport::server::{
    Answer, Exchange, Handler, Negotiated, Session, SessionLimits, SessionManager,
};
use tokio_util::task::TaskTracker;

use super::*;
use crate::failure::Failure;
use crate::interceptor::{Carrier, Chain, ChainConfig, Direction, MessageContext};
use crate::relay::inspect::InspectEvents;
use crate::relay::{Broken, Owner, Purpose};
use crate::session::{LiveStream, Origin};
use crate::stats::Counters;

/// What one poll of a body gives.
#[derive(Clone, Copy)]
enum Piece {
    Bytes(&'static [u8]),
    /// Bytes, and nothing after them.
    Last(&'static [u8]),
    End,
    Broken,
    Pending,
}

struct Script(VecDeque<Piece>);

fn body(pieces: &[Piece]) -> Box<dyn BodyStream> {
    Box::new(Script(pieces.iter().copied().collect()))
}

impl BodyStream for Script {
    fn poll_fill(
        &mut self,
        _: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        let piece = self
            .0
            .pop_front()
            .expect("nobody polls a body after its end");
        let (bytes, filled) = match piece {
            Piece::Bytes(bytes) => (bytes, Ok(Filled::More)),
            Piece::Last(bytes) => (bytes, Ok(Filled::End)),
            Piece::End => (&b""[..], Ok(Filled::End)),
            Piece::Broken => {
                let reset = io::Error::from(io::ErrorKind::ConnectionReset);
                (&b""[..], Err(BodyError::Io(reset)))
            }
            Piece::Pending => return Poll::Pending,
        };
        out.extend_from_slice(bytes);
        Poll::Ready(filled)
    }
}

/// Resumes streams with what the test has prepared, and says what it was asked.
struct Resumer {
    chain: Chain,
    counters: Counters,
    /// `None`: it takes for ever.
    next: Mutex<Vec<Option<Resumed>>>,
    asked: Mutex<Vec<EventId>>,
}

impl Owner for Resumer {
    fn name(&self) -> &str {
        "resumer"
    }

    fn chain(&self) -> &Chain {
        &self.chain
    }

    fn stats(&self) -> &Counters {
        &self.counters
    }

    fn max_message(&self) -> usize {
        1 << 20
    }

    fn resumes(&self) -> bool {
        true
    }

    fn resume(self: Arc<Self>, stream: Broken) -> BoxFuture<Resumed> {
        self.asked.lock().unwrap().push(stream.last);
        match self.next.lock().unwrap().remove(0) {
            Some(resumed) => Box::pin(std::future::ready(resumed)),
            None => Box::pin(pending()),
        }
    }

    fn answer_upstream(
        self: Arc<Self>,
        _: &mut Origin,
        _: Option<&Arc<Session>>,
        _: &MessageContext,
        _: Bytes,
    ) -> Result<(), Failure> {
        Ok(())
    }
}

struct Nobody;

impl Handler for Nobody {
    fn handle(self: Arc<Self>, _: Exchange) -> BoxFuture<Answer> {
        Box::pin(std::future::ready(Answer::accepted()))
    }
}

async fn session() -> Arc<Session> {
    let store = Arc::new(MemoryStore::new());
    let manager = SessionManager::new(store, SessionLimits::default(), TaskTracker::new());
    let slot = manager.reserve(Arc::new(Nobody), "a".into(), Principal::Anonymous);
    let negotiated = Negotiated {
        revision: Revision::NEWEST_LEGACY,
        initialize_params: Bytes::new(),
        attachment: Bytes::new(),
        held: false,
    };
    let slot = slot.await.expect("there is room");
    slot.open(negotiated).await.expect("memory does not fail")
}

/// A source, its line, and whoever resumes it.
struct Machine {
    source: Source,
    line: Line,
    owner: Arc<Resumer>,
    stop: CancellationToken,
}

impl Machine {
    async fn new(first: &[Piece], next: Vec<Option<Resumed>>) -> Self {
        let owner = Arc::new(Resumer {
            chain: Chain::build(&[], Vec::new(), &ChainConfig::default()).unwrap(),
            counters: Counters::default(),
            next: Mutex::new(next),
            asked: Mutex::default(),
        });
        let stop = CancellationToken::new();
        Self {
            source: Source::new(body(first), stop.clone()),
            line: Line {
                owner: Arc::clone(&owner) as _,
                session: Some(session().await),
                purpose: Purpose::Resumed,
                answered: false,
                backoff: Backoff::new(),
                edit: None,
            },
            owner,
            stop,
        }
    }

    /// What one poll says, with the bytes it gave.
    fn poll(&mut self) -> String {
        let mut out = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        let said = match self.source.poll(&mut cx, &mut self.line, &mut out) {
            Poll::Pending => "pending",
            Poll::Ready(Got::Bytes) => "bytes",
            Poll::Ready(Got::End) => "end",
            Poll::Ready(Got::NewBody) => "new body",
            Poll::Ready(Got::FreshBody) => "fresh body",
            Poll::Ready(Got::Lost) => "lost",
            Poll::Ready(Got::Stopped) => "stopped",
        };
        let bytes = String::from_utf8_lossy(&out);
        [said, &bytes].join(" ").trim_end().to_owned()
    }

    /// Asks what follows the end; `true`: it goes on.
    fn follow(&mut self, last: Option<&'static str>) -> bool {
        let last = last.map(|id| EventId::from_bytes(Bytes::from_static(id.as_bytes())).unwrap());
        self.source.follow(&self.line, last, None).is_none()
    }

    fn state(&self) -> &'static str {
        match self.source.state {
            State::Reading(_) => "reading",
            State::Resuming(_) => "resuming",
            State::Over => "over",
        }
    }
}

/// D5: reading → over → resuming → reading, and over for good when resuming fails: every way there is.
#[tokio::test]
async fn d5_a_stream_is_read_resumed_and_over() {
    use Piece::{Broken, Bytes, End, Last, Pending};
    let goes_on = |pieces: &[Piece]| Some(Resumed::Body(body(pieces), Backoff::new()));
    let mut machine = Machine::new(
        &[Bytes(b"a"), Pending, Last(b"b")],
        vec![
            goes_on(&[Bytes(b"c"), Broken]),
            Some(Resumed::Fresh(body(&[End]), b"first".to_vec())),
            None,
        ],
    )
    .await;
    assert_eq!(machine.state(), "reading");
    assert_eq!(machine.poll(), "bytes a");
    assert_eq!(
        (machine.poll(), machine.state()),
        ("pending".into(), "reading")
    );
    // What came with the end is given first.
    assert_eq!(
        (machine.poll(), machine.state()),
        ("bytes b".into(), "over")
    );
    assert_eq!(machine.poll(), "end");
    assert!(machine.follow(Some("1")));
    assert_eq!(machine.state(), "resuming");
    assert_eq!(
        (machine.poll(), machine.state()),
        ("new body".into(), "reading")
    );
    assert_eq!(machine.poll(), "bytes c");
    // A break is an end like any other: whoever follows it asks what to do.
    assert_eq!((machine.poll(), machine.state()), ("end".into(), "over"));
    assert!(machine.follow(Some("2")));
    assert_eq!(
        (machine.poll(), machine.state()),
        ("fresh body first".into(), "reading")
    );
    assert_eq!(machine.poll(), "end");
    assert!(machine.follow(Some("3")));
    assert_eq!(
        (machine.poll(), machine.state()),
        ("pending".into(), "resuming")
    );
    let asked: Vec<_> = machine.owner.asked.lock().unwrap().clone();
    assert_eq!(
        asked
            .iter()
            .map(|id| &id.as_bytes()[..])
            .collect::<Vec<_>>(),
        [b"1", b"2", b"3"]
    );
    assert!(machine.source.into_body().is_none());
}

/// D5: an end that nobody can resume is one, and so is resuming that fails; it stays over.
#[tokio::test]
async fn d5_over_is_over() {
    let mut machine = Machine::new(&[Piece::End], vec![Some(Resumed::Lost)]).await;
    assert_eq!(machine.poll(), "end");
    assert!(
        !machine.follow(None),
        "without an id nothing can be resumed"
    );
    assert!(machine.follow(Some("1")));
    assert_eq!((machine.poll(), machine.state()), ("lost".into(), "over"));
    assert_eq!(
        (machine.poll(), machine.poll()),
        ("end".into(), "end".into())
    );
    machine.line.answered = true;
    assert!(
        !machine.follow(Some("1")),
        "after the answer nothing is resumed"
    );
    assert_eq!(machine.owner.asked.lock().unwrap().len(), 1);
}

/// D5: a stream that is stopped is over, whatever it was doing.
#[tokio::test]
async fn d5_stopping_ends_every_state() {
    let reading = Machine::new(&[Piece::Pending], vec![None]).await;
    let mut resuming = Machine::new(&[Piece::End], vec![None]).await;
    assert_eq!(resuming.poll(), "end");
    assert!(resuming.follow(Some("1")));
    let mut over = Machine::new(&[Piece::End], vec![]).await;
    assert_eq!(over.poll(), "end");
    for (mut machine, state) in [(reading, "reading"), (resuming, "resuming"), (over, "over")] {
        assert_eq!(machine.state(), state);
        machine.stop.cancel();
        assert_eq!(
            (machine.poll(), machine.state()),
            ("stopped".into(), "over")
        );
    }
    let reading = Machine::new(&[Piece::Pending], vec![]).await;
    assert!(
        reading.source.into_body().is_some(),
        "it can be read to its end by others"
    );
}

/// C6: whatever the writer has in its buffer already, no event is passed over: not the response either, which
/// came with the end of its stream.
#[tokio::test]
async fn c6_a_full_buffer_loses_no_event() {
    const EVENTS: &[u8] = b"data: {\"jsonrpc\":\"2.0\",\"method\":\"a\"}\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n";
    for before in [0, 24 << 10, (24 << 10) + 10, 1 << 20] {
        let Machine {
            source, mut line, ..
        } = Machine::new(&[Piece::Last(EVENTS)], Vec::new()).await;
        line.purpose = Purpose::Request(RequestId::parse(Bytes::from_static(b"1")).unwrap());
        let context = MessageContext {
            direction: Direction::ToClient,
            carrier: Carrier::Event,
            revision: Revision::NEWEST_LEGACY,
            upstream: "resumer".into(),
            principal: Principal::Anonymous,
            session: None,
            method: None,
            name: None,
            sequence: 0,
        };
        let (live, room) = (LiveStream::unregistered(), ByteBudget::new(1 << 20).empty());
        let mut events = InspectEvents::new(source, line, live, room, context, Vec::new());
        let mut out = vec![b'x'; before];
        let mut cx = Context::from_waker(Waker::noop());
        while !matches!(
            events.poll_fill(&mut cx, &mut out),
            Poll::Ready(Ok(Filled::End))
        ) {}
        assert_eq!(out[before..], *EVENTS, "behind {before} bytes");
    }
}
