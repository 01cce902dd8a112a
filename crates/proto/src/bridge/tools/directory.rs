//! What several principals know of one server's tools.

use bytes::Bytes;

use super::{Known, Learned, Schemas};
use crate::bridge::shape::{Caching, CachingScope, InvalidResult};
use crate::rpc::Object;
use crate::session::Principal;

/// The most principals whose tools are remembered. Beyond, those that were not heard of for longest are
/// forgotten.
pub const MAX_DIRECTORY: usize = 32;

/// The tools of one server, where each principal may be shown others: a list that is private is known to its
/// principal only.
#[derive(Debug, Default)]
pub struct Directory {
    /// The one that was used last at the end. `None`: what everybody was shown.
    sets: Vec<(Option<Principal>, Schemas)>,
}

impl Directory {
    /// Learns from one page of `tools/list` that this principal was given. `None`: it cannot be said who asked,
    /// so that nothing is learned from a private list.
    ///
    /// # Errors
    /// [`InvalidResult`] if it is no list of tools; nothing was learned then.
    pub fn learn(
        &mut self,
        principal: Option<&Principal>,
        result: &Bytes,
    ) -> Result<Learned, InvalidResult> {
        let result = Object::parse(result)?;
        let owner = match (Caching::of(&result).scope, principal) {
            (CachingScope::Public, _) => None,
            (CachingScope::Private, Some(principal)) => Some(principal),
            (CachingScope::Private, None) => return Ok(Learned::default()),
        };
        let known = self.sets.iter().position(|(of, _)| of.as_ref() == owner);
        let mut set = match known {
            Some(at) => self.sets.remove(at),
            None => (owner.cloned(), Schemas::default()),
        };
        let learned = set.1.learn_from(&result);
        if self.sets.len() == MAX_DIRECTORY {
            self.sets.remove(0);
        }
        self.sets.push(set);
        learned
    }

    /// What is known of a tool to this principal.
    #[must_use]
    pub fn get(&self, principal: Option<&Principal>, tool: &str) -> Known<'_> {
        let own = principal.map(|principal| self.of(Some(principal), tool));
        match own {
            Some(known @ (Known::Headers(_) | Known::Violating(_))) => known,
            Some(Known::Unknown) | None => self.of(None, tool),
        }
    }

    /// Whether any call has headers that repeat arguments, as far as is known.
    #[must_use]
    pub fn has_headers(&self) -> bool {
        self.sets.iter().any(|(_, schemas)| schemas.has_headers())
    }

    /// The tools have changed: nothing is known any more.
    pub fn forget(&mut self) {
        self.sets.clear();
    }

    fn of(&self, principal: Option<&Principal>, tool: &str) -> Known<'_> {
        let set = self.sets.iter().find(|(of, _)| of.as_ref() == principal);
        set.map_or(Known::Unknown, |(_, schemas)| schemas.get(tool))
    }
}
