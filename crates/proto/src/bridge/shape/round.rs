//! Rounds of input: what a server asks for in a result, and what a client answers with its retry (protocol
//! notes 2.3.6, 5.3.1 and 5.4.2).

use bytes::Bytes;

use super::InvalidResult;
use crate::bridge::capabilities::{Declared, Undeclared};
use crate::revision::Revision;
use crate::rpc::{Message, MessageError, Object, RequestId, is_object, meta_key, quoted, string};

/// Whether a method's result may ask for input: only calls, prompts and resources.
#[must_use]
pub fn is_round_method(method: &str) -> bool {
    matches!(method, "tools/call" | "prompts/get" | "resources/read")
}

/// One thing that a server asks the client for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputRequest {
    /// Under which its answer is given.
    pub key: String,
    /// The method.
    pub method: String,
    /// Its parameters, a JSON object.
    pub params: Option<Bytes>,
}

/// A result that asks for input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InputRequired {
    /// What is asked, in order.
    pub requests: Vec<InputRequest>,
    /// What the retry has to carry along, a JSON string as it came. `None`: nothing.
    pub state: Option<Bytes>,
}

/// The most things that one round may ask for.
pub const MAX_INPUT_REQUESTS: usize = 64;

impl InputRequired {
    /// What a result asks for. The parts are slices of it.
    ///
    /// # Errors
    /// [`InvalidResult`] if the result has neither requests nor a state, or one of them is of the wrong shape
    /// (a question without parameters, say), or there are more than [`MAX_INPUT_REQUESTS`].
    pub fn of(result: &Bytes) -> Result<Self, InvalidResult> {
        let result = Object::parse(result)?;
        let state = result.get("requestState").cloned();
        if state.as_ref().is_some_and(|state| string(state).is_none()) {
            return Err(InvalidResult::Lacks("requestState"));
        }
        let requests = match result.get("inputRequests") {
            None => Vec::new(),
            Some(asked) => read_requests(&Object::parse(asked)?)?,
        };
        if requests.is_empty() && state.is_none() {
            return Err(InvalidResult::Lacks("inputRequests"));
        }
        Ok(Self { requests, state })
    }

    /// Whether the client has declared everything that is asked.
    ///
    /// # Errors
    /// What it has not.
    pub fn allowed_by(&self, declared: &Declared) -> Result<(), Undeclared> {
        let mut requests = self.requests.iter();
        requests.try_for_each(|request| declared.allows(&request.method, request.params.as_ref()))
    }

    /// The result as JSON text. `server_info` is the server's, as JSON text.
    #[must_use]
    pub fn written(&self, server_info: Option<&Bytes>) -> Bytes {
        let mut out = Object::new();
        out.set("resultType", "\"input_required\"");
        if !self.requests.is_empty() {
            let mut asked = Object::new();
            for request in &self.requests {
                asked.set(&request.key, request.written());
            }
            out.set("inputRequests", asked.into_bytes());
        }
        if let Some(state) = &self.state {
            out.set("requestState", state.clone());
        }
        if let Some(info) = server_info.filter(|info| is_object(info)) {
            let mut meta = Object::new();
            meta.set(meta_key::SERVER_INFO, info.clone());
            out.set("_meta", meta.into_bytes());
        }
        out.into_bytes()
    }
}

impl InputRequest {
    /// A legacy server's request as part of a round (protocol notes 5.4.2): without its progress token, what
    /// asks for a task or names one, and the id of an elicitation; `includeContext` only if the client has
    /// declared that.
    ///
    /// # Errors
    /// [`Undeclared`], if the client has not declared it, or it cannot be read.
    pub fn of(key: String, message: &Message, declared: &Declared) -> Result<Self, Undeclared> {
        let method = message.method().unwrap_or_default();
        declared.allows(method, message.params().as_ref())?;
        Self::made_of(key, message, declared.has_sampling_context())
    }

    /// As [`Self::of`], for a client that is known to take it.
    pub(in crate::bridge) fn made_of(
        key: String,
        message: &Message,
        has_context: bool,
    ) -> Result<Self, Undeclared> {
        let method = message.method().unwrap_or_default();
        let params = match message.params() {
            None => None,
            Some(params) => {
                let mut params = Object::parse(&params).map_err(|_| Undeclared::Unreadable)?;
                params.remove("task");
                params.remove("elicitationId");
                if !has_context {
                    params.remove("includeContext");
                }
                edit_meta(&mut params, &["progressToken", super::RELATED_TASK]);
                Some(params.into_bytes())
            }
        };
        Ok(Self {
            key,
            method: method.to_owned(),
            params,
        })
    }

    /// It as a request to a legacy client (protocol notes 5.3.1), in the session's revision: with a progress
    /// token and, where it leads to a page, the id that 2025-11-25 wants of an elicitation (R226); without
    /// what only modern messages have.
    #[must_use]
    pub fn prompt(
        &self,
        id: &RequestId,
        revision: Revision,
        progress_token: Option<&RequestId>,
        elicitation_id: Option<&str>,
    ) -> Bytes {
        let params = self.params.as_ref().map(Object::parse);
        // Anything but an object was refused when the result was read.
        let mut params = params.and_then(Result::ok).unwrap_or_default();
        edit_meta(&mut params, &MODERN_META);
        let leads_away = params.get("mode").and_then(|mode| string(mode)) == Some("url".into());
        if let Some(id) = elicitation_id
            && leads_away
            && revision >= Revision::V2025_11_25
        {
            params.set("elicitationId", quoted(id));
        }
        if let Some(token) = progress_token {
            let mut meta = params.object("_meta").unwrap_or_default();
            meta.set("progressToken", Bytes::copy_from_slice(token.as_json()));
            params.set("_meta", meta.into_bytes());
        }
        let mut out = Object::new();
        out.set("jsonrpc", "\"2.0\"");
        out.set("id", Bytes::copy_from_slice(id.as_json()));
        out.set("method", quoted(&self.method));
        if !params.is_empty() || self.params.is_some() {
            out.set("params", params.into_bytes());
        }
        out.into_bytes()
    }

