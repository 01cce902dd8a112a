//! Headers of 2026-07-28 that repeat what the body says (protocol notes 2.3.3, steps 12 to 15).

use http::{HeaderMap, HeaderName};

use crate::classify::{Refusal, Served, mirrored_param};
use crate::header::{self, trim};
use crate::rpc::{Message, code, meta_key};

/// A header that may be there once.
pub(super) enum Single<'a> {
    Absent,
    One(&'a [u8]),
    Repeated,
}

impl<'a> Single<'a> {
    pub(super) fn of(headers: &'a HeaderMap, name: &HeaderName) -> Self {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Self::Absent,
            (Some(value), None) => Self::One(trim(value.as_bytes())),
            (Some(_), Some(_)) => Self::Repeated,
        }
    }
}

/// Steps 12 to 15, for a request whose claim names a modern revision.
pub(super) fn check(
    message: &Message,
    claim: &str,
    headers: &HeaderMap,
    served: Served,
) -> Result<(), Refusal> {
    agrees(claim, headers)?;
    if !served.modern {
        return Err(Refusal::unsupported(served, claim));
    }
    let capabilities = message.meta_json(meta_key::CLIENT_CAPABILITIES);
    if !capabilities.is_some_and(|value| value.starts_with(b"{")) {
        return Err(missing_meta(message));
    }
    version_is_there(headers)?;
    let method = message.method().unwrap_or_default();
    mirrors(headers, &header::METHOD, Some(method))?;
    match mirrored_param(method) {
        Some(param) => mirrors(headers, &header::NAME, message.param_text(param).as_deref()),
        None => Ok(()),
    }
}

/// Step 12: a version header that is there must be the claim.
pub(super) fn agrees(claim: &str, headers: &HeaderMap) -> Result<(), Refusal> {
    match Single::of(headers, &header::PROTOCOL_VERSION) {
        Single::One(value) if value != claim.as_bytes() => Err(mismatch(
            "MCP-Protocol-Version differs from the claim in _meta",
        )),
        _ => Ok(()),
    }
}

/// Step 13 without a claim, where the header is all there is to tell the revision by.
pub(super) fn served(headers: &HeaderMap, served: Served) -> Result<(), Refusal> {
    match Single::of(headers, &header::PROTOCOL_VERSION) {
        Single::One(value) => {
            let text = String::from_utf8_lossy(value);
            let known = served
                .revisions()
                .iter()
                .any(|revision| revision.as_str() == text);
            if known {
                Ok(())
            } else {
                Err(Refusal::unsupported(served, &text))
            }
        }
        _ => Ok(()),
    }
}

/// Step 14: names what is missing.
pub(super) fn missing_meta(message: &Message) -> Refusal {
    let keys = [meta_key::PROTOCOL_VERSION, meta_key::CLIENT_CAPABILITIES];
    let usable = |key: &str| match message.meta_json(key) {
        Some(value) if key == meta_key::CLIENT_CAPABILITIES => value.starts_with(b"{"),
        value => value.is_some(),
    };
    let missing: Vec<&str> = keys.into_iter().filter(|key| !usable(key)).collect();
    let message = format!("params._meta lacks {}", missing.join(" and "));
    Refusal::bad_request(code::INVALID_PARAMS, message)
}

/// Step 15 for the version.
pub(super) fn version_is_there(headers: &HeaderMap) -> Result<(), Refusal> {
    match Single::of(headers, &header::PROTOCOL_VERSION) {
        Single::One(_) => Ok(()),
        Single::Absent => Err(mismatch("MCP-Protocol-Version is missing")),
        Single::Repeated => Err(mismatch("MCP-Protocol-Version is there more than once")),
    }
}

/// Step 15 for a header that must say the same as the body.
fn mirrors(headers: &HeaderMap, name: &HeaderName, body: Option<&str>) -> Result<(), Refusal> {
    let value = match Single::of(headers, name) {
        Single::One(value) => value,
        Single::Absent => return Err(mismatch(format!("{name} is missing"))),
        Single::Repeated => return Err(mismatch(format!("{name} is there more than once"))),
    };
    match header::decode_value(value) {
        Ok(value) if Some(&*value) == body => Ok(()),
        Ok(_) => Err(mismatch(format!("{name} differs from the body"))),
        Err(error) => Err(mismatch(format!("{name} is {error}"))),
    }
}

fn mismatch(message: impl Into<String>) -> Refusal {
    Refusal::bad_request(code::HEADER_MISMATCH, message)
}
