//! A client of revision 2025-11-25 that keeps to the rules: it resumes by GET with the last id it had, starts
//! anew after 404, and never repeats a call that may have run.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use thinpipe_testkit::network::{Host, Rng};
use thinpipe_testkit::{Headers, rpc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

mod call;
mod connections;
mod cursor;
mod listen;

pub(crate) use connections::{Answer, Connections, Lost};

use crate::ledger::Ledger;
use crate::world::{HELD, POOLED, SHARED};

/// For the head of an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Calls at one time.
const MAX_CALLS: usize = 4;

pub(crate) struct Client {
    pub(crate) name: String,
    ledger: Ledger,
    connections: Connections,
    path: &'static str,
    /// As whom the server knows it: clients that share a session are one there.
    introduces: String,
    next: AtomicU64,
    /// Its sessions are held by a gateway.
    is_held: bool,
    session: Mutex<Option<Arc<Session>>>,
    /// Whether servers keep their sessions: then nobody else may lose one.
    sessions_last: Arc<AtomicBool>,
}

/// A session as its client knows it.
pub(crate) struct Session {
    id: String,
    /// It was heard to be gone, or its client has ended it.
    is_over: AtomicBool,
    /// Its client has asked for its end.
    is_ended: AtomicBool,
    /// Its client listens: two who did would take the stream from each other again and again.
    is_heard: AtomicBool,
}

/// What a client is told besides.
pub(crate) struct Member<'a> {
    pub(crate) name: &'a str,
    pub(crate) token: &'a str,
    pub(crate) host: Host,
    pub(crate) gateways: Arc<[String]>,
    pub(crate) rng: Rng,
    /// Of the endpoint.
    pub(crate) path: &'static str,
    pub(crate) sessions_last: Arc<AtomicBool>,
}

impl Client {
    pub(crate) fn new(member: Member<'_>, ledger: &Ledger) -> Arc<Self> {
        ledger.joins(member.name);
        let (gateways, rng) = (member.gateways, member.rng);
        Arc::new(Self {
            name: member.name.to_owned(),
            ledger: ledger.clone(),
            connections: Connections::new(member.host, gateways, member.token, rng),
            path: member.path,
            introduces: match member.path {
                POOLED => member.token.to_owned(),
                // All names begin so.
                SHARED => "<".to_owned(),
                _ => member.name.to_owned(),
            },
            next: AtomicU64::new(0),
            is_held: matches!(member.path, HELD | POOLED | SHARED),
            session: Mutex::new(None),
            sessions_last: member.sessions_last,
        })
    }

    /// Does this and that until then, and what it has begun to its end.
    pub(crate) async fn run(self: Arc<Self>, until: Instant) {
        let mut running = JoinSet::new();
        while Instant::now() < until {
            let pause = self.draw(|rng| rng.up_to(Duration::from_millis(800)));
            sleep(pause).await;
            let Some(session) = self.session().await else {
                continue;
            };
            while running.try_join_next().is_some() {}
            let this = Arc::clone(&self);
            match self.draw(|rng| rng.below(100)) {
                0..50 if running.len() < MAX_CALLS => {
                    running.spawn(async move { this.call(&session).await });
                }
                50..60 if running.len() < MAX_CALLS && !self.is_pooled() => {
                    running.spawn(async move { this.listen(&session, until).await });
                }
                60..90 => {
                    self.list(&session, PATIENCE).await;
                }
                90..93 => self.end(&session).await,
                _ => self.notify(&session).await,
            }
        }
        while running.join_next().await.is_some() {}
    }

    /// Invariant 4: whether it can work, with the session it has or a new one.
    pub(crate) async fn works(&self) -> bool {
        let Some(session) = self.session().await else {
            return false;
        };
        self.list(&session, Duration::from_secs(2)).await
    }

    /// Leaves: half of the sessions are ended, the others are left to their end.
    pub(crate) async fn leave(&self) {
        let session = self.current();
        if let Some(session) = session.filter(|_| self.draw(|rng| rng.per_mille(500))) {
            self.end(&session).await;
        }
        self.connections.close_idle();
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        self.connections.draw(draw)
    }