    fn written(&self) -> Bytes {
        let mut out = Object::new();
        out.set("method", quoted(&self.method));
        if let Some(params) = &self.params {
            out.set("params", params.clone());
        }
        out.into_bytes()
    }
}

/// Takes members out of `params._meta`, and the whole of it if nothing is left.
fn edit_meta(params: &mut Object, names: &[&str]) {
    let Some(mut meta) = params.object("_meta") else {
        return;
    };
    meta.retain(|name, _| !names.contains(&name));
    if meta.is_empty() {
        params.remove("_meta");
    } else if meta.is_changed() {
        params.set("_meta", meta.into_bytes());
    }
}

/// Whether what a client is asked for stands in the parameters: there is no question without them.
pub(in crate::bridge) fn needs_params(method: &str) -> bool {
    matches!(method, "elicitation/create" | "sampling/createMessage")
}

fn read_requests(asked: &Object) -> Result<Vec<InputRequest>, InvalidResult> {
    let mut requests = Vec::new();
    for (key, request) in asked.iter() {
        if requests.len() == MAX_INPUT_REQUESTS {
            return Err(InvalidResult::Lacks("inputRequests"));
        }
        let without = |lacks| InvalidResult::InputRequest {
            key: key.chars().take(64).collect(),
            lacks,
        };
        let request = Object::parse(request).map_err(|_| without("method"))?;
        let method = request.get("method").and_then(|method| string(method));
        let method = method.ok_or_else(|| without("method"))?;
        let params = request.get("params").cloned();
        let is_usable = match &params {
            Some(params) => Object::parse(params).is_ok(),
            None => !needs_params(&method),
        };
        if !is_usable {
            return Err(without("params"));
        }
        requests.push(InputRequest {
            key: key.to_owned(),
            method: method.into_owned(),
            params,
        });
    }
    Ok(requests)
}

/// What a client's retry answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Responses {
    /// The answers by their keys, each a JSON object. Slices of the message.
    pub responses: Vec<(String, Bytes)>,
    /// `requestState`, a JSON string as it came.
    pub state: Option<Bytes>,
}

/// A retry that is malformed: `-32602`, and nothing has changed (R158).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidResponses {
    /// `inputResponses` is no object, or names a key twice.
    #[error("\"inputResponses\" is an object of objects: {0}")]
    Unreadable(#[from] MessageError),
    /// An answer is no object.
    #[error("\"inputResponses\" is an object of objects, and {0:?} in it is none")]
    Answer(String),
    /// The state is no string.
    #[error("\"requestState\" is a string, the one that came with the questions")]
    State,
}

impl Responses {
    /// What a request answers; empty, if it is the first of its kind.
    ///
    /// # Errors
    /// [`InvalidResponses`].
    pub fn of(message: &Message) -> Result<Self, InvalidResponses> {
        let state = message.param("requestState");
        if state.as_ref().is_some_and(|state| string(state).is_none()) {
            return Err(InvalidResponses::State);
        }
        let Some(given) = message.param("inputResponses") else {
            return Ok(Self {
                state,
                ..Self::default()
            });
        };
        let mut responses = Vec::new();
        for (key, value) in Object::parse(&given)?.iter() {
            if Object::parse(value).is_err() {
                return Err(InvalidResponses::Answer(key.chars().take(64).collect()));
            }
            responses.push((key.to_owned(), value.clone()));
        }
        Ok(Self { responses, state })
    }

    /// The answer under a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Bytes> {
        let found = self.responses.iter().find(|(other, _)| other == key);
        found.map(|(_, value)| value)
    }
}

/// The next leg of a call: the original request, with the answers of this round and its state, and no others
/// (R222, R223).
#[must_use]
pub fn with_responses(
    original: &Message,
    responses: &[(String, Bytes)],
    state: Option<&Bytes>,
) -> Bytes {
    let params = original.params().unwrap_or(Bytes::from_static(b"{}"));
    let Ok(mut params) = Object::parse(&params) else {
        return original.source().clone();
    };
    params.remove("inputResponses");
    params.remove("requestState");
    if !responses.is_empty() {
        let mut given = Object::new();
        for (key, response) in responses {
            given.set(key, response.clone());
        }
        params.set("inputResponses", given.into_bytes());
    }
    if let Some(state) = state {
        params.set("requestState", state.clone());
    }
    original.with_params(&params.into_bytes())
}

/// What only messages of 2026-07-28 have in their `_meta`.
const MODERN_META: [&str; 7] = [
    meta_key::PROTOCOL_VERSION,
    meta_key::CLIENT_CAPABILITIES,
    meta_key::CLIENT_INFO,
    meta_key::LOG_LEVEL,
    meta_key::SERVER_INFO,
    meta_key::SUBSCRIPTION_ID,
    "progressToken",
];
