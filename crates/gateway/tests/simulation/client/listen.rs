//! The standalone stream of a session.

use std::sync::atomic::Ordering;
use std::time::Duration;

use thinpipe_testkit::Headers;
use tokio::time::{Instant, sleep, timeout};

use super::connections::Answer;
use super::cursor::Cursor;
use super::{Client, PATIENCE, Session};

/// Between two attempts to open it.
const PAUSE: Duration = Duration::from_secs(1);

impl Client {
    /// Listens for a while, resuming whenever the stream breaks.
    pub(super) async fn listen(&self, session: &Session, until: Instant) {
        if session.is_heard.swap(true, Ordering::SeqCst) {
            return;
        }
        let long = self.draw(|rng| rng.up_to(Duration::from_secs(20)));
        let left = until.saturating_duration_since(Instant::now());
        // Who leaves in the middle of it has heard enough.
        let _ = timeout(left.min(long), self.listen_on(session)).await;
        session.is_heard.store(false, Ordering::SeqCst);
    }

    async fn listen_on(&self, session: &Session) {
        let mut cursor = Cursor::default();
        let mut heard = None;
        loop {
            let last = cursor.last.clone();
            let opened = match &last {
                Some(last) => self.resume(session, last, cursor.retry).await.ok(),
                None => self.open(session, Self::headers(session)).await,
            };
            let Some(mut answer) = opened else {
                return;
            };
            self.hear_notices(&mut answer, &mut cursor, &mut heard)
                .await;
            if let Some(last) = &cursor.last {
                self.ledger
                    .note(format!("{}: listens again after {last}", self.name));
            }
        }
    }

    async fn open(&self, session: &Session, headers: Headers) -> Option<Answer> {
        loop {
            let headers = headers.clone();
            let sent = self
                .connections
                .send(("GET", self.path), headers, "", PATIENCE)
                .await;
            if let Ok(answer) = sent {
                self.look(session, &answer);
                match answer.status {
                    200 if answer.is_stream() => return Some(answer),
                    404 => return None,
                    408 | 409 | 429 | 500.. => {}
                    other => {
                        self.violation(format!("cannot listen: {other}"));
                        return None;
                    }
                }
            }
            sleep(PAUSE).await;
        }
    }

    async fn hear_notices(
        &self,
        answer: &mut Answer,
        cursor: &mut Cursor,
        heard: &mut Option<u64>,
    ) {
        while let Ok(Some(event)) = answer.event().await {
            let message = match cursor.take(&event) {
                Ok(Some(message)) => message,
                Ok(None) => continue,
                Err(why) => {
                    self.violation(why);
                    continue;
                }
            };
            self.ledger
                .note(format!("{}: event {:?}", self.name, event.id));
            self.ledger.heard(&self.name, &message);
            self.ledger.count(|figures| figures.notices += 1);
            let method = message["method"].as_str().unwrap_or_default();
            if self.is_held && method.ends_with("list_changed") {
                // Another gateway has the session now, or it was opened anew: what was said meanwhile nobody
                // knows (5.8, (10)).
                *heard = None;
                continue;
            }
            let data = &message["params"]["data"];
            let number = data["number"].as_u64();
            if data["for"] != *self.name || number.is_none() {
                self.violation(format!("hears on its stream: {message}"));
            }
            // The first may be any: who listened before had the others.
            if let (Some(before), Some(number)) = (*heard, number)
                && number != before + 1
            {
                self.violation(format!("hears {number} after {before}"));
            }
            *heard = number;
        }
    }
}
