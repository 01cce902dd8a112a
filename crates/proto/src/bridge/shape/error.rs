//! Errors.

use bytes::Bytes;

use crate::rpc::{Object, code, quoted, string};

/// An error for a modern client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModernError {
    /// The `error` member, as JSON text.
    pub error: Bytes,
    /// The status of HTTP that goes with it, unless the response has begun.
    pub status: u16,
}

/// The status of HTTP for an error of this code (protocol notes 5.5, "HTTP status").
#[must_use]
pub fn modern_status(code: i32) -> u16 {
    match code {
        code::METHOD_NOT_FOUND => 404,
        code::HEADER_MISMATCH
        | code::MISSING_CAPABILITY
        | code::UNSUPPORTED_VERSION
        | code::PARSE_ERROR
        | code::INVALID_REQUEST => 400,
        _ => 200,
    }
}

/// The code of an error, given as JSON text; `None` if it has none that is an integer of 32 bits.
#[must_use]
pub fn error_code(error: &Bytes) -> Option<i32> {
    code_of(&Object::parse(error).ok()?)
}

/// A legacy server's error, for a modern client (protocol notes 5.4.1).
///
/// A resource that does not exist has a code of its own there, and `-32602` here, with `uri`, the one that was
/// asked for, in its data (R155, R232). Codes that the specification keeps for itself become `-32603` (R152),
/// and so does the one that asks for a page (R153), which whoever can ask for it has to look at first.
#[must_use]
pub fn error_to_modern(error: &Bytes, uri: Option<&str>) -> ModernError {
    let Some((mut error, code)) = readable(error) else {
        return ModernError {
            error: unreadable(),
            status: 200,
        };
    };
    let edited = match code {
        code::RESOURCE_NOT_FOUND => {
            if let Some(uri) = uri {
                let mut data = error.object("data").unwrap_or_default();
                data.set_default("uri", quoted(uri));
                error.set("data", data.into_bytes());
            }
            code::INVALID_PARAMS
        }
        code::URL_ELICITATION_REQUIRED => code::INTERNAL_ERROR,
        code if RESERVED.contains(&code) => code::INTERNAL_ERROR,
        code => code,
    };
    if edited != code {
        error.set("code", edited.to_string());
    }
    ModernError {
        error: error.into_bytes(),
        status: modern_status(edited),
    }
}

/// A modern server's error, for a legacy client (protocol notes 5.3).
///
/// One about headers or the revision is the gateway's own fault, and becomes `-32603`. One about a missing
/// capability keeps its code, and names the capability in its message. All others pass.
#[must_use]
pub fn error_to_legacy(error: &Bytes) -> Bytes {
    let Some((mut error, code)) = readable(error) else {
        return unreadable();
    };
    match code {
        code::HEADER_MISMATCH | code::UNSUPPORTED_VERSION => {
            error.set("code", code::INTERNAL_ERROR.to_string());
        }
        code::MISSING_CAPABILITY => name_capabilities(&mut error),
        _ => {}
    }
    error.into_bytes()
}

fn name_capabilities(error: &mut Object) {
    let required = error.object("data");
    let required = required.and_then(|data| data.object("requiredCapabilities"));
    let Some(required) = required.filter(|required| !required.is_empty()) else {
        return;
    };
    let names: Vec<&str> = required.iter().map(|(name, _)| name).take(8).collect();
    let message = error.get("message").and_then(|message| string(message));
    let message = message.unwrap_or_default();
    if names.iter().all(|name| message.contains(name)) {
        return;
    }
    let named = format!(
        "{message} (the client has not declared {})",
        names.join(", ")
    );
    error.set("message", quoted(named.trim_start()));
}

fn readable(error: &Bytes) -> Option<(Object, i32)> {
    let error = Object::parse(error).ok()?;
    let code = code_of(&error)?;
    Some((error, code))
}

fn code_of(error: &Object) -> Option<i32> {
    std::str::from_utf8(error.get("code")?).ok()?.parse().ok()
}

fn unreadable() -> Bytes {
    Bytes::from_static(br#"{"code":-32603,"message":"invalid upstream error"}"#)
}

/// Codes that are for the specification to define.
const RESERVED: std::ops::RangeInclusive<i32> = -32099..=-32020;
