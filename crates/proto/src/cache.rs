//! Answers of a server of 2026-07-28 that may be given again (protocol notes 4.4), without a clock.
//!
//! A [`Cache`] belongs to one server. It keeps complete results of the six methods that say for how long and
//! for whom they are good, and nothing else: no errors, no rounds of input, no calls.

mod question;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::bridge::concerns;
use crate::bridge::shape::{Caching, CachingScope, ResultType, error_code};
use crate::rpc::{Kind, Message, Object, code, splice};
use crate::session::Principal;

pub use question::{MAX_QUESTION, Question};
use question::{METHODS, Method};

/// Bounds of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most answers. 1,000 by default.
    pub entries: usize,
    /// The most bytes of them together. 16 MiB by default.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 1000,
            bytes: 16 << 20,
        }
    }
}

impl Limits {
    /// The longest answer that is kept: none may have more than its share of the bytes.
    #[must_use]
    pub fn max_answer(&self) -> usize {
        self.bytes / MAX_SHARE
    }
}

/// The longest that an answer is kept and said to be good, whatever the server says of it.
pub const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// One answer may have this part of the bytes.
const MAX_SHARE: usize = 8;

/// What an answer weighs beside its texts.
const ENTRY: usize = 256;

/// The answers of one server that are fresh, as it says itself.
///
/// Whoever is asked something looks here first ([`ask`](Self::ask)); if nothing is found, the answer that the
/// server gives is shown ([`answered`](Self::answered)), and so is every notification of the server
/// ([`notified`](Self::notified)). Beyond its bounds, what was not used for longest goes.
#[derive(Debug)]
pub struct Cache {
    limits: Limits,
    entries: HashMap<Key, Entry>,
    /// The keys in the order of their last use.
    used: BTreeMap<u64, Key>,
    tick: u64,
    bytes: usize,
    /// Of each method: how often what was known of it has become invalid.
    generations: [u64; METHODS],
}

/// A private answer is found by the principal it was given to, a public one by everybody.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    question: Arc<Question>,
    principal: Option<Principal>,
}

#[derive(Debug)]
struct Entry {
    result: Bytes,
    /// The value of `ttlMs`, a slice of the result.
    ttl: Bytes,
    fresh_until: Instant,
    used: u64,
}

/// What became of a question.
#[derive(Debug, Clone)]
pub enum Found {
    /// A result that is fresh, as JSON text, with the time that is left of it.
    Fresh(Bytes),
    /// None: the server has to be asked.
    Nothing(Ticket),
}

