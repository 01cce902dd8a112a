//! `subscriptions/listen` (protocol notes 2.3.7), and how it outlives its program.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::bridge::multiplex::limits::MAX_TOPICS;
use crate::bridge::refused::Refused;
use crate::rpc::{Message, RequestId, elements, member, members, meta_key, quoted, splice, string};

/// The method.
pub(super) const LISTEN: &str = "subscriptions/listen";
/// What a server says first.
pub(super) const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
/// The member of either that says what is to be told.
const NOTIFICATIONS: &str = "notifications";
/// The kind of [`Topic`] that a resource is.
const RESOURCES: &str = "resourceSubscriptions";
/// What tells of a change of it.
const UPDATED: &str = "notifications/resources/updated";

/// A listen of a client.
#[derive(Debug)]
pub(super) struct Listen {
    /// As the client said it, to be said again.
    pub(super) request: Message,
    wanted: BTreeSet<Topic>,
    pub(super) state: State,
    /// How often it was sent again since the last acknowledgement.
    pub(super) resends: u32,
}

/// How far a listen is.
#[derive(Debug)]
pub(super) enum State {
    /// Not acknowledged yet.
    Opening,
    /// The client was told that it hears of these.
    Open(BTreeSet<Topic>),
    /// The same, of a program that died: the next one has not acknowledged it yet.
    Reopening(BTreeSet<Topic>),
}

/// Something that a listen may be about: a kind of change, or a member of one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Topic {
    kind: String,
    item: Option<String>,
}

impl Listen {
    /// # Errors
    /// [`Refused`] for one that asks for too much.
    pub(super) fn new(request: &Message) -> Result<Self, Refused> {
        // What cannot be read is the server's to refuse.
        let wanted = topics(request).unwrap_or_default();
        if wanted.len() > MAX_TOPICS {
            return Err(Refused::TooManySubscriptions { limit: MAX_TOPICS });
        }
        Ok(Self {
            request: request.clone(),
            wanted,
            state: State::Opening,
            resends: 0,
        })
    }

    /// What an acknowledgement grants of what was asked for.
    pub(super) fn granted(&self, acknowledgement: &Message) -> BTreeSet<Topic> {
        let mut granted = topics(acknowledgement).unwrap_or_default();
        granted.retain(|topic| self.wanted.contains(topic));
        granted
    }

    /// Whether this notification of the server may be on it.
    pub(super) fn hears(&self, method: &str) -> bool {
        let State::Open(honoured) = &self.state else {
            return false;
        };
        match kind_of(method) {
            Some(kind) => honoured.iter().any(|topic| topic.kind == kind),
            // Extensions tell of what they grant in their own words.
            None => !matches!(method, "notifications/progress" | "notifications/message"),
        }
    }
}

impl Topic {
    /// "Read again", for a client that may have missed a change; `None`: there is no such word for it.
    pub(super) fn notice(&self, listen: &RequestId) -> Option<Bytes> {
        let (method, uri) = match (self.kind.as_str(), &self.item) {
            ("toolsListChanged", None) => ("notifications/tools/list_changed", None),
            ("promptsListChanged", None) => ("notifications/prompts/list_changed", None),
            ("resourcesListChanged", None) => ("notifications/resources/list_changed", None),
            (RESOURCES, Some(uri)) => (UPDATED, Some(uri)),
            _ => return None,
        };
        let uri = uri.map_or_else(String::new, |uri| format!("\"uri\":{},", quoted(uri)));
        let stamp = stamp(listen);
        let text =
            format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{{uri}"_meta":{stamp}}}}}"#);
        Some(Bytes::from(text))
    }
}

/// Whether a notification says "read again".
pub(super) fn is_change(method: &str) -> bool {
    kind_of(method).is_some()
}

fn kind_of(method: &str) -> Option<&'static str> {
    Some(match method {
        "notifications/tools/list_changed" => "toolsListChanged",
        "notifications/prompts/list_changed" => "promptsListChanged",
        "notifications/resources/list_changed" => "resourcesListChanged",
        UPDATED => RESOURCES,
        _ => return None,
    })
}

/// The topics that `params.notifications` names; `None`: it is no object.
fn topics(message: &Message) -> Option<BTreeSet<Topic>> {
    let named = members(&message.param(NOTIFICATIONS)?).ok()?;
    let mut topics = BTreeSet::new();
    for (kind, value) in named {
        if value == "true" {
            topics.insert(Topic { kind, item: None });
            continue;
        }
        for item in elements(&value).unwrap_or_default() {
            let item = string(&item).map(std::borrow::Cow::into_owned);
            let kind = kind.clone();
            topics.extend(item.map(|item| Topic {
                kind,
                item: Some(item),
            }));
        }
    }
    Some(topics)
}

/// The listen of ours that a notification belongs to.
pub(super) fn stamp_of(notification: &Message) -> Option<RequestId> {
    RequestId::parse(notification.meta(meta_key::SUBSCRIPTION_ID)?).ok()
}

/// A notification of the server as the client of this listen knows it.
pub(super) fn restamped(notification: &Message, listen: &RequestId) -> Bytes {
    notification.with_meta(meta_key::SUBSCRIPTION_ID, Some(listen.as_json()))
}

/// The end of a listen in the server's words.
pub(super) fn restamped_result(response: &Message, listen: &RequestId) -> Bytes {
    let answer = response.with_id(listen);
    let stamped = || {
        // Parsed anew, as what is replaced has to be a part of it.
        let message = Message::parse(answer.clone()).ok()?;
        let meta = member(&message.result()?, "_meta")?;
        let stamp = member(&meta, meta_key::SUBSCRIPTION_ID)?;
        splice(message.source(), &stamp, listen.as_json())
    };
    stamped().unwrap_or(answer)
}

/// The end of a listen in our own words.
pub(super) fn final_result(listen: &RequestId) -> Bytes {
    let result = format!(r#"{{"resultType":"complete","_meta":{}}}"#, stamp(listen));
    crate::rpc::response(listen, result.as_bytes())
}

fn stamp(listen: &RequestId) -> String {
    let id = String::from_utf8_lossy(listen.as_json());
    format!(r#"{{"{}":{id}}}"#, meta_key::SUBSCRIPTION_ID)
}
