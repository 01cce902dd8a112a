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
        let text = message.source();
        let mut edits = Vec::new();
        let mut is_list = false;
        for result in Value::root(text).all("result") {
            for listing in self.listings(cx.method.as_deref()) {
                is_list = true;
                for entries in result.all(listing.entries).filter(|_| filter) {
                    edits.extend(listing.without_denied(entries));
                }
            }
            if is_list && self.is_personal() {
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

    /// The list that answers this method, if there is anything to say about it; of a method that is
    /// not known, all that it could be.
    fn listings(&self, method: Option<&str>) -> impl Iterator<Item = Listing<'_>> {
        let may_be = move |of: &str| method.is_none_or(|method| method == of);
        let known = LISTINGS.iter().filter(move |(of, ..)| may_be(of));
        known.filter_map(|&(_, entries, key, what)| {
            let list = match what {
                "tool" => &self.tools,
                "prompt" => &self.prompts,
                _ => &self.resources,
            };
            Some(Listing {
                entries,
                key,
                what,
                list: list.as_ref()?,
            })
        })
    }
}

/// Methods, and what a [`Listing`] says of their results.
const LISTINGS: [(&str, &str, &str, &str); 4] = [
    ("tools/list", "tools", "name", "tool"),
    ("prompts/list", "prompts", "name", "prompt"),
    ("resources/list", "resources", "uri", "resource"),
    (
        "resources/templates/list",
        "resourceTemplates",
        "uriTemplate",
        "resource",
    ),
];

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
