//! Headers set and removed.

use std::collections::BTreeMap;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use thinpipe_proto::rpc::Message;

use super::config::Wrong;
use super::{Action, Direction, Interceptor, Interest, MessageContext};

/// Sets or removes headers of requests to the upstream and of responses to the client.
///
/// Headers that carry the transport's own state (session, version, host, length, media types, what
/// mirrors the body, hop-by-hop ones) cannot be named here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeadersConfig {
    /// Of requests to the upstream. Default: no changes.
    pub request: HeaderChanges,
    /// Of responses to the client. Default: no changes.
    pub response: HeaderChanges,
}

/// Changes to headers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderChanges {
    /// Headers to set; each replaces all values there are. Default: none.
    pub set: BTreeMap<String, String>,
    /// Headers to remove. Default: none.
    pub remove: Vec<String>,
}

pub(super) struct Headers {
    request: Changes,
    response: Changes,
}

#[derive(Default)]
struct Changes {
    set: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
}

impl Headers {
    pub(super) fn new(config: &HeadersConfig) -> Result<Self, Wrong> {
        let headers = Self {
            request: Changes::new("request", &config.request)?,
            response: Changes::new("response", &config.response)?,
        };
        if headers.request.is_empty() && headers.response.is_empty() {
            return Err(Wrong::new(
                "request",
                "neither requests nor responses have changes",
            ));
        }
        Ok(headers)
    }
}

impl Changes {
    fn new(part: &str, changes: &HeaderChanges) -> Result<Self, Wrong> {
        let mut compiled = Self::default();
        for (name, value) in &changes.set {
            let field = format!("{part}.set.{name}");
            let parsed = header_name(&field, name)?;
            if changes
                .remove
                .iter()
                .any(|removed| removed.eq_ignore_ascii_case(name))
            {
                return Err(Wrong::new(field, "the same header is set and removed"));
            }
            let mut value = HeaderValue::from_str(value).map_err(|_| {
                Wrong::new(
                    field.clone(),
                    "not a header value: it has control characters",
                )
            })?;
            // It may be a credential; this keeps it out of debug output.
            value.set_sensitive(true);
            compiled.set.push((parsed, value));
        }
        for (index, name) in changes.remove.iter().enumerate() {
            let field = format!("{part}.remove[{index}]");
            compiled.remove.push(header_name(&field, name)?);
        }
        Ok(compiled)
    }

    fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }
}

impl Interceptor for Headers {
    fn name(&self) -> &str {
        "headers"
    }

    fn interest(&self) -> Interest {
        Interest {
            request_headers: !self.request.is_empty(),
            response_headers: !self.response.is_empty(),
            ..Interest::default()
        }
    }

    fn intercept(&self, _: &MessageContext, _: &Message) -> Action {
        Action::Continue
    }

    fn headers(&self, cx: &MessageContext, headers: &mut HeaderMap) {
        let changes = match cx.direction {
            Direction::ToUpstream => &self.request,
            Direction::ToClient => &self.response,
        };
        for name in &changes.remove {
            headers.remove(name);
        }
        for (name, value) in &changes.set {
            headers.insert(name.clone(), value.clone());
        }
    }
}

fn header_name(field: &str, name: &str) -> Result<HeaderName, Wrong> {
    let parsed = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| Wrong::new(field, "not a header name"))?;
    if is_protected(parsed.as_str()) {
        return Err(Wrong::new(
            field,
            "the gateway itself is in charge of this header",
        ));
    }
    Ok(parsed)
}

/// Whether a header (in lower case) carries the transport's own state, mirrors the body, or belongs
/// to one connection only. No interceptor sees or changes these.
pub(super) fn is_protected(name: &str) -> bool {
    const PROTECTED: [&str; 21] = [
        "accept",
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "last-event-id",
        "mcp-method",
        "mcp-name",
        "mcp-protocol-version",
        "mcp-session-id",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    PROTECTED.contains(&name) || name.starts_with("mcp-param-")
}
