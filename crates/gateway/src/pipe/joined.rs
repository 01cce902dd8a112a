//! Upstream sessions that several client sessions may use: which one a client joins, and when another is opened.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use thinpipe_proto::session::Principal;

use super::UpstreamSession;
use crate::sync::lock;

/// Sessions of one server. A session is in it from the moment it begins to open: whoever comes meanwhile waits on
/// the session itself, so that nobody opens another.
pub(crate) struct Joined {
    each: Mutex<BTreeMap<JoinedKey, Vec<Weak<UpstreamSession>>>>,
    bounds: JoinedBounds,
}

/// How many sessions there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JoinedBounds {
    /// Of one holder.
    pub(crate) max: usize,
    /// Of all.
    pub(crate) total: usize,
    /// The setting that bounds all.
    pub(crate) total_key: &'static str,
}

/// Who may use a session together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JoinedKey {
    /// `None`: everybody.
    pub(crate) holder: Option<Principal>,
    /// What they declare, in one way.
    pub(crate) declared: Bytes,
}

/// There is no place for another session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// One principal has all it may have.
    OfOne {
        max: usize,
    },
    OfAll {
        total: usize,
        key: &'static str,
    },
}

impl fmt::Display for NoPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfOne { max } => write!(
                f,
                "all {max} sessions that one principal may have are in use (`session_pool.max`)"
            ),
            Self::OfAll { total, key } => write!(f, "all {total} sessions are in use (`{key}`)"),
        }
    }
}

impl Joined {
    pub(crate) fn new(bounds: JoinedBounds) -> Self {
        Self {
            each: Mutex::default(),
            bounds,
        }
    }

    /// A session that a client with this key may try to join: the one after those that it has `tried`, or one
    /// that is opened for it. `true`: it is that one.
    ///
    /// # Errors
    /// [`NoPlace`]: it would be one too many, and none is idle.
    pub(crate) fn next(
        &self,
        key: &JoinedKey,
        tried: &[Arc<UpstreamSession>],
        open: impl FnOnce() -> Arc<UpstreamSession>,
    ) -> Result<(Arc<UpstreamSession>, bool), NoPlace> {
        let mut each = lock(&self.each);
        let is_tried =
            |session: &Arc<UpstreamSession>| tried.iter().any(|tried| Arc::ptr_eq(tried, session));
        let known = each
            .get(key)
            .into_iter()
            .flatten()
            .filter_map(Weak::upgrade);
        let mut usable = known.filter(|session| session.end().is_none() && !is_tried(session));
        if let Some(session) = usable.next() {
            return Ok((session, false));
        }
        self.make_room(&mut each, key)?;
        let session = open();
        each.entry(key.clone())
            .or_default()
            .push(Arc::downgrade(&session));
        Ok((session, true))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        let each = lock(&self.each);
        let known = each.values().flatten().filter_map(Weak::upgrade);
        known.filter(|session| session.end().is_none()).count()
    }

    /// Lets the sessions that are over go, and one that nobody uses if there are as many as may be.
    fn make_room(
        &self,
        each: &mut BTreeMap<JoinedKey, Vec<Weak<UpstreamSession>>>,
        key: &JoinedKey,
    ) -> Result<(), NoPlace> {
        each.retain(|_, sessions| {
            sessions.retain(|session| {
                session
                    .upgrade()
                    .is_some_and(|session| session.end().is_none())
            });
            !sessions.is_empty()
        });
        let JoinedBounds {
            max,
            total,
            total_key: key_of_all,
        } = self.bounds;
        let own = each.iter().filter(|(other, _)| other.holder == key.holder);
        let own: Vec<_> = own.flat_map(|(_, sessions)| sessions).collect();
        if max < total && own.len() >= max && !close_idle(own.into_iter()) {
            return Err(NoPlace::OfOne { max });
        }
        let count: usize = each.values().map(Vec::len).sum();
        if count >= total && !close_idle(each.values().flatten()) {
            return Err(NoPlace::OfAll {
                total,
                key: key_of_all,
            });
        }
        Ok(())
    }
}

/// Ends the one of them that was idle longest.
fn close_idle<'a>(sessions: impl Iterator<Item = &'a Weak<UpstreamSession>>) -> bool {
    let sessions = sessions.filter_map(Weak::upgrade);
    let idle = sessions.filter_map(|session| Some((session.idle_since()?, session)));
    let longest = idle.min_by_key(|(since, _)| *since);
    longest.is_some_and(|(_, session)| session.close_if_idle())
}
