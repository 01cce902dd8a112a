//! Waiting for messages, on a connection of its own: whoever comes behind a command that blocks waits with it.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::config::RedisConfig;
use super::connection::{Attempt, Line};
use super::failure::Failure;

/// The connection that waits.
pub(super) struct Waiting {
    line: Line,
    /// How long Redis may take beyond what it is told to wait.
    timeout: Duration,
}

impl Waiting {
    pub(super) fn new(config: &Arc<RedisConfig>) -> Self {
        Self {
            line: Line::new(Arc::clone(config)),
            timeout: config.operation_timeout,
        }
    }

    /// Waits for a list to have an element, and takes that off.
    pub(super) async fn first_of(&self, list: &str, wait: Duration) -> Result<(), Failure> {
        let connecting = tokio::time::timeout(self.timeout, self.line.connection()).await;
        let (connection, attempt) = connecting.map_err(|_| Failure::Late(self.timeout))?;
        let mut connection = connection.map_err(Failure::Connect)?;
        // Who waits next would have to wait for this one to be answered.
        let mut unanswered = Unanswered {
            line: &self.line,
            attempt: Some(attempt),
        };
        let mut command = redis::cmd("BLPOP");
        command.arg(list).arg(seconds(wait));
        let answer = command.query_async::<Value>(&mut connection);
        let answer = tokio::time::timeout(wait + self.timeout, answer)
            .await
            .map_err(|_| Failure::Late(wait + self.timeout))?;
        answer.map_err(Failure::of)?;
        unanswered.attempt = None;
        Ok(())
    }
}

/// Gives a connection up that has not answered.
struct Unanswered<'a> {
    line: &'a Line,
    attempt: Option<Attempt>,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            self.line.give_up(&attempt);
        }
    }
}

/// As Redis takes a time; zero would be for ever.
fn seconds(wait: Duration) -> String {
    format!("{:.3}", wait.max(Duration::from_millis(1)).as_secs_f64())
}
