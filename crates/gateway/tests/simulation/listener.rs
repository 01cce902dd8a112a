//! A client of HTTP+SSE (2024-11-05): one stream on one node, messages posted to any. With its stream its session
//! is over.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use thinpipe_testkit::network::Rng;
use thinpipe_testkit::{Headers, rpc};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::client::{Answer, Connections, Lost, Member};
use crate::ledger::Ledger;

/// For the head of an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// For what was accepted to be answered, while the stream is open: longer than any time-out.
const ANSWERED: Duration = Duration::from_secs(70);

/// Requests at one time.
const MAX_OPEN: usize = 4;

pub(crate) struct Listener {
    name: String,
    ledger: Ledger,
    connections: Connections,
    path: &'static str,
    next: AtomicU64,
}

/// One stream, and what was asked.
struct Session {
    /// Where messages are posted to.
    messages: String,
    open: Mutex<Open>,
    changed: Notify,
}

#[derive(Default)]
struct Open {
    /// By their ids.
    requests: BTreeMap<u64, Request>,
    questions: Vec<Value>,
    is_over: bool,
}

struct Request {
    token: String,
    events: u64,
    heard: u64,
    /// It was accepted, and so it has to be answered.
    is_owed: bool,
}

impl Listener {
    pub(crate) fn new(member: Member<'_>, ledger: &Ledger) -> Arc<Self> {
        ledger.joins(member.name);
        let (gateways, rng) = (member.gateways, member.rng);
        Arc::new(Self {
            name: member.name.to_owned(),
            ledger: ledger.clone(),
            connections: Connections::new(member.host, gateways, member.token, rng),
            path: member.path,
            next: AtomicU64::new(0),
        })
    }

    pub(crate) async fn run(self: Arc<Self>, until: Instant) {
        while Instant::now() < until {
            if let Some((session, answer)) = self.open().await {
                let session = &session;
                tokio::select! {
                    biased;
                    // Who leaves drops the stream, and with it the session.
                    () = self.work(session, until) => {}
                    () = self.hear_on(session, answer) => {}
                }
                let left = session.open.lock().unwrap().requests.len() as u64;
                self.ledger.count(|figures| figures.told += left);
            }
            let pause = self.draw(|rng| rng.up_to(Duration::from_secs(1)));
            sleep(pause).await;
        }
        self.connections.close_idle();
    }

    /// Invariant 4: whether it can work, with a new stream.
    pub(crate) async fn works(&self) -> bool {
        let opened = timeout(Duration::from_secs(2), self.open()).await;
        let Ok(Some((session, answer))) = opened else {
            return false;
        };
        tokio::select! {
            biased;
            // Either is dropped for good.
            () = self.hear(&session, answer) => false,
            done = timeout(Duration::from_secs(2), self.initialize(&session)) => {
                done.is_ok() && !self.is_over(&session)
            }
        }
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        self.connections.draw(draw)
    }

    fn violation(&self, what: impl std::fmt::Display) {
        self.ledger.violation(format!("{}: {what}", self.name));
    }

    async fn open(&self) -> Option<(Session, Answer)> {
        let sent = self
            .connections
            .send(("GET", self.path), Headers::new(), "", PATIENCE);
        let mut answer = sent.await.ok()?;
        if !answer.is_stream() {
            return None;
        }
        let first = answer.event().await.ok()??;
        if first.kind.as_deref() != Some("endpoint") {
            self.violation(format!("its stream begins with {first:?}"));
            return None;
        }
        self.ledger
            .note(format!("{} listens at {}", self.name, answer.gateway()));
        let session = Session {
            messages: first.data.unwrap_or_default(),
            open: Mutex::default(),
            changed: Notify::new(),
        };
        Some((session, answer))
    }

    /// Reads the stream to its end.
    async fn hear(&self, session: &Session, mut answer: Answer) {
        // Streams of this kind may be silent for longer than others, but comments come all the same.
        while let Ok(Some(event)) = answer.event().await {
            let text = event.data.as_deref().unwrap_or_default();
            let message: Value = serde_json::from_str(text).unwrap_or_default();
            self.ledger.heard(&self.name, &message);
            self.judge(&mut session.open.lock().unwrap(), &message);
            session.changed.notify_waiters();
        }
        self.ledger
            .note(format!("{}: its stream is over", self.name));
        session.open.lock().unwrap().is_over = true;
        session.changed.notify_waiters();
    }

    /// The same, and then waits for whoever works to notice.
    async fn hear_on(&self, session: &Session, answer: Answer) {
        self.hear(session, answer).await;
        std::future::pending().await
    }

    fn judge(&self, open: &mut Open, message: &Value) {
        match message["method"].as_str() {
            Some("notifications/progress") => self.progress(open, message),
            Some("elicitation/create") => open.questions.push(message.clone()),
            Some(_) => {}
            None => {
                let id = message["id"].as_u64();
                let Some(request) = id.and_then(|id| open.requests.remove(&id)) else {
                    return self
                        .violation(format!("asked for nothing, or is told twice: {message}"));
                };
                // Without `initialize` there is no session.
                open.is_over |= request.token.is_empty() && message.get("error").is_some();
                self.answered(&request, message);
            }
        }
    }

