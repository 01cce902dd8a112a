//! Calls of Redis: each with a deadline, tried again where that does no harm, and held back while Redis is down.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Cmd, FromRedisValue, RedisError, Script, ToRedisArgs};
use thinpipe_proto::balance::{Breaker, Outcome};
use tokio::time::Instant;

use super::breaker;
use super::config::{RedisConfig, RedisKind};
use super::connection::{Attempt, Connection, Line};
use super::failure::{
    Failure, is_elsewhere, is_lost, is_on_its_way, is_refused, is_unknown_script,
};
use super::keys::{SLOTS, slot};

/// A script that Redis keeps by the hash of its text.
pub(super) struct Lua {
    text: &'static str,
    script: Script,
}

/// What Redis is asked to do.
pub(super) struct Call {
    command: Cmd,
    /// One of the keys, all of which are in the same place.
    key: String,
    script: Option<&'static Lua>,
    is_repeatable: bool,
}

/// The way to Redis.
pub(super) struct Calls {
    line: Line,
    /// One, or in a cluster one for each of as many ranges of slots, since its servers fail one by one, and another
    /// for calls that need several of them.
    breakers: Vec<Mutex<Breaker>>,
    timeout: Duration,
    tries: u32,
}

impl Lua {
    /// A script of the folder beside this file, after what all of them share.
    pub(super) fn new(text: &'static str) -> Self {
        Self {
            text,
            script: Script::new(text),
        }
    }
}

impl Call {
    /// A command about keys that have one hash tag.
    pub(super) fn command(name: &str, keys: &[String]) -> Self {
        let mut command = redis::cmd(name);
        command.arg(keys);
        Self::new(command, keys, None)
    }

    /// A script about keys that have one hash tag.
    pub(super) fn script(script: &'static LazyLock<Lua>, keys: &[String]) -> Self {
        let mut command = redis::cmd("EVALSHA");
        command
            .arg(script.script.get_hash())
            .arg(keys.len())
            .arg(keys);
        Self::new(command, keys, Some(script))
    }

    fn new(command: Cmd, keys: &[String], script: Option<&'static Lua>) -> Self {
        Self {
            command,
            key: keys.first().cloned().unwrap_or_default(),
            script,
            is_repeatable: false,
        }
    }

    pub(super) fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        self.command.arg(arg);
        self
    }

    /// It may be done twice.
    pub(super) fn repeatable(mut self) -> Self {
        self.is_repeatable = true;
        self
    }

    /// The same with the text of the script, for a server that does not know it.
    fn with_text(&self, script: &Lua) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(script.text);
        for arg in self.command.args_iter().skip(2) {
            if let redis::Arg::Simple(arg) = arg {
                command.arg(arg);
            }
        }
        command
    }

    async fn make<T: FromRedisValue>(&self, connection: &mut Connection) -> Result<T, RedisError> {
        match (connection.query(&self.command).await, self.script) {
            (Err(error), Some(script)) if is_unknown_script(&error) => {
                connection.query(&self.with_text(script)).await
            }
            (result, _) => result,
        }
    }
}

impl Calls {
    pub(super) fn new(config: &Arc<RedisConfig>) -> Self {
        let breakers = match config.kind {
            RedisKind::Single | RedisKind::Sentinel { .. } => 1,
            RedisKind::Cluster => RANGES + 1,
        };
        Self {
            line: Line::new(Arc::clone(config)),
            breakers: (0..breakers)
                .map(|_| Mutex::new(breaker::closed()))
                .collect(),
            timeout: config.operation_timeout,
            tries: config.tries,
        }
    }

    /// Makes a call; it takes no longer than the configured time, all its tries together.
    pub(super) async fn call<T: FromRedisValue>(&self, call: Call) -> Result<T, Failure> {
        let breaker = self.breaker_for(&call.key);
        self.guarded(breaker, self.part(call)).await
    }

    /// Several calls that are one to whoever makes them: they are let through or held back together, and take no
    /// longer than one. What is kept at `key` is what they are about.
    pub(super) async fn together<T>(
        &self,
        key: &str,
        parts: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.guarded(self.breaker_for(key), within(self.timeout, parts))
            .await
    }

    /// The same, and nothing holds them back: for what is done once in a while, and finds out whether Redis is back.
    pub(super) async fn unguarded<T>(
        &self,
        parts: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        within(self.timeout, parts).await
    }

