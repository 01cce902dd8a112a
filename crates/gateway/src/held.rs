//! What another process needs to go on with a session that is held by this one, or to open one anew that any process
//! serves: it is stored with the session's
//! record, in [`Attached::held`](crate::attachment::Attached::held).

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use thinpipe_proto::bridge::envelope::LogLevel;
use thinpipe_proto::rpc::Message;

use crate::session::{MAX_SETUP, SessionState, Setup};

/// The most resources that a session is subscribed to and can be gone on with elsewhere.
const MAX_URIS: usize = 1000;

/// The longest capabilities of a server that are stored, in bytes of JSON text.
const MAX_OFFERED: usize = 16 << 10;

/// How a session reaches its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Over {
    /// By calls: the server has no sessions.
    Calls,
    /// By a session of Streamable HTTP, which any process can go on with.
    Streams,
    /// By what ends with its process: a child, a connection of HTTP+SSE.
    Pipe,
}

/// What is to be known of a session.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) over: Over,
    /// The capabilities that the server has offered to the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offered: Option<Box<RawValue>>,
    /// The level that its log lines have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    level: Option<String>,
    /// The resources that the client is subscribed to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    uris: Vec<String>,
    /// There was more than is stored: the session cannot be gone on with.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_incomplete: bool,
    /// The server's session was opened anew, and the client was not told yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_renewed: bool,
}

impl Facts {
    /// Those of a session now.
    pub(crate) fn of(state: &SessionState, over: Over) -> Self {
        let setup = state.setup();
        let offered = state
            .offered()
            .filter(|offered| offered.len() <= MAX_OFFERED);
        let offered = offered.and_then(|offered| serde_json::from_slice(offered).ok());
        let level = setup
            .log_level
            .and_then(|message| Message::parse(message).ok());
        let is_incomplete =
            setup.is_incomplete || offered.is_none() || setup.subscriptions.len() > MAX_URIS;
        Self {
            over,
            offered,
            level: level.and_then(|message| message.param_str("level")),
            uris: setup.subscriptions.into_keys().take(MAX_URIS).collect(),
            is_incomplete,
            is_renewed: false,
        }
    }

    /// With what this message sets up.
    pub(crate) fn with(mut self, message: &Message) -> Self {
        match (message.method(), message.param_str("uri")) {
            (Some("logging/setLevel"), _) => self.level = message.param_str("level"),
            (Some("resources/subscribe"), Some(uri)) if !self.uris.contains(&uri) => {
                self.uris.push(uri);
            }
            (Some("resources/unsubscribe"), Some(uri)) => self.uris.retain(|it| *it != uri),
            _ => {}
        }
        let bytes: usize = self.uris.iter().chain(&self.level).map(String::len).sum();
        self.is_incomplete |= self.uris.len() > MAX_URIS || bytes > MAX_SETUP;
        self
    }

    /// Of a session that the server has opened anew.
    pub(crate) fn renewed(self) -> Self {
        Self {
            is_renewed: true,
            ..self
        }
    }

    /// The client is told of that.
    pub(crate) fn told(self) -> Self {
        Self {
            is_renewed: false,
            ..self
        }
    }

    pub(crate) fn is_renewed(&self) -> bool {
        self.is_renewed
    }

    /// As they are stored.
    pub(crate) fn encode(&self) -> Option<Box<RawValue>> {
        serde_json::value::to_raw_value(self).ok()
    }

    /// `None`: they are not there, cannot be read, or are not all there is to be known.
    pub(crate) fn decode(held: Option<&RawValue>) -> Option<Self> {
        let facts: Self = serde_json::from_str(held?.get()).ok()?;
        (!facts.is_incomplete).then_some(facts)
    }

    /// The server's capabilities, a JSON object.
    pub(crate) fn offered(&self) -> Bytes {
        let offered = self.offered.as_ref().map_or("{}", |offered| offered.get());
        Bytes::copy_from_slice(offered.as_bytes())
    }

    pub(crate) fn level(&self) -> Option<LogLevel> {
        LogLevel::from_name(self.level.as_deref()?)
    }

    pub(crate) fn uris(&self) -> &[String] {
        &self.uris
    }

