//! A call, through all connections that carry its answer.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use thinpipe_testkit::rpc;
use tokio::time::{Instant, sleep};

use super::connections::{Answer, Lost};
use super::cursor::Cursor;
use super::{Client, PATIENCE, Session};

/// Times that a stream is resumed before its client gives up.
const MAX_RESUMES: u32 = 100;

/// For how long its client tries: longer than any storm.
const MAX_TRYING: Duration = Duration::from_secs(60);

/// Before a stream is resumed, if the server does not say.
const RETRY: u64 = 200;

/// A call as its client sees it.
struct Call {
    id: Value,
    token: String,
    events: u64,
    /// Progress that was heard.
    heard: u64,
    cursor: Cursor,
    is_over: bool,
}

impl Client {
    pub(super) async fn call(&self, session: &Session) {
        let (mut call, body) = self.plan();
        self.ledger.count(|figures| figures.calls += 1);
        self.ledger.note(format!("{} is asked: {body}", call.token));
        let sent = loop {
            match self.post(session, body.clone(), PATIENCE).await {
                // Nobody has heard it.
                Err(Lost::Unsent) if !self.ledger.ran(&call.token) => {
                    sleep(Duration::from_millis(RETRY)).await;
                }
                Err(Lost::Unsent) => {
                    self.violation(format!("{} runs, but was not sent", call.token));
                    return;
                }
                other => break other,
            }
        };
        let outcome = match sent {
            Ok(answer) => self.hear(session, &mut call, answer).await,
            Err(Lost::Unknown(error)) => format!("outcome unknown: {error}"),
            Err(Lost::Unsent) => "not sent".to_owned(),
        };
        self.ledger.note(format!("{}: {outcome}", call.token));
        let ran = self.ledger.ran(&call.token);
        self.ledger.count(|figures| match call.is_over {
            // Its client has ended the session meanwhile, and wants no answer.
            _ if session.is_ended.load(Ordering::SeqCst) => {}
            true => figures.answered += 1,
            false => {
                figures.told += 1;
                figures.unanswered += u64::from(ran);
            }
        });
    }

    fn plan(&self) -> (Call, String) {
        let number = self.number();
        let token = format!("{}#{number}", self.name);
        let drawn = self.draw(|rng| {
            let events = rng.below(8);
            let asks = rng.per_mille(200).then(|| 1 + rng.below(4));
            let drops = rng.per_mille(150).then(|| 1 + rng.below(4));
            let pause = rng.below(600);
            (
                events,
                pause,
                asks,
                drops,
                rng.per_mille(250),
                rng.per_mille(850),
            )
        });
        let (events, pause, asks, drops, json, ids) = drawn;
        let arguments = json!({
            "token": token, "events": events, "pause": pause, "json": json, "ids": ids,
            "asks_at": asks, "drops_at": drops.filter(|_| ids),
        });
        let id = match number % 2 {
            0 => Value::from(number),
            _ => Value::from(format!("{} {number}", self.name)),
        };
        let meta = json!({"progressToken": token});
        let params = json!({"name": "work", "arguments": arguments, "_meta": meta});
        let body = rpc::request(id.clone(), "tools/call", &params);
        let call = Call {
            id,
            token,
            // A server that answers with JSON says nothing before.
            events: if json { 0 } else { events },
            heard: 0,
            cursor: Cursor::default(),
            is_over: false,
        };
        (call, body)
    }

    /// Hears the answer out; what became of it, in words.
    async fn hear(&self, session: &Session, call: &mut Call, mut answer: Answer) -> String {
        for _ in 0..MAX_RESUMES {
            if !answer.is_stream() {
                return self.hear_json(call, answer).await;
            }
            let ended = self.hear_stream(session, call, &mut answer).await;
            if call.is_over {
                self.connections.done(answer);
                return "answered".to_owned();
            }
            let Some(last) = call.cursor.last.clone() else {
                return format!("outcome unknown: {ended}");
            };
            self.ledger
                .note(format!("{}: {ended}; resumes after {last}", call.token));
            answer = match self.resume(session, &last, call.cursor.retry).await {
                Ok(answer) => answer,
                Err(why) => return why,
            };
        }
        self.violation(format!("{} cannot be resumed for ever", call.token));
        "given up".to_owned()
    }