    /// The same of as many calls as there are sessions or parts of the index; they take no longer than one call
    /// may if each of its tries took all its time.
    pub(super) async fn many<T, E: From<Failure>>(
        &self,
        parts: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, E> {
        let breaker = &self.breakers[self.breakers.len() - 1];
        let within_time = within(self.timeout * self.tries, parts);
        Ok(self.guarded(breaker, within_time).await?)
    }

    /// Makes a call that is part of another, and takes no longer than the configured time.
    pub(super) async fn part<T: FromRedisValue>(&self, call: Call) -> Result<T, Failure> {
        let mut progress = Progress::default();
        let tries = self.tries(&call, &mut progress);
        if let Ok(result) = tokio::time::timeout(self.timeout, tries).await {
            return result;
        }
        // It may never answer: what is dead without a word looks like this.
        if let Some(attempt) = progress.waits_for {
            self.line.give_up(&attempt);
        }
        // What failed before says more than that time is up, unless it says that nothing is done, which it may be now.
        let failure = progress
            .failure
            .filter(|failure| !progress.is_sent || !failure.is_undone());
        Err(failure.unwrap_or(Failure::Late(self.timeout)))
    }

    fn breaker_for(&self, key: &str) -> &Mutex<Breaker> {
        if self.breakers.len() == 1 {
            return &self.breakers[0];
        }
        let range = usize::from(slot(key.as_bytes())) * RANGES / usize::from(SLOTS);
        &self.breakers[range]
    }

    async fn guarded<T>(
        &self,
        breaker: &Mutex<Breaker>,
        calls: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let round = locked(breaker).admit(Instant::now().into_std());
        let round = round.ok_or(Failure::HeldBack)?;
        let mut pending = Pending {
            breaker,
            round,
            outcome: Outcome::Unknown,
        };
        let result = calls.await;
        let is_outage = result.as_ref().is_err_and(Failure::is_outage);
        pending.outcome = if is_outage {
            Outcome::Failure
        } else {
            Outcome::Success
        };
        result
    }

    async fn tries<T: FromRedisValue>(
        &self,
        call: &Call,
        progress: &mut Progress,
    ) -> Result<T, Failure> {
        let (mut tried, mut moved) = (1, 0);
        loop {
            let (failure, again) = match self.once(call, progress).await {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            let pause = match again {
                Again::Harmless if tried < self.tries => {
                    tried += 1;
                    PAUSE * (tried - 1)
                }
                // Until the time of the call is up.
                Again::Moving => {
                    moved += 1;
                    (PAUSE * moved).min(MAX_PAUSE)
                }
                Again::Harmless | Again::Never => return Err(failure),
            };
            progress.failure = Some(failure);
            tokio::time::sleep(pause).await;
        }
    }

    /// One try, and whether there may be another after it.
    async fn once<T: FromRedisValue>(
        &self,
        call: &Call,
        progress: &mut Progress,
    ) -> Result<T, (Failure, Again)> {
        let (connection, attempt) = self.line.connection().await;
        let mut connection =
            connection.map_err(|error| (Failure::Connect(error), Again::Harmless))?;
        let is_single = matches!(connection, Connection::Single(_));
        progress.waits_for = is_single.then(|| attempt.clone());
        progress.is_sent = true;
        let result = call.make(&mut connection).await;
        progress.is_sent = false;
        progress.waits_for = None;
        result.map_err(|error| {
            if (is_single && is_lost(&error)) || is_elsewhere(&error) {
                self.line.give_up(&attempt);
            }
            let again = match () {
                () if is_on_its_way(&error) => Again::Moving,
                () if is_refused(&error) => Again::Harmless,
                () if call.is_repeatable && is_lost(&error) => Again::Harmless,
                () => Again::Never,
            };
            (Failure::of(error), again)
        })
    }
}

/// A poisoned lock means a panic elsewhere; the state is valid between any two operations.
fn locked(breaker: &Mutex<Breaker>) -> MutexGuard<'_, Breaker> {
    breaker.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn within<T>(
    time: Duration,
    calls: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let result = tokio::time::timeout(time, calls).await;
    result.unwrap_or(Err(Failure::Late(time)))
}

/// Whether a call may be tried again that has failed.
enum Again {
    /// It was not done, and will be when its keys have arrived.
    Moving,
    /// It was not done, or may be done twice.
    Harmless,
    Never,
}

/// What a call has come to.
#[derive(Default)]
struct Progress {
    /// Of the try before.
    failure: Option<Failure>,
    /// The connection that has not answered yet. A cluster's looks after its nodes by itself.
    waits_for: Option<Attempt>,
    /// It is on its way, as far as is known.
    is_sent: bool,
}

/// Tells the breaker what came of a call, also if nobody waits for it to the end.
struct Pending<'a> {
    breaker: &'a Mutex<Breaker>,
    round: u64,
    outcome: Outcome,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let mut breaker = locked(self.breaker);
        // Whoever asks meets it as it is now.
        let _ = breaker.end(self.round, self.outcome, Instant::now().into_std());
    }
}

/// Ranges of slots of a cluster that are held back each by itself.
const RANGES: usize = 64;
/// Before the second try; before later ones, as many times as it was tried.
const PAUSE: Duration = Duration::from_millis(25);
/// The longest between two tries while a slot moves.
const MAX_PAUSE: Duration = Duration::from_millis(200);
