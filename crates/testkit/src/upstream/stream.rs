//! Event streams that outlive the connections that carry them.

use std::collections::HashMap;
use std::sync::Mutex;

use tokio::sync::watch;

use crate::event::Event;

/// One stream: its events so far, and where its readers are.
#[derive(Debug, Clone)]
pub(crate) struct EventStream {
    state: watch::Sender<State>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    events: Vec<Event>,
    finished: bool,
    session: Option<String>,
    /// Id and progress token of the request whose stream it is, as JSON text.
    request: Option<(String, String)>,
    /// Events that some connection has taken.
    taken: usize,
    /// Connections so far; only the newest is served.
    connections: usize,
}

impl EventStream {
    pub(crate) fn new(events: Vec<Event>, finished: bool) -> Self {
        let state = State {
            events,
            finished,
            ..State::default()
        };
        Self {
            state: watch::Sender::new(state),
        }
    }

    pub(crate) fn append(&self, event: Event) {
        self.state.send_modify(|state| state.events.push(event));
    }

    pub(crate) fn finish(&self) {
        self.state.send_modify(|state| state.finished = true);
    }

    pub(crate) fn len(&self) -> usize {
        self.state.borrow().events.len()
    }

    /// The standalone stream of a session.
    pub(crate) fn of_session(session: &str) -> Self {
        let stream = Self::new(Vec::new(), false);
        stream
            .state
            .send_modify(|state| state.session = Some(session.to_owned()));
        stream
    }

    /// A connection that begins after the event with this id, or where the last one stopped. `None`:
    /// there is no such id here, or not in this session.
    pub(crate) fn connect(&self, after: Option<&str>, session: Option<&str>) -> Option<Cursor> {
        let mut cursor = None;
        self.state.send_if_modified(|state| {
            let at = match after {
                None => Some(state.taken),
                Some(id) => state
                    .events
                    .iter()
                    .position(|event| event.id.as_deref() == Some(id))
                    .map(|index| index + 1),
            };
            let foreign = state.session.is_some() && state.session.as_deref() != session;
            let Some(at) = at.filter(|_| !foreign) else {
                return false;
            };
            if state.session.is_none() {
                state.session = session.map(str::to_owned);
            }
            state.connections += 1;
            cursor = Some(Cursor {
                state: self.state.subscribe(),
                stream: self.clone(),
                at,
                connection: state.connections,
            });
            true
        });
        cursor
    }

    fn has(&self, id: &str, session: Option<&str>) -> bool {
        let state = self.state.borrow();
        let foreign = state.session.is_some() && state.session.as_deref() != session;
        !foreign
            && state
                .events
                .iter()
                .any(|event| event.id.as_deref() == Some(id))
    }

    /// Id and progress token of the request it answers: the first one that asks.
    pub(crate) fn request(&self, id: Option<&str>, token: Option<String>) -> (String, String) {
        let mut found = None;
        self.state.send_if_modified(|state| {
            if state.request.is_none()
                && let Some(id) = id
            {
                state.request = Some((id.to_owned(), token.unwrap_or_default()));
            }
            found.clone_from(&state.request);
            false
        });
        found.unwrap_or_default()
    }
}

/// One connection's place in a stream.
pub(crate) struct Cursor {
    state: watch::Receiver<State>,
    stream: EventStream,
    at: usize,
    connection: usize,
}

/// What comes next on a connection.
pub(crate) enum Next {
    Event(Event),
    Finished,
    /// A newer connection carries the stream now.
    Replaced,
}

impl Cursor {
    pub(crate) async fn next(&mut self) -> Next {
        let (at, connection) = (self.at, self.connection);
        let ready = self.state.wait_for(|state| {
            state.connections != connection || state.events.len() > at || state.finished
        });
        let next = match ready.await {
            Ok(state) if state.connections != connection => Next::Replaced,
            Ok(state) => state
                .events
                .get(at)
                .cloned()
                .map_or(Next::Finished, Next::Event),
            Err(_) => Next::Finished,
        };
        if matches!(next, Next::Event(_)) {
            self.at += 1;
        }
        next
    }

    /// Everything before the cursor has been sent.
    pub(crate) fn sent(&self) {
        self.stream.state.send_if_modified(|state| {
            state.taken = state.taken.max(self.at);
            false
        });
    }
}

/// The streams of an upstream, by name.
#[derive(Debug, Default)]
pub(crate) struct Streams(Mutex<HashMap<String, EventStream>>);

impl Streams {
    pub(crate) fn insert(&self, name: &str, stream: EventStream) {
        self.lock().insert(name.to_owned(), stream);
    }

    pub(crate) fn get(&self, name: &str) -> Option<EventStream> {
        self.lock().get(name).cloned()
    }

    /// Name of the stream that this event is of, in this session.
    pub(crate) fn of_event(&self, id: &str, session: Option<&str>) -> Option<String> {
        let streams = self.lock();
        let found = streams.iter().find(|(_, stream)| stream.has(id, session));
        found.map(|(name, _)| name.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, EventStream>> {
        self.0.lock().expect("no panic under this lock")
    }
}
