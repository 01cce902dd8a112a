//! Lists without what is denied.

use std::borrow::Cow;

use thinpipe_proto::rpc::Message;

use super::{Access, List};
use crate::interceptor::json::{self, Edit, Value};
use crate::interceptor::{Action, MessageContext};

/// A list method: the member of the result that holds the list, the member of an entry that names
/// it, and what it is.
struct Listing<'a> {
    entries: &'static str,
    key: &'static str,
    what: &'static str,
    list: &'a List,
}

impl Access {
    /// A response, without the entries that are denied (if `filter`), and marked as private if
    /// principals see different lists.
    pub(super) fn filtered(&self, cx: &MessageContext, message: &Message, filter: bool) -> Action {
        let Some(listing) = self.listing(cx.method.as_deref()) else {
            return Action::Continue;
        };
        let text = message.source();
        let mut edits = Vec::new();
        for result in Value::root(text).all("result") {
            if filter {
                for entries in result.all(listing.entries) {
                    edits.extend(listing.without_denied(entries));
                }
            }
            if self.is_personal() {
                for scope in result.all("cacheScope") {
                    if scope.string().is_some_and(|scope| scope == "public") {
                        edits.push((scope.range(), Cow::Borrowed(&b"\"private\""[..])));
                    }
                }
            }
        }
        if edits.is_empty() {
            return Action::Continue;
        }
        edits.sort_by_key(|(range, _)| range.start);
        Action::Replace(json::splice(text, &edits))
    }

    fn listing(&self, method: Option<&str>) -> Option<Listing<'_>> {
        let (entries, key, what, list) = match method? {
            "tools/list" => ("tools", "name", "tool", &self.tools),
            "prompts/list" => ("prompts", "name", "prompt", &self.prompts),
            "resources/list" => ("resources", "uri", "resource", &self.resources),
            "resources/templates/list" => (
                "resourceTemplates",
                "uriTemplate",
                "resource",
                &self.resources,
            ),
            _ => return None,
        };
        Some(Listing {
            entries,
            key,
            what,
            list: list.as_ref()?,
        })
    }
}

impl Listing<'_> {
    /// The change that takes the denied entries out; `None` if there are none.
    fn without_denied<'a>(&self, entries: Value<'_>) -> Option<Edit<'a>> {
        if entries.elements().all(|entry| self.admits(entry)) {
            return None;
        }
        let kept: Vec<_> = entries
            .elements()
            .filter(|entry| self.admits(*entry))
            .collect();
        Some(json::keep(entries, &kept))
    }

    /// An entry without a name, or with two of which one is denied, is not shown.
    fn admits(&self, entry: Value<'_>) -> bool {
        let mut named = false;
        for name in entry.all(self.key) {
            named = true;
            match name.string() {
                Some(name) if self.list.admits_name(&name, self.what) => {}
                _ => return false,
            }
        }
        named
    }
}
