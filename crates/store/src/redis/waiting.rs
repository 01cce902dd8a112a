//! Waiting for messages, on a connection of its own: whoever comes behind a command that blocks waits with it.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::config::RedisConfig;
use super::connection::{Attempt, Line};
use super::failure::{Failure, has_moved, is_on_its_way};

/// Before it is waited again for what is on its way to another node.
const PAUSE: Duration = Duration::from_millis(50);

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

    /// Waits for a list to have an element, and takes that off. Of a cluster, also where the list is on its way to; that it
    /// has moved ends the wait early.
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
        let answer = connection.query::<Value>(&command);
        let answer = tokio::time::timeout(wait + self.timeout, answer)
            .await
            .map_err(|_| Failure::Late(wait + self.timeout))?;
        let is_moving = match answer {
            Ok(_) => false,
            Err(error) if has_moved(&error) || is_on_its_way(&error) => true,
            Err(error) => return Err(Failure::of(error)),
        };
        unanswered.attempt = None;
        if is_moving {
            // Whoever waits looks for what there is, and waits where that is by then.
            tokio::time::sleep(PAUSE.min(wait)).await;
        }
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

#[cfg(test)]
mod tests {
    use thinpipe_testkit::RedisCluster;

    use super::*;

    /// What is on its way to another node is waited for there.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_wait_follows_a_list_that_moves() {
        let cluster = RedisCluster::start().await;
        let (old, new) = (&cluster.nodes[0], &cluster.nodes[1]);
        // The first node has this slot.
        let (slot, list) = ("5061", "{bar}:bell");
        let mut ids = Vec::new();
        for node in [old, new] {
            ids.push(node.command(&["CLUSTER", "MYID"]).await.text().to_owned());
        }
        old.command(&["RPUSH", list, "1"]).await;
        new.command(&["CLUSTER", "SETSLOT", slot, "IMPORTING", &ids[0]])
            .await;
        old.command(&["CLUSTER", "SETSLOT", slot, "MIGRATING", &ids[1]])
            .await;
        let port = new.port().to_string();
        old.command(&["MIGRATE", "127.0.0.1", &port, list, "0", "5000"])
            .await;
        let count = async || new.command(&["CLUSTER", "COUNTKEYSINSLOT", slot]).await;
        assert_eq!(count().await.number(), 1);
        let config: RedisConfig = cluster.url().parse().expect("a URL");
        let waiting = Waiting::new(&Arc::new(config));
        let first = waiting.first_of(list, Duration::from_secs(30)).await;
        first.expect("it is taken off");
        assert_eq!(count().await.number(), 0);
    }
}
