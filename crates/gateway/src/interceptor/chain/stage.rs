//! One interceptor in its chain: what it wants, and what it did.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use thinpipe_proto::rpc::code;

use crate::interceptor::{Direction, Interceptor, Methods, Rejection};

/// One interceptor, with what it said it wants.
pub(super) struct Stage {
    pub(super) interceptor: Arc<dyn Interceptor>,
    pub(super) name: Box<str>,
    pub(super) request_headers: bool,
    pub(super) response_headers: bool,
    to_upstream: Filter,
    to_client: Filter,
    counters: Counters,
}

/// What one interceptor of a chain has done since the chain was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterceptorStats {
    /// Its name; the second of a name in a chain is `name#2`, and so on.
    pub name: String,
    /// Messages it was shown.
    pub seen: u64,
    /// Messages it changed.
    pub changed: u64,
    /// Messages it refused; those refused because it failed are not among them.
    pub rejected: u64,
    /// Times it failed: panicked, took too long, said so, or gave back what is no message.
    pub failed: u64,
}

/// The stages of a chain. A name that is there more than once gets a number, so that logs, counters
/// and errors tell which one it was.
pub(super) fn in_order(interceptors: Vec<Arc<dyn Interceptor>>) -> Box<[Stage]> {
    let mut stages: Vec<Stage> = Vec::with_capacity(interceptors.len());
    let mut named: HashMap<Box<str>, usize> = HashMap::new();
    for interceptor in interceptors {
        let name: Box<str> = interceptor.name().into();
        let count = named.entry(name.clone()).or_insert(0);
        *count += 1;
        let name = match count {
            1 => name,
            _ => format!("{name}#{count}").into(),
        };
        stages.push(Stage::new(name, interceptor));
    }
    stages.into()
}

/// Aligned to a cache line, so that neighbours in a chain do not slow each other.
#[derive(Default)]
#[repr(align(64))]
struct Counters {
    seen: AtomicU64,
    changed: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
}

impl Stage {
    fn new(name: Box<str>, interceptor: Arc<dyn Interceptor>) -> Self {
        let interest = interceptor.interest();
        Self {
            name,
            request_headers: interest.request_headers,
            response_headers: interest.response_headers,
            to_upstream: Filter::new(interest.to_upstream),
            to_client: Filter::new(interest.to_client),
            counters: Counters::default(),
            interceptor,
        }
    }

    pub(super) fn filter(&self, direction: Direction) -> &Filter {
        match direction {
            Direction::ToUpstream => &self.to_upstream,
            Direction::ToClient => &self.to_client,
        }
    }

    pub(super) fn wants_headers(&self, direction: Direction) -> bool {
        match direction {
            Direction::ToUpstream => self.request_headers,
            Direction::ToClient => self.response_headers,
        }
    }

    pub(super) fn count_seen(&self) {
        self.counters.seen.fetch_add(1, Relaxed);
    }

    pub(super) fn count_changed(&self) {
        self.counters.changed.fetch_add(1, Relaxed);
    }

    pub(super) fn count_rejected(&self) {
        self.counters.rejected.fetch_add(1, Relaxed);
    }

    pub(super) fn count_failed(&self) {
        self.counters.failed.fetch_add(1, Relaxed);
    }

    /// What the client is told when this interceptor failed: which one, and nothing of its insides.
    pub(super) fn failure(&self, reason: &str) -> Rejection {
        Rejection {
            code: code::INTERNAL_ERROR,
            message: format!(
                "The gateway could not check this message: interceptor {}",
                self.name
            ),
            reason: reason.into(),
        }
    }

    pub(super) fn stats(&self) -> InterceptorStats {
        InterceptorStats {
            name: self.name.to_string(),
            seen: self.counters.seen.load(Relaxed),
            changed: self.counters.changed.load(Relaxed),
            rejected: self.counters.rejected.load(Relaxed),
            failed: self.counters.failed.load(Relaxed),
        }
    }
}

/// [`Methods`], made for asking often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Filter {
    None,
    Only {
        /// Sorted.
        exact: Vec<Box<str>>,
        prefixes: Vec<Box<str>>,
    },
    All,
}

impl Filter {
    fn new(methods: Methods) -> Self {
        let names = match methods {
            Methods::None => return Self::None,
            Methods::All => return Self::All,
            Methods::Only(names) if names.is_empty() => return Self::None,
            Methods::Only(names) => names,
        };
        let mut exact = Vec::new();
        let mut prefixes = Vec::new();
        for name in names {
            match name.strip_suffix('*') {
                Some(prefix) => prefixes.push(prefix.into()),
                None => exact.push(name.into_boxed_str()),
            }
        }
        exact.sort_unstable();
        exact.dedup();
        Self::Only { exact, prefixes }
    }

    pub(super) fn union<'a>(filters: impl Iterator<Item = &'a Self>) -> Self {
        let mut names = Vec::new();
        for filter in filters {
            match filter {
                Self::None => {}
                Self::All => return Self::All,
                Self::Only { exact, prefixes } => {
                    names.extend(exact.iter().map(ToString::to_string));
                    names.extend(prefixes.iter().map(|prefix| format!("{prefix}*")));
                }
            }
        }
        Self::new(Methods::Only(names))
    }

    /// A response whose request is not known is for whoever wants any message on that way: it may be
    /// what they want, and must not get past them for want of a name.
    pub(super) fn admits(&self, method: Option<&str>) -> bool {
        match (self, method) {
            (Self::None, _) => false,
            (Self::All, _) | (Self::Only { .. }, None) => true,
            (Self::Only { exact, prefixes }, Some(method)) => {
                exact.binary_search_by(|name| (**name).cmp(method)).is_ok()
                    || prefixes.iter().any(|prefix| method.starts_with(&**prefix))
            }
        }
    }
}
