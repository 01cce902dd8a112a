//! A stream of a server: events with ids, carried by one connection at a time, the newest.

use std::io;
use std::sync::Mutex;
use std::time::Duration;

use thinpipe_testkit::network::{Http, Socket};
use thinpipe_testkit::{Event, Headers};
use tokio::sync::Notify;

/// Silence after which a comment is written.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

pub(crate) struct Stream {
    /// Its ids begin with it; `None`: its events have none.
    name: Option<String>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    events: Vec<Event>,
    is_finished: bool,
    /// Which connection carries it now.
    carrier: u64,
    /// The first event that no connection has been given.
    fresh: usize,
    /// The connection ends on purpose before this event, and the stream goes on.
    drops_at: Option<usize>,
}

impl Stream {
    /// A stream. One with a name begins with a priming event.
    pub(crate) fn new(name: Option<String>, drops_at: Option<usize>) -> Self {
        let events = name.iter().map(|_| Event::data("")).collect();
        let state = State {
            events,
            drops_at,
            ..State::default()
        };
        Self {
            name,
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    pub(crate) fn push(&self, message: impl ToString) {
        self.state
            .lock()
            .unwrap()
            .events
            .push(Event::message(message));
        self.changed.notify_waiters();
    }

    pub(crate) fn finish(&self) {
        self.state.lock().unwrap().is_finished = true;
        self.changed.notify_waiters();
    }

    /// Number of the event after the one with this id, if it is one of this stream.
    pub(crate) fn after(&self, id: &str) -> Option<usize> {
        let rest = id.strip_prefix(self.name.as_deref()?)?.strip_prefix('-')?;
        let number: usize = rest.parse().ok()?;
        (number < self.state.lock().unwrap().events.len()).then_some(number + 1)
    }

    /// Number of the first event that nobody has been given.
    pub(crate) fn fresh(&self) -> usize {
        self.state.lock().unwrap().fresh
    }

    /// Writes it to a connection, from this event on, until it ends there.
    pub(crate) async fn carry(&self, http: &mut Http<Socket>, from: usize) -> io::Result<()> {
        let carrier = {
            let mut state = self.state.lock().unwrap();
            state.carrier += 1;
            state.carrier
        };
        self.changed.notify_waiters();
        let mut headers = Headers::new();
        headers.push("Content-Type", "text/event-stream");
        http.begin(200, &headers).await?;
        let mut at = from;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            match self.next(carrier, at) {
                Next::Event(event) => {
                    http.piece(&event.to_bytes()).await?;
                    at += 1;
                }
                Next::End => return http.piece(b"").await,
                Next::Nothing => tokio::select! {
                    biased;
                    // Each of these loses nothing when it is dropped.
                    () = changed => {}
                    () = http.left() => return Err(io::ErrorKind::ConnectionReset.into()),
                    () = tokio::time::sleep(KEEP_ALIVE) => http.piece(b": still here\n\n").await?,
                },
            }
        }
    }

    fn next(&self, carrier: u64, at: usize) -> Next {
        let mut state = self.state.lock().unwrap();
        if state.carrier != carrier {
            return Next::End;
        }
        if state.drops_at == Some(at) {
            state.drops_at = None;
            return Next::End;
        }
        let Some(event) = state.events.get(at).cloned() else {
            return match state.is_finished {
                true => Next::End,
                false => Next::Nothing,
            };
        };
        state.fresh = state.fresh.max(at + 1);
        Next::Event(match &self.name {
            Some(name) => {
                let event = event.with_id(format!("{name}-{at}"));
                if at == 0 {
                    event.with_retry(100)
                } else {
                    event
                }
            }
            None => event,
        })
    }
}

enum Next {
    Event(Event),
    End,
    Nothing,
}