/// That the server is being asked. An answer that was on its way when something changed is not kept.
#[derive(Debug, Clone)]
pub struct Ticket {
    question: Arc<Question>,
    principal: Option<Principal>,
    generation: u64,
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: HashMap::new(),
            used: BTreeMap::new(),
            tick: 0,
            bytes: 0,
            generations: [0; METHODS],
        }
    }

    /// Looks for an answer to what this principal asks. `None`: it cannot be said who asks, so that only
    /// public answers are given and kept.
    pub fn ask(
        &mut self,
        question: Question,
        principal: Option<&Principal>,
        now: Instant,
    ) -> Found {
        let question = Arc::new(question);
        let own = principal.map(|principal| Some(principal.clone()));
        for principal in own.into_iter().chain([None]) {
            let key = Key {
                question: Arc::clone(&question),
                principal,
            };
            if let Some(result) = self.fresh(&key, now) {
                return Found::Fresh(result);
            }
        }
        Found::Nothing(Ticket {
            generation: self.generations[question.method as usize],
            principal: principal.cloned(),
            question,
        })
    }

    /// Takes note of the server's answer: a complete result is kept if it says so, and an error about a cursor
    /// makes all pages of that list go. Returns whether it was kept.
    pub fn answered(&mut self, ticket: Ticket, response: &Message, now: Instant) -> bool {
        match response.kind() {
            Kind::Response => {
                let result = response.result();
                result.is_some_and(|result| self.keep(ticket, result, now))
            }
            Kind::ErrorResponse => {
                let code = response.error().and_then(|error| error_code(&error));
                if ticket.question.has_cursor() && code == Some(code::INVALID_PARAMS) {
                    self.invalidate(&[ticket.question.method], |_| true);
                }
                false
            }
            Kind::Request | Kind::Notification => false,
        }
    }

    /// Takes note of what the server says has changed (R191). Everything else is no concern of a cache.
    pub fn notified(&mut self, message: &Message) {
        let all = |_: &Question| true;
        match message.method() {
            Some("notifications/tools/list_changed") => self.invalidate(&[Method::Tools], all),
            Some("notifications/prompts/list_changed") => self.invalidate(&[Method::Prompts], all),
            Some("notifications/resources/list_changed") => {
                self.invalidate(&[Method::Resources, Method::Templates], all);
            }
            Some("notifications/resources/updated") => {
                let uri = message.param_text("uri");
                // It may be about part of what was read. One without a URI is about anything.
                let concerned = |question: &Question| match (&uri, question.uri()) {
                    (Some(uri), Some(read)) => concerns(&read, uri),
                    _ => true,
                };
                self.invalidate(&[Method::Read], concerned);
            }
            _ => {}
        }
    }

    /// Lets go of the lists of tools that this principal may have made a call by which was refused (`-32020`,
    /// R140): its own, and those for everybody. Others keep theirs.
    pub fn doubt_tools(&mut self, principal: &Principal) {
        let whose = |key: &Key| key.principal.as_ref().is_none_or(|own| own == principal);
        self.invalidate_keys(&[Method::Tools], whose);
    }

    /// Lets go of everything: notices may have been missed.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.used.clear();
        self.bytes = 0;
        for generation in &mut self.generations {
            *generation += 1;
        }
    }

    /// How many answers it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What they weigh, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn fresh(&mut self, key: &Key, now: Instant) -> Option<Bytes> {
        let entry = self.entries.get_mut(key)?;
        let left = entry.fresh_until.saturating_duration_since(now);
        let left = left.as_millis();
        if left == 0 {
            self.remove(key);
            return None;
        }
        self.tick += 1;
        if let Some(key) = self.used.remove(&entry.used) {
            self.used.insert(self.tick, key);
        }
        entry.used = self.tick;
        splice(&entry.result, &entry.ttl, left.to_string().as_bytes())
    }

    fn keep(&mut self, ticket: Ticket, result: Bytes, now: Instant) -> bool {
        let method = ticket.question.method;
        if self.generations[method as usize] != ticket.generation {
            return false;
        }
        let weight = ENTRY + result.len() + ticket.question.len();
        if weight > self.limits.max_answer() || self.limits.entries == 0 {
            return false;
        }
        // In memory of its own: what else was in the message, such as an id, is not counted.
        let result = Bytes::copy_from_slice(&result);
        let Ok(members) = Object::parse(&result) else {
            return false;
        };
        let caching = Caching::of(&members);
        if ResultType::in_object(&members) != ResultType::Complete || caching.ttl.is_zero() {
            return false;
        }
        let fresh_until = now.checked_add(caching.ttl.min(MAX_TTL));
        let (Some(fresh_until), Some(ttl)) = (fresh_until, members.get("ttlMs").cloned()) else {
            return false;
        };
        let principal = match (caching.scope, ticket.principal) {
            (CachingScope::Public, _) => None,
            (CachingScope::Private, Some(principal)) => Some(principal),
            (CachingScope::Private, None) => return false,
        };
        let key = Key {
            question: ticket.question,
            principal,
        };
        self.remove(&key);
        self.tick += 1;
        self.used.insert(self.tick, key.clone());
        let used = self.tick;
        let entry = Entry {
            result,
            ttl,
            fresh_until,
            used,
        };
        self.bytes += weight;
        self.entries.insert(key, entry);
        self.shrink();
        true
    }

    /// Lets what was not used for longest go, until the bounds hold.
    fn shrink(&mut self) {
        while self.entries.len() > self.limits.entries || self.bytes > self.limits.bytes {
            let Some((_, key)) = self.used.pop_first() else {
                return;
            };
            self.remove(&key);
        }
    }

    fn invalidate(&mut self, methods: &[Method], concerned: impl Fn(&Question) -> bool) {
        self.invalidate_keys(methods, |key| concerned(&key.question));
    }

    fn invalidate_keys(&mut self, methods: &[Method], concerned: impl Fn(&Key) -> bool) {
        for method in methods {
            self.generations[*method as usize] += 1;
        }
        let is_it = |key: &Key| methods.contains(&key.question.method) && concerned(key);
        let gone = self.entries.keys().filter(|key| is_it(key));
        let gone: Vec<Key> = gone.cloned().collect();
        for key in &gone {
            self.remove(key);
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.used.remove(&entry.used);
            self.bytes -= ENTRY + entry.result.len() + key.question.len();
        }
    }
}