    /// Remembers them with a session that goes on here.
    pub(crate) fn remember(&self, state: &SessionState) {
        state.note_offered(self.offered());
        let capabilities = serde_json::from_slice(&self.offered()).unwrap_or_default();
        state.note_capabilities(capabilities);
        for message in self.requests() {
            state.note_setup(&message);
        }
    }

    /// Requests that set up what they say, each with an id of its own.
    pub(crate) fn requests(&self) -> Vec<Message> {
        let level = self
            .level
            .iter()
            .map(|level| ("logging/setLevel", json!({ "level": level })));
        let uris = self
            .uris
            .iter()
            .map(|uri| ("resources/subscribe", json!({ "uri": uri })));
        let requests = level
            .chain(uris)
            .enumerate()
            .filter_map(|(n, (method, params))| {
                let id = format!("thinpipe-{n}");
                let request =
                    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
                Message::parse(request.to_string().into()).ok()
            });
        requests.collect()
    }
}

impl Setup {
    /// Whether this message changes what a session is set up with.
    pub(crate) fn is_changed_by(message: &Message) -> bool {
        matches!(
            message.method(),
            Some("logging/setLevel" | "resources/subscribe" | "resources/unsubscribe")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, params: &str) -> Message {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        Message::parse(text.into()).unwrap()
    }

    fn state() -> SessionState {
        let state = SessionState::default();
        state.note_offered(Bytes::from_static(br#"{"tools":{"listChanged":true}}"#));
        state
    }

    /// 5.8: what was set up here is set up there.
    #[test]
    fn what_is_stored_is_what_was_set_up() {
        let before = state();
        before.note_setup(&request("logging/setLevel", r#"{"level":"error"}"#));
        for uri in ["b", "a"] {
            before.note_setup(&request(
                "resources/subscribe",
                &format!(r#"{{"uri":"{uri}"}}"#),
            ));
        }
        before.note_setup(&request("resources/unsubscribe", r#"{"uri":"b"}"#));
        let stored = Facts::of(&before, Over::Streams).encode();
        let expected = r#"{"over":"streams","offered":{"tools":{"listChanged":true}},"level":"error","uris":["a"]}"#;
        assert_eq!(stored.as_ref().unwrap().get(), expected);
        let facts = Facts::decode(stored.as_deref()).unwrap();
        assert_eq!(facts.level(), Some(LogLevel::Error));
        let after = SessionState::default();
        facts.remember(&after);
        let again = Facts::of(&after, Over::Streams).encode();
        assert_eq!(again.unwrap().get(), expected);
    }

    /// 5.8: what is set up at several processes is added to what is stored.
    #[test]
    fn what_is_stored_is_added_to() {
        let facts = Facts::of(&state(), Over::Streams).renewed();
        let level = request("logging/setLevel", r#"{"level":"error"}"#);
        let subscribe = |uri: &str| {
            let params = format!(r#"{{"uri":"{uri}"}}"#);
            request("resources/subscribe", &params)
        };
        let facts = facts.with(&level).with(&subscribe("a"));
        let facts = Facts::decode(facts.encode().as_deref()).unwrap();
        let mut facts = facts.with(&subscribe("b")).with(&subscribe("c"));
        let unsubscribe = request("resources/unsubscribe", r#"{"uri":"c"}"#);
        facts = facts.with(&unsubscribe);
        assert!(facts.is_renewed());
        facts = facts.told();
        assert!(!facts.is_renewed());
        assert_eq!(facts.level(), Some(LogLevel::Error));
        assert_eq!(facts.uris(), ["a", "b"]);
        for n in 0..MAX_URIS {
            facts = facts.with(&subscribe(&n.to_string()));
        }
        assert!(Facts::decode(facts.encode().as_deref()).is_none());
    }

    /// Invariant 23: what is stored is bounded, and half of it is nothing.
    #[test]
    fn more_than_is_stored_cannot_be_gone_on_with() {
        let state = state();
        for n in 0..=MAX_URIS {
            state.note_setup(&request(
                "resources/subscribe",
                &format!(r#"{{"uri":"{n}"}}"#),
            ));
        }
        let stored = Facts::of(&state, Over::Calls).encode();
        assert!(Facts::decode(stored.as_deref()).is_none());
        assert!(Facts::decode(None).is_none());
        let unknown = RawValue::from_string(r#"{"over":"pigeons"}"#.to_owned()).unwrap();
        assert!(Facts::decode(Some(&unknown)).is_none());
    }
}
