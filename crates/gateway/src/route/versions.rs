//! The revisions that a server of 2026-07-28 names, as far as both sides do them (K5; protocol notes 5.5, rows
//! "discover" and "version").

use bytes::Bytes;
use thinpipe_proto::bridge::shape::error_code;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{Message, code, elements, member, splice, string};

/// A response in which it names only what `served` admits too; `None`: it names none, or those alone.
pub(super) fn narrowed(message: &Message, served: impl Fn(Revision) -> bool) -> Option<Bytes> {
    let named = match (message.result(), message.error()) {
        (Some(result), _) => member(&result, "supportedVersions"),
        (None, Some(error)) if error_code(&error) == Some(code::UNSUPPORTED_VERSION) => {
            member(&member(&error, "data")?, "supported")
        }
        _ => None,
    }?;
    let all = elements(&named).ok()?;
    let is_ours = |version: &&Bytes| {
        let text = string(version);
        let known = text.and_then(|text| Revision::from_bytes(text.as_bytes()));
        known.is_some_and(&served)
    };
    let kept: Vec<_> = all
        .iter()
        .filter(is_ours)
        .map(|version| &version[..])
        .collect();
    if kept.len() == all.len() {
        return None;
    }
    let list = [b"[", &kept.join(&b","[..])[..], b"]"].concat();
    splice(message.source(), &named, &list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn narrow(text: &'static str) -> Option<String> {
        let message = Message::parse(Bytes::from_static(text.as_bytes())).unwrap();
        let narrowed = narrowed(&message, Revision::is_modern)?;
        Some(String::from_utf8(narrowed.to_vec()).unwrap())
    }

    /// K5: what only one side does is not offered.
    #[test]
    fn k5_a_description_names_what_both_sides_do() {
        let result = r#"{"jsonrpc":"2.0","id":1,"result":{"supportedVersions": ["2030-01-01","2026-07-28","2025-11-25",7],"x":1.0}}"#;
        let expected =
            r#"{"jsonrpc":"2.0","id":1,"result":{"supportedVersions": ["2026-07-28"],"x":1.0}}"#;
        assert_eq!(narrow(result).as_deref(), Some(expected));
        assert_eq!(narrow(expected), None);
    }

    /// K5: a refusal names the intersection, even if that is empty.
    #[test]
    fn k5_a_refusal_names_what_both_sides_do() {
        let error = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"m","data":{"supported":["2030-01-01"],"requested":"x"}}}"#;
        let expected = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"m","data":{"supported":[],"requested":"x"}}}"#;
        assert_eq!(narrow(error).as_deref(), Some(expected));
        let other = error.replace("-32022", "-32602");
        assert_eq!(narrow(Box::leak(other.into_boxed_str())), None);
    }
}