    async fn hear_json(&self, call: &mut Call, mut answer: Answer) -> String {
        let status = answer.status;
        let Ok(said) = answer.json().await else {
            return "outcome unknown: cut in the middle of the answer".to_owned();
        };
        self.ledger.heard(&self.name, &said);
        if status == 200 || said["id"] != Value::Null {
            self.judge(call, &said, true);
        }
        self.connections.done(answer);
        match call.is_over {
            true => "answered".to_owned(),
            false => format!("told {status}: {said}"),
        }
    }

    /// Hears one connection out; how it ended, in words.
    async fn hear_stream(&self, session: &Session, call: &mut Call, answer: &mut Answer) -> String {
        loop {
            let event = match answer.event().await {
                Ok(Some(event)) => event,
                Ok(None) => return "the stream ends".to_owned(),
                Err(error) => return format!("cut: {error}"),
            };
            let message = match call.cursor.take(&event) {
                Ok(Some(message)) => message,
                Ok(None) => continue,
                Err(why) => {
                    self.violation(format!("{}: {why}", call.token));
                    continue;
                }
            };
            self.ledger.heard(&self.name, &message);
            if call.is_over {
                self.violation(format!("{}: after its answer comes {message}", call.token));
            }
            if message["method"] == "elicitation/create" {
                self.answer(session, &message).await;
            } else {
                self.judge(call, &message, false);
            }
        }
    }

    /// Invariant 1, and those of 5.9 about answers.
    fn judge(&self, call: &mut Call, message: &Value, is_json: bool) {
        let token = &call.token;
        if message["method"] == "notifications/progress" {
            let number = message["params"]["progress"].as_u64().unwrap_or_default();
            if message["params"]["progressToken"] != **token {
                self.violation(format!("{token}: progress of another: {message}"));
            }
            if number != call.heard + 1 {
                let heard = call.heard;
                self.violation(format!("{token}: progress {number} comes after {heard}"));
            }
            call.heard = number;
            return;
        }
        if message["id"] != call.id || message.get("method").is_some() {
            self.violation(format!("{token}: is answered by {message}"));
            return;
        }
        call.is_over = true;
        if message.get("error").is_some() {
            self.ledger.note(format!("{token}: {message}"));
            return;
        }
        if message["result"]["content"][0]["text"] != **token {
            self.violation(format!("{token}: has the answer of another: {message}"));
        }
        if !is_json && call.heard != call.events {
            let (heard, events) = (call.heard, call.events);
            self.violation(format!(
                "{token}: answered after {heard} of {events} events"
            ));
        }
    }

    /// Asks for a stream again until somebody has it.
    pub(super) async fn resume(
        &self,
        session: &Session,
        last: &str,
        retry: Option<u64>,
    ) -> Result<Answer, String> {
        let began = Instant::now();
        while began.elapsed() < MAX_TRYING {
            sleep(Duration::from_millis(retry.unwrap_or(RETRY))).await;
            let mut headers = Self::headers(session);
            headers.push("Last-Event-ID", last);
            let sent = self
                .connections
                .send_again(("GET", self.path), headers, PATIENCE)
                .await;
            let Ok(answer) = sent else {
                continue;
            };
            self.look(session, &answer);
            match answer.status {
                200 if answer.is_stream() => {
                    self.ledger
                        .note(format!("{}: {} resumes", self.name, answer.gateway()));
                    self.ledger.count(|figures| figures.resumed += 1);
                    return Ok(answer);
                }
                404 => return Err("the session is gone".to_owned()),
                // What a gateway said while it had no store, another one cannot go on with.
                400 if self.is_held && !self.sessions_last.load(Ordering::SeqCst) => {
                    return Err("refused".to_owned());
                }
                408 | 409 | 429 | 500.. => sleep(Duration::from_millis(RETRY)).await,
                other => {
                    self.violation(format!("{last} cannot be resumed: {other}"));
                    return Err(format!("not resumed: {other}"));
                }
            }
        }
        self.violation(format!("{last} is never resumed"));
        Err("given up".to_owned())
    }
}