    /// What its server says of no request is for others too.
    fn is_pooled(&self) -> bool {
        matches!(self.path, POOLED | SHARED)
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn violation(&self, what: impl std::fmt::Display) {
        self.ledger.violation(format!("{}: {what}", self.name));
    }

    fn current(&self) -> Option<Arc<Session>> {
        let session = self.session.lock().unwrap().clone();
        session.filter(|session| !session.is_over.load(Ordering::SeqCst))
    }

    /// The session it has, or a new one, if one can be had now.
    async fn session(&self) -> Option<Arc<Session>> {
        if let Some(session) = self.current() {
            return Some(session);
        }
        let params = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {"elicitation": {}},
            "clientInfo": {"name": self.introduces, "version": "1"},
        });
        let body = rpc::request(self.number(), "initialize", &params);
        let sent = self
            .connections
            .send(("POST", self.path), Headers::new(), body, PATIENCE);
        let mut answer = sent.await.ok()?;
        let id = answer.headers.get("mcp-session-id").map(str::to_owned);
        let said = answer.json().await.ok()?;
        let (200, Some(id)) = (answer.status, id) else {
            if !passes(answer.status) {
                self.violation(format!("initialize gets {}: {said}", answer.status));
            }
            return None;
        };
        self.connections.done(answer);
        let session = Arc::new(Session {
            id,
            is_over: AtomicBool::new(false),
            is_ended: AtomicBool::new(false),
            is_heard: AtomicBool::new(false),
        });
        self.ledger
            .note(format!("{} has session {}", self.name, session.id));
        self.ledger.count(|figures| figures.sessions += 1);
        *self.session.lock().unwrap() = Some(Arc::clone(&session));
        let sent = self.post(&session, rpc::initialized(), PATIENCE).await;
        if let Ok(answer) = sent {
            self.finish(&session, answer).await;
        }
        Some(session)
    }

    fn headers(session: &Session) -> Headers {
        let mut headers = Headers::new();
        headers.push("Mcp-Session-Id", session.id.as_str());
        headers.push("MCP-Protocol-Version", "2025-11-25");
        headers
    }

    async fn post(
        &self,
        session: &Session,
        body: String,
        patience: Duration,
    ) -> Result<Answer, Lost> {
        let headers = Self::headers(session);
        let sent = self
            .connections
            .send(("POST", self.path), headers, body, patience);
        let answer = sent.await?;
        self.look(session, &answer);
        Ok(answer)
    }

    /// 404 means one thing: the session is gone.
    fn look(&self, session: &Session, answer: &Answer) {
        if answer.status != 404 || session.is_over.swap(true, Ordering::SeqCst) {
            return;
        }
        let gateway = answer.gateway();
        self.ledger.note(format!(
            "{}: {gateway} has no session {}",
            self.name, session.id
        ));
        if session.is_ended.load(Ordering::SeqCst) {
            return;
        }
        self.ledger.count(|figures| figures.lost += 1);
        if self.sessions_last.load(Ordering::SeqCst) {
            self.violation(format!("{gateway} has lost session {}", session.id));
        }
    }

    /// Reads the rest of an answer that has nothing to say.
    async fn finish(&self, session: &Session, mut answer: Answer) {
        if let Ok(said) = answer.json().await {
            self.ledger.heard(&self.name, &said);
            if answer.status != 404 && !passes(answer.status) {
                let id = &session.id;
                self.violation(format!("{} in session {id}: {said}", answer.status));
            }
            self.connections.done(answer);
        }
    }

    /// A request that does nothing and may be repeated. Whether it was answered.
    async fn list(&self, session: &Session, patience: Duration) -> bool {
        let id = self.number();
        let body = rpc::request(id, "tools/list", &json!({}));
        let Ok(mut answer) = self.post(session, body, patience).await else {
            return false;
        };
        let Ok(said) = answer.only().await else {
            return false;
        };
        self.ledger.heard(&self.name, &said);
        let is_answered = answer.status == 200 && said["result"].is_object();
        if answer.status == 200 && !said.is_null() && said["id"] != id {
            self.violation(format!("{id} is answered with {said}"));
        }
        if is_answered && said["result"]["_meta"]["for"] != *self.introduces {
            self.violation(format!("hears the tools of another: {said}"));
        }
        self.connections.done(answer);
        is_answered
    }

    async fn notify(&self, session: &Session) {
        let params = json!({"requestId": format!("{} none", self.name)});
        let body = rpc::notification("notifications/cancelled", &params);
        if let Ok(answer) = self.post(session, body, PATIENCE).await {
            self.finish(session, answer).await;
        }
    }

    async fn end(&self, session: &Session) {
        session.is_ended.store(true, Ordering::SeqCst);
        self.ledger
            .note(format!("{} ends session {}", self.name, session.id));
        let headers = Self::headers(session);
        let sent = self
            .connections
            .send_again(("DELETE", self.path), headers, PATIENCE);
        if let Ok(answer) = sent.await {
            let is_done = answer.status < 300;
            self.look(session, &answer);
            self.finish(session, answer).await;
            if !is_done {
                return;
            }
        }
        // Also if it does not know: it does not come back to it.
        session.is_over.store(true, Ordering::SeqCst);
    }

    /// Answers what a server asks.
    async fn answer(&self, session: &Session, request: &Value) {
        self.ledger.count(|figures| figures.asked += 1);
        let content = json!({"for": request["params"]["message"]});
        let result = json!({"action": "accept", "content": content});
        let body = rpc::response(request["id"].clone(), &result);
        if let Ok(answer) = self.post(session, body, PATIENCE).await {
            self.finish(session, answer).await;
        }
    }
}

/// Whether a status says nothing that must not be: it is well, or it will be. 408: the request was late.
fn passes(status: u16) -> bool {
    matches!(status, 200..300 | 408 | 409 | 429 | 500..)
}
