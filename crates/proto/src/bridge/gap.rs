//! What clients are told when something that the upstream said may have been lost.

use bytes::Bytes;

use crate::bridge::action::{MemberId, Nature};
use crate::bridge::association::CAPABILITIES;
use crate::bridge::{Reframing, Sharing};
use crate::rpc::{Message, Object, member, quoted};

/// The lists whose changes a server tells of, as it said in its answer to `initialize`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Notices {
    lists: [bool; LISTS.len()],
}

impl Notices {
    /// Those of an answer to `initialize`.
    pub(super) fn of(answer: &Message) -> Self {
        let offered = answer
            .result()
            .and_then(|result| member(&result, CAPABILITIES));
        Self::offered(&offered.unwrap_or_default())
    }

    /// Those of a server's capabilities.
    pub(super) fn offered(capabilities: &Bytes) -> Self {
        let offered = Object::parse(capabilities).unwrap_or_default();
        let tells = |name: &str| {
            let list = offered.object(name);
            list.is_some_and(|list| list.get("listChanged").is_some_and(|tells| tells == "true"))
        };
        Self {
            lists: LISTS.map(tells),
        }
    }
}

impl Reframing {
    pub(super) fn tell_gap(&mut self) {
        let is_ready =
            |known: &super::Member| self.config.sharing == Sharing::PerClient || known.ready;
        let members = self.members.iter().filter(|(_, known)| is_ready(known));
        let members: Vec<MemberId> = members.map(|(member, _)| *member).collect();
        let lists = LISTS.iter().zip(self.notices.lists);
        let lists: Vec<&str> = lists
            .filter(|(_, tells)| *tells)
            .map(|(list, _)| *list)
            .collect();
        for member in members {
            for list in &lists {
                self.deliver(member, None, list_changed(list), Nature::ChangeNotice);
            }
        }
        let topics = self.shared.iter().flat_map(|shared| &shared.topics);
        let updates: Vec<(MemberId, Bytes)> = topics
            .flat_map(|(uri, topic)| {
                let updated = resource_updated(uri);
                let subscribers = topic.subscribers.iter();
                subscribers.map(move |member| (*member, updated.clone()))
            })
            .collect();
        for (member, updated) in updates {
            self.deliver(member, None, updated, Nature::ChangeNotice);
        }
    }
}

fn list_changed(list: &str) -> Bytes {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/{list}/list_changed"}}"#).into()
}

/// `notifications/resources/updated` of this resource.
#[must_use]
pub fn resource_updated(uri: &str) -> Bytes {
    let uri = quoted(uri);
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":{uri}}}}}"#
    )
    .into()
}

const LISTS: [&str; 3] = ["tools", "prompts", "resources"];