    fn progress(&self, open: &mut Open, message: &Value) {
        let params = &message["params"];
        let mut requests = open.requests.values_mut();
        let request = requests.find(|request| params["progressToken"] == *request.token);
        let Some(request) = request else {
            return self.violation(format!("progress of nothing: {message}"));
        };
        let number = params["progress"].as_u64().unwrap_or_default();
        if number != request.heard + 1 {
            let (token, heard) = (&request.token, request.heard);
            self.violation(format!("{token}: progress {number} comes after {heard}"));
        }
        request.heard = number;
    }

    fn answered(&self, request: &Request, message: &Value) {
        let Request {
            token,
            events,
            heard,
            ..
        } = request;
        self.ledger.count(|figures| figures.answered += 1);
        if message.get("error").is_some() || token.is_empty() {
            return;
        }
        if message["result"]["content"][0]["text"] != **token {
            self.violation(format!("{token}: has the answer of another: {message}"));
        }
        if heard != events {
            self.violation(format!(
                "{token}: answered after {heard} of {events} events"
            ));
        }
    }

    async fn work(&self, session: &Session, until: Instant) {
        self.initialize(session).await;
        while Instant::now() < until && !self.is_over(session) {
            let pause = self.draw(|rng| rng.up_to(Duration::from_millis(800)));
            sleep(pause).await;
            self.answer_questions(session).await;
            if session.open.lock().unwrap().requests.len() < MAX_OPEN {
                self.call(session).await;
            }
        }
        self.wait_for_answers(session).await;
    }

    fn is_over(&self, session: &Session) -> bool {
        session.open.lock().unwrap().is_over
    }

    async fn wait_for_answers(&self, session: &Session) {
        let until = Instant::now() + ANSWERED;
        while !self.is_over(session) {
            self.answer_questions(session).await;
            let owed: Vec<_> = {
                let open = session.open.lock().unwrap();
                let owed = open.requests.values().filter(|request| request.is_owed);
                owed.map(|request| request.token.clone()).collect()
            };
            if owed.is_empty() {
                return;
            }
            if Instant::now() > until {
                self.violation(format!("{owed:?} are never answered"));
                return;
            }
            let _ = timeout(Duration::from_secs(1), session.changed.notified()).await;
        }
    }

    async fn answer_questions(&self, session: &Session) {
        let questions = std::mem::take(&mut session.open.lock().unwrap().questions);
        for question in questions {
            self.ledger.count(|figures| figures.asked += 1);
            let content = json!({"for": question["params"]["message"]});
            let result = json!({"action": "accept", "content": content});
            let body = rpc::response(question["id"].clone(), &result);
            let _ = self.post(session, body).await;
        }
    }

    async fn initialize(&self, session: &Session) {
        let params = json!({
            "protocolVersion": "2024-11-05",
            "capabilities": {"elicitation": {}},
            "clientInfo": {"name": self.name, "version": "1"},
        });
        self.ask(session, "initialize", params, (String::new(), 0))
            .await;
        let answered = async {
            loop {
                let changed = session.changed.notified();
                tokio::pin!(changed);
                // From here on no change is missed.
                changed.as_mut().enable();
                if session.open.lock().unwrap().requests.is_empty() || self.is_over(session) {
                    return;
                }
                changed.await;
            }
        };
        if timeout(PATIENCE, answered).await.is_err() {
            session.open.lock().unwrap().is_over = true;
        }
        if self.is_over(session) {
            return;
        }
        let _ = self.post(session, rpc::initialized()).await;
    }

    async fn call(&self, session: &Session) {
        let number = self.next.load(Ordering::Relaxed);
        let token = format!("{}#{number}", self.name);
        let (events, pause, json) =
            self.draw(|rng| (rng.below(6), rng.below(500), rng.per_mille(250)));
        let arguments = json!({
            "token": token, "events": events, "pause": pause, "json": json, "ids": true,
        });
        let meta = json!({"progressToken": token});
        let params = json!({"name": "work", "arguments": arguments, "_meta": meta});
        self.ledger.count(|figures| figures.calls += 1);
        self.ledger.note(format!("{token} is asked"));
        let events = if json { 0 } else { events };
        self.ask(session, "tools/call", params, (token, events))
            .await;
    }

    async fn ask(
        &self,
        session: &Session,
        method: &str,
        params: Value,
        (token, events): (String, u64),
    ) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let request = Request {
            token,
            events,
            heard: 0,
            is_owed: false,
        };
        // Its answer may be there before that of the POST.
        session.open.lock().unwrap().requests.insert(id, request);
        let posted = self.post(session, rpc::request(id, method, &params)).await;
        let mut open = session.open.lock().unwrap();
        match posted {
            Ok(202) => {
                if let Some(request) = open.requests.get_mut(&id) {
                    request.is_owed = true;
                }
            }
            Ok(404) => open.is_over = true,
            Err(Lost::Unsent) => {
                open.requests.remove(&id);
                // A session cannot begin in the middle.
                open.is_over |= method == "initialize";
            }
            // It may have been heard, or not: it is answered, or is not.
            _ => {}
        }
    }

    async fn post(&self, session: &Session, body: String) -> Result<u16, Lost> {
        let line = ("POST", session.messages.as_str());
        let sent = self.connections.send(line, Headers::new(), body, PATIENCE);
        let mut answer = sent.await?;
        let status = answer.status;
        if let Ok(said) = answer.json().await {
            self.ledger.heard(&self.name, &said);
            if !matches!(status, 202 | 404 | 408 | 429 | 500..) {
                self.violation(format!("a message gets {status}: {said}"));
            }
            self.connections.done(answer);
        }
        Ok(status)
    }
}
