//! Sessions that are one stream of messages each way: HTTP+SSE, and programs on stdio.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::event::Event;
use crate::upstream::behaviour::{Session, standalone};
use crate::upstream::blanks::Blanks;
use crate::upstream::connection::{read, write_plain};
use crate::upstream::record::{Outcome, Request, Via};
use crate::upstream::script::{Script, Step};
use crate::upstream::shared::Shared;
use crate::upstream::stream::{EventStream, Next};

/// Opens a session of HTTP+SSE, which lives as long as the response to this request.
pub(super) fn open_sse(shared: &Shared, request: &Request) -> Script {
    let session = Session {
        opened_by: Some(request.number),
        ..Session::new(next_id("sse"), Via::HttpSse)
    };
    let mut endpoint = Event::data(format!("/messages?sessionId={}", session.id));
    endpoint.kind = Some("endpoint".to_owned());
    let name = standalone(&session.id);
    shared.add_session(session, EventStream::new(vec![endpoint], false));
    Script::stream(&name)
}

/// Takes a message of HTTP+SSE: what it is answered with goes to the stream of its session, but for a script
/// that has a status and nothing to say.
pub(super) fn post(shared: &Arc<Shared>, request: &Arc<Request>) -> Script {
    let stream = shared.with_session(request.session(), |session| standalone(&session.id));
    let Some(stream) = stream.and_then(|name| shared.streams.get(&name)) else {
        return Script::status(404);
    };
    let script = shared.script(request);
    if script.is_refusal() {
        return script;
    }
    let (played, request) = (Arc::clone(shared), Arc::clone(request));
    shared.spawn(async move {
        play(&played, &stream, &request, script).await;
    });
    Script::accepted()
}

/// Whether a program's pipe speaks on this connection: it says so at once.
pub(super) async fn is_program(stream: &TcpStream, input: &mut BytesMut) -> bool {
    while input.len() < GREETING.len() && GREETING.starts_with(input) {
        if !matches!(read(stream, input).await, Ok(count) if count > 0) {
            return false;
        }
    }
    input.starts_with(GREETING)
}

/// Is a program until either end closes its pipe.
pub(super) async fn serve_program(
    shared: &Arc<Shared>,
    stream: &TcpStream,
    input: &mut BytesMut,
    connection: usize,
) {
    let _ = input.split_to(GREETING.len());
    let session = Session::new(next_id("stdio"), Via::Stdio);
    let id = session.id.clone();
    let messages = EventStream::new(Vec::new(), false);
    shared.add_session(session, messages.clone());
    // Neither loses anything that matters: the program ends with the first.
    tokio::select! {
        () = read_lines(shared, &id, &messages, stream, input, connection) => {}
        () = write_lines(&messages, stream) => {}
    }
    shared.end_session(&id);
    shared
        .record
        .send_modify(|record| record.program_ended(&id));
}

async fn read_lines(
    shared: &Arc<Shared>,
    session: &str,
    messages: &EventStream,
    stream: &TcpStream,
    input: &mut BytesMut,
    connection: usize,
) {
    let mut running = JoinSet::new();
    loop {
        while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
            let line = input.split_to(end + 1).freeze().slice(..end);
            let request = line_of(shared, session, connection, line);
            let (shared, messages) = (Arc::clone(shared), messages.clone());
            let script = shared.script(&request);
            running.spawn(async move {
                let outcome = play(&shared, &messages, &request, script).await;
                shared.end_opened_by(request.number);
                let end = |record: &mut crate::Record| record.end(request.number, outcome);
                shared.record.send_modify(end);
            });
        }
        while running.try_join_next().is_some() {}
        if !matches!(read(stream, input).await, Ok(count) if count > 0) {
            return;
        }
    }
}

fn line_of(shared: &Shared, session: &str, connection: usize, line: Bytes) -> Arc<Request> {
    shared.received(|number| Request::of_line((number, connection), session, line))
}

async fn write_lines(messages: &EventStream, stream: &TcpStream) {
    let Some(mut cursor) = messages.connect(None, None) else {
        return;
    };
    while let Next::Event(event) = cursor.next().await {
        let line = event.data.unwrap_or_default() + "\n";
        if write_plain(stream, line.as_bytes()).await.is_err() {
            return;
        }
        cursor.sent();
    }
}

/// Plays a script whose messages go to the stream of a session. What is about HTTP in it means nothing here.
async fn play(
    shared: &Shared,
    messages: &EventStream,
    request: &Request,
    script: Script,
) -> Outcome {
    // Neither loses anything: what is cancelled is given up for good.
    tokio::select! {
        outcome = play_steps(shared, messages, request, script) => outcome,
        () = shared.cancelled(request) => Outcome::Cancelled,
    }
}

async fn play_steps(
    shared: &Shared,
    messages: &EventStream,
    request: &Request,
    script: Script,
) -> Outcome {
    let mut blanks = Blanks::of(request);
    for step in script.steps {
        match step {
            Step::Whole(text) => messages.append(blanks.filled(Event::message(text))),
            Step::Event(event) => say(messages, blanks.filled(event)),
            Step::Stream(name, _) => {
                let Some(other) = shared.streams.get(&name) else {
                    panic!("a script names a stream {name} that is not published");
                };
                let mut cursor = other.connect(None, request.session());
                while let Some(cursor) = &mut cursor
                    && let Next::Event(event) = cursor.next().await
                {
                    say(messages, blanks.filled(event));
                    cursor.sent();
                }
            }
            Step::Wait(gate) => gate.pass().await,
            Step::WaitForAnswer(id) => {
                let answer = shared.answer_posted(&id).await;
                blanks.answered(&id, answer);
            }
            Step::Stall => std::future::pending().await,
            Step::Cut(_) => {
                messages.finish();
                return Outcome::Cut;
            }
            _ => {}
        }
    }
    Outcome::Complete
}

/// A message without what only events that are resumed have.
fn say(messages: &EventStream, event: Event) {
    if event.has_message() {
        messages.append(Event::message(event.data.unwrap_or_default()));
    }
}

/// Names are not used twice in a process: they are told apart in event ids and records.
fn next_id(kind: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{kind}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What a program's pipe says first.
const GREETING: &[u8] = b"STDIO\n";
